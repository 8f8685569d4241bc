"""What `monitor` found, as text of 80 columns, as a page without scripts or other files, and as Prometheus gauges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from string import Template
from textwrap import fill
from typing import Any, Final

from bcd_edge.errors import ProviderError
from bcd_edge.estimates import Estimate
from bcd_edge.results.clock import shown_time
from bcd_edge.results.monitor import Report
from bcd_edge.results.summary import STYLE, count, section

LATEST: Final = 12  # weeks in the text
WIDTH: Final = 80
FIX: Final = 'pip install "bcd-edge[watch]"'
SHOWN: Final = {
    "miss_rate": "missed",
    "brier": "Brier score",
    "ece": "calibration error",
    "observed_to_expected": "observed to expected",
    "p_malignant": "mean probability",
}
_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>bcd-edge: is it still good?</title>
<style>
$style</style></head><body><main>
<h1>Is $bundle still good?</h1>
<p>$summary</p><p><strong>$drift</strong></p>
$sections
<ul>$notes</ul></main>
<footer>Intervals are of 95 %, from resampling patients. Missed: malignant pictures that were answered benign without review.
For research. Assists a pathologist; it does not diagnose alone.</footer>
</body></html>
""")


def text(report: Report) -> str:
    """At most 80 columns, if names of collections are short."""
    tables = [_strata(report), _figures(report), _weeks(report, LATEST), _changes(report)]
    blocks = ["\n".join([title, *_aligned([heads, *rows])]) for title, heads, rows in tables if rows]
    head, *sentences = (fill(sentence, WIDTH) for sentence in (f"{report.bundle}: {_summary(report)}", _drift(report), *report.notes))
    return "\n\n".join([head, *blocks, *sentences]) + "\n"


def html(report: Report) -> str:
    """A whole page."""
    tables = [_strata(report), _figures(report), _weeks(report), _changes(report)]
    return _PAGE.substitute(
        style=STYLE,
        bundle=escape(report.bundle),
        summary=escape(_summary(report)),
        drift=escape(_drift(report)),
        sections="\n".join(section(title, heads, rows, numbers=len(heads) - 1) for title, heads, rows in tables),
        notes="".join(f"<li>{escape(note)}</li>" for note in report.notes),
    )


def metrics(report: Report) -> Iterator[Any]:
    """Metric families, as a custom collector of prometheus-client yields them.

    Raises:
        ProviderError: prometheus-client is not installed.
    """
    try:
        from prometheus_client.metrics_core import GaugeMetricFamily
    except ImportError:
        raise ProviderError(f"Metrics need the package prometheus-client, which is not installed; fix: {FIX}") from None
    figures = GaugeMetricFamily("bcd_edge_monitor", "Figures of the bundle used last, with the ends of their intervals.", labels=["figure", "end"])
    for figure in report.figures:
        for end, value in figure.here.as_dict().items() if figure.here else ():
            if value is not None:
                figures.add_metric([figure.name, end], value)
    yield figures
    pictures = GaugeMetricFamily("bcd_edge_monitor_pictures", "Pictures by answer and what is known of them.", labels=["answer", "state"])
    for stratum in report.strata:
        for state in ("pictures", "sampled", "labelled", "malignant"):
            pictures.add_metric([stratum.name, state], getattr(stratum, state))
    yield pictures
    yield GaugeMetricFamily("bcd_edge_monitor_drift", "Statistic of the drift test; an alarm at 1.", report.drift)
    yield GaugeMetricFamily("bcd_edge_monitor_changes", "Changes of the pictures that were found.", len(report.changes))
    last = max((datetime.fromisoformat(change.alarm_at).timestamp() for change in report.changes), default=0.0)
    yield GaugeMetricFamily("bcd_edge_monitor_last_change_timestamp_seconds", "When the last change was certain; 0: never.", last)


def exposition(report: Report) -> str:
    """The metrics in Prometheus's text format, for node exporter's textfile collector.

    Raises:
        ProviderError: prometheus-client is not installed.
    """
    families = list(metrics(report))
    from prometheus_client import CollectorRegistry, generate_latest

    class Collector:
        def collect(self) -> Iterator[Any]:
            yield from families

    registry = CollectorRegistry()
    registry.register(Collector())
    return str(generate_latest(registry).decode())


Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def _summary(report: Report) -> str:
    whose = f"{count(report.pictures, 'picture')} of {count(report.patients, 'patient')}"
    return f"{whose}; {100 * report.audit_share:g} % of the confident answers are audited."


def _drift(report: Report) -> str:
    if not report.changes:
        begun = f"No change of the pictures is found: the test is at {report.drift:.2g} of an alarm."
    else:
        last = report.changes[-1]
        begun = (
            f"The pictures changed about {last.at[:10]}: {_name(last.measure)} from {last.before:.3g} to {last.after:.3g} (medians over patients)."
        )
    return f"{begun} At most one false alarm is expected in {report.patients_per_false_alarm:,} patients."


def _strata(report: Report) -> Table:
    rows = [
        (stratum.name, *(f"{number:,}" for number in (stratum.pictures, stratum.sampled, stratum.labelled, stratum.malignant)))
        for stratum in report.strata
    ]
    return "Answers, and what readers found", ("answer", "pictures", "to review", "with a label", "malignant"), rows


def _figures(report: Report) -> Table:
    collections = sorted({name for figure in report.figures for name in figure.reference})
    heads = ("figure", "here", *(f"test: {name}" for name in collections))
    rows = [
        (_name(figure.name), _interval(figure.here), *(f"{figure.reference[name]:.3f}" if name in figure.reference else "" for name in collections))
        for figure in report.figures
    ]
    return "Here, and on the bundle's own test patients", heads, rows


def _weeks(report: Report, latest: int = 0) -> Table:
    rows: list[tuple[str, ...]] = [
        (
            *(week.monday, f"{week.pictures:,}", f"{week.patients:,}", _percent(week.review)),
            *(_share(week.novel), _share(week.poor_quality), _interval(week.p_malignant, 2)),
        )
        for week in report.weeks[-latest:]
    ]
    reference = {figure.name: figure.reference for figure in report.figures}
    for name, review in reference["review"].items():
        p_malignant = reference["p_malignant"].get(name)
        rows.append((name, "", "", f"{100 * review:.0f} %", "", "", "" if p_malignant is None else f"{p_malignant:.2f}"))
    return (
        "Weeks, and last the bundle's own test patients",
        ("week from", "pictures", "patients", "review", "novel", "quality", "mean probability"),
        rows,
    )


def _changes(report: Report) -> Table:
    rows: list[tuple[str, ...]] = [
        (shown_time(change.at)[:10], _name(change.measure), f"{change.before:.3g}", f"{change.after:.3g}", shown_time(change.alarm_at)[:10])
        for change in report.changes
    ]
    return "Changes of the pictures", ("about", "measure", "before", "after", "certain on"), rows


def _name(figure: str) -> str:
    return SHOWN.get(figure, figure.replace("_", " "))


def _interval(estimate: Estimate | None, digits: int = 3) -> str:
    if estimate is None:
        return "unknown"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _percent(estimate: Estimate) -> str:
    ends = "" if estimate.low is None or estimate.high is None else f" [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
    return f"{100 * estimate.value:.0f} %{ends}"


def _share(estimate: Estimate | None) -> str:
    return f"{100 * estimate.value:.1f} %" if estimate else ""


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) if not index else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]
