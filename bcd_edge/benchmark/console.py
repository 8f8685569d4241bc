"""A run in words, lines of at most 80 columns for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from bcd_edge.benchmark.capacity import Forecast
from bcd_edge.benchmark.compare import Comparison, Pair
from bcd_edge.benchmark.results import named, shown, significant

Row = dict[str, Any]
COLUMNS = 80


def plan_lines(row: Row) -> Iterator[str]:
    """What ran, above its rows."""
    yield f"{named(row)} on {row['device']}"[:COLUMNS]
    load, compiling, first = (row["start_ms"][key] for key in ("load", "compile", "first_inference"))
    yield f"  load {load:.0f} ms, compile {compiling:.0f} ms, first inference {first:.1f} ms"
    if found := row["accuracy"]:
        yield f"  AUROC {shown(found['auroc'])}, accuracy {shown(found['accuracy'])}"
        unread = f", {found['failed']} not readable" if found["failed"] else ""
        yield f"  on {found['images']} images of {found['patients']} patients{unread}"


def row_lines(row: Row) -> Iterator[str]:
    """One row: the figure that counts, images a second, whether it can be believed, and what else was found."""
    metric, verdict = row["metric"], row["verdict"]
    name, _, unit = metric["name"].partition("_")
    figure = f"{shown(metric)} images/s" if metric["name"] == "images_per_s" else f"{name} {shown(metric)} {unit}"
    rate = "" if metric["name"] == "images_per_s" else f"{significant(row['images_per_s']['value'])}/s"
    word = "unsteady" if row["unsteady"] else "VALID" if verdict["valid"] else "INVALID"
    yield f"  {row['scenario']:12} {row['scope']:10} {figure:33} {rate:>9} {word}"
    if row["server"]:
        yield f"    {significant(row['server']['qps'])} queries/s within {row['server']['bound_ms']:g} ms"
    for reasons, what in ((row["unsteady"], "unsteady"), (verdict["reasons"], "INVALID")):
        if reasons:
            yield from _wrapped(f"{what}: {'; '.join(reasons)}")
    if energy := row["cost"]["energy"]:
        yield from _wrapped(f"{shown(energy['joules_per_image'])} J an image ({', '.join(energy['meters'])})")
    if found := row["loadgen"]:
        value = "no figure" if found["value"] is None else f"{significant(found['value'])}, ours / its {found['ours_over_theirs']}"
        yield f"    LoadGen {found['verdict']}: {found['metric']} {value}"
    if row["elapsed_s"] >= 60 and len(row["series"]) > 1:
        first, last = row["series"][0]["images_per_s"], row["series"][-1]["images_per_s"]
        yield f"    from {significant(first)} to {significant(last)} images/s in {row['elapsed_s']:.0f} s"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent="    ", subsequent_indent="      ")


def end_lines(rows: list[Row]) -> Iterator[str]:
    """What the rows are valid by, and what was not measured."""
    rules = sorted({f"{row['scenario']} {row['verdict']['rule']}" for row in rows})
    yield from textwrap.wrap(f"VALID by: {'; '.join(rules)}. Brackets: 95 % intervals of this run.", COLUMNS)
    official = sum(row["verdict"]["mlperf_valid"] for row in rows)
    yield from textwrap.wrap(f"By MLPerf's rule (600 s, its counts, its bound) {official} of {len(rows)} rows are valid; run.json says why.", COLUMNS)
    peaks = [row["cost"]["peak_rss_mib"] for row in rows if row["cost"]["peak_rss_mib"] is not None]
    if peaks:
        yield f"Memory at most {max(peaks):.0f} MiB (peak resident, {rows[0]['cost']['peak_rss_of']})."
    if not any(row["cost"]["energy"] for row in rows):
        yield "Energy: not measured, this machine has no meter that this user may read."


def pair_lines(pair: Pair) -> Iterator[str]:
    """One comparison."""
    yield f"{named(pair.after)}, {pair.after['scenario']} {pair.after['scope']}"
    if named(pair.before) != named(pair.after):
        yield f"  beside {named(pair.before)}"
    words = {"regression": "REGRESSION", "slower": "slower, within what is allowed", "faster": "faster", "alike": "no difference beyond noise"}
    yield f"  {pair.of}: x {shown(pair.ratio.as_dict(), 4)}  {words[pair.verdict]}"


def forecast_lines(found: Forecast) -> Iterator[str]:
    """What one provider and variant manages in a day."""
    yield found.what
    if found.images_a_day:
        yield f"  images a day: {shown(found.images_a_day.as_dict())}"
        yield f"    by {found.how}"
    else:
        yield "  images a day: not measured; run the scope end-to-end, Offline"
    if found.kj_a_day:
        yield f"  and kJ for them: {shown(found.kj_a_day.as_dict())}"
    if found.lime_s:
        yield f"  LIME: {shown(found.lime_s.as_dict())} s in the model for {found.samples} masks, the most it asks for"
        yield f"    by {found.lime_how}; superpixels and fit come on top"
    else:
        yield "  LIME: not measured; run the scope model, Offline, with --batch 16"


def note_lines(found: Comparison) -> Iterator[str]:
    """The notes of a comparison, wrapped."""
    for note in found.notes:
        yield from textwrap.wrap(note, COLUMNS)
