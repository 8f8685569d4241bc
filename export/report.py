"""What the export found: a table on the terminal, and `export.json` and `export.html` for whoever signs for the bundle.

Both show one `content`, which the caller puts together:

    name, version     of the bundle
    reference         what the variants were compared with, in words
    bounds            {metric: what it may lose}, as `export.gate.BOUNDS`
    decision          the decision rule of the manifest
    variants          a list; of each
        precision     its name
        file, bytes   its ONNX file
        providers     optional: the names of those it is meant for
        quantisation  how it was quantised, a dict, or None
        gate          what `export.gate.judge` says
        latency       {provider: {p50_ms, p90_ms, runs}} measured here, empty if it was not
        carried       whether the bundle carries it
    versions          {library: version}
    revision          of the source
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bcd_edge.system.atomic import atomic_write
from export import gate

FLIPS = 50
STYLES = {"passed": "green", "REFUSED": "bold red", "refused, allowed": "bold yellow"}


def verdict(variant: Mapping[str, Any]) -> str:
    """`passed`, `REFUSED`, or `refused, allowed` for one that the bundle carries all the same."""
    if not variant["gate"]["refused"]:
        return "passed"
    return "refused, allowed" if variant["carried"] else "REFUSED"


def table(content: Mapping[str, Any], out: Path | None, console: Console | None = None) -> None:
    """Prints the variants, why one is refused, and what to type next.

    Args:
        content: see above.
        out: the bundle that was written; None if a variant was refused, which the caller reports.
        console: 80 columns hold three providers.
    """
    console = console or Console(highlight=False)
    variants, measured = content["variants"], _measured(content)
    headers = ("variant", "size\nMB", "AUROC\nΔ", "sensitivity\nΔ", "flips", *(f"{provider}\nms" for provider in measured), "verdict")
    table = Table(*headers, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:-1]:
        column.justify, column.no_wrap = "right", True
    for variant in variants:
        judged = variant["gate"]
        differences = (_signed(judged["difference"][metric]["value"]) if judged["difference"] else "–" for metric in ("auroc", "sensitivity"))
        latencies = (f"{variant['latency'][provider]['p50_ms']:.1f}" if provider in variant["latency"] else "–" for provider in measured)
        outcome = verdict(variant)
        size, flips = f"{variant['bytes'] / 1e6:.1f}", str(len(judged["flips"]))
        table.add_row(Text(variant["precision"]), size, *differences, flips, *latencies, Text(outcome, STYLES[outcome]))
    console.print(table)
    judged = variants[0]["gate"]
    console.print(
        f"Δ: variant minus reference on {judged['images']} images of {judged['patients']} test patients; "
        "flips: images whose decision or label changed" + ("; ms: median for one image here." if measured else "."),
        style="dim",
    )
    for variant in variants:
        for reason in variant["gate"]["refused"]:
            console.print(Text.assemble((verdict(variant), STYLES[verdict(variant)]), f": {reason}."))
    if out is None:
        return
    place = shlex.quote(str(out))
    console.print(f"\nWrote {out}. Next:", soft_wrap=True, markup=False)
    for command in (f"bcd-edge predict --bundle {place} IMAGE", f"bcd-edge bundle selftest {place}"):
        console.print(Text(f"    {command}"), soft_wrap=True)  # a line that is broken cannot be pasted


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes `export.json`, the content as it is, and `export.html`, one file with everything in it.

    Raises:
        OSError: one could not be written; what was there before is untouched.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"difference": _difference, "signed": _signed, "shown": _shown}
    environment.globals |= {"names": gate.NAMES, "rises": gate.RISES, "verdict": verdict, "exceeds": _exceeds}
    page = environment.get_template("report.html.j2").render(content=content, providers=_measured(content), metrics=gate.METRICS, most_flips=FLIPS)
    data = json.dumps(content, indent=1, allow_nan=False) + "\n"
    for name, text in (("export.json", data), ("export.html", page)):
        atomic_write(folder / name, text.encode())


def _measured(content: Mapping[str, Any]) -> list[str]:
    """The providers that some variant was timed with, in the order of the variants."""
    return list(dict.fromkeys(provider for variant in content["variants"] for provider in variant["latency"]))


def _exceeds(metric: str, difference: Mapping[str, float], bounds: Mapping[str, float]) -> bool:
    """Whether the gate refuses this difference; NaN does."""
    return metric in bounds and not gate.lost(metric, difference) <= bounds[metric]


def _signed(value: float) -> str:
    """Four digits with a sign, and no -0.0000."""
    return f"{round(value, 4) + 0.0:+.4f}"


def _difference(metric: Mapping[str, float] | None) -> str:
    """Value and 95 % interval."""
    return f"{_signed(metric['value'])} [{_signed(metric['low'])}, {_signed(metric['high'])}]" if metric else "–"


def _shown(value: object) -> str:
    """A setting as a person would write it; a dict within a dict on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(entry)}" for name, entry in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "–"
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
