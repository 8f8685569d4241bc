"""A run in words, lines of at most 80 columns for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from bcd_edge.benchmark.capacity import Capacity
from bcd_edge.benchmark.compare import Comparison, Pair
from bcd_edge.benchmark.results import interval, label, rounded

Row = dict[str, Any]
COLUMNS = 80


def plan_lines(row: Row) -> Iterator[str]:
    """What runs, above its rows."""
    yield f"{label(row)} on {row['device']}"[:COLUMNS]
    load, compiling, first = (row["start_ms"][key] for key in ("load", "compile", "first_inference"))
    yield f"  load {load:.0f} ms, compile {compiling:.0f} ms, first inference {first:.1f} ms"
    if accuracy := row["accuracy"]:
        yield f"  AUROC {interval(accuracy['auroc'])}, accuracy {interval(accuracy['accuracy'])}"
        unread = f", {accuracy['failed']} unreadable" if accuracy["failed"] else ""
        yield f"  on {accuracy['images']} images of {accuracy['patients']} patients{unread}"


def row_lines(row: Row) -> Iterator[str]:
    """One row: its metric, images per second, its verdict, and further figures."""
    metric, verdict = row["metric"], row["verdict"]
    name, _, unit = metric["name"].partition("_")
    figure = f"{interval(metric)} images/s" if metric["name"] == "images_per_s" else f"{name} {interval(metric)} {unit}"
    rate = "" if metric["name"] == "images_per_s" else f"{rounded(row['images_per_s']['value'])}/s"
    yield f"  {row['scenario']:12} {row['scope']:10} {figure:33} {rate:>9} {short_verdict(row)}"
    if row["server"]:
        yield f"    {rounded(row['server']['qps'])} queries/s within {row['server']['bound_ms']:g} ms"
    for reasons, title in ((row["unsteady"], "unsteady"), (verdict["reasons"], "INVALID")):
        if reasons:
            yield from _wrapped(f"{title}: {'; '.join(reasons)}")
    if energy := row["cost"]["energy"]:
        joules = energy["joules_per_image"]
        per_joule = f", {rounded(1 / joules['value'])} images per joule" if joules["value"] else ""
        yield from _wrapped(f"{interval(joules)} J per image{per_joule} ({', '.join(energy['meters'])})")
    if loadgen := row["loadgen"]:
        value = "no figure" if loadgen["value"] is None else f"{rounded(loadgen['value'])}, ours / LoadGen's {loadgen['ours_over_theirs']}"
        yield f"    LoadGen {loadgen['verdict']}: {loadgen['metric']} {value}"
    if row["elapsed_s"] >= 60 and len(row["series"]) > 1:
        first, last = row["series"][0]["images_per_s"], row["series"][-1]["images_per_s"]
        yield f"    from {rounded(first)} to {rounded(last)} images/s in {row['elapsed_s']:.0f} s"


def short_verdict(row: Row) -> str:
    """One word."""
    return "unsteady" if row["unsteady"] else "VALID" if row["verdict"]["valid"] else "INVALID"


def _wrapped(text: str, indent: str = "    ") -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent=indent, subsequent_indent=indent + "  ")


def end_lines(rows: list[Row]) -> Iterator[str]:
    """The rule of the verdicts, and what was not measured."""
    rules = sorted({f"{row['scenario']} {row['verdict']['rule']}" for row in rows})
    yield from textwrap.wrap(f"VALID by: {'; '.join(rules)}. Brackets: 95 % intervals of this run.", COLUMNS)
    official = sum(row["verdict"]["mlperf_valid"] for row in rows)
    yield from textwrap.wrap(
        f"By MLPerf's rule (600 s, its counts, its bound) {official} of {len(rows)} rows are valid; run.json has the reasons.", COLUMNS
    )
    if unsteady := sum(bool(row["unsteady"]) for row in rows):
        yield from textwrap.wrap(
            f"{unsteady} of {len(rows)} rows are unsteady: measure them again on an idle machine before you rely on them.", COLUMNS
        )
    peaks = [row["cost"]["peak_rss_mib"] for row in rows if row["cost"]["peak_rss_mib"] is not None]
    if peaks:
        yield f"Memory at most {max(peaks):.0f} MiB (peak resident, {rows[0]['cost']['peak_rss_of']})."
    if not any(row["cost"]["energy"] for row in rows):
        yield "Energy: not measured, no meter of this machine is readable by this user."


def pair_lines(pair: Pair) -> Iterator[str]:
    """One comparison."""
    yield f"{label(pair.after)}, {pair.after['scenario']} {pair.after['scope']}"
    if label(pair.before) != label(pair.after):
        yield f"  compared with {label(pair.before)}"
    words = {"regression": "REGRESSION", "slower": "slower, within --max-regress", "no difference": "no regression"}
    yield f"  {pair.metric}: x {interval(pair.ratio.as_dict(), 4)}  {words.get(pair.verdict, pair.verdict)}"
    for doubt in pair.doubts:
        yield from _wrapped(doubt)


def capacity_lines(capacity: Capacity) -> Iterator[str]:
    """What one provider and variant processes per day."""
    yield capacity.engine
    images, lime = capacity.images_per_day, capacity.lime_s
    if images.estimate:
        yield f"  images per day: {interval(images.estimate.as_dict())}"
        yield f"    from {images.source}"
    else:
        yield from _wrapped(f"images per day: {images.source}", "  ")
    if capacity.kj_per_day:
        yield f"  kJ for these images: {interval(capacity.kj_per_day.as_dict())}"
    if lime.estimate:
        yield f"  LIME: {interval(lime.estimate.as_dict())} s in the model for {capacity.samples} masks, its maximum"
        yield f"    from {lime.source}; superpixels and fit not included"
    else:
        yield from _wrapped(f"LIME: {lime.source}", "  ")


def note_lines(comparison: Comparison) -> Iterator[str]:
    """The notes of a comparison, wrapped."""
    for note in comparison.notes:
        yield from textwrap.wrap(note, COLUMNS)
