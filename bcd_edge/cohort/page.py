"""The page of a report: what was found, with the effect first; how sure; what could have been seen; and the pictures themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING, Final

import numpy as np

from bcd_edge import __version__
from bcd_edge.cohort import extract, figures
from bcd_edge.cohort.associations import Association, log_rank
from bcd_edge.cohort.clinical import Outcome, vectors
from bcd_edge.cohort.dictionary import BY_NAME, FEATURES
from bcd_edge.cohort.embedding_map import Points
from bcd_edge.cohort.montage import data_url, montage
from bcd_edge.estimates import Estimate
from bcd_edge.results.summary import STYLE, count, section

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from bcd_edge.cohort.report import Report

# Features with figures of their own, for each outcome; and pictures on the map, a random choice where there are more.
SHOWN, ON_MAP = 2, 400
SEED: Final = 23
TITLES: Final = {
    "pca": "Principal components 1 (to the right) and 2 (upwards)",
    "umap": "UMAP: neighbours lie together, distances between groups mean nothing",
}

_PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>bcd-edge cohort</title>
<style>
$style
td.w { min-width: 6rem; } svg { display: block; width: 100%; min-width: 560px; max-width: 740px; height: auto; }
h3 { margin: 1.6rem 0 .3rem; font-size: 1rem; } .figure { overflow-x: auto; margin: .6rem 0; }
@media print { svg { min-width: 0; } .figure { overflow: visible; break-inside: avoid; } }
.found { font-weight: 600; } .note { background: #fff6e0; padding: .4rem .8rem; border-left: 4px solid #E69F00; }
#tip { position: fixed; display: none; background: #fff; border: 1px solid #999; padding: 4px; pointer-events: none;
  font-size: .8rem; width: 130px; overflow-wrap: anywhere; }
</style></head><body><main>
<h1>Cohort: $summary</h1>
<p>$result</p>
$warnings
$notes
$outcomes
<h2>Map of the embeddings</h2>
$maps
$power
$dictionary
<h2>Method</h2>
<p>The unit is the patient: features are means over a patient's pictures, each patient counts once, and intervals come from resampling patients
(1,000 times; Wald's for hazard ratios). Tests: Mann-Whitney, Spearman, Cox with Wald's test. q is p corrected for all $tests tests of this page
(Benjamini and Hochberg): of what has q below 0.05, one in twenty is expected to be chance. Curves of survival are cut at the median, which is for the
eye; the figure is the hazard ratio. What goes with an outcome need not cause it, and goes with everything else that differs between
the groups: stain, scanner, hospital, magnification. p(malignant), novelty and embedding are of a model, which goes with the class of patients
that it was trained on whatever their tissue shows; its card names them. This is a search for hypotheses; confirm one on other patients.</p>
</main><div id="tip"><img alt=""><br><span></span></div>
<footer>bcd-edge $version. $bundles Make it again with reproduce.py. For research. Assists a pathologist; it does not diagnose alone.</footer>
<script>
const thumbnails = $thumbnails, tip = document.getElementById("tip");
document.querySelectorAll("[data-picture]").forEach(mark => {
  mark.addEventListener("mousemove", event => {
    tip.firstChild.src = thumbnails[mark.dataset.picture];
    tip.lastChild.textContent = mark.querySelector("title").textContent;
    const left = Math.min(event.clientX + 14, innerWidth - 150), top = Math.max(0, event.clientY - 130);
    Object.assign(tip.style, {display: "block", left: left + "px", top: top + "px"});
  });
  mark.addEventListener("mouseleave", () => tip.style.display = "none");
});
</script></body></html>
""")


def draw(report: Report, maps: Mapping[str, Points]) -> dict[str, str]:
    """Every figure as SVG, by the name of its file.

    Args:
        report: what was found.
        maps: places of the pictures by method.
    """
    drawn = {}
    for outcome in report.outcomes:
        if rows := _rows(report, outcome):
            drawn[_name(report, outcome, "effects")] = figures.forest(rows, outcome.title)
        for row in _best(rows):
            drawn[_name(report, outcome, row.feature)] = _figure(report, outcome, row)
            drawn[_name(report, outcome, f"{row.feature}-ends")] = montage(report.pictures, row.feature)
    some, chosen = _chosen(report)
    groups, _ = _groups(report, some["patient"].to_pylist())
    words = [f"{picture}, patient {patient}" for picture, patient in zip(some["picture"].to_pylist(), some["patient"].to_pylist(), strict=True)]
    return drawn | {f"map-{name}": figures.cloud(points[chosen], groups, words, TITLES[name]) for name, points in maps.items()}


def _rows(report: Report, outcome: Outcome) -> list[Association]:
    return [row for row in report.associations if row.outcome == outcome.title]


def _best(rows: Sequence[Association]) -> list[Association]:
    """Those with figures of their own."""
    return [row for row in rows if BY_NAME[row.feature].group != "technical"][:SHOWN]


def _name(report: Report, outcome: Outcome, words: str) -> str:
    """Of a figure's file: a number, because titles may differ in nothing that a name of a file may have."""
    slug = re.sub(r"[^a-z0-9]+", "-", outcome.title.lower()).strip("-")[:40]
    return f"{report.outcomes.index(outcome) + 1}-{slug}-{words}"


