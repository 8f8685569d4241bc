"""What a finished run means for a day's work on this device: images per day, and the time of an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bcd_edge.benchmark.results import engine, label
from bcd_edge.classifier import EXPLAINED_BATCH
from bcd_edge.estimates import Estimate
from bcd_edge.explain import Settings

Row = dict[str, Any]
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure and its source.

    Attributes:
        estimate: None if the run has no steady row for it.
        source: the row it comes from, or why there is none.
    """

    estimate: Estimate | None
    source: str


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of one provider and variant.

    Attributes:
        engine: provider and variant.
        images_per_day: of files, 24 hours a day.
        lime_s: seconds that the model needs for an explanation of at most `samples` perturbed images. Superpixels and the
            fit are not included, and an explanation that has converged ends earlier.
        samples: see `bcd_edge.explain.Settings.max_samples`.
        kj_per_day: energy of as many images, in kilojoules, where it was metered.
    """

    engine: str
    images_per_day: Figure
    lime_s: Figure
    samples: int
    kj_per_day: Estimate | None


def capacities(run: dict[str, Any]) -> list[Capacity]:
    """One for each provider and variant of a run, see benchmark.schema.json. Unsteady rows are not used."""
    engines = dict.fromkeys((row["provider"], row["precision"]) for row in run["rows"])
    return [
        _capacity(engine(provider, precision), [row for row in run["rows"] if (row["provider"], row["precision"]) == (provider, precision)])
        for provider, precision in engines
    ]


def _capacity(engine: str, rows: list[Row]) -> Capacity:
    samples = Settings().max_samples
    files = [row for row in rows if row["scope"] == "end-to-end" and row["scenario"] in ("Offline", "SingleStream")]
    best = max(_steady(files), key=lambda row: (row["scenario"] == "Offline", row["images_per_s"]["value"]), default=None)
    model = [row for row in rows if row["scope"] == "model" and row["scenario"] == "Offline" and row["streams"] == 1]
    nearest = min(_steady(model), key=lambda row: abs(row["batch"] - EXPLAINED_BATCH), default=None)
    energy = best and best["cost"]["energy"]
    return Capacity(
        engine,
        Figure(_estimate(best["images_per_s"]).scaled(DAY_S), f"{best['scenario']}, {label(best)}")
        if best
        else _missing(files, "run the scope end-to-end, Offline"),
        Figure(_inverse(_estimate(nearest["images_per_s"]), samples), f"Offline, {label(nearest)}")
        if nearest
        else _missing(model, "run the scope model, Offline, with --batch 16"),
        samples,
        _estimate(energy["joules_per_image"]).scaled(DAY_S * best["images_per_s"]["value"] / 1000) if best and energy else None,
    )


def _steady(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row["unsteady"]]


def _missing(rows: list[Row], advice: str) -> Figure:
    """Why there is no figure: nothing was measured, or not on an idle machine."""
    if rows:
        return Figure(None, f"unsteady ({'; '.join(rows[0]['unsteady'])}); measure again on an idle machine")
    return Figure(None, f"not measured; {advice}")


def _estimate(figure: dict[str, Any]) -> Estimate:
    return Estimate(figure["value"], figure["low"], figure["high"])


def _inverse(rate: Estimate, count: int) -> Estimate:
    """Time for `count`, from a rate; the ends change places."""
    return Estimate(count / rate.value, count / rate.high if rate.high else None, count / rate.low if rate.low and rate.low > 0 else None)
