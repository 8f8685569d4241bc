"""`summary.html`: one page, without a script or another file, that a browser left open keeps up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from string import Template
from typing import Any, Final

from bcd_edge.outputs import printable
from bcd_edge.results import report
from bcd_edge.results.clock import shown_time
from bcd_edge.results.records import result_path

LATEST: Final = 50
DAYS: Final = 31
RELOAD_S: Final = 30

STYLE: Final = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a; background: #fff; }
h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; } .n { text-align: right; } .w { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
.malignant, .quarantined { color: #a11; font-weight: 600; } .review, .failed { color: #7a5200; font-weight: 600; } .benign { color: #1a6b2f; }
footer { color: #555; border-top: 1px solid #ccc; margin-top: 2rem; padding-top: 1rem; }
@media print {
  @page { margin: 12mm; }
  body { font-size: 9pt; margin: 0; max-width: none; padding: 0; }
  .scroll { overflow: visible; } th { white-space: normal; } th, td { padding: 1mm 2mm 1mm 0; } .w { min-width: 0; }
  thead { display: table-header-group; } tr { break-inside: avoid; } h2 { break-after: avoid; } a { color: inherit; text-decoration: none; }
}
"""
_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="$reload"><title>bcd-edge: results</title>
<style>
$style</style></head><body><main>
<h1>Results</h1>
<p><strong>$state</strong>, $time. $counts$skipped</p>
$sections</main>
<footer>$bundle All times and days are local times of this computer. For research. Assists a pathologist; it does not diagnose alone.</footer>
</body></html>
""")


def page(db: sqlite3.Connection, display_name: Callable[[str], str], *, state: str, time: str, skipped: Mapping[str, int]) -> str:
    """The page.

    Args:
        db: the journal.
        display_name: how names are shown.
        state: what the watcher does now, in words.
        time: now, in ISO 8601.
        skipped: files of the inbox that are not taken, by suffix.
    """
    numbers = report.counts(db)
    used = db.execute("SELECT name, sha256 FROM bundles ORDER BY used_at DESC LIMIT 1").fetchone()
    sections = (_unanswered(db, display_name), _shared(db, display_name), _patients(db, display_name), _latest(db, display_name), _days(db))
    return _PAGE.substitute(
        reload=RELOAD_S,
        style=STYLE,
        state=escape(state),
        time=escape(shown_time(time)),
        counts=f"{count(numbers['done'], 'image')} classified; {numbers['seen'] + numbers['taken']:,} waiting, "
        f"{numbers['failed']:,} to be tried again, {numbers['quarantined']:,} in quarantine.",
        skipped=escape(f" {sentence}" if (sentence := skipped_files(skipped)) else ""),
        sections="\n".join(filter(None, sections)),
        bundle=escape(f"{used[0]}, bundle {used[1][:12]}.") if used else "",
    )


def count(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def skipped_files(skipped: Mapping[str, int]) -> str:
    """A sentence about files of the inbox that are not taken; empty if there are none."""
    if not skipped:
        return ""
    total = sum(skipped.values())
    kinds = ", ".join(
        f"{number:,} {printable(suffix) or 'without a suffix'}" for suffix, number in sorted(skipped.items(), key=lambda pair: -pair[1])
    )
    return f"{count(total, 'file')} in the inbox {'is' if total == 1 else 'are'} not taken, by name or content: {kinds}."


def _unanswered(db: sqlite3.Connection, display_name: Callable[[str], str]) -> str:
    rows = [(_word(file.state), display_name(file.path), file.reason, shown_time(file.since)) for file in report.unanswered(db, LATEST)]
    return section("Without an answer", ("state", "file", "reason", "since"), rows)


def _shared(db: sqlite3.Connection, display_name: Callable[[str], str]) -> str:
    rows = [
        (", ".join(map(display_name, image.patients)), ", ".join(map(display_name, image.paths)), image.sha256[:12])
        for image in report.shared_images(db, LATEST)
    ]
    return section("The same image under several patients: it counts for each, and one name is likely wrong", ("patients", "file", "SHA-256"), rows)


def _patients(db: sqlite3.Connection, display_name: Callable[[str], str]) -> str:
    rows = [
        (
            *(_word(patient.decision), display_name(patient.name), f"{patient.p_malignant:.3f}", patient.images),
            *("" if patient.slides is None else patient.slides, patient.malignant, patient.review, patient.shared),
        )
        for patient in report.patients(db, LATEST)
    ]
    heads = ("decision", "patient", "mean p(malignant)", "images", "slides", "malignant", "review", "shared")
    return section("Patients", heads, rows, numbers=6)


def _latest(db: sqlite3.Connection, display_name: Callable[[str], str]) -> str:
    rows = []
    for named in report.names(db, LATEST):
        links = _link(result_path(named.sha256, named.bundle_sha256), "record")
        if named.overlay and named.overlay.startswith("records/"):
            links += " " + _link(named.overlay, "overlay")
        name = display_name(named.path) + (f" (the same as {display_name(named.same_as)})" if named.same_as else "")
        rows.append((_word(named.decision), f"{named.p_malignant:.3f}", name, shown_time(named.answered), _Html(links)))
    return section("Latest", ("decision", "p(malignant)", "file", "answered", "files"), rows)


def _days(db: sqlite3.Connection) -> str:
    rows = [(_Html(_link(f"daily/{day.day}.csv", day.day)), day.benign, day.malignant, day.review, day.linked) for day in report.days(db, DAYS)]
    return section("Days", ("day", "benign", "malignant", "review", "further names"), rows, numbers=4)


class _Html(str):
    """Text that is HTML already."""


def _word(word: str) -> _Html:
    return _Html(f'<span class="{word}">{word}</span>')


def _link(path: str, text: str) -> str:
    return f'<a href="{escape(path)}">{escape(text)}</a>'


def section(title: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], numbers: int = 0) -> str:
    """A table, whose last columns are `numbers`; nothing where there are no rows."""
    first = len(heads) - numbers
    kinds = [
        " class=n" if index >= first else " class=w" if name in ("file", "reason", "patient", "patients") else "" for index, name in enumerate(heads)
    ]
    lines = ["<tr>" + "".join(f"<td{kind}>{_cell(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>" for row in rows]
    if not lines:
        return ""
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, heads, strict=True))
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(lines)}</tbody></table>"
    return f'<h2>{escape(title)}</h2>\n<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">{table}</div>'


def _cell(cell: Any) -> str:
    return cell if isinstance(cell, _Html) else escape(printable(str(cell)) if not isinstance(cell, int) else f"{cell:,}")
