"""An opinion from elsewhere: is it on a page of this folder of results, and unchanged? Then it becomes reviews."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import sqlite3
import stat
import zipfile
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import jsonschema

from bcd_edge.consult.package import SCHEMA, package_key, seal, signature
from bcd_edge.errors import InputError
from bcd_edge.results import audit, reviews
from bcd_edge.results.folder import Results
from bcd_edge.results.reviews import DECISIONS, LONGEST_COMMENT, LONGEST_NAME, Review

LARGEST: Final = 1_000_000

_TEXT: Final = {"type": "string", "maxLength": LARGEST}
_HASH: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_FILE: Final = {
    "type": "object",
    "properties": {"package": _TEXT, "seal": _HASH, "opinion": _TEXT, "signature": _HASH},
    "required": ["package", "seal", "opinion", "signature"],
    "additionalProperties": False,
}
_OPINION: Final = {
    "type": "object",
    "properties": {
        "uid": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "reader": {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME},
        "place": {"type": "string", "maxLength": LONGEST_NAME},
        "decided_at": {"type": "string", "maxLength": 40},
        "decisions": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "items": {
                "type": "object",
                "properties": {
                    "sha256": _HASH,
                    "decision": {"enum": list(DECISIONS)},
                    "comment": {"type": "string", "maxLength": LONGEST_COMMENT},
                    "blinded": {"type": "boolean"},
                },
                "required": ["sha256", "decision", "comment", "blinded"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["uid", "reader", "place", "decided_at", "decisions"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Opinion:
    """An opinion that belongs to this folder of results.

    Attributes:
        package: the number of its page.
        recipient: to whom the page was given, as the sender said.
        reader: who decided, as that person says.
        place: where, likewise; may be empty.
        decided_at: when, ISO 8601 with offset.
        uid: of this opinion.
        bundles: the bundle whose answer was shown, by the picture's SHA-256.
        decisions: `sha256`, `decision`, `comment` and `blinded` of each picture that was decided on.
    """

    package: str
    recipient: str
    reader: str
    place: str
    decided_at: str
    uid: str
    bundles: dict[str, str]
    decisions: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Filed:
    """What became of an opinion: its reviews, and how many of them were not there before."""

    reviews: tuple[Review, ...]
    new: int


def check(db: sqlite3.Connection, data: bytes) -> Opinion:
    """Reads `opinion.json`, or a ZIP file that holds it alone.

    Raises:
        InputError: it is something else, is on a page of another folder of results, or was changed.
    """
    file = _parse(_unzipped(data) if data[:4] == b"PK\x03\x04" else data, _FILE)
    if not hmac.compare_digest(file["seal"], seal(db, file["package"])):
        raise InputError("The opinion is not on a case of this folder of results, or its list of pictures was changed; give the folder it came from.")
    package = json.loads(file["package"])  # sealed here, so it is as it was written
    if not hmac.compare_digest(file["signature"], signature(package_key(db, package["id"]), file["opinion"])):
        raise InputError("The opinion was changed after it was saved; ask its author for the file as the page saved it.")
    if package["schema"] != SCHEMA:
        raise InputError(f"The opinion is of schema {package['schema']}; install the bcd-edge that made its page.")
    return _opinion(package, _parse(file["opinion"].encode(errors="surrogatepass"), _OPINION))


def file(results: Results, opinion: Opinion, *, source: Literal["consult", "link"], who: str, address: str) -> Filed:
    """Files an opinion as reviews of its author, once, with their audit entries, all or nothing.

    Args:
        results: the folder.
        opinion: the opinion.
        source: how it came.
        who: who brought it in, for the audit.
        address: from where.

    Raises:
        UsageError: a picture's answer is not there any more.
    """
    with results.journal.transaction(flushed=True) as db:
        reader = _author(db, opinion.reader)
        known = sum(_is_filed(db, _uid(opinion, decision["sha256"])) for decision in opinion.decisions)
        filed = []
        for decision in opinion.decisions:
            given = {name: decision[name] for name in ("comment", "blinded")}
            filed.append(
                reviews.add(
                    results,
                    decision["sha256"],
                    decision["decision"],
                    reader=reader,
                    bundle_sha256=opinion.bundles[decision["sha256"]],
                    source=source,
                    uid=_uid(opinion, decision["sha256"]),
                    decided_at=opinion.decided_at,
                    **given,
                )
            )
            audit.add_review(results, filed[-1].uid, who=who, address=address)
        if known < len(filed):
            more = {"package": opinion.package, "recipient": opinion.recipient, "reader": reader, "place": opinion.place}
            audit.add(results, "consult imported", who=who, address=address, about=opinion.package, **more)
        return Filed(tuple(filed), len(filed) - known)


def is_filed(db: sqlite3.Connection, opinion: Opinion) -> bool:
    """Whether all of it was filed before."""
    return all(_is_filed(db, _uid(opinion, decision["sha256"])) for decision in opinion.decisions)


def _is_filed(db: sqlite3.Connection, uid: str) -> bool:
    return db.execute("SELECT 1 FROM reviews WHERE uid = ?", (uid,)).fetchone() is not None


def _uid(opinion: Opinion, sha256: str) -> str:
    """The same for the same opinion on the same picture, and nobody else's."""
    return hashlib.sha256(f"{opinion.package} {opinion.uid} {sha256}".encode()).hexdigest()[:32]


