"""One page with the pictures of a case, without names, and a form that saves `opinion.json`. It needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import os
import re
import secrets
import sqlite3
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.errors import UsageError
from bcd_edge.languages import ENGLISH, translator
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.results import audit
from bcd_edge.results.folder import Results
from bcd_edge.results.pictures import read, watched_inbox
from bcd_edge.results.pseudonyms import naming
from bcd_edge.results.records import result_path
from bcd_edge.results.reviews import DECISIONS, LONGEST_COMMENT, LONGEST_NAME

SCHEMA: Final = 1
MOST_PICTURES: Final = 50
SHORTEST_PREFIX: Final = 6
PSEUDONYM_DIGITS: Final = 16
# A larger PNG becomes a JPEG in the best quality that is smaller: a page of some such pictures no longer goes by mail.
LARGEST_PNG: Final = 4_000_000
JPEG_QUALITY: Final = 95
# Pictures are scaled up for their legend by overlays, see `bcd_edge.explain.overlay`.
OVERLAY_MIN_WIDTH: Final = 480


@dataclass(frozen=True, slots=True)
class Package:
    """A page.

    Attributes:
        id: its number, 32 hexadecimal digits.
        recipient: to whom it is given, as the sender says.
        pictures: SHA-256 of its pictures.
        html: the page.
    """

    id: str
    recipient: str
    pictures: tuple[str, ...]
    html: str

    @property
    def zip(self) -> bytes:
        """The page in a ZIP file."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(f"case-{self.id[:8]}.html"), self.html, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()


def find(db: sqlite3.Connection, case: str) -> list[str]:
    """The pictures of a case, by SHA-256.

    Args:
        db: the journal.
        case: a patient, the name of a picture, a pseudonym of either, or the beginning of a SHA-256.

    Raises:
        UsageError: there is none, or several begin so.
    """
    case = _unmasked(db, case)
    for condition, value in (("patient = ?", case), ("path = ?", os.fsencode(case))):
        rows = db.execute(f"SELECT DISTINCT sha256 FROM names WHERE {condition} ORDER BY path", (value,)).fetchall()
        if rows:
            return [row["sha256"] for row in rows]
    digits = case.lower()
    if len(digits) < SHORTEST_PREFIX or set(digits) - set("0123456789abcdef"):
        raise UsageError(
            f"There is no patient or picture {case!r}; give a name as the queue shows it, or at least {SHORTEST_PREFIX} digits of a SHA-256."
        )
    rows = db.execute("SELECT sha256 FROM cases WHERE sha256 >= ? AND sha256 < ? LIMIT 2", (digits, f"{digits}g")).fetchall()
    if len(rows) != 1:
        raise UsageError(f"{'Several pictures begin' if rows else 'No picture begins'} with {case}; give more digits of the SHA-256, or the name.")
    return [rows[0]["sha256"]]


def _unmasked(db: sqlite3.Connection, case: str) -> str:
    """The name behind a pseudonym, which is what pages and logs show where names are replaced; other text as it is."""
    if len(case) != PSEUDONYM_DIGITS:
        return case
    display_name = naming(db, pseudonymise=True)
    rows = db.execute("SELECT DISTINCT patient FROM names WHERE patient IS NOT NULL UNION ALL SELECT DISTINCT path FROM names")
    names = (os.fsdecode(row[0]) for row in rows)
    return next((name for name in names if display_name(name) == case), case)


def build(
    db: sqlite3.Connection,
    results: Path,
    pictures: Sequence[str],
    *,
    recipient: str = "",
    inbox: Path | None = None,
    package_id: str | None = None,
    link: bool = False,
    language: str = ENGLISH,
    has_answers: bool = True,
) -> Package:
    """Makes a page.

    Args:
        db: the journal.
        results: its folder.
        pictures: SHA-256 of answered pictures.
        recipient: to whom it is given; shown on the page.
        inbox: where a watcher's pictures lie; as its heartbeat says if not given.
        package_id: the number of an earlier one that is made again.
        link: whether the form sends the opinion to where the page came from, instead of saving it.
        language: of the page, one of `bcd_edge.languages.languages()`.
        has_answers: whether the model's answers and overlays are on it.

    Raises:
        UsageError: there are too many pictures, or one has no answer.
        InputError: a picture is no longer to be found.
    """
    if len(pictures) > MOST_PICTURES:
        raise UsageError(f"The case has {len(pictures)} pictures and a page at most {MOST_PICTURES}; give single pictures instead of the patient.")
    package_id = package_id or secrets.token_hex(16)
    answers = [_answer(db, sha256) for sha256 in pictures]
    contents = [{"sha256": row["sha256"], "bundle_sha256": row["bundle_sha256"]} for row in answers]
    sealed = audit.canonical({"schema": SCHEMA, "id": package_id, "recipient": recipient, "pictures": contents})
    display_name = naming(db, pseudonymise=True)
    inbox, text = inbox or watched_inbox(results), _Text(language)
    articles = [
        _article(text, raster.decode(read(db, results, inbox, row["sha256"])), results, row, number, display_name, has_answers=has_answers)
        for number, row in enumerate(answers, 1)
    ]
    html = _page(db, text, articles, package_id, sealed, recipient, link=link, has_answers=has_answers)
    return Package(package_id, recipient, tuple(pictures), html)


