"""How far `bcd-edge cohort` can be believed: tissue whose nuclei are known, cohorts whose effects are known, and BreaKHis by subtype."""

from __future__ import annotations

import csv
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from bcd_edge.classifier import Classifier
from bcd_edge.cohort import clinical, extract, power, report, sources
from bcd_edge.cohort.associations import RATE, Association, associate, auroc, hazard_ratio, mann_whitney, spearman
from bcd_edge.cohort.clinical import Outcome
from bcd_edge.cohort.dictionary import BY_NAME, FEATURES
from bcd_edge.cohort.features import Features, measure
from bcd_edge.estimates import Estimate
from bcd_edge.readers import raster
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.results.patients import compile_pattern as patient_pattern
from bcd_edge.synthetic import tissue
from bcd_edge.triage import scale
from benchmarks.tables import Row, markdown, put, shown

# Of the drawn pictures: nuclei are 8 x 6 µm at this.
UM: Final = 0.7
STABLE: Final = (
    *("nuclei_density", "nucleus_area_mean", "nucleus_haematoxylin_mean", "nuclei_spacing"),
    *("cell_rich_share", "eosin_mean", "texture_contrast_4um"),
)
# Simulated cohorts: patients, pictures of each, features, and how much of a feature's variance is between patients.
PATIENTS, PICTURES, BETWEEN = 60, 12, 0.5
NAMES: Final = tuple(feature.name for feature in FEATURES if feature.group != "technical")
# Standard deviations, of patients' true values, that a planted class moves.
PLANTED: Final = 1.0
DRAWN: Final = 40

Floats = npt.NDArray[np.float64]


def measure_all(cohorts: int, data: Path | None, keep: Path | None, out: Path | None) -> None:
    """Prints errors, stability, rates and BreaKHis, and puts them between the marks `cohort` of `out`.

    Args:
        cohorts: simulated for each row.
        data: folder of BreaKHis, if it is there.
        keep: folder for its report.
        out: a Markdown file.
    """
    rows = shown(_rows(cohorts, data))
    more = _breakhis(data, keep) if data else ""
    put(markdown(f"{cohorts} simulated cohorts of {PATIENTS} patients with {PICTURES} pictures each", rows) + more, out, "cohort")


def _rows(cohorts: int, data: Path | None) -> Iterator[Row]:
    for nuclei, crowded in ((60, ""), (200, ""), (500, ", crowded: many overlap")):
        yield _counted(nuclei, crowded)
    yield _sized()
    yield from _stabilities("drawn tissue", [(tissue(seed, glands=2, scattered=150), UM) for seed in range(8)])
    if data:
        pictures = _one_each(data)
        yield from _stabilities(f"{len(pictures)} pictures of BreaKHis at 200X, one per patient", pictures)
    yield _drawn_cohort()
    yield from _planted(cohorts)
    yield from _sizes(cohorts)
    yield from _null(cohorts)


def _counted(nuclei: int, words: str) -> Row:
    """Drawn without glands, where the number of nuclei is what was asked for."""
    errors = [(measure(tissue(seed, glands=0, scattered=nuclei), UM)["nuclei_count"] or 0) / nuclei - 1 for seed in range(8)]
    per_mm2 = nuclei / (460 * 700 * UM**2 / 1e6)
    name = f"{nuclei} nuclei drawn, {per_mm2:,.0f} per mm²{words}: error of the count"
    return Row(name, "stated", f"{np.mean(errors):+.1%}", f"{min(errors):+.1%} to {max(errors):+.1%} over 8 pictures; drawn at random places")