def html(report: Report, maps: Mapping[str, Points], drawn: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        report: what was found.
        maps: places of the pictures by method.
        drawn: the figures, by `draw`.
    """
    found = sum(row.is_found for row in report.associations)
    return _PAGE.substitute(
        style=STYLE,
        summary=f"{count(report.patients.num_rows, 'patient')}, {count(report.pictures.num_rows, 'picture')}",
        result=f"{found} of {count(len(report.associations), 'association')} stand after correction (q below 0.05).",
        warnings="".join(f'<p class="note">{escape(warning)}</p>' for warning in report.warnings),
        notes=f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in report.notes)}</ul>" if report.notes else "",
        outcomes="\n".join(_outcome(report, outcome, drawn) for outcome in report.outcomes),
        maps=_maps(report, maps, drawn),
        power=_power(report),
        dictionary=section(
            "Data dictionary",
            ("feature", "title", "unit", "definition", "source"),
            [(feature.name, feature.title, feature.unit, feature.definition, feature.source) for feature in FEATURES],
        ).replace("</td><td>", '</td><td class="w">'),
        tests=f"{len(report.associations):,}",
        version=__version__,
        bundles=escape(", ".join(sorted(set(report.pictures["bundle"].to_pylist()))) + "."),
        thumbnails=json.dumps([data_url(jpeg) for jpeg in _chosen(report)[0]["thumbnail"].to_pylist()] if maps else []),
    )


def _outcome(report: Report, outcome: Outcome, drawn: Mapping[str, str]) -> str:
    rows = _rows(report, outcome)
    if not rows:
        return ""
    heads = ("feature", "effect", "95 % interval", "patients", "cases", "q", "p")
    cells = [
        (BY_NAME[row.feature].title, f"{row.effect.value:.3f}", _interval(row.effect), row.patients, row.cases, _small(row.q), _small(row.p))
        for row in rows
    ]
    table = section(f"{outcome.title}: {rows[0].measure}", heads, cells, numbers=6)
    head, _, body = table.partition("</h2>")
    shown = "".join(
        f"<h3>{escape(BY_NAME[row.feature].title)}</h3>"
        + _framed(drawn[_name(report, outcome, row.feature)])
        + _framed(drawn[_name(report, outcome, f"{row.feature}-ends")])
        for row in _best(rows)
    )
    return f"{head}</h2>\n{_framed(drawn[_name(report, outcome, 'effects')])}<details><summary>Table</summary>{body}</details>{shown}"


def _framed(svg: str) -> str:
    """A figure that scrolls on a narrow screen, because its words would be too small to read."""
    title = svg.partition("<title>")[2].partition("</title>")[0]
    return f'<div class="figure" tabindex="0" role="group" aria-label="Figure: {title}">{svg}</div>'


def _figure(report: Report, outcome: Outcome, row: Association) -> str:
    values = extract.matrix(report.patients, [row.feature])[:, 0]
    target, events = vectors(outcome, report.patients["patient"].to_pylist())
    if outcome.kind == "binary":
        return figures.distributions(row.feature, values, [(outcome.level, target == 1), (outcome.rest, target == 0)])
    if outcome.kind == "ordinal":
        names = {value: outcome.levels[int(value)] if outcome.levels else f"{value:g}" for value in sorted(set(outcome.values.values()))}
        return figures.distributions(row.feature, values, [(name, target == value) for value, name in names.items()])
    if outcome.kind == "time":
        both = np.isfinite(values) & np.isfinite(target)
        words = f"log-rank p {_small(log_rank(values[both], target[both], events[both]))}"
        return figures.survival(row.feature, values, target, events, outcome.name, words)
    return figures.scatter(row.feature, values, target, outcome.name)


def _interval(estimate: Estimate) -> str:
    return "" if estimate.low is None or estimate.high is None else f"{estimate.low:.3f} to {estimate.high:.3f}"


def _small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001" if p >= 1e-6 else f"{p:.0e}"


def _chosen(report: Report) -> tuple[pa.Table, npt.NDArray[np.intp]]:
    """The pictures on the map, and their rows."""
    rows = np.sort(np.random.default_rng(SEED).permutation(report.pictures.num_rows)[:ON_MAP])
    return report.pictures.take(rows), rows


def _maps(report: Report, maps: Mapping[str, Points], drawn: Mapping[str, str]) -> str:
    """Maps of the pictures, coloured by the first binary outcome."""
    if not maps:
        return "<p>No map: a picture has no embedding, or there are too few.</p>"
    number = report.pictures.num_rows
    which = f"A random {ON_MAP} of {number:,} pictures" if number > ON_MAP else "Every picture"
    _, title = _groups(report, [])
    coloured = f", coloured by {escape(title)}" if title else ""
    legend = f"<p>{which}{coloured}. Point at one to see it. Pictures of one patient lie together: they are no independent points.</p>"
    return legend + "".join(f"<h3>{TITLES[name]}</h3>{_framed(drawn[f'map-{name}'])}" for name in maps)


def _groups(report: Report, patients: Sequence[str]) -> tuple[list[str], str]:
    outcome = next((outcome for outcome in report.outcomes if outcome.kind == "binary"), None)
    if outcome is None:
        return ["picture"] * len(patients), ""
    named = {1.0: outcome.level, 0.0: outcome.rest}
    return [named.get(outcome.values.get(patient, np.nan), "not known") for patient in patients], outcome.name


def _power(report: Report) -> str:
    """The least effect that this cohort could show, for each outcome."""
    rows = []
    for outcome in report.outcomes:
        if own := _rows(report, outcome):
            largest = max(own, key=lambda row: row.patients)
            rows.append((outcome.title, largest.measure, largest.patients, largest.cases, f"{largest.least:.3f}", f"{largest.least_corrected:.3f}"))
    heads = ("outcome", "measure", "patients", "cases", "least effect, one test", "least effect, all tests")
    table = section("What could have been seen: the least effect that is found in 80 % of such cohorts", heads, rows, numbers=4)
    return (
        table
        + "<p>An effect as far below 0.5, below 0, or the inverse of a ratio is found as often. Smaller ones may be there and are likely missed.</p>"
    )