def _author(db: sqlite3.Connection, name: str) -> str:
    """The author's name, marked where an account here has it: what is given elsewhere must not count as the account's own."""
    if db.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone():
        return f"{name[: LONGEST_NAME - 10]} (consult)"
    return name


def _opinion(package: dict[str, Any], given: dict[str, Any]) -> Opinion:
    bundles = {picture["sha256"]: picture["bundle_sha256"] for picture in package["pictures"]}
    decided = [decision["sha256"] for decision in given["decisions"]]
    if len(set(decided)) < len(decided) or set(decided) - bundles.keys():
        raise InputError("The opinion names a picture twice, or one that is not on its page; ask its author for the file as the page saved it.")
    reader = given["reader"].strip()
    if not reader or not (reader + given["place"]).isprintable():
        raise InputError("The author's name or place has characters that are not shown; ask the author for the opinion with a plain name.")
    return Opinion(
        package=package["id"],
        recipient=package["recipient"],
        reader=reader,
        place=given["place"],
        decided_at=_time(given["decided_at"]),
        uid=given["uid"],
        bundles=bundles,
        decisions=tuple(given["decisions"]),
    )


def _time(text: str) -> str:
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InputError(f"The opinion's time {text[:40]!r} is none; ask its author for the file as the page saved it.")
    return time.isoformat(timespec="milliseconds")


def _parse(data: bytes, schema: dict[str, Any]) -> dict[str, Any]:
    if len(data) > LARGEST:
        raise InputError(f"The file has {len(data):,} bytes, which no opinion has; give the opinion.json that the page saved.")
    try:
        parsed: dict[str, Any] = json.loads(data)
        json.dumps(parsed, ensure_ascii=False).encode()  # half of a pair of surrogates cannot be stored
    except (ValueError, RecursionError):
        raise InputError("The file is not JSON; give the opinion.json that the page saved.") from None
    if not jsonschema.Draft202012Validator(schema).is_valid(parsed):
        raise InputError("The file is not an opinion on a case; give the opinion.json that the case's page saved.")
    return parsed


def _unzipped(data: bytes) -> bytes:
    """The only file of a ZIP; nothing is written to the disk."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) != 1 or not _is_plain(entries[0]):
                raise InputError("The ZIP holds something else than one opinion.json; take that out, and give it.")
            with archive.open(entries[0]) as file:
                return file.read(LARGEST + 1)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The ZIP cannot be read ({error}); give the opinion.json that the page saved.") from None


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    """Whether it is a file of its own, in no other folder than the ZIP's."""
    mode = entry.external_attr >> 16
    is_inside = not entry.filename.startswith("/") and ".." not in entry.filename.split("/") and ":" not in entry.filename
    return is_inside and (stat.S_IFMT(mode) in (0, stat.S_IFREG)) and entry.filename.endswith(".json")
