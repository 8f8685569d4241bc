"""Who may sign in to `bcd-edge serve` on a folder of results, and tokens for machines. Of every secret only a hash is kept.

Passwords are hashed by scrypt (RFC 7914), which is in Python's own library, with one of the settings that OWASP's Password Storage
Cheat Sheet calls equal to argon2id's: 32 MiB and some 0.2 s on a small computer.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from bcd_edge.errors import UsageError
from bcd_edge.results import audit
from bcd_edge.results.folder import Results
from bcd_edge.results.reviews import LONGEST_NAME

Role = Literal["reviewer", "submitter", "admin"]
ROLES: Final[tuple[Role, ...]] = ("reviewer", "submitter", "admin")
SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 1000
TOKEN_PREFIX: Final = "bcd_"
SCRYPT: Final = {"n": 2**15, "r": 8, "p": 3}
SCRYPT_BYTES: Final = 64 * 2**20
# Wrong passwords cost as much as right ones; in turns, so that many of them do not take all memory.
_TURN = threading.Lock()
# Whoever does this on the command line.
COMMAND_LINE: Final = "local"


@dataclass(frozen=True, slots=True)
class User:
    """One account; `has_password` is whether a person can sign in by it, `tokens` how many are valid."""

    name: str
    role: Role
    has_password: bool
    is_disabled: bool
    tokens: int
    added_at: str


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a machine; its secret was shown once, when it was made."""

    id: int
    user: str
    added_at: str
    expires: float | None
    revoked_at: str | None


def this_account() -> str:
    """The account of this computer that runs the program, also below sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's account without a name
        return f"account {os.getuid()}"


def add(results: Results, name: str, role: str, password: str | None, *, by: str) -> None:
    """Adds an account.

    Args:
        results: the folder.
        name: letters of any script; unique whatever the case of its letters.
        role: one of `ROLES`.
        password: of a person; None for a machine, which gets tokens.
        by: who adds it, for the audit.

    Raises:
        UsageError: the name is taken or cannot be one, or the password is too short.
    """
    name = checked_name(name)
    if role not in ROLES:
        raise UsageError(f"The role {role!r} is unknown; give one of {', '.join(ROLES)}.")
    hashed = hash_password(password) if password is not None else None
    with results.journal.transaction(flushed=True) as db:
        if known := db.execute("SELECT name FROM users WHERE name = ?", (name,)).fetchone():
            raise UsageError(f"There is a user {known['name']} already; set its password or role, or give another name.")
        db.execute("INSERT INTO users (name, role, password, added_at) VALUES (?, ?, ?, ?)", (name, role, hashed, results.clock.text()))
        audit.add(results, "user added", who=by, address=COMMAND_LINE, about=name, role=role)


def change(results: Results, name: str, *, by: str, role: Role | None = None, password: str | None = None, is_disabled: bool | None = None) -> None:
    """Changes what is given, and ends the account's sessions.

    Raises:
        UsageError: there is no such account, or the password is too short.
    """
    hashed = hash_password(password) if password is not None else None
    with results.journal.transaction(flushed=True) as db:
        known = find(db, name)
        if role:
            db.execute("UPDATE users SET role = ? WHERE name = ?", (role, known.name))
        if hashed:
            db.execute("UPDATE users SET password = ? WHERE name = ?", (hashed, known.name))
        if is_disabled is not None:
            db.execute("UPDATE users SET disabled_at = ? WHERE name = ?", (results.clock.text() if is_disabled else None, known.name))
        db.execute("DELETE FROM sessions WHERE user = ?", (known.name,))
        changes: dict[str, Any] = {"role": role, "password": "changed" if hashed else None, "is_disabled": is_disabled}
        audit.add(
            results,
            "user changed",
            who=by,
            address=COMMAND_LINE,
            about=known.name,
            **{key: value for key, value in changes.items() if value is not None},
        )


def listed(db: sqlite3.Connection) -> Iterator[User]:
    """Every account, by name."""
    rows = db.execute("SELECT *, (SELECT COUNT(*) FROM tokens WHERE user = name AND revoked_at IS NULL) AS tokens FROM users ORDER BY name")
    return map(_user, rows)


def can_sign_in(db: sqlite3.Connection) -> bool:
    """Whether there is an enabled account with a password."""
    return db.execute("SELECT 1 FROM users WHERE password IS NOT NULL AND disabled_at IS NULL").fetchone() is not None


def find(db: sqlite3.Connection, name: str) -> User:
    """One account, by its name in either case of its letters.

    Raises:
        UsageError: there is none.
    """
    name = unicodedata.normalize("NFKC", name).strip()
    row = db.execute("SELECT *, (SELECT COUNT(*) FROM tokens WHERE user = name AND revoked_at IS NULL) AS tokens FROM users WHERE name = ?", (name,))
    if (known := row.fetchone()) is None:
        raise UsageError(f"There is no user {name[:LONGEST_NAME]!r}; bcd-edge serve user list shows all.")
    return _user(known)


def checked_name(name: str) -> str:
    """The name as it is kept.

    Raises:
        UsageError: it is empty, too long, or has characters that are not shown.
    """
    kept = unicodedata.normalize("NFKC", name).strip()
    if not 0 < len(kept) <= LONGEST_NAME or not kept.isprintable():
        raise UsageError(f"The name {name[:LONGEST_NAME]!r} cannot be a user's; give 1 to {LONGEST_NAME} printable characters.")
    return kept


def hash_password(password: str) -> str:
    """`scrypt$N$r$p$salt$hash`.

    Raises:
        UsageError: it is too short or too long.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise UsageError(f"The password has {len(password)} characters; give {SHORTEST_PASSWORD} to {LONGEST_PASSWORD}, such as four random words.")
    salt = secrets.token_bytes(16)
    costs = "$".join(str(SCRYPT[name]) for name in ("n", "r", "p"))
    return f"scrypt${costs}${_text(salt)}${_text(_scrypt(password, salt, **SCRYPT))}"