def _sized() -> Row:
    """Discs of a known area, far from each other."""
    errors = []
    for radius in (7, 9, 11, 13):
        canvas = np.full((480, 480, 3), (232, 178, 208), np.float32)
        for index in range(64):
            cv2.circle(canvas, (30 + 60 * (index % 8), 30 + 60 * (index // 8)), radius, (104, 62, 140), -1)
        canvas[:10] = 244
        noisy = cv2.GaussianBlur(canvas, (0, 0), 0.8) + np.random.default_rng(radius).normal(0, 4, canvas.shape)
        area = measure(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), 0.5)["nucleus_area_mean"] or 0
        errors.append(area / (np.pi * (radius / 2) ** 2) - 1)
    return Row("discs of 7 to 13 µm: error of their mean area", "stated", f"{np.mean(errors):+.1%}", ", ".join(f"{error:+.1%}" for error in errors))


def _jpeg(picture: UInt8Image, quality: int, sampling: int = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420) -> UInt8Image:
    """Decoded again; by 4:2:0, as most programs write it, colour has half the resolution."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    encoded = cv2.imencode(".jpg", picture[..., ::-1], settings)[1]
    return raster.decode(encoded.tobytes())


def _brightness(picture: UInt8Image, factor: float) -> UInt8Image:
    return np.clip(np.rint(picture * factor), 0, 255).astype(np.uint8)


def _one_each(data: Path) -> list[tuple[UInt8Image, float]]:
    """The first picture of each patient at 200X, with its scale."""
    source = scale.compile_pattern("breakhis")
    first: dict[str, str] = {}
    for row in _manifest(data):
        first.setdefault(row["patient"], row["file"])
    with zipfile.ZipFile(data / "images.zip") as images:
        pictures = [(name, raster.decode(images.read(name))) for name in first.values()]
    return [(pixels, source.um_per_pixel(name, pixels.shape[1]) or UM) for name, pixels in pictures]


def _manifest(data: Path) -> list[dict[str, str]]:
    with (data / "manifest.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["magnification"] == "200"]


def _stabilities(name: str, pictures: list[tuple[UInt8Image, float]]) -> Iterator[Row]:
    """How much features change where the picture does, but not what it shows."""
    before = [measure(pixels, um) for pixels, um in pictures]
    for words, change in CHANGES.items():
        after = [measure(change(pixels), um) for pixels, um in pictures]
        yield _stable(f"{name}, {words}", list(zip(before, after, strict=True)))


def _stable(name: str, pairs: list[tuple[Features, Features]]) -> Row:
    """Median over pictures of how much a feature changes, of the standard ones."""
    changes = {feature: _relative(pairs, feature) for feature in STABLE}
    worst = max(changes, key=lambda feature: abs(changes[feature]))
    detail = ", ".join(f"{BY_NAME[feature].title.lower()} {value:+.1%}" for feature, value in changes.items())
    return Row(f"{name}: largest median change of {len(STABLE)} features", "stated", f"{changes[worst]:+.1%}", detail)


CHANGES: Final[dict[str, Callable[[UInt8Image], UInt8Image]]] = {
    "JPEG 4:4:4, quality 90": partial(_jpeg, quality=90, sampling=cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "JPEG 4:2:0, quality 90": partial(_jpeg, quality=90),
    "JPEG 4:2:0, quality 50": partial(_jpeg, quality=50),
    "10 % darker": partial(_brightness, factor=0.9),
    "10 % brighter": partial(_brightness, factor=1.1),
}


def _relative(pairs: list[tuple[Features, Features]], feature: str) -> float:
    known = [(before[feature], after[feature]) for before, after in pairs]
    return float(np.median([after / before - 1 for before, after in known if before and after is not None]))


def _drawn_cohort() -> Row:
    """Patients whose pictures are drawn: is the effect on what is measured that on what was drawn?"""
    random = np.random.default_rng(0)
    ill = np.arange(DRAWN) % 2 == 1
    nuclei = np.round(random.normal(np.where(ill, 160, 130), 25)).astype(int)
    fields = [[tissue(10 * person + k, glands=1, scattered=int(number)) for k in range(2)] for person, number in enumerate(nuclei)]
    measured = np.array([np.mean([measure(field, UM)["nuclei_count"] or 0 for field in own]) for own in fields])
    drawn, seen = auroc(nuclei.astype(float), ill), auroc(measured, ill)
    ratios = [float(values[ill].mean() / values[~ill].mean()) for values in (nuclei, measured)]
    detail = f"{seen.low:.2f} to {seen.high:.2f}; cases have {ratios[0] - 1:+.1%} nuclei drawn and {ratios[1] - 1:+.1%} counted, beside a gland"
    return Row(
        f"{DRAWN} drawn patients, 2 pictures each: AUROC of the number of nuclei", f"{drawn.value:.3f}, of those drawn", f"{seen.value:.3f}", detail
    )


def cohort(seed: int, shift: Floats) -> tuple[list[str], Floats, Floats]:
    """Names of patients, their features, and those of their pictures, patients x pictures x features; odd patients have the `shift`.

    Features go together as three hidden ones do, and pictures of a patient are alike.
    """
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(3, len(NAMES)))
    own = random.normal(size=(PATIENTS, 3)) @ mixing + random.normal(size=(PATIENTS, len(NAMES)))
    own *= (BETWEEN / ((mixing**2).sum(axis=0) + 1)) ** 0.5
    own[1::2] += shift
    pictures = own[:, np.newaxis] + (1 - BETWEEN) ** 0.5 * random.normal(size=(PATIENTS, PICTURES, len(NAMES)))
    return [f"P{number:02}" for number in range(PATIENTS)], pictures.mean(axis=1), pictures


def _outcomes(seed: int, names: list[str]) -> list[Outcome]:
    random = np.random.default_rng([seed, 1])
    binary = {name: float(number % 2) for number, name in enumerate(names)}
    times, events = random.exponential(30, len(names)) + 0.1, random.random(len(names)) < 0.6
    return [
        Outcome("relapse", "binary", binary, level="yes", rest="no"),
        Outcome("grade", "ordinal", dict(zip(names, random.integers(1, 4, len(names)).astype(float), strict=True))),
        Outcome("age", "continuous", dict(zip(names, random.normal(size=len(names)), strict=True))),
        Outcome("death", "time", dict(zip(names, times, strict=True)), dict(zip(names, events, strict=True))),
    ]


def _planted(cohorts: int) -> Iterator[Row]:
    """One feature moved: is it found, with its size, and how often is it what is found?"""
    shift = np.zeros(len(NAMES))
    shift[0] = PLANTED * BETWEEN**0.5
    spread = (BETWEEN + (1 - BETWEEN) / PICTURES) ** 0.5
    truth = NormalDist().cdf(shift[0] / spread / 2**0.5)
    held, found, sizes = 0, 0, []
    for seed in range(cohorts):
        names, values, _ = cohort(seed, shift)
        rows, _ = associate(NAMES, values, names, _outcomes(seed, names)[:1])
        row = next(row for row in rows if row.feature == NAMES[0])
        held += (row.effect.low or 0) <= truth <= (row.effect.high or 1)
        found += row.is_found
        sizes.append(row.effect.value)
    name = f"one of {len(NAMES)} features moved by {PLANTED:g} standard deviation: its AUROC"
    yield Row(name, f"{truth:.3f}", f"{np.mean(sizes):.3f}", f"mean of the cohorts; 95 % intervals that hold the truth: {held / cohorts:.1%}")
    least = power.least_auroc(PATIENTS // 2, PATIENTS // 2, power.ALPHA / len(NAMES))
    detail = f"the page says: 80 % at {least:.3f}, by Bonferroni's bound, which is stricter"
    yield Row("the same: found after correction", "most", f"{found / cohorts:.1%}", detail)


def _sizes(cohorts: int) -> Iterator[Row]:
    """Planted correlations and hazards, and few patients: is the size right, and does the interval hold it?"""
    for patients in (12, 20, 40):
        truth = NormalDist().cdf(PLANTED / 2**0.5)
        yield _held(f"{patients} patients, half of them cases: AUROC", truth, [_one_auroc(seed, patients) for seed in range(cohorts)])
    truth = 0.5
    yield _held(f"{PATIENTS} patients: Spearman's correlation", truth, [_one_correlation(seed, truth) for seed in range(cohorts)])
    truth = 1.6
    yield _held(f"{PATIENTS} patients, 6 of 10 with the event: hazard ratio", truth, [_one_hazard(seed, truth) for seed in range(cohorts)])


def _held(name: str, truth: float, estimates: list[Estimate]) -> Row:
    held = np.mean([(estimate.low or 0) <= truth <= (estimate.high or np.inf) for estimate in estimates])
    return Row(
        name,
        f"{truth:.3f}",
        f"{np.median([estimate.value for estimate in estimates]):.3f}",
        f"median; 95 % intervals that hold the truth: {held:.1%}",
    )


def _one_auroc(seed: int, patients: int) -> Estimate:
    positive = np.arange(patients) % 2 == 1
    return auroc(np.random.default_rng(seed).normal(PLANTED * positive, 1), positive)


def _one_correlation(seed: int, truth: float) -> Estimate:
    # of normal values, Pearson's correlation that has this one of ranks
    linear = 2 * np.sin(np.pi / 6 * truth)
    pairs = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, linear], [linear, 1]], PATIENTS)
    return spearman(pairs[:, 0], pairs[:, 1])


def _one_hazard(seed: int, truth: float) -> Estimate:
    random = np.random.default_rng(seed)
    feature = random.normal(size=PATIENTS)
    times, ends = random.exponential(truth**-feature), random.exponential(1.5, PATIENTS)
    return hazard_ratio(feature, np.minimum(times, ends), times <= ends)[0]


def _null(cohorts: int) -> Iterator[Row]:
    """Nothing is there, with four outcomes each."""
    any_found, single, naive, tests = 0, 0, 0, 0
    for seed in range(cohorts):
        names, values, pictures = cohort(seed, np.zeros(len(NAMES)))
        rows, _ = associate(NAMES, values, names, _outcomes(seed, names))
        any_found += any(row.is_found for row in rows)
        single += sum(row.p < RATE for row in rows)
        tests += len(rows)
        positive = np.repeat(np.arange(PATIENTS) % 2 == 1, PICTURES)
        naive += mann_whitney(pictures[..., 0].ravel(), positive) < RATE
    low, high = stats.binomtest(any_found, cohorts).proportion_ci()
    name = f"nothing is there, 4 outcomes x {len(NAMES)} features: cohorts in which anything stands"
    yield Row(name, "at most 5 %", f"{any_found / cohorts:.1%}", f"95 % interval {low:.1%} to {high:.1%}")
    yield Row("nothing is there: p below 0.05, before correction", "5 %", f"{single / tests:.1%}", f"{tests:,} tests")
    yield Row("nothing is there, pictures taken for patients: p below 0.05", "5 %", f"{naive / cohorts:.1%}", "what not to do; one feature, one test")


def _breakhis(data: Path, keep: Path | None) -> str:
    """Features by label and subtype at 200X, of the reduced copies alone, which are alike, and of all, as Markdown."""
    rows = _manifest(data)
    alike = [row for row in rows if row["original_width"] == "224"]
    parts = []
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(data / "images.zip") as images:
        for row in rows:
            (Path(folder) / Path(row["file"]).name).write_bytes(images.read(row["file"]))
        source = scale.compile_pattern("breakhis")
        with (
            Classifier.load(purpose="throughput", scale_from_name=source) as classifier,
            sources.entries(folder, patient_pattern("breakhis")) as entries,
        ):
            features, _ = extract.extract(entries, classifier)
        for name, some in (("copies-of-one-size", alike), ("all-sizes", rows)):
            parts.append(_report(features, some, name, Path(folder), keep))
    return "\n\n" + "\n\n".join(parts)


def _report(features: Any, rows: list[dict[str, str]], name: str, folder: Path, keep: Path | None) -> str:
    table = folder / f"{name}.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["patient", "label", "subtype"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    names = {Path(row["file"]).name for row in rows}
    some = features.filter(pa.array([picture in names for picture in features["picture"].to_pylist()]))
    settings, read = report.Settings(), clinical.read(table)
    found = report.analyse(some, read, settings)
    if keep:
        with report.folder(keep / name) as unfinished:
            report.write(found, read, settings, unfinished)
    head = f"BreaKHis at 200X, {name.replace('-', ' ')}: {found.pictures.num_rows} pictures of {found.patients.num_rows} patients; "
    head += f"{sum(row.is_found for row in found.associations)} of {len(found.associations)} associations stand. The first three of each outcome, "
    head += "without those of the model, which was trained on many of these patients:"
    lines = ["| outcome | feature | AUROC | patients | cases | least of one test | q | p |", "|---|---|---|---|---|---|---|---|"]
    for outcome in found.outcomes:
        own = [row for row in found.associations if row.outcome == outcome.title and BY_NAME[row.feature].group != "model"]
        lines += [_line(row) for row in own[:3]]
    return "\n".join([head, "", *lines, *(f"\n{note}" for note in (*found.notes, *found.warnings))])


def _line(row: Association) -> str:
    effect = f"{row.effect.value:.2f} ({row.effect.low:.2f} to {row.effect.high:.2f})"
    return f"| {row.outcome} | {BY_NAME[row.feature].title} | {effect} | {row.patients} | {row.cases} | {row.least:.2f} | {row.q:.2g} | {row.p:.2g} |"
