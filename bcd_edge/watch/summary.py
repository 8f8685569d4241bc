"""`summary.html`: one page, without a script or another file, that a browser left open keeps up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from html import escape
from string import Template
from typing import Any, Final

from bcd_edge.outputs import printable
from bcd_edge.results import report
from bcd_edge.watch.results import result_path

LATEST: Final = 50
DAYS: Final = 31
RELOAD_S: Final = 30

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="$reload"><title>bcd-edge: watch</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a; background: #fff; }
h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; } .n { text-align: right; } .w { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
.malignant, .quarantined { color: #a11; font-weight: 600; } .review, .failed { color: #7a5200; font-weight: 600; } .benign { color: #1a6b2f; }
footer { color: #555; border-top: 1px solid #ccc; margin-top: 2rem; padding-top: 1rem; }
</style></head><body>
<h1>Images</h1>
<p><strong>$state</strong>, $time. $counts</p>
$sections
<footer>$bundle For research. Assists a pathologist; it does not diagnose alone.</footer>
</body></html>
""")


def page(db: sqlite3.Connection, shown: Callable[[str], str], *, state: str, time: str) -> str:
    """The page.

    Args:
        db: the journal.
        shown: how names are shown.
        state: what the watcher does now, in words.
        time: now, in words.
    """
    counted = report.counts(db)
    used = db.execute("SELECT name, sha256 FROM bundles ORDER BY used_at DESC LIMIT 1").fetchone()
    return _PAGE.substitute(
        reload=RELOAD_S,
        state=escape(state),
        time=escape(time),
        counts=f"{counted['done']:,} classified; {counted['seen'] + counted['taken']:,} waiting, {counted['failed']:,} to be tried again, "
        f"{counted['quarantined']:,} in quarantine.",
        sections="\n".join(filter(None, (_troubles(db, shown), _patients(db, shown), _latest(db, shown), _days(db)))),
        bundle=escape(f"{used[0]}, bundle {used[1][:12]}.") if used else "",
    )


def _troubles(db: sqlite3.Connection, shown: Callable[[str], str]) -> str:
    rows = [(_word(one.state), shown(one.path), one.reason, _moment(one.since)) for one in report.troubles(db, LATEST)]
    return _section("Without an answer", ("state", "file", "reason", "since"), rows)


def _patients(db: sqlite3.Connection, shown: Callable[[str], str]) -> str:
    rows = [
        (_word(one.decision), shown(one.name), f"{one.p_malignant:.3f}", one.images, one.slides, one.malignant, one.review)
        for one in report.patients(db, LATEST)
    ]
    heads = ("decision", "patient", "mean p(malignant)", "images", "slides", "malignant", "review")
    return _section("Patients", heads, rows, numbers=5)


def _latest(db: sqlite3.Connection, shown: Callable[[str], str]) -> str:
    rows = []
    for one in report.names(db, LATEST):
        links = _link(result_path(one.sha256, one.bundle_sha256), "record")
        if one.overlay and one.overlay.startswith("records/"):
            links += " " + _link(one.overlay, "overlay")
        name = shown(one.path) + (f" (the same as {shown(one.same_as)})" if one.same_as else "")
        rows.append((_word(one.decision), f"{one.p_malignant:.3f}", name, _moment(one.answered), _Html(links)))
    return _section("Latest", ("decision", "p(malignant)", "file", "answered", ""), rows)


def _days(db: sqlite3.Connection) -> str:
    rows = [(_Html(_link(f"daily/{one.day}.csv", one.day)), one.benign, one.malignant, one.review, one.linked) for one in report.days(db, DAYS)]
    return _section("Days", ("day", "benign", "malignant", "review", "further names"), rows, numbers=4)


class _Html(str):
    """Text that is HTML already."""


def _word(word: str) -> _Html:
    return _Html(f'<span class="{word}">{word}</span>')


def _link(path: str, text: str) -> str:
    return f'<a href="{escape(path)}">{escape(text)}</a>'


def _moment(text: str) -> str:
    """To the second, without the offset from UTC."""
    return text[:19].replace("T", " ")


def _section(title: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], numbers: int = 0) -> str:
    """A table, whose last columns are `numbers`; nothing where there are no rows."""
    first = len(heads) - numbers
    kinds = [" class=n" if index >= first else " class=w" if name in ("file", "reason") else "" for index, name in enumerate(heads)]
    lines = ["<tr>" + "".join(f"<td{kind}>{_cell(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>" for row in rows]
    if not lines:
        return ""
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, heads, strict=True))
    return f'<h2>{escape(title)}</h2>\n<div class="scroll"><table><tr>{head}</tr>\n{chr(10).join(lines)}\n</table></div>'


def _cell(cell: Any) -> str:
    return cell if isinstance(cell, _Html) else escape(printable(str(cell)) if not isinstance(cell, int) else f"{cell:,}")