# What an unknown name is compared with, so that it takes as long as a known one.
_NOBODY: Final = f"scrypt${SCRYPT['n']}${SCRYPT['r']}${SCRYPT['p']}${'A' * 22}==${'A' * 43}="


def password_of(db: sqlite3.Connection, name: str) -> str:
    """The hash of an enabled account's password; nobody's if there is none, so that `matches` takes as long."""
    name = unicodedata.normalize("NFKC", name).strip()
    row = db.execute("SELECT password FROM users WHERE name = ? AND password IS NOT NULL AND disabled_at IS NULL", (name,)).fetchone()
    return row["password"] if row else _NOBODY


def matches(password: str, hashed: str) -> bool:
    """Whether a password has this hash; compared in constant time."""
    _, n, r, p, salt, digest = hashed.split("$")
    computed = _scrypt(password[:LONGEST_PASSWORD], base64.b64decode(salt), n=int(n), r=int(r), p=int(p))
    return hmac.compare_digest(computed, base64.b64decode(digest)) and hashed != _NOBODY


def add_token(results: Results, user: str, *, by: str, lifetime_s: float | None = None) -> str:
    """Makes a token that acts as an account; returns it, and keeps only its hash.

    Raises:
        UsageError: there is no such account.
    """
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    with results.journal.transaction(flushed=True) as db:
        known = find(db, user)
        expires = None if lifetime_s is None else results.clock.wall().timestamp() + lifetime_s
        values = (known.name, secret_hash(secret), results.clock.text(), expires)
        row = db.execute("INSERT INTO tokens (user, secret_sha256, added_at, expires) VALUES (?, ?, ?, ?)", values)
        audit.add(results, "token added", who=by, address=COMMAND_LINE, about=known.name, token=row.lastrowid)
    return secret


def revoke_token(results: Results, token: int, *, by: str) -> None:
    """A token is not accepted any more.

    Raises:
        UsageError: there is none with this number, or it was revoked before.
    """
    with results.journal.transaction(flushed=True) as db:
        row = db.execute("SELECT user FROM tokens WHERE id = ? AND revoked_at IS NULL", (token,)).fetchone()
        if row is None:
            raise UsageError(f"There is no valid token {token}; bcd-edge serve token list shows all.")
        db.execute("UPDATE tokens SET revoked_at = ? WHERE id = ?", (results.clock.text(), token))
        audit.add(results, "token revoked", who=by, address=COMMAND_LINE, about=row["user"], token=token)


def tokens(db: sqlite3.Connection) -> list[Token]:
    """Every token, also those that are not accepted any more."""
    return [Token(**dict(row)) for row in db.execute("SELECT id, user, added_at, expires, revoked_at FROM tokens ORDER BY id")]


def by_token(db: sqlite3.Connection, secret: str, now: float) -> User | None:
    """The enabled account of a valid token; `now` in seconds since 1970."""
    row = db.execute(
        """SELECT user FROM tokens JOIN users ON name = user WHERE secret_sha256 = ? AND revoked_at IS NULL AND disabled_at IS NULL
           AND (expires IS NULL OR expires > ?)""",
        (secret_hash(secret), now),
    ).fetchone()
    return find(db, row["user"]) if row else None


def secret_hash(secret: str) -> str:
    """What is kept of a random secret of 256 bits; it needs no salt and no slow hash, because it cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _user(row: sqlite3.Row) -> User:
    return User(row["name"], row["role"], row["password"] is not None, row["disabled_at"] is not None, row["tokens"], row["added_at"])


def _scrypt(password: str, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    text = unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")
    with _TURN:
        return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=SCRYPT_BYTES, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
