"""Accounts, passwords, tokens and sessions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from bcd_edge.errors import UsageError
from bcd_edge.results import audit, sessions, users
from bcd_edge.results.clock import Clock
from bcd_edge.results.folder import Results
from bcd_edge.results.journal import NAME

PASSWORD = "four random words"
MISSING = "There is no user"


class Wall:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 8, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def folder(tmp_path: Path, wall: Wall, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.setitem(users.SCRYPT, "n", 2**4)  # the cost has a test of its own
    with Results.open(tmp_path / "results", clock=Clock(wall=wall)) as results:
        users.add(results, "Dr Rao", "reviewer", PASSWORD, by="root")
        users.add(results, "scanner", "submitter", None, by="root")
        yield results


def signed_in(folder: Results, name: str, password: str, address: str = "10.0.0.7") -> sessions.Session | None:
    """What the server does."""
    sessions.note_attempt(folder, name, address=address)
    if not users.matches(password, users.password_of(folder.journal.connection, name)):
        sessions.refuse(folder, name, address=address)
        return None
    return sessions.begin(folder, name, address=address)


def resumed(folder: Results, session: sessions.Session) -> sessions.Session | None:
    return sessions.resume(folder.journal.connection, session.secret, folder.clock.wall().timestamp())


def stored(folder: Results) -> bytes:
    """Everything on the disk."""
    folder.journal.connection.execute("PRAGMA wal_checkpoint")
    return (folder.root / NAME).read_bytes()


def test_passwords_cost_what_is_advised_and_are_compared_for_unknown_names_too() -> None:
    hashed = users.hash_password(PASSWORD)
    assert hashed.startswith("scrypt$32768$8$3$")
    assert users.matches(PASSWORD, hashed)
    assert not users.matches(PASSWORD + "x", hashed)
    assert users._NOBODY.split("$")[:4] == hashed.split("$")[:4]


def test_right_names_and_passwords_alone_sign_in(folder: Results) -> None:
    session = signed_in(folder, " dr rao", PASSWORD)
    assert session
    assert resumed(folder, session).user.name == "Dr Rao"
    for name, password in (("Dr Rao", "another password"), ("Dr No", PASSWORD), ("scanner", ""), ("scanner", PASSWORD), ("", "")):
        assert signed_in(folder, name, password) is None
    refused = [entry.about for entry in audit.entries(folder.journal.connection) if entry.action == "sign-in refused"]
    assert refused == ["Dr Rao", "Dr No", "scanner", "scanner", ""]


def test_nothing_that_signs_in_is_on_the_disk(folder: Results) -> None:
    session, token = signed_in(folder, "Dr Rao", PASSWORD), users.add_token(folder, "scanner", by="root")
    for secret in (PASSWORD, session.secret, sessions.csrf_token(session), token):
        assert secret.encode() not in stored(folder)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_only_the_owner_reads_the_journal(folder: Results) -> None:
    assert [path.stat().st_mode & 0o777 for path in folder.root.glob(f"{NAME}*")] == [0o600] * 3


@pytest.mark.parametrize(
    ("name", "role", "password", "match"),
    [
        ("dr RAO", "reviewer", PASSWORD, "already"),
        ("", "reviewer", PASSWORD, "cannot be a user's"),
        ("a\nb", "reviewer", PASSWORD, "cannot be a user's"),
        ("\u202egro.lave", "reviewer", PASSWORD, "cannot be a user's"),
        ("x" * 101, "reviewer", PASSWORD, "cannot be a user's"),
        ("new", "root", PASSWORD, "role 'root' is unknown"),
        ("new", "reviewer", "too short", "9 characters"),
    ],
)
def test_what_cannot_be_an_account_is_refused(folder: Results, name: str, role: str, password: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        users.add(folder, name, role, password, by="root")
    assert [user.name for user in users.listed(folder.journal.connection)] == ["Dr Rao", "scanner"]


def test_a_session_ends_by_time_idleness_and_signing_out(folder: Results, wall: Wall) -> None:
    idle, busy = signed_in(folder, "Dr Rao", PASSWORD), signed_in(folder, "Dr Rao", PASSWORD)
    for _ in range(int(sessions.LONGEST_S / 1800) - 1):
        wall.advance(1800)
        known = resumed(folder, busy)
        assert known and not known.is_fresh
        sessions.note_use(folder, known)
        assert resumed(folder, busy).is_fresh
    assert resumed(folder, idle) is None
    wall.advance(1801)
    assert resumed(folder, busy) is None
    last = signed_in(folder, "Dr Rao", PASSWORD)
    sessions.end(folder, last, address="10.0.0.7")
    assert resumed(folder, last) is None
    assert folder.journal.connection.execute("SELECT COUNT(*) FROM sessions").fetchone()[0] == 0


@pytest.mark.parametrize("change", [{"is_disabled": True}, {"password": "five other random words"}, {"role": "admin"}])
def test_a_change_of_an_account_ends_its_sessions(folder: Results, change: dict[str, object]) -> None:
    session = signed_in(folder, "Dr Rao", PASSWORD)
    users.change(folder, "dr rao", by="root", **change)
    assert resumed(folder, session) is None
    assert bool(signed_in(folder, "Dr Rao", PASSWORD)) == ("role" in change)


def test_tokens_act_as_their_account_until_they_end(folder: Results, wall: Wall) -> None:
    def acts(token: str) -> str | None:
        user = users.by_token(folder.journal.connection, token, wall.time.timestamp())
        return user and user.role

    lasting, brief = users.add_token(folder, "scanner", by="root"), users.add_token(folder, "SCANNER", by="root", lifetime_s=60)
    assert [acts(lasting), acts(brief), acts(""), acts("bcd_" + "A" * 43)] == ["submitter", "submitter", None, None]
    wall.advance(61)
    assert [acts(lasting), acts(brief)] == ["submitter", None]
    users.change(folder, "scanner", by="root", is_disabled=True)
    assert acts(lasting) is None
    users.change(folder, "scanner", by="root", is_disabled=False)
    assert acts(lasting)
    users.revoke_token(folder, users.tokens(folder.journal.connection)[0].id, by="root")
    assert acts(lasting) is None


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: users.change(folder, "Dr No", by="root", role="admin"),
        lambda folder: users.add_token(folder, "Dr No", by="root"),
        lambda folder: users.revoke_token(folder, 7, by="root"),
    ],
)
def test_what_is_not_there_cannot_be_changed(folder: Results, act: Callable[[Results], object]) -> None:
    with pytest.raises(UsageError, match=r"There is no (user 'Dr No'|valid token 7); bcd-edge serve"):
        act(folder)


def attempts(folder: Results, wall: Wall, seconds: int, name: str, address: str) -> int:
    """How many passwords can be tried in some seconds, one try a second."""
    allowed = 0
    for _ in range(seconds):
        try:
            sessions.note_attempt(folder, name, address=address)
            allowed += 1
        except sessions.TooManyFailuresError as error:
            assert 0 < error.retry_after_s <= 900
        wall.advance(1)
    return allowed


def test_guessing_slows_down_for_known_and_unknown_names_alike(folder: Results, wall: Wall) -> None:
    known, unknown = (attempts(folder, wall, 300, name, f"10.0.0.{index}") for index, name in enumerate(("Dr Rao", "Dr No")))
    assert known == unknown < 20


def test_another_spelling_of_a_name_is_no_further_try(folder: Results, wall: Wall) -> None:
    spellings = ["Dr Rao", "dr rao", "DR RAO ", "Ｄｒ　Ｒａｏ", "\tDr Rao"]
    assert all(users.password_of(folder.journal.connection, name).split("$")[1] == "16" for name in spellings)  # the account's, not nobody's
    assert sum(attempts(folder, wall, 1, spellings[number % 5], f"10.0.0.{number}") for number in range(60)) < 13


def test_an_address_slows_down_whatever_names_it_tries(folder: Results, wall: Wall) -> None:
    assert sum(attempts(folder, wall, 1, f"name {number}", "10.0.0.7") for number in range(600)) < 32


def test_others_failures_delay_a_reader_by_half_a_minute_at_most(folder: Results, wall: Wall) -> None:
    for number in range(200):
        attempts(folder, wall, 1, "Dr Rao", f"10.0.0.{number}")
    wall.advance(30)
    assert signed_in(folder, "Dr Rao", PASSWORD, "192.168.0.1")
    assert attempts(folder, wall, 5, "Dr Rao", "192.168.0.1") == 5


def test_a_clock_that_was_set_back_locks_nobody_out(folder: Results, wall: Wall) -> None:
    attempts(folder, wall, 20, "Dr Rao", "10.0.0.7")
    wall.advance(-86400 * 365)
    with pytest.raises(sessions.TooManyFailuresError) as raised:
        sessions.note_attempt(folder, "Dr Rao", address="10.0.0.7")
    assert raised.value.retry_after_s <= 30


def test_an_unknown_account_cannot_be_asked_for(folder: Results) -> None:
    with pytest.raises(UsageError, match=MISSING):
        users.find(folder.journal.connection, "Dr No")
    with pytest.raises(sqlite3.IntegrityError):
        folder.journal.connection.execute("UPDATE users SET role = 'root'")
