"""The schema of the journal. What a release has published is never changed; a change is a further migration."""

from __future__ import annotations

from typing import Final

# Version of the first migration below; version 1 was in use before 0.1.0, with records of other keys.
FIRST: Final = 2

MIGRATIONS: Final = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB);
    INSERT INTO meta VALUES ('pseudonym_key', randomblob(16));
    CREATE TABLE bundles (sha256 TEXT PRIMARY KEY, name TEXT, threshold REAL, review_low REAL, review_high REAL, used_at TEXT);
    CREATE TABLE images (
        sha256 TEXT, bundle_sha256 TEXT, state TEXT CHECK (state IN ('done', 'quarantined')), record TEXT, result_sha256 TEXT,
        p_malignant REAL, decision TEXT, seen_at TEXT, taken_at TEXT, ended_at TEXT, overlay TEXT,
        PRIMARY KEY (sha256, bundle_sha256)
    );
    CREATE INDEX images_overlay ON images (ended_at) WHERE overlay = 'wanted';
    CREATE TABLE names (
        sha256 TEXT, bundle_sha256 TEXT, path BLOB, day TEXT, same_as BLOB, patient TEXT, slide TEXT, answered_at TEXT, target BLOB,
        PRIMARY KEY (sha256, bundle_sha256, path)
    );
    CREATE INDEX names_path ON names (path);
    CREATE INDEX names_day ON names (day);
    CREATE INDEX names_patient ON names (patient) WHERE patient IS NOT NULL;
    CREATE INDEX names_target ON names (target) WHERE target IS NOT NULL;
    CREATE TABLE days (day TEXT PRIMARY KEY, bytes INTEGER, benign INTEGER, malignant INTEGER, review INTEGER, linked INTEGER);
    -- the queue of a watcher: one row per file of the inbox
    CREATE TABLE files (
        path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
        state TEXT CHECK (state IN ('seen', 'taken', 'done', 'failed', 'quarantined', 'gone')),
        due REAL, attempts INTEGER DEFAULT 0, poison INTEGER DEFAULT 0, sha256 TEXT, reason TEXT, seen_at TEXT, taken_at TEXT, ended_at TEXT
    ) WITHOUT ROWID;
    CREATE INDEX files_due ON files (poison, due) WHERE due IS NOT NULL;
    CREATE INDEX files_state ON files (state, ended_at) WHERE state IN ('taken', 'failed', 'quarantined', 'gone');
    -- answered inputs that are still to be moved or deleted
    CREATE TABLE disposals (
        id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB UNIQUE, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
        sha256 TEXT, bundle_sha256 TEXT, target BLOB
    );
    """,
)
VERSION: Final = FIRST + len(MIGRATIONS) - 1
