"""Two archives of the same collection by different bundles: which answers changed, by how much, with intervals that treat patients as independent."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from bcd_edge.archive.destination import Destination
from bcd_edge.archive.settings import typed
from bcd_edge.errors import UsageError
from bcd_edge.estimates import FEWEST_GROUPS, LEVELS, RESAMPLES, Estimate, draw_groups, of_resamples
from bcd_edge.results import patients
from bcd_edge.results.summary import STYLE
from bcd_edge.system.atomic import atomic_write

SEED: Final = 21
P: Final = "p(malignant)"
# What decides an answer, beside the bundle.
SETTINGS: Final = ("threshold", "measures_quality", "um_per_pixel", "scale_from_name", "field_um", "overlap")
COUNTS: Final = {
    "compared": "compared",
    "changed": "with another decision",
    "only_old": "only in the first",
    "only_new": "only in the second",
    "content_changed": "with other content",
    "failed": "without an answer in one or both",
}
DECISIONS: Final = ("benign", "review", "malignant")
# Changed answers on the page; the Parquet file has all.
SHOWN: Final = 100

_PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>bcd-edge archive compare</title>
<style>
$style</style></head><body><main>
<h1>$title</h1>
<p>$counts</p>
<h2>Figures</h2>
<div class="scroll"><table><thead><tr><th>figure</th><th class="n">value</th><th class="n">95 % interval</th></tr></thead><tbody>
$figures</tbody></table></div>
<h2>Largest changes</h2>
<div class="scroll"><table><thead><tr><th>image</th><th>patient</th><th>before</th><th>after</th>
<th class="n">p before</th><th class="n">p after</th></tr></thead><tbody>
$changes</tbody></table></div></main>
<footer>$units For research. Assists a pathologist; it does not diagnose alone.</footer>
</body></html>
""")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed.

    Attributes:
        old: name of the first archive's bundle.
        new: name of the second archive's bundle.
        differences: what the archives were made with: bundle, options, and provider with precision and device, of both, where they differ.
        counts: of inputs: `compared`, `changed`, `only_old`, `only_new`, `content_changed`, `failed` in either.
        patients: number of patients; 0 where none is known, and each image counts as one.
        independent: number of patients and of images without one, which the intervals resample.
        figures: shares of the compared images, and differences of p(malignant).
        changes: the compared images whose decision changed, largest difference first.
    """

    old: str
    new: str
    differences: Mapping[str, tuple[str, str]]
    counts: Mapping[str, int]
    patients: int
    independent: int
    figures: Mapping[str, Estimate]
    changes: pa.Table

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the table."""
        names = ("old", "new", "differences", "counts", "patients", "independent")
        return {name: getattr(self, name) for name in names} | {"figures": {name: figure.as_dict() for name, figure in self.figures.items()}}

    def __str__(self) -> str:
        figures = (f"{name}: {value} ({interval})" if interval else f"{name}: {value}" for name, value, interval in self.rows())
        return "\n".join([self.title.replace("→", "->"), self.count_text, *figures, self.units])

    @property
    def title(self) -> str:
        """What differs between the archives."""
        pairs = [f"{old} → {new}" for old, new in self.differences.values()]
        if "bundle" in self.differences:
            return ", ".join(pairs)
        return f"{self.old}: {', '.join(pairs)}" if pairs else f"{self.old}, twice with the same settings"

    @property
    def count_text(self) -> str:
        """The counts in words."""
        return ", ".join(f"{self.counts[name]:,} {words}" for name, words in COUNTS.items())

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Name, value and interval of each figure, as they are shown; no interval where there are too few patients."""
        for name, figure in self.figures.items():
            show = _difference if name.startswith(P) else _percent
            if figure.low is None or figure.high is None:
                yield name, show(figure.value), ""
            elif not figure.value and not figure.low and not name.startswith(P):
                whose = "patients" if self.patients else "images"
                yield name, "none", f"at most {_percent(figure.high)}: exact bound for none in {self.independent:,} {whose}"
            else:
                yield name, show(figure.value), f"{show(figure.low)} to {show(figure.high)}"

    @property
    def units(self) -> str:
        """What the intervals take for independent."""
        if self.patients:
            return f"Intervals are by {self.patients:,} patients."
        return "No patient is known, so the intervals take each image for independent and are too narrow; give --patients."


def compare(old: str | os.PathLike[str], new: str | os.PathLike[str], pattern: re.Pattern[str] | None = None) -> Comparison:
    """Compares the answers to the same contents under the same names.

    Args:
        old: folder or URL of an archive.
        new: folder or URL of another one.
        pattern: where the patient stands in a path, for rows that do not tell it.

    Raises:
        UsageError: a folder is no complete archive, or they have no input in common.
    """
    (first, before), (second, after) = _read(old), _read(new)
    joined = before.join(after, "source", join_type="inner", right_suffix="_new")
    same = joined.filter(pc.equal(*(pc.fill_null(joined[name], "") for name in ("sha256", "sha256_new"))))
    pairs = same.filter(pc.and_(pc.equal(same["status"], "ok"), pc.equal(same["status_new"], "ok")))
    if not pairs.num_rows:
        raise UsageError(f"{old} and {new} have no answered input in common; give two archives of the same SOURCE.")
    units, known = _patients(pairs, pattern)
    pairs = pairs.append_column("of_patient", pa.array(units))
    changed = pairs.filter(pc.not_equal(pairs["decision"], pairs["decision_new"]))
    counts = {
        "compared": pairs.num_rows,
        "changed": changed.num_rows,
        "only_old": before.num_rows - joined.num_rows,
        "only_new": after.num_rows - joined.num_rows,
        "content_changed": joined.num_rows - same.num_rows,
        "failed": same.num_rows - pairs.num_rows,
    }
    old_name, new_name = (manifest["bundle"]["name"] for manifest in (first, second))
    return Comparison(old_name, new_name, _differences(first, second), counts, known, len(set(units)), _figures(pairs, units), _changes(changed))


def write(comparison: Comparison, out: Path) -> None:
    """Writes `changes.parquet`, `comparison.json` and `comparison.html` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    pq.write_table(comparison.changes, buffer, compression="zstd")
    atomic_write(out / "changes.parquet", buffer.getvalue())
    atomic_write(out / "comparison.json", (json.dumps(comparison.as_dict(), indent=1) + "\n").encode())
    atomic_write(out / "comparison.html", _page(comparison).encode())


