"""A run as a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any, Final

from bcd_edge.benchmark import plots
from bcd_edge.benchmark.environment import power_mode
from bcd_edge.benchmark.results import flatten, interval, label, rounded

Row = dict[str, Any]

_PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>bcd-edge benchmark: $bundle</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a; background: #fff; }
h2 { margin-top: 2.5rem; font-size: 1.2rem; } svg { max-width: 100%; height: auto; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
td small { color: #444; font-weight: 400; } td.left { white-space: normal; min-width: 5rem; }
th { border-bottom: 2px solid #1a1a1a; } td { border-bottom: 1px solid #ddd; } .left { text-align: left; }
.doubt { color: #a03000; font-weight: 600; white-space: normal; text-align: left; }
.plain td { white-space: normal; text-align: left; vertical-align: top; }
footer { color: #555; border-top: 1px solid #ccc; padding-top: 1rem; margin-top: 2rem; }
</style></head><body>
<h1>Benchmark of $bundle</h1>
<p>$where</p>
$state
<h2>Figures</h2>
<p>Brackets are 95 % intervals of this run. The metric of a scenario is bold; latencies in ms, without warm-up, loading and
compiling. <em>Other cores</em> is the CPU time of other processes during the row, in cores.</p>
<div class="wide"><table><tr><th class="left">engine</th><th class="left">scenario</th><th class="left">scope</th>
<th>p50</th><th>p90</th><th>p99</th><th>images/s</th><th>peak MiB</th><th>J/image</th><th>other cores</th>
<th class="left">verdict</th></tr>$rows</table></div>
$accuracy
<h2>Distribution of latency</h2>
<p>Dot: median; thick line: middle half; thin line: 1 % to 99.9 %; ticks: p90 and p99.</p>
$distribution
<h2>Latency and throughput</h2>
<p>Latency of a query; for Offline of a batch (model) or of an image in the stream (end to end). The label of a point gives batch, threads
and streams: b8 t2 s2.</p>
$frontier
<h2>Over time</h2>
$over_time
<h2>Start</h2>
<div class="wide"><table><tr><th class="left">engine</th><th>load ms</th><th>compile ms</th><th>first inference ms</th></tr>$starts</table></div>
<h2>Environment</h2>
<div class="wide"><table class="plain">$environment</table></div>
<footer>bcd-edge $version, $created. The samples are in run.json. For research. Assists a pathologist; it does not diagnose alone.</footer>
</body></html>
""")


def page(run: dict[str, Any]) -> str:
    """HTML of a run, see benchmark.schema.json."""
    rows: list[Row] = run["rows"]
    machine = run["environment"]["machine"]
    mode = power_mode(run["environment"]) or "not reported by this machine"
    where = f"{machine['cpu']}, {machine['cores']} cores. Power mode: {mode}. Input: {run['input']['what']}."
    state = "" if run["finished"] else '<p class="doubt">This run was interrupted: rows are missing.</p>'
    failures = (f"Did not run: {failure['provider']} {failure['precision']}: {failure['error']}" for failure in run["failures"])
    state += "".join(f'<p class="doubt">{escape(sentence)}</p>' for sentence in failures)
    scopes = dict.fromkeys(row["scope"] for row in rows)
    return _PAGE.substitute(
        bundle=escape(run["bundle"]["name"]),
        where=escape(where),
        state=state,
        rows="".join(_row(row) for row in rows),
        accuracy=_accuracy(rows),
        distribution=plots.distribution(rows) or "<p>No row with queries was measured.</p>",
        frontier="".join(f"<h3>{scope}</h3>{plots.frontier(rows, scope)}" for scope in scopes),
        over_time=plots.over_time(rows) or "<p>No row lasted two seconds.</p>",
        starts="".join(_start(row) for row in {label(row): row for row in rows}.values()),
        environment="".join(_cells([name, value]) for name, value in _known(run["environment"])),
        version=escape(run["version"]),
        created=escape(run["created"]),
    )


def _start(row: Row) -> str:
    return _cells([label(row)], *(rounded(row["start_ms"][key]) for key in ("load", "compile", "first_inference")))


def _cells(left: Sequence[str], *right: str) -> str:
    cells = "".join(f'<td class="left">{escape(cell)}</td>' for cell in left) + "".join(f"<td>{cell}</td>" for cell in right)
    return f"<tr>{cells}</tr>"


def _row(row: Row) -> str:
    metric = row["metric"]["name"]
    figures = [(f"{name}_ms", row["latency_ms"][name]) for name in ("p50", "p90", "p99")] + [("images_per_s", row["images_per_s"])]
    cells = [f"<strong>{_stacked(figure)}</strong>" if name == metric else _stacked(figure) for name, figure in figures]
    cost = row["cost"]
    peak = "-" if cost["peak_rss_mib"] is None else f"{cost['peak_rss_mib']:.0f}"
    joules = _stacked(cost["energy"]["joules_per_image"]) if cost["energy"] else "not<br>measured"
    other = "-" if row["contention"]["other_cores"] is None else f"{row['contention']['other_cores']:.2f}"
    rate = f" at {rounded(row['server']['qps'])} queries/s" if row["server"] else ""
    left = [label(row), row["scenario"] + rate, row["scope"]]
    return _cells(left, *cells, peak, joules, other).removesuffix("</tr>") + f"{_verdict(row)}</tr>"


def _stacked(figure: dict[str, Any]) -> str:
    """The figure above its interval."""
    value, _, ends = interval(figure).partition(" ")
    return f"{value}<br><small>{ends}</small>"


def _verdict(row: Row) -> str:
    verdict, loadgen = row["verdict"], row["loadgen"]
    word = "VALID" if verdict["valid"] else f"INVALID: {'; '.join(verdict['reasons'])}"
    lines = [f'<span class="doubt">unsteady: {escape("; ".join(row["unsteady"]))}</span>'] if row["unsteady"] else []
    if not row["unsteady"] or verdict["reasons"]:
        lines.append(escape(f"{word} ({verdict['rule']})"))
    lines.append("by MLPerf: " + escape("valid" if verdict["mlperf_valid"] else "; ".join(verdict["mlperf_reasons"])))
    if loadgen:
        lines.append(f"LoadGen {loadgen['verdict']}, ours / LoadGen's {loadgen['ours_over_theirs']}")
    return f'<td class="left">{"<br>".join(lines)}</td>'


def _accuracy(rows: Sequence[Row]) -> str:
    scores = {(row["provider"], row["precision"]): row["accuracy"] for row in rows if row["accuracy"]}
    if not scores:
        return ""
    counts = ("images", "patients", "failed")
    lines = "".join(
        _cells(engine, interval(score["auroc"], 4), interval(score["accuracy"], 4), *(str(score[key]) for key in counts))
        for engine, score in scores.items()
    )
    names = ("AUROC", "accuracy", "images", "patients", "unreadable")
    head = '<th class="left">provider</th><th class="left">variant</th>' + "".join(f"<th>{name}</th>" for name in names)
    return f"<h2>Accuracy</h2><table><tr>{head}</tr>{lines}</table>"


def _known(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(key, "not reported" if value is None else str(value)) for key, value in flatten(values)]
