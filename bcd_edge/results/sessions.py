"""Who is signed in by a browser, and how often signing in failed. Of a session's secret only a hash is kept."""

from __future__ import annotations

import secrets
import sqlite3
import unicodedata
from dataclasses import dataclass
from typing import Final

from bcd_edge.results import audit
from bcd_edge.results.folder import Results
from bcd_edge.results.reviews import LONGEST_NAME
from bcd_edge.results.users import User, find, secret_hash

# A working day, and a microscope session without a look at the screen.
LONGEST_S: Final = 12 * 3600.0
IDLE_S: Final = 3600.0
# A page that asks every second must not write to the disk every second.
NOTED_EVERY_S: Final = 60.0

# Before there is a pause; all readers of a clinic may have one address.
FREE_FAILURES: Final = {"name": 5, "address": 20}
# A wrong password by anybody must not lock a reader out, so the pause for a name is short; that for an address is not.
LONGEST_PAUSE_S: Final = {"name": 30.0, "address": 900.0}
FORGOTTEN_AFTER_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Session:
    """A session: the account as it is now, and whether its use was noted lately."""

    user: User
    secret: str
    is_fresh: bool


class TooManyFailuresError(Exception):
    """Signing in failed too often; `retry_after_s` is how long to wait."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"Signing in failed too often; try again in {retry_after_s:.0f} s.")
        self.retry_after_s = retry_after_s


def note_attempt(results: Results, name: str, *, address: str) -> None:
    """Counts an attempt to sign in as a failure until `begin`, before the password is looked at: many at the same time count as many.

    Raises:
        TooManyFailuresError: this name or this address has failed too often.
    """
    now = results.clock.wall().timestamp()
    with results.journal.transaction() as db:
        if (pause := max(_pause(db, kind, key, now) for kind, key in _keys(name, address).items())) > 0:
            raise TooManyFailuresError(pause)
        for key in _keys(name, address).values():
            _note_failure(db, key, now)


def refuse(results: Results, name: str, *, address: str) -> None:
    """Notes in the audit that name and password were wrong."""
    audit.add(results, "sign-in refused", who="", address=address, about=name[:LONGEST_NAME])


def begin(results: Results, name: str, *, address: str) -> Session:
    """Begins a session of an account that was authenticated.

    Raises:
        UsageError: there is no such account any more.
    """
    secret, now = secrets.token_urlsafe(32), results.clock.wall().timestamp()
    keys = _keys(name, address)
    with results.journal.transaction(flushed=True) as db:
        user = find(db, name)
        db.execute("DELETE FROM sign_in_failures WHERE key = ?", (keys["name"],))
        # what the address failed with other names stays: an account of one's own must not clear it
        db.execute("UPDATE sign_in_failures SET failures = failures - 1 WHERE key = ? AND failures > 0", (keys["address"],))
        db.execute("DELETE FROM sessions WHERE began < ? OR seen < ?", (now - LONGEST_S, now - IDLE_S))
        db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", (secret_hash(secret), user.name, address, now, now))
        audit.add(results, "sign in", who=user.name, address=address)
    return Session(user, secret, is_fresh=True)


def resume(db: sqlite3.Connection, secret: str, now: float) -> Session | None:
    """The session with this secret, unless it has ended, was idle for too long, or its account is disabled; `now` in seconds since 1970."""
    row = db.execute(
        """SELECT user, seen FROM sessions JOIN users ON name = user
           WHERE secret_sha256 = ? AND disabled_at IS NULL AND began > ? AND seen > ?""",
        (secret_hash(secret), now - LONGEST_S, now - IDLE_S),
    ).fetchone()
    return Session(find(db, row["user"]), secret, is_fresh=now - row["seen"] < NOTED_EVERY_S) if row else None


def note_use(results: Results, session: Session) -> None:
    """The session is not idle."""
    with results.journal.transaction() as db:
        db.execute("UPDATE sessions SET seen = ? WHERE secret_sha256 = ?", (results.clock.wall().timestamp(), secret_hash(session.secret)))


def end(results: Results, session: Session, *, address: str) -> None:
    """Ends a session, everywhere."""
    with results.journal.transaction(flushed=True) as db:
        db.execute("DELETE FROM sessions WHERE secret_sha256 = ?", (secret_hash(session.secret),))
        audit.add(results, "sign out of the server", who=session.user.name, address=address)


def csrf_token(session: Session) -> str:
    """What a form of this session carries; another site cannot know it."""
    return secret_hash(f"csrf {session.secret}")


def _keys(name: str, address: str) -> dict[str, str]:
    """Spellings of a name that sign in to the same account have the same key."""
    same = unicodedata.normalize("NFKC", name).strip().casefold()[:LONGEST_NAME]
    return {"name": f"name {same}", "address": f"address {address}"}


def _pause(db: sqlite3.Connection, kind: str, key: str, now: float) -> float:
    """Seconds until the next attempt is allowed: 1, 2, 4 and so on after the last of `FREE_FAILURES` or more."""
    row = db.execute("SELECT failures, last FROM sign_in_failures WHERE key = ?", (key,)).fetchone()
    if row is None or row["failures"] < FREE_FAILURES[kind]:
        return 0.0
    pause = min(LONGEST_PAUSE_S[kind], 2.0 ** min(row["failures"] - FREE_FAILURES[kind], 20))
    return float(min(pause, row["last"] + pause - now))  # a clock that was set back must not make it longer


def _note_failure(db: sqlite3.Connection, key: str, now: float) -> None:
    db.execute("DELETE FROM sign_in_failures WHERE last < ?", (now - FORGOTTEN_AFTER_S,))
    db.execute(
        "INSERT INTO sign_in_failures VALUES (?, 1, ?) ON CONFLICT (key) DO UPDATE SET failures = failures + 1, last = excluded.last", (key, now)
    )
