"""Links to one case: signed, for a time, revocable; for reading and one opinion.

A link is `ID.EXPIRES.SIGNATURE`; the signature is HMAC-SHA256 with the journal's secret, so that a forged one is refused before
anything is looked up, and what a link may show is in the journal alone.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bcd_edge.consult.opinion import Filed, Opinion, file, is_filed
from bcd_edge.consult.package import MOST_PICTURES, seal
from bcd_edge.errors import UsageError
from bcd_edge.results import audit
from bcd_edge.results.folder import Results

SHORTEST_S: Final = 60.0
LONGEST_S: Final = 90 * 86400.0


class LinkError(UsageError):
    """A link that is not accepted; `is_known` is whether it was once."""

    def __init__(self, message: str, *, is_known: bool) -> None:
        super().__init__(message)
        self.is_known = is_known


@dataclass(frozen=True, slots=True)
class Link:
    """One link.

    Attributes:
        id: its number, 32 hexadecimal digits; that of its page, too.
        pictures: SHA-256 of what it shows.
        recipient: for whom it was made.
        made_by: by whom.
        made_at: when, ISO 8601.
        expires: until when, in seconds since 1970.
        revoked_at: when it was revoked.
        answered_at: when the opinion came.
    """

    id: str
    pictures: tuple[str, ...]
    recipient: str
    made_by: str
    made_at: str
    expires: float
    revoked_at: str | None
    answered_at: str | None


def make(results: Results, pictures: Sequence[str], *, lifetime_s: float, recipient: str, who: str, address: str) -> str:
    """Makes a link, and returns what follows `/consult/` in it.

    Raises:
        UsageError: it would last too long or too short, or show too much.
    """
    if not SHORTEST_S <= lifetime_s <= LONGEST_S:
        raise UsageError("A link lasts from one minute to 90 days; give for example --expires 7d.")
    if not 0 < len(pictures) <= MOST_PICTURES:
        raise UsageError(
            f"The case has {len(pictures)} pictures and a link shows at most {MOST_PICTURES}; give single pictures instead of the patient."
        )
    link_id, expires = secrets.token_hex(16), float(int(results.clock.wall().timestamp() + lifetime_s))
    with results.journal.transaction(flushed=True) as db:
        db.execute(
            "INSERT INTO consult_links (id, pictures, recipient, made_by, made_at, expires) VALUES (?, ?, ?, ?, ?, ?)",
            (link_id, json.dumps(list(pictures)), recipient, who, results.clock.text(), expires),
        )
        for sha256 in pictures:
            audit.add(results, "link made", who=who, address=address, about=sha256, link=link_id, recipient=recipient)
        return token(db, link_id, expires)


def token(db: sqlite3.Connection, link_id: str, expires: float) -> str:
    """What is in the address of a link."""
    return f"{link_id}.{int(expires)}.{seal(db, f'link {link_id} {int(expires)}')}"


def verify(db: sqlite3.Connection, given: str, now: float) -> Link:
    """The link of a token.

    Args:
        db: the journal.
        given: what follows `/consult/`.
        now: seconds since 1970.

    Raises:
        LinkError: it was never made here, has expired, or was revoked.
    """
    link_id, _, rest = given.partition(".")
    expires, _, signature = rest.partition(".")
    is_signed = hmac.compare_digest(signature.encode(), seal(db, f"link {link_id} {expires}").encode())
    row = db.execute("SELECT * FROM consult_links WHERE id = ?", (link_id,)).fetchone() if is_signed else None
    if row is None:
        raise LinkError("There is no such link; check that all of it was copied.", is_known=False)
    if row["revoked_at"]:
        raise LinkError("This link was revoked; ask the clinic for another.", is_known=True)
    if row["expires"] <= now:
        raise LinkError("This link has expired; ask the clinic for another.", is_known=True)
    return _link(row)


def listed(db: sqlite3.Connection) -> list[Link]:
    """Every link, the latest first."""
    return [_link(row) for row in db.execute("SELECT * FROM consult_links ORDER BY made_at DESC, id")]


def revoke(results: Results, link_id: str, *, who: str, address: str) -> None:
    """Has a link accepted no more.

    Args:
        results: the folder.
        link_id: its number, or the beginning of it.
        who: who revokes it, for the audit.
        address: from where.

    Raises:
        UsageError: there is none, or several begin so, or it was revoked before.
    """
    with results.journal.transaction(flushed=True) as db:
        rows = [row for row in db.execute("SELECT id FROM consult_links WHERE revoked_at IS NULL") if row["id"].startswith(link_id)]
        if len(rows) != 1 or not link_id:
            raise UsageError(f"There are {len(rows)} valid links whose number begins with {link_id!r}; bcd-edge consult links shows all.")
        db.execute("UPDATE consult_links SET revoked_at = ? WHERE id = ?", (results.clock.text(), rows[0]["id"]))
        audit.add(results, "link revoked", who=who, address=address, about=rows[0]["id"])


def answer(results: Results, link: Link, opinion: Opinion, *, address: str) -> Filed:
    """Files the one opinion that a link takes; again the same one is no other.

    Raises:
        LinkError: there is another one already, or it is on another page.
    """
    with results.journal.transaction(flushed=True) as db:
        if opinion.package != link.id:
            raise LinkError("The opinion is on another case than the link; reload the page, and send it again.", is_known=True)
        row = db.execute("SELECT answered_at, revoked_at FROM consult_links WHERE id = ?", (link.id,)).fetchone()
        if row["revoked_at"] or (row["answered_at"] and not is_filed(db, opinion)):
            raise LinkError("An opinion was given by this link before; ask the clinic for another link.", is_known=True)
        filed = file(results, opinion, source="link", who=f"link {link.id[:8]}", address=address)
        db.execute("UPDATE consult_links SET answered_at = COALESCE(answered_at, ?) WHERE id = ?", (results.clock.text(), link.id))
        return filed


def _link(row: sqlite3.Row) -> Link:
    values = dict(row)
    return Link(**values | {"pictures": tuple(json.loads(values["pictures"]))})