def note_export(results: Results, package: Package, *, who: str, address: str) -> None:
    """Notes in the audit who took which pictures, and for whom."""
    with results.journal.transaction(flushed=True):
        for sha256 in package.pictures:
            audit.add(results, "consult exported", who=who, address=address, about=sha256, package=package.id, recipient=package.recipient)


def seal(db: sqlite3.Connection, text: str) -> str:
    """What only this folder of results can compute of a text: HMAC-SHA256 with its secret."""
    return _hmac(_secret(db), f"package {text}")


def package_key(db: sqlite3.Connection, package_id: str) -> str:
    """The key by which a page signs its opinion."""
    return _hmac(_secret(db), f"key {package_id}")


def signature(key: str, text: str) -> str:
    """Of an opinion, by a page."""
    return _hmac(bytes.fromhex(key), text)


def _secret(db: sqlite3.Connection) -> bytes:
    return bytes(db.execute("SELECT value FROM meta WHERE name = 'consult_key'").fetchone()[0])


def _hmac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _answer(db: sqlite3.Connection, sha256: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(
        """SELECT cases.sha256, cases.bundle_sha256, cases.path, cases.patient, record, overlay, threshold, review_low, review_high
           FROM cases JOIN images USING (sha256, bundle_sha256) LEFT JOIN bundles ON bundles.sha256 = cases.bundle_sha256 WHERE cases.sha256 = ?""",
        (sha256,),
    ).fetchone()
    if row is None:
        raise UsageError(f"The picture {sha256[:12]} has no answer yet; give it away when it is in the queue.")
    return row


class _Text:
    """The page's parts in its language: `[[...]]` in a file is a text of the catalogues, and its fields are the file's own."""

    def __init__(self, language: str) -> None:
        self.language, self.translate = language, translator(language)

    def fill(self, file: str, /, **values: object) -> str:
        """A file with its fields filled."""
        translated = re.sub(r"\[\[(.*?)\]\]", lambda match: re.sub(r"\{(\w+)\}", r"${\1}", escape(self.translate(match[1]))), _file(file))
        return Template(translated).substitute(values)

    def script(self) -> dict[str, str]:
        """The texts that the script shows, by their English."""
        return {text: self.translate(text) for text in re.findall(r'_\("(.*?)"\)', _file("page.js"))}


def _article(
    text: _Text, pixels_hwc_u8: UInt8Image, results: Path, row: sqlite3.Row, number: int, display_name: Callable[[str], str], *, has_answers: bool
) -> str:
    _, index = text.translate, number - 1
    height, width = pixels_hwc_u8.shape[:2]
    patient = f"{_('Patient')} {display_name(row['patient'])}" if row["patient"] else _("patient not given")
    choices = (f'<label><input type="radio" name="decision-{index}" value="{decision}"> {escape(_(decision))}</label>' for decision in DECISIONS)
    overlay, lay, answer = _answered(text, pixels_hwc_u8, results, row, index) if has_answers else ("", "", "")
    return text.fill(
        "picture.html",
        **{"number": number, "index": index, "width": width, "height": height, "longest_comment": LONGEST_COMMENT},
        **{"name": escape(f"{display_name(os.fsdecode(row['path'] or b''))}; {patient}"), "picture": _data_url(pixels_hwc_u8)},
        **{"choices": "".join(choices), "overlay": overlay, "lay": lay, "answer": answer},
    )


def _answered(text: _Text, pixels_hwc_u8: UInt8Image, results: Path, row: sqlite3.Row, index: int) -> tuple[str, str, str]:
    """The overlay, its slider, and what the model answered, folded away."""
    record, _ = json.loads(row["record"]), text.translate
    answer = text.fill(
        "answer.html",
        scale=_scale(record["p_malignant"], row),
        answer=escape(f"{_(record['decision'])}; p = {record['p_malignant']:.3f}"),
        reasons="".join(f"<li>{escape(str(reason))}</li>" for reason in record["reasons"]),
        rows="".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>' for name, value in _facts(record, _)),
    )
    overlay = _overlay(results, row, pixels_hwc_u8)
    if not overlay:
        return "", "", answer
    return f'<img class="overlay" alt="" src="{overlay}">', text.fill("overlay.html", index=index, label=escape(_(record["label"]))), answer


def _facts(record: dict[str, Any], _: Callable[[str], str]) -> list[tuple[str, Any]]:
    """What of a record names nobody: a list, so that a key that is added later does not go out by itself."""
    ran, quality = record["execution"], record.get("quality") or {}
    facts = [(_("novelty, above 1 is unknown"), record.get("novelty"))]
    facts += [(_(name), quality.get(name)) for name in ("focus", "exposure", "contrast", "tissue", "stain")]
    facts += [(_("bundle"), f"{ran['bundle']} {ran['bundle_sha256'][:12]}"), *((_(name), ran[name]) for name in ("precision", "provider"))]
    facts += [("bcd-edge", ran["version"])]
    return [(name, f"{value:.3g}" if isinstance(value, float) else value) for name, value in facts if value is not None]


def _scale(p_malignant: float, row: sqlite3.Row) -> str:
    """The probability on a line from 0 to 100, with the review band and the threshold."""
    low, high = (100 * (row[name] if row[name] is not None else 0.5) for name in ("review_low", "review_high"))
    threshold = 100 * (row["threshold"] if row["threshold"] is not None else 0.5)
    return (
        f'<rect class="band" x="{low:.2f}" y="2" width="{high - low:.2f}" height="6"/>'
        f'<line class="threshold" x1="{threshold:.2f}" x2="{threshold:.2f}" y1="1" y2="9"/><circle cx="{100 * p_malignant:.2f}" cy="5" r="2"/>'
    )


def _overlay(results: Path, row: sqlite3.Row, pixels_hwc_u8: UInt8Image) -> str | None:
    """The colours to lay over the picture: a layer, or the picture's part of a drawn overlay, whose legend may hold a name."""
    stem = results / result_path(row["sha256"], row["bundle_sha256"]).removesuffix(".json")
    layer = cv2.imread(f"{stem}.layer.png", cv2.IMREAD_UNCHANGED) if os.path.exists(f"{stem}.layer.png") else None
    if layer is not None:
        return _png_url(layer)
    drawn = cv2.imread(f"{stem}.overlay.png") if os.path.exists(f"{stem}.overlay.png") else None
    if drawn is None:
        return None
    height, width = pixels_hwc_u8.shape[:2]
    scale = max(1.0, OVERLAY_MIN_WIDTH / width)
    return _png_url(drawn[: max(1, round(height * scale))])


def _data_url(pixels_hwc_u8: UInt8Image) -> str:
    """Pixels alone, so that nothing else of the file goes along: as a PNG, or a JPEG if that is too large."""
    bgr = np.ascontiguousarray(pixels_hwc_u8[..., ::-1])
    png = _png_url(bgr)
    if len(png) * 3 / 4 <= LARGEST_PNG:
        return png
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"


def _png_url(pixels: Any) -> str:
    return f"data:image/png;base64,{base64.b64encode(cv2.imencode('.png', pixels)[1].tobytes()).decode()}"


def _page(
    db: sqlite3.Connection, text: _Text, articles: list[str], package_id: str, sealed: str, recipient: str, *, link: bool, has_answers: bool
) -> str:
    _ = text.translate
    case = {"package": sealed, "seal": seal(db, sealed), "key": package_key(db, package_id), "id": package_id, "link": link, "texts": text.script()}
    folded = _("The model's answer is folded away; please decide before you open it.")
    sent_back = _("Then send the file opinion.json back to the clinic that gave you this page.")
    return text.fill(
        "page.html",
        **{"language": text.language, "policy": policy(link=link), "style": _file("page.css"), "script": _file("page.js")},
        **{"case": json.dumps(case).replace("<", "\\u003c"), "short_id": package_id[:8], "longest_name": LONGEST_NAME},
        recipient=escape(_("For {recipient}.", recipient=recipient) + " " if recipient else ""),
        answers=escape(folded) if has_answers else "",
        pictures="\n".join(articles),
        button=escape(_("Send the opinion") if link else _("Save opinion.json")),
        next="" if link else f"<p>{escape(sent_back)}</p>",
    )


def policy(*, link: bool) -> str:
    """The page's Content-Security-Policy: its own script and style, pictures inside it, and nothing from anywhere else."""
    hashes = [base64.b64encode(hashlib.sha256(_file(name).encode()).digest()).decode() for name in ("page.js", "page.css")]
    connect = " connect-src 'self';" if link else ""
    own = f"script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'"
    return f"default-src 'none'; {own}; img-src data:;{connect} base-uri 'none'; form-action 'none'"


def _file(name: str) -> str:
    return (files("bcd_edge.consult") / name).read_text(encoding="utf-8")