def _read(place: str | os.PathLike[str]) -> tuple[dict[str, Any], pa.Table]:
    destination = Destination(place)
    folder, manifest = destination.folder, destination.require()
    if manifest["state"] != "complete":
        raise UsageError(f"{folder} is not complete; finish it with: bcd-edge archive --out {folder} --resume")
    columns = {name: ds.field(name) for name in ("source", "sha256", "status", "decision", "p_malignant")}
    columns["patient"] = ds.field("intake", "patient")
    return manifest, folder.dataset("records").to_table(columns=columns)


def _differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """What the archives were made with, where it differs."""
    bundles = [manifest["bundle"] for manifest in (first, second)]
    names = [bundle["name"] for bundle in bundles]
    if bundles[0]["sha256"] != bundles[1]["sha256"] and names[0] == names[1]:
        names = [f"{bundle['name']} (SHA-256 {bundle['sha256'][:8]})" for bundle in bundles]
    pairs = {"bundle": (names[0], names[1])}
    pairs |= {name: (typed(name, first["settings"].get(name)), typed(name, second["settings"].get(name))) for name in SETTINGS}
    pairs["execution"] = (_ran(first), _ran(second))
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _ran(manifest: dict[str, Any]) -> str:
    return ", ".join(sorted(key.removeprefix("ran: ") for key in manifest["counts"] if key.startswith("ran: ")))


