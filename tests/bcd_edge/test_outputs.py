"""The same keys in every format, and names that try to break one."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bcd_edge import plugins
from bcd_edge.records import Execution, Quality, Record, Timing

RAN = Execution("cpu", "a processor", "int8", "resnet50-breast 1", "ab" * 32, "0.1.0", "auto")
MEASURED = Quality(0.4, 0.9, 0.1, 0.8, 0.95, ("out of focus",))
FINE = Record("a/x.png", "cd" * 32, "ok", None, "malignant", 0.75, "review", ("one", "two"), Timing(1.0, 0.5, 6.25, 7.75), RAN, MEASURED)
FAILED = Record("b/y.png", None, "failed", "b/y.png is empty (0 bytes); copy it again.", None, None, None, (), None, RAN)

KEYS = [
    *("source", "sha256", "status", "error", "label", "p_malignant", "decision", "reasons"),
    *("timing_ms", "execution", "quality", "novelty", "um_per_pixel", "kind", "slide"),
]
COLUMNS = [
    *KEYS[:8],
    *(f"timing_ms.{key}" for key in ("decode", "resize", "infer", "total")),
    *(f"execution.{key}" for key in ("provider", "device", "precision", "bundle", "bundle_sha256", "version", "requested")),
    *(f"quality.{key}" for key in ("focus", "exposure", "contrast", "tissue", "stain", "reasons")),
    "novelty",
    *("um_per_pixel", "kind"),
    *(f"slide.{key}" for key in ("width", "height", "vendor", "field_um", "overlap", "tiles", "benign", "review", "malignant", "left_out")),
    *(f"slide.{key}" for key in ("coverage", "aggregation", "files")),
]


def written(name: str, *records: Record) -> str:
    stream = io.StringIO()
    output = plugins.load("bcd_edge.outputs.formats", name).open(stream)
    for record in records:
        output.write(record)
    output.close()
    return stream.getvalue()


def test_jsonl_has_the_documented_keys_in_order() -> None:
    lines = [json.loads(line) for line in written("jsonl", FINE, FAILED).splitlines()]
    assert [list(line) for line in lines] == [KEYS, KEYS]
    assert lines[0]["timing_ms"] == {"decode": 1.0, "resize": 0.5, "infer": 6.25, "total": 7.75}
    assert lines[1]["timing_ms"] is None
    assert lines[0]["execution"]["bundle_sha256"] == "ab" * 32
    assert lines[0]["quality"]["reasons"] == ["out of focus"]
    assert lines[1]["quality"] is None


def test_csv_has_the_same_keys_with_dots() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", FINE, FAILED))))
    assert [list(row) for row in rows] == [COLUMNS, COLUMNS]
    assert rows[0]["timing_ms.infer"] == "6.25"
    assert rows[0]["reasons"] == "one; two"
    assert rows[1]["timing_ms.infer"] == rows[1]["p_malignant"] == ""


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t"])
def test_excel_runs_no_name_as_a_formula_and_reads_utf8(first: str) -> None:
    text = written("excel", replace(FINE, source=f"{first}cmd|' /C calc'!A0 \u6771.png"), replace(FINE, source="a-b.png"))
    assert text.startswith("\ufeff")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert [row["source"] for row in rows] == [f"'{first}cmd|' /C calc'!A0 \u6771.png", "a-b.png"]
    assert float(rows[0]["p_malignant"]) == FINE.p_malignant


def test_csv_of_nothing_is_a_header() -> None:
    assert written("csv") == ",".join(COLUMNS) + "\n"


@given(st.text(max_size=30))
@example("\0")
@example("\r")
def test_any_name_survives_jsonl_and_csv(name: str) -> None:
    named = Record(name, None, "failed", "why", None, None, None, (), None, RAN)
    assert json.loads(written("jsonl", named))["source"] == name
    (row,) = csv.DictReader(io.StringIO(written("csv", named), newline=""))
    assert row["source"] == name.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\0", "\\x00")


def test_a_name_that_is_not_unicode_can_be_written_everywhere() -> None:
    named = Record("bad\udcff.png", None, "failed", "bad\udcff.png is empty.", None, None, None, (), None, RAN)
    for name in plugins.names("bcd_edge.outputs.formats"):
        assert "bad" in written(name, named, FINE).encode().decode()


def test_the_table_shows_decisions_and_sums_them_up() -> None:
    text = written("table", FINE, FAILED)
    assert "ms: work per image" in text
    assert "x.png" in text
    assert "0.750" in text
    assert "2 images: 1 review, 1 failed" in text
    assert "µm/pixel: not known for 1 image; give --um-per-pixel" in text
    assert "µm/pixel: not known" not in written("table", replace(FINE, um_per_pixel=0.5))
    assert "needs pathologist review" in text
    assert "does not diagnose alone" in text
    assert "int8 on cpu (a processor)" in text.replace("\n", " ")


def test_the_table_of_nothing_is_nothing() -> None:
    assert written("table") == ""


@pytest.mark.parametrize("name", ["[red]x[/red].png", "\x1b[31mx.png", "a\rb.png", "[/].png"])
def test_a_name_cannot_steer_the_terminal(name: str) -> None:
    text = written("table", Record(name, None, "failed", f"{name} is empty.", None, None, None, (), None, RAN))
    assert "\x1b" not in text
    assert "\r" not in text
    assert name.replace("\x1b", "\\x1b").replace("\r", "\\x0d").rpartition("/")[2] in text


def test_images_of_one_name_in_two_folders_are_told_apart() -> None:
    other = Record("b/x.png", None, "failed", "why", None, None, None, (), None, RAN)
    text = written("table", FINE, other)
    assert "a/x.png" in text
    assert "b/x.png" in text


def test_the_table_shows_the_folders_that_tell_images_apart() -> None:
    text = written("table", *(replace(FINE, source=f"inbox/{name}") for name in ("before/a.png", "after/b.png")))
    assert [line.split()[0] for line in text.splitlines()[1:3]] == ["before/a.png", "after/b.png"]
