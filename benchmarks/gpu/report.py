"""What was measured, as a table for docs/performance.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.gpu.latency import BOUND, PROVIDER
from benchmarks.tables import Row, put

Figures = dict[str, Any]


def publish(measured: Path, page: Path) -> None:
    """Puts the table of a `gpu.json` between the marks `gpu` of a Markdown file.

    Raises:
        click.ClickException: the file is no result of `benchmarks gpu`.
    """
    try:
        text = markdown(json.loads(measured.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError):
        raise click.ClickException(f"--from {measured}: not a gpu.json that `python -m benchmarks gpu` wrote.") from None
    put(text, page, "gpu")


def markdown(document: Figures) -> str:
    """The machine, the versions and what could not be measured, then the rows."""
    versions = [f"{name} {version}" for name, version in document["versions"].items() if version != "none"]
    head = [document["bundle"], document["card"], f"driver {_release(document['driver'])}", document["cpu"], f"{document['cores']} cores"]
    lines = [", ".join([*head, document["started"][:10], *versions]) + ".", ""]
    lines += ["A dry run on the CPU: its figures mean nothing.", ""] if document["dry_run"] else []
    lines += [f"Not measured: {'; '.join(document['cannot'])}.", ""] if document["cannot"] else []
    lines += ["| work | wanted | measured | figures |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.work} | {row.wanted} | {row.ratio} | {row.detail} |" for row in rows(document))])


def rows(document: Figures) -> list[Row]:
    """A row or more for each step; one that failed says so."""
    makers: dict[str, Callable[[str, Figures], Iterator[Row]]] = {
        "contract": _contract,
        "latency": _latency,
        "throughput": _throughput,
        "training": _training,
        "autotune": _latency,
    }
    made = []
    for part, result in document["parts"].items():
        for name, figures in result["steps"].items():
            try:
                made += list(makers[part](name, figures))
            except (KeyError, TypeError, IndexError, ValueError):
                reason = str(figures.get("error", "incomplete")).splitlines()[0][:200].replace("|", "/")
                made.append(Row(f"{part}: {name}", "", "not measured", reason))
    return made


def _contract(name: str, figures: Figures) -> Iterator[Row]:
    if name.startswith("golden"):
        for precision in [key for key in figures if key != "seconds"]:
            row = figures[precision]
            detail = row["reason"] or f"p from the exporter's by {row['from_exported']:.1e}, from PyTorch's by {row['from_reference']:.1e}"
            yield Row(f"{name}, {precision}", "fine", row["verdict"], detail)
    elif name.startswith("batches"):
        detail = ", ".join(f"{way} {_number(value)}" for way, value in figures["logit_difference"].items())
        largest = max(value for value in figures["logit_difference"].values())
        yield Row(f"{name}: logits beside cpu's", "", f"within {largest:.1e}", f"{detail}; largest logit {figures['largest_logit']:.1f}")
    elif name.startswith("pictures"):
        detail = f"{figures['pictures']} drawn pictures, mean {figures['mean_delta_p']:.1e}, {figures['decisions_that_differ']} decisions differ"
        yield Row(f"{name}: p beside cpu's", "", f"within {figures['max_delta_p']:.1e}", detail)
    elif name == "threads":
        yield Row("4 threads, one engine", "the same", f"{figures['bit_identical']} of {figures['calls']} identical", "")
    elif name == "mistakes":
        answers = {key: value for key, value in figures.items() if key != "seconds"}
        wrong = [key for key, value in answers.items() if value.startswith(("not ours", "no error"))]
        yield Row("mistakes answered by a sentence", "all", f"{len(answers) - len(wrong)} of {len(answers)}", ", ".join(wrong))
    else:
        counts = ", ".join(f"{figures[key]} {key}" for key in ("passed", "failed", "skipped") if key in figures)
        yield Row("tests/bcd_edge/backends", "all pass", "pass" if figures["exit_code"] == 0 else "fail", counts)


def _latency(name: str, figures: Figures) -> Iterator[Row]:
    measured = {way: row for way, row in figures["rows"].items() if "p50_ms" in row}
    detail = "; ".join(f"{way} {_ms(row)}" for way, row in measured.items())
    failed = [f"{way}: {row['error'].splitlines()[0][:120]}" for way, row in figures["rows"].items() if "error" in row]
    detail = "; ".join([detail, *failed]).replace("|", "/")
    ours = measured[PROVIDER]
    if "precision" in figures:
        compiled = next(way for way in figures["rows"] if way.startswith("PyTorch compiled"))
        ratio = _times(measured[compiled]["over_provider"]) if compiled in measured else "not measured"
        yield Row(f"one image, {figures['precision']} provider beside {compiled}, float16, channels last", "1.5 x", ratio, detail)
    else:
        yield Row(f"one image, {name}: p50 (p99), ms", "", _ms(ours), detail)
        if BOUND in measured:
            over = measured[BOUND]["over_provider"]
            text = f"{1 / over['value'] - 1:+.1%}" + (f" [{1 / over['high'] - 1:+.1%}, {1 / over['low'] - 1:+.1%}]" if over["low"] else "")
            yield Row(f"what the provider adds to ONNX Runtime with bound buffers, {name}", "at most 5 %", text, "")


def _throughput(name: str, figures: Figures) -> Iterator[Row]:
    rates = figures["images_per_s"]
    memory = ", ".join(f"{key} {figures[key]:,}" for key in ("rss_mib", "card_mib") if key in figures)
    if name == "records":
        work = f"PNG bytes to records, {figures['precision']}, batch {figures['batch']}, {figures['streams']} streams, beside the slower half alone"
        detail = ", ".join(f"{half} {rate:,.0f} images/s" for half, rate in rates.items())
        yield Row(work, "", f"{figures['share_of_bound']:.0%}", f"{detail}; {memory}")
        return
    for way, by_size in rates.items():
        best = max(by_size, key=lambda size: by_size[size])
        detail = ", ".join(f"{size}: {rate:,.0f}" for size, rate in by_size.items())
        yield Row(f"{name}, {way}: images/s", "", f"{by_size[best]:,.0f} at {best}", detail)


def _training(name: str, figures: Figures) -> Iterator[Row]:
    cost = figures["loader_adds"]
    low, high = ("?" if cost[end] is None else f"{cost[end]:+.1%}" for end in ("low", "high"))
    detail = ", ".join(f"{part} {rate:,.0f} images/s" for part, rate in figures["images_per_s"].items())
    work = f"what the loader adds to a step of {figures['network']} at {figures['size']} pixels, batch {figures['batch']}, {name}"
    yield Row(work, "at most 5 %", f"{cost['value']:+.1%} [{low}, {high}]", detail)


def _ms(row: Figures) -> str:
    return f"{row['p50_ms']['value']:.3f} ({row['p99_ms']['value']:.3f})"


def _times(estimate: Figures) -> str:
    ends = f" [{estimate['low']:.2f}, {estimate['high']:.2f}]" if estimate["low"] is not None else ""
    return f"{estimate['value']:.2f}{ends} x"


def _release(driver: str) -> str:
    """The version in the line that a driver says about itself."""
    return next(iter(re.findall(r"\b\d+\.\d[\d.]*\b", driver)), driver)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.1e}"
