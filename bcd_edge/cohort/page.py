"""The page of a report: what was found, with the effect first; how sure; what could have been seen; and the pictures themselves."""

from __future__ import annotations

import json
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
td.w { min-width: 6rem; } svg { max-width: 100%; height: auto; display: block; } h3 { margin: 1.6rem 0 .3rem; font-size: 1rem; }
.strip { display: flex; flex-wrap: wrap; gap: .5rem; } figure { margin: 0; } figcaption { font-size: .8rem; } .ends { margin: .6rem 0 .2rem; }
.found { font-weight: 600; } .note { background: #fff6e0; padding: .4rem .8rem; border-left: 4px solid #E69F00; }
#tip { position: fixed; display: none; background: #fff; border: 1px solid #999; padding: 4px; font-size: .8rem; pointer-events: none; }
</style></head><body><main>
<h1>Cohort: $summary</h1>
<p>$result</p>
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


def html(report: Report, maps: Mapping[str, Points], left_out: Mapping[str, int]) -> str:
    """The whole page.

    Args:
        report: what was found.
        maps: places of the pictures by method.
        left_out: how many pictures are missing, by reason.
    """
    found = sum(row.is_found for row in report.associations)
    drawn, thumbnails = _maps(report, maps)
    notes = [*(f"{count(number, 'picture')} left out: {reason}" for reason, number in left_out.items()), *report.notes]
    return _PAGE.substitute(
        style=STYLE,
        summary=f"{count(report.patients.num_rows, 'patient')}, {count(report.pictures.num_rows, 'picture')}",
        result=f"{found} of {count(len(report.associations), 'association')} stand after correction (q below 0.05).",
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in notes),
        outcomes="\n".join(_outcome(report, outcome) for outcome in report.outcomes),
        maps=drawn,
        power=_power(report),
        dictionary=section(
            "Data dictionary",
            ("feature", "title", "unit", "definition", "source"),
            [(feature.name, feature.title, feature.unit, feature.definition, feature.source) for feature in FEATURES],
        ).replace("<td>", '<td class="w">'),
        tests=f"{len(report.associations):,}",
        version=__version__,
        bundles=escape(", ".join(sorted(set(report.pictures["bundle"].to_pylist()))) + "."),
        thumbnails=json.dumps(thumbnails),
    )


def _outcome(report: Report, outcome: Outcome) -> str:
    rows = [row for row in report.associations if row.outcome == outcome.title]
    if not rows:
        return ""
    heads = ("feature", "effect", "95 % interval", "patients", "cases", "q", "p")
    cells = [
        (BY_NAME[row.feature].title, f"{row.effect.value:.3f}", _interval(row.effect), row.patients, row.cases, _small(row.q), _small(row.p))
        for row in rows
    ]
    table = section(f"{outcome.title}: {rows[0].measure}", heads, cells, numbers=6)
    head, _, body = table.partition("</h2>")
    best = [row for row in rows if BY_NAME[row.feature].group != "technical"][:SHOWN]
    shown = "".join(
        f"<h3>{escape(BY_NAME[row.feature].title)}</h3>{_figure(report, outcome, row)}{montage(report.pictures, row.feature)}" for row in best
    )
    return f"{head}</h2>\n{figures.forest(rows, outcome.title)}<details><summary>Table</summary>{body}</details>{shown}"


def _figure(report: Report, outcome: Outcome, row: Association) -> str:
    values = extract.matrix(report.patients, [row.feature])[:, 0]
    target, events = vectors(outcome, report.patients["patient"].to_pylist())
    if outcome.kind == "binary":
        return figures.distributions(row.feature, values, [(outcome.level, target == 1), (outcome.rest, target == 0)])
    if outcome.kind == "time":
        both = np.isfinite(values) & np.isfinite(target)
        return figures.survival(row.feature, values, target, events, f"log-rank p {_small(log_rank(values[both], target[both], events[both]))}")
    return figures.scatter(row.feature, values, target, outcome.name)


def _interval(estimate: Estimate) -> str:
    return "" if estimate.low is None or estimate.high is None else f"{estimate.low:.3f} to {estimate.high:.3f}"


def _small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001" if p >= 1e-6 else f"{p:.0e}"


def _maps(report: Report, maps: Mapping[str, Points]) -> tuple[str, list[str]]:
    """Maps of the pictures, coloured by the first binary outcome; and their thumbnails."""
    if not maps:
        return "<p>No map: a picture has no embedding, or there are too few.</p>", []
    number = report.pictures.num_rows
    chosen = np.sort(np.random.default_rng(SEED).permutation(number)[:ON_MAP])
    some = report.pictures.take(chosen)
    groups, title = _groups(report, some["patient"].to_pylist())
    words = [f"{picture}, patient {patient}" for picture, patient in zip(some["picture"].to_pylist(), some["patient"].to_pylist(), strict=True)]
    drawn = "".join(f"<h3>{TITLES[name]}</h3>{figures.cloud(points[chosen], groups, words, TITLES[name])}" for name, points in maps.items())
    which = f"A random {ON_MAP} of {number:,} pictures" if number > ON_MAP else "Every picture"
    legend = (
        f"<p>{which}, coloured by {escape(title)}. Point at one to see it. Pictures of one patient lie together: they are no independent points.</p>"
    )
    return legend + drawn, [data_url(jpeg) for jpeg in some["thumbnail"].to_pylist()]


def _groups(report: Report, patients: Sequence[str]) -> tuple[list[str], str]:
    outcome = next((outcome for outcome in report.outcomes if outcome.kind == "binary"), None)
    if outcome is None:
        return ["picture"] * len(patients), "nothing"
    named = {1.0: outcome.level, 0.0: outcome.rest}
    return [named.get(outcome.values.get(patient, np.nan), "not known") for patient in patients], outcome.name


def _power(report: Report) -> str:
    """The least effect that this cohort could show, for each outcome."""
    rows = []
    for outcome in report.outcomes:
        own = [row for row in report.associations if row.outcome == outcome.title]
        if own:
            largest = max(own, key=lambda row: row.patients)
            rows.append((outcome.title, largest.measure, largest.patients, largest.cases, f"{largest.least:.3f}", f"{largest.least_corrected:.3f}"))
    heads = ("outcome", "measure", "patients", "cases", "least effect, one test", "least effect, all tests")
    table = section("What could have been seen: the least effect that is found in 80 % of such cohorts", heads, rows, numbers=4)
    return (
        table
        + "<p>An effect as far below 0.5, below 0, or the inverse of a ratio is found as often. Smaller ones may be there and are likely missed.</p>"
    )
