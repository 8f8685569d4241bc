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
    """
    -- what readers decided; a changed mind is a further row
    CREATE TABLE reviews (
        id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE,
        sha256 TEXT NOT NULL, bundle_sha256 TEXT NOT NULL, path BLOB, patient TEXT, reader TEXT NOT NULL,
        decision TEXT NOT NULL CHECK (decision IN ('benign', 'malignant', 'cannot tell', 'unusable', 'undo')),
        undoes INTEGER REFERENCES reviews (id), comment TEXT NOT NULL, reading INTEGER NOT NULL,
        source TEXT NOT NULL CHECK (source IN ('local', 'consult', 'link')),
        blinded INTEGER NOT NULL, answer TEXT, p_malignant REAL, audit INTEGER NOT NULL, at TEXT NOT NULL, decided_at TEXT
    );
    CREATE INDEX reviews_case ON reviews (sha256);
    CREATE TABLE sign_outs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE, patient TEXT NOT NULL, reader TEXT NOT NULL,
        decision TEXT NOT NULL CHECK (decision IN ('benign', 'malignant', 'cannot tell', 'unusable')),
        comment TEXT NOT NULL, images INTEGER NOT NULL, last_review INTEGER NOT NULL, at TEXT NOT NULL
    );
    CREATE INDEX sign_outs_patient ON sign_outs (patient);
    CREATE TRIGGER reviews_change BEFORE UPDATE ON reviews BEGIN SELECT RAISE(ABORT, 'reviews are added, never changed'); END;
    CREATE TRIGGER reviews_delete BEFORE DELETE ON reviews BEGIN SELECT RAISE(ABORT, 'reviews are added, never deleted'); END;
    CREATE TRIGGER sign_outs_change BEFORE UPDATE ON sign_outs BEGIN SELECT RAISE(ABORT, 'sign-outs are added, never changed'); END;
    CREATE TRIGGER sign_outs_delete BEFORE DELETE ON sign_outs BEGIN SELECT RAISE(ABORT, 'sign-outs are added, never deleted'); END;

    -- the worklist: a row per content with its latest answer, kept by triggers, so that every writer keeps it, of an earlier version too.
    -- `draw` is uniform in 0..1: below the audit share, a benign answer is reviewed like an uncertain one, at a random place
    INSERT INTO meta VALUES ('audit_share', 0.05);
    CREATE TABLE cases (
        sha256 TEXT PRIMARY KEY, bundle_sha256 TEXT, decision TEXT, p_malignant REAL, novelty REAL, answered_at TEXT,
        path BLOB, patient TEXT, slide TEXT, group_key TEXT NOT NULL, draw REAL NOT NULL,
        reason TEXT CHECK (reason IN ('review', 'malignant', 'audit')), urgency REAL,
        open INTEGER NOT NULL DEFAULT 0, opinions INTEGER NOT NULL DEFAULT 0, first TEXT, second TEXT,
        disagreement INTEGER NOT NULL DEFAULT 0, reviewed_at TEXT
    );
    CREATE INDEX cases_open ON cases (group_key, urgency DESC) WHERE open;
    CREATE INDEX cases_single ON cases (reviewed_at DESC) WHERE opinions = 1;
    CREATE INDEX cases_reviewed ON cases (reviewed_at DESC) WHERE opinions > 0;
    CREATE INDEX cases_disagreement ON cases (reviewed_at DESC) WHERE disagreement;
    CREATE INDEX cases_answered ON cases (answered_at DESC);
    CREATE INDEX cases_decision ON cases (decision, answered_at DESC);
    CREATE INDEX cases_patient ON cases (patient, answered_at DESC) WHERE patient IS NOT NULL;
    -- what is worked through together: a patient, or a picture without one, with the urgency of its most urgent open case
    CREATE TABLE case_groups (group_key TEXT PRIMARY KEY, open INTEGER NOT NULL, urgency REAL NOT NULL) WITHOUT ROWID;
    CREATE UNIQUE INDEX case_groups_urgency ON case_groups (urgency DESC, group_key);
    CREATE VIEW answers AS
        SELECT images.sha256, bundle_sha256, decision, p_malignant, ended_at,
               CASE WHEN json_valid(record) THEN json_extract(record, '$.novelty') END AS novelty
        FROM images WHERE state = 'done';
    CREATE TRIGGER images_case AFTER INSERT ON images WHEN new.state = 'done' BEGIN
        INSERT INTO cases (sha256, group_key, draw) SELECT new.sha256, new.sha256, (random() + 9223372036854775808.0) / 18446744073709551616.0
            WHERE NOT EXISTS (SELECT 1 FROM cases WHERE sha256 = new.sha256);
        UPDATE cases SET (bundle_sha256, decision, p_malignant, novelty, answered_at) =
            (SELECT bundle_sha256, decision, p_malignant, novelty, ended_at FROM answers
             WHERE sha256 = new.sha256 AND bundle_sha256 = new.bundle_sha256)
            WHERE sha256 = new.sha256;
    END;
    CREATE TRIGGER names_case_added AFTER INSERT ON names BEGIN
        UPDATE cases SET (path, patient, slide, group_key) =
            (SELECT path, patient, slide, COALESCE(patient, sha256) FROM names WHERE sha256 = new.sha256 ORDER BY patient IS NULL, rowid LIMIT 1)
            WHERE sha256 = new.sha256;
    END;
    CREATE TRIGGER names_case_changed AFTER UPDATE OF patient, slide ON names BEGIN
        UPDATE cases SET (path, patient, slide, group_key) =
            (SELECT path, patient, slide, COALESCE(patient, sha256) FROM names WHERE sha256 = new.sha256 ORDER BY patient IS NULL, rowid LIMIT 1)
            WHERE sha256 = new.sha256;
    END;
    -- urgency of what needs review: how near the threshold, 0..1, and how far beyond what is known, 0..1
    CREATE TRIGGER cases_triage AFTER UPDATE OF answered_at, draw, opinions ON cases BEGIN
        UPDATE cases SET reason = CASE
                WHEN decision != 'benign' THEN decision
                WHEN draw < (SELECT value FROM meta WHERE name = 'audit_share') THEN 'audit'
            END WHERE sha256 = new.sha256;
        UPDATE cases SET
            open = reason IS NOT NULL AND opinions = 0,
            urgency = CASE
                WHEN reason IS NULL THEN NULL
                WHEN reason = 'audit' THEN draw / (SELECT value FROM meta WHERE name = 'audit_share')
                ELSE MIN(1, MAX(0, COALESCE(novelty, 0) - 1)) + COALESCE(
                    (SELECT MIN(p_malignant / threshold, (1 - p_malignant) / (1 - threshold)) FROM bundles WHERE sha256 = cases.bundle_sha256), 1)
            END WHERE sha256 = new.sha256;
    END;
    CREATE TRIGGER cases_grouped AFTER UPDATE OF group_key, open, urgency ON cases WHEN old.open OR new.open BEGIN
        UPDATE case_groups SET open = open - old.open WHERE group_key = old.group_key;
        INSERT INTO case_groups SELECT new.group_key, 0, 0
            WHERE new.open AND NOT EXISTS (SELECT 1 FROM case_groups WHERE group_key = new.group_key);
        UPDATE case_groups SET open = open + new.open, urgency = MAX(urgency, new.urgency) WHERE new.open AND group_key = new.group_key;
        DELETE FROM case_groups WHERE group_key IN (old.group_key, new.group_key) AND open = 0;
    END;
    INSERT INTO cases (sha256, group_key, draw)
        SELECT DISTINCT sha256, sha256, (random() + 9223372036854775808.0) / 18446744073709551616.0 FROM images WHERE state = 'done';
    UPDATE names SET patient = patient;
    UPDATE cases SET (bundle_sha256, decision, p_malignant, novelty, answered_at) =
        (SELECT bundle_sha256, decision, p_malignant, novelty, ended_at FROM answers
         WHERE answers.sha256 = cases.sha256 ORDER BY ended_at DESC LIMIT 1);
    """,
    """
    -- who may sign in; `password` is NULL for a machine, which has tokens. Of every secret only its SHA-256 is kept
    CREATE TABLE users (
        name TEXT PRIMARY KEY COLLATE NOCASE, role TEXT NOT NULL CHECK (role IN ('reviewer', 'submitter', 'admin')),
        password TEXT, disabled_at TEXT, added_at TEXT NOT NULL
    );
    CREATE TABLE tokens (
        id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL REFERENCES users (name), secret_sha256 TEXT NOT NULL UNIQUE,
        added_at TEXT NOT NULL, expires REAL, revoked_at TEXT
    );
    CREATE TABLE sessions (
        secret_sha256 TEXT PRIMARY KEY, user TEXT NOT NULL, address TEXT NOT NULL, began REAL NOT NULL, seen REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE sign_in_failures (key TEXT PRIMARY KEY, failures INTEGER NOT NULL, last REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX sign_in_failures_last ON sign_in_failures (last);
    -- who saw and decided what; each entry's hash covers the one before it. `uid` is that of the review or sign-out it belongs to
    CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, entry TEXT NOT NULL, sha256 TEXT NOT NULL, uid TEXT UNIQUE);
    CREATE TRIGGER audit_change BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit entries are added, never changed'); END;
    CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit entries are added, never deleted'); END;
    -- cases given to readers elsewhere
    INSERT INTO meta VALUES ('consult_key', randomblob(32));
    CREATE TABLE consult_links (
        id TEXT PRIMARY KEY, pictures TEXT NOT NULL, recipient TEXT NOT NULL, made_by TEXT NOT NULL, made_at TEXT NOT NULL, expires REAL NOT NULL,
        revoked_at TEXT, answered_at TEXT
    );
    """,
    """
    -- DICOM objects of the answers to DICOM images that an archive is to get; `due` is in seconds since 1970, NULL where there is nothing to do
    CREATE TABLE returns (
        id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL, bundle_sha256 TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('report', 'overlay')), due REAL,
        attempts INTEGER NOT NULL DEFAULT 0, sent_at TEXT, reason TEXT, UNIQUE (sha256, bundle_sha256, kind)
    );
    CREATE INDEX returns_due ON returns (due) WHERE due IS NOT NULL;
    CREATE TRIGGER images_return AFTER INSERT ON images
        WHEN new.state = 'done' AND json_valid(new.record) AND json_extract(new.record, '$.intake.study') IS NOT NULL BEGIN
        INSERT OR IGNORE INTO returns (sha256, bundle_sha256, kind, due) VALUES (new.sha256, new.bundle_sha256, 'report', 0);
    END;
    CREATE TRIGGER overlays_return AFTER UPDATE OF overlay ON images
        WHEN new.overlay LIKE '%.png' AND json_valid(new.record) AND json_extract(new.record, '$.intake.study') IS NOT NULL BEGIN
        INSERT OR IGNORE INTO returns (sha256, bundle_sha256, kind, due) VALUES (new.sha256, new.bundle_sha256, 'overlay', 0);
    END;
    """,
    """
    -- what a search looks through, in the index of every list, so that it reads no table
    ALTER TABLE cases ADD COLUMN text TEXT AS (COALESCE(CAST(path AS TEXT), '') || char(10) || COALESCE(patient, '')) VIRTUAL;
    DROP INDEX cases_open;
    DROP INDEX cases_single;
    DROP INDEX cases_reviewed;
    DROP INDEX cases_disagreement;
    DROP INDEX cases_answered;
    DROP INDEX cases_decision;
    CREATE INDEX cases_open ON cases (group_key, urgency DESC, text) WHERE open;
    CREATE INDEX cases_single ON cases (reviewed_at DESC, text) WHERE opinions = 1;
    CREATE INDEX cases_reviewed ON cases (reviewed_at DESC, text) WHERE opinions > 0;
    CREATE INDEX cases_disagreement ON cases (reviewed_at DESC, text) WHERE disagreement;
    CREATE INDEX cases_answered ON cases (answered_at DESC, text);
    CREATE INDEX cases_decision ON cases (decision, answered_at DESC, text);
    """,
)
VERSION: Final = FIRST + len(MIGRATIONS) - 1
