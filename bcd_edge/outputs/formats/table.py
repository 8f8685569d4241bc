"""A table for reading, followed by what ran and how to read it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import PurePath
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bcd_edge.outputs import printable
from bcd_edge.records import Record

STYLES = {"benign": "green", "malignant": "bold red", "review": "bold yellow", "failed": "magenta"}


class TableOutput:
    """See `bcd_edge.outputs.Output`. Rows are kept until `close`, because the column widths depend on all of them."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._records: list[Record] = []

    def write(self, record: Record) -> None:
        self._records.append(record)

    def close(self) -> None:
        if not self._records:
            return
        rows = self._records[0].kind == "row"
        table = Table(box=None, header_style="bold", pad_edge=False, expand=False)
        for heading in ("row" if rows else "image", "decision", "p(malignant)", *(() if rows else ("µm/pixel",)), "ms"):
            table.add_column(heading)
        for column in table.columns[1:]:
            column.no_wrap = True
        for column in table.columns[2:]:
            column.justify = "right"
        for name, record in zip(_names([record.source for record in self._records]), self._records, strict=True):
            if record.status == "failed":
                table.add_row(Text(name), Text("failed", STYLES["failed"]))
                continue
            total = f"{record.timing_ms.total:.1f}" if record.timing_ms else ""
            decision, scale = str(record.decision), f"{record.um_per_pixel:g}" if record.um_per_pixel else "not known"
            table.add_row(Text(name), Text(decision, STYLES[decision]), f"{record.p_malignant:.3f}", *(() if rows else (scale,)), total)
        self._console.print(table)
        self._summary()

    def _summary(self) -> None:
        for record in self._records:
            if record.status == "failed":
                self._console.print(f"[magenta]failed[/] {escape(printable(record.source))}: {escape(printable(str(record.error)))}")
        for record in self._records:
            if record.slide:
                summary, page = record.slide, PurePath(record.slide.files) / "index.html"
                counts = f"{summary.malignant} malignant, {summary.review} review, {summary.benign} benign, {summary.left_out} left out"
                self._console.print(f"{escape(printable(record.source))}: tiles {counts}; open {escape(printable(str(page)))}", soft_wrap=True)
        noun = ("row" if self._records[0].kind == "row" else "image") + "s" * (len(self._records) > 1)
        decisions: Counter[str] = Counter(record.decision or "failed" for record in self._records)
        self._console.print(f"\n{len(self._records)} {noun}: " + ", ".join(f"{decisions[name]} {name}" for name in STYLES if decisions[name]))
        if decisions["review"]:
            self._console.print("review: needs pathologist review; the reasons are in each record (--format jsonl).")
        unknown = sum(record.status == "ok" and record.kind == "image" and record.um_per_pixel is None for record in self._records)
        if unknown:
            images = "image" + "s" * (unknown > 1)
            self._console.print(f"µm/pixel: not known for {unknown} {images}; give --um-per-pixel, answers depend on it.")
        if noun == "images":
            self._console.print("ms: work per image, without waiting; images overlap, so a folder takes less than the sum.")
        ran = self._records[0].execution
        self._console.print(
            escape(f"{ran.bundle} {ran.precision} on {ran.provider} ({ran.device}), bundle {ran.bundle_sha256[:12]}, bcd-edge {ran.version}"),
            style="dim",
        )
        self._console.print("For research. Assists a pathologist; it does not diagnose alone.", style="dim")


def _names(sources: list[str]) -> list[str]:
    """Paths relative to the folder that all images share; unchanged if they share none."""
    try:
        common = os.path.commonpath([PurePath(source).parent for source in sources])
    except ValueError:  # absolute and relative ones
        common = ""
    return [printable(os.path.relpath(source, common) if common else source) for source in sources]


def open(stream: TextIO) -> TableOutput:
    return TableOutput(stream)
