"""The findings of `train.data.audit` on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

SHOWN = 10  # examples of one finding that are printed; the JSON has all


def show(findings: dict[str, Any], console: Console) -> None:
    """Prints what `train.data.audit.audit` found: a block for each source, the split, and the verdict."""
    for name, source in findings["sources"].items():
        console.print(Text(name, "bold"))
        _print_rows(console, _source_rows(source))
    split = findings["split"]
    console.print(Text(f"split {split['name']}", "bold"))
    if "note" not in split:
        table = Table("  source", "part", "patients", "benign", "malignant", box=None, header_style="", pad_edge=False, padding=(0, 2, 0, 0))
        for column in table.columns[2:]:
            column.justify = "right"
        for source, places in split["parts"].items():
            for place, row in places.items():
                table.add_row(f"  {source}" if place == next(iter(places)) else "", place, *(f"{count:,}" for count in row.values()))
        console.print(table)
        console.print()
        people = [
            f"{'/'.join(patient['sources'])} {patient['patient']} ({patient['images']:,} images) in {', '.join(patient['parts'])}"
            for patient in split["patients"]
        ]
        images = [f"{' = '.join(duplicate['images'])} in {', '.join(duplicate['parts'])}" for duplicate in split["duplicates"]]
        _print_rows(console, [("patients", _listed(people, " on two sides")), ("images", _listed(images, " on two sides"))])
    console.print(Text(findings["verdict"], "bold green" if findings["clean"] else "bold red"))


def _print_rows(console: Console, rows: Sequence[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            # a file's name must not steer the terminal
            table.add_row(f"  {name}", Text("".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in value)))
    console.print(table)
    console.print()


def _source_rows(source: dict[str, Any]) -> list[tuple[str, str]]:
    spread = source["images_a_patient"]
    each = f"{spread['min']:,} to {spread['max']:,} a patient, median {spread['median']:g}" if spread["max"] > 1 else "one a patient"
    across = source["duplicates_across_patients"]
    inside = len(source["duplicates"]) - len(across)
    both = source["patients_with_both_classes"]
    return [
        ("note", source["note"]),
        ("images", f"{source['images']:,} of {source['patients']:,} patients, {each}"),
        *((name, f"{of['images']:,} images of {of['patients']:,} patients") for name, of in source["classes"].items()),
        ("subtypes", ", ".join(f"{name} {count:,}" for name, count in source["subtypes"].items())),
        ("magnifications", _by_class_text(source["magnifications"])),
        ("pixels", _sizes(source["sizes"])),
        ("left out", f"{source['left_out']:,} images whose name, folder or row gives no label" if source["left_out"] else ""),
        ("ignored", ", ".join(f"{count:,} images in {folder}" for folder, count in sorted(source["ignored"].items()))),
        ("unreadable", _listed([f"{image['name']}: {image['error']}" for image in source["unreadable"]])),
        ("duplicates", f"{inside:,} inside one patient, {len(across):,} across patients" if inside or across else "none"),
        ("", "\n".join(_first(_equal(across)))),
        ("contradictory", _listed(_equal(source["contradictory"]))),
        ("both classes", f"{len(both):,} patients: {', '.join(_first(both))}" if both else "no patient"),
    ]


def _equal(sets: Sequence[Sequence[str]]) -> list[str]:
    return [" = ".join(names) for names in sets]


def _first(texts: Sequence[str]) -> list[str]:
    more = len(texts) - SHOWN
    return [*texts[:SHOWN], *([f"and {more:,} more"] if more > 0 else [])]


def _listed(texts: Sequence[str], meaning: str = "") -> str:
    """How many, and the first of them a line each."""
    return "\n".join([f"{len(texts):,}{meaning}", *_first(texts)]) if texts else f"none{meaning}"


def _by_class_text(counts: dict[str, dict[str, int]]) -> str:
    text = ", ".join(f"{name}: {of['benign']:,} + {of['malignant']:,}" for name, of in counts.items())
    return f"{text} (benign + malignant)" if text else ""


def _sizes(sizes: dict[str, dict[str, int]]) -> str:
    """Each size while there are few, else the least, median and largest by width and by height."""
    if len(sizes) <= 4:
        return _by_class_text(sizes)
    commonest = _by_class_text(dict([next(iter(sizes.items()))]))
    sides = np.array([[int(side) for side in name.split(" x ")] for name, of in sizes.items() for _ in range(sum(of.values()))])
    least, median, largest = (f"{width:g} x {height:g}" for width, height in (sides.min(0), np.median(sides, 0), sides.max(0)))
    return f"{len(sizes):,} sizes, {least} to {largest}, median {median}; commonest {commonest}"