def _patients(pairs: pa.Table, pattern: re.Pattern[str] | None) -> tuple[list[str], int]:
    """The patient of each pair, an image's name where there is none; and how many patients there are."""
    known, units = set(), []
    for source, first, second in zip(*(pairs[name].to_pylist() for name in ("source", "patient_new", "patient")), strict=True):
        patient = patients.match(pattern, source)[0] or first or second
        if patient:
            known.add(patient)
        units.append(patient or source)
    return units, len(known)


def _figures(pairs: pa.Table, units: list[str]) -> dict[str, Estimate]:
    """Means over images, each with an interval from resampling patients."""
    old, new = (np.array(pairs[name].to_pylist()) for name in ("decision", "decision_new"))
    difference = pairs["p_malignant_new"].to_numpy() - pairs["p_malignant"].to_numpy()
    values = {"decision changed": old != new}
    for before, after in itertools.permutations(DECISIONS, 2):
        values[f"{before} to {after}"] = (old == before) & (new == after)
    values |= {f"{P}, mean change": difference, f"{P}, mean absolute change": np.abs(difference)}
    estimates = _means(np.column_stack([value.astype(float) for value in values.values()]), units)
    # resamples of what never happened never have it: the exact binomial bound for as many independent units (Clopper & Pearson, 1934)
    never = 1 - LEVELS[0] ** (1 / len(set(units)))
    return {
        name: replace(estimate, high=never) if value.dtype == bool and not value.any() else estimate
        for (name, value), estimate in zip(values.items(), estimates, strict=True)
    }


def _means(values: npt.NDArray[np.float64], units: list[str]) -> list[Estimate]:
    """Column means with cluster bootstrap intervals; none for fewer than `FEWEST_GROUPS` units."""
    names, group = np.unique(units, return_inverse=True)
    sums = np.column_stack([np.bincount(group, column, len(names)) for column in (*values.T, np.ones(len(values)))])
    means = values.mean(axis=0)
    if len(names) < FEWEST_GROUPS:
        return [Estimate(float(mean), None, None) for mean in means]
    totals = np.array([sums[drawn].sum(axis=0) for drawn in itertools.islice(draw_groups(len(names), SEED), RESAMPLES)])
    resampled = totals[:, :-1] / totals[:, -1:]
    return [of_resamples(float(mean), column) for mean, column in zip(means, resampled.T, strict=True)]


def _changes(changed: pa.Table) -> pa.Table:
    difference = pc.subtract(changed["p_malignant_new"], changed["p_malignant"])
    names = {"source": "source", "of_patient": "patient", "decision": "old_decision", "decision_new": "new_decision"}
    names |= {"p_malignant": "old_p_malignant", "p_malignant_new": "new_p_malignant"}
    table = pa.table({name: changed[column] for column, name in names.items()} | {"difference": difference, "size": pc.abs(difference)})
    return table.sort_by([("size", "descending"), ("source", "ascending")]).drop_columns(["size"])


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _difference(value: float) -> str:
    return f"{round(value, 4) + 0.0:.4f}"  # the sum has no -0


def _page(comparison: Comparison) -> str:
    figures = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{value}</td><td class="n">{interval}</td></tr>\n' for name, value, interval in comparison.rows()
    )
    changes = "".join(
        f'<tr><td class="w">{escape(row["source"])}</td><td>{escape(row["patient"])}</td><td class="{row["old_decision"]}">{row["old_decision"]}</td>'
        f'<td class="{row["new_decision"]}">{row["new_decision"]}</td><td class="n">{row["old_p_malignant"]:.3f}</td>'
        f'<td class="n">{row["new_p_malignant"]:.3f}</td></tr>\n'
        for row in comparison.changes.slice(0, SHOWN).to_pylist()
    )
    texts = {"title": comparison.title, "units": comparison.units, "counts": comparison.count_text}
    return _PAGE.substitute({name: escape(text) for name, text in texts.items()}, style=STYLE, figures=figures, changes=changes)
