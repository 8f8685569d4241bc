"""What a finished run means for a day's work on this device: images a day, and how long an explanation takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bcd_edge.benchmark.results import named
from bcd_edge.benchmark.statistics import Estimate
from bcd_edge.classifier import EXPLAINED_BATCH
from bcd_edge.explain import Settings

Row = dict[str, Any]
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Forecast:
    """For one provider and variant; None where the run has no row that tells.

    Attributes:
        what: provider and variant.
        images_a_day: of files, and `how` they come.
        how: from which row.
        lime_s: seconds that the model needs for an explanation of at most `samples` perturbed images. Superpixels and the
            fit come on top, and an explanation that is settled ends earlier.
        lime_how: from which row.
        samples: see `bcd_edge.explain.Settings.max_samples`.
        kj_a_day: energy of as many images, in kilojoules, where it was metered.
    """

    what: str
    images_a_day: Estimate | None
    how: str
    lime_s: Estimate | None
    lime_how: str
    samples: int
    kj_a_day: Estimate | None


def forecasts(run: dict[str, Any]) -> list[Forecast]:
    """One for each provider and variant of a run, see benchmark.schema.json."""
    kinds = dict.fromkeys((row["provider"], row["precision"]) for row in run["rows"])
    return [
        _forecast(f"{provider} {precision}", [row for row in run["rows"] if (row["provider"], row["precision"]) == (provider, precision)])
        for provider, precision in kinds
    ]


def _forecast(what: str, rows: list[Row]) -> Forecast:
    samples = Settings().max_samples
    whole = [row for row in rows if row["scope"] == "end-to-end" and row["scenario"] in ("Offline", "SingleStream")]
    best = max(whole, key=lambda row: (row["scenario"] == "Offline", row["images_per_s"]["value"]), default=None)
    model = [row for row in rows if row["scope"] == "model" and row["scenario"] == "Offline" and row["inferences"] == 1]
    near = min(model, key=lambda row: abs(row["batch"] - EXPLAINED_BATCH), default=None)
    energy = best and best["cost"]["energy"]
    return Forecast(
        what,
        _estimate(best["images_per_s"]).scaled(DAY_S) if best else None,
        f"{best['scenario']}, {named(best)}" if best else "",
        _inverse(_estimate(near["images_per_s"]), samples) if near else None,
        f"Offline, {named(near)}" if near else "",
        samples,
        _estimate(energy["joules_per_image"]).scaled(DAY_S * best["images_per_s"]["value"] / 1000) if best and energy else None,
    )


def _estimate(figure: dict[str, Any]) -> Estimate:
    return Estimate(figure["value"], figure["low"], figure["high"])


def _inverse(rate: Estimate, count: int) -> Estimate:
    """Time of so many, from a rate; the ends change places."""
    return Estimate(count / rate.value, count / rate.high if rate.high else None, count / rate.low if rate.low and rate.low > 0 else None)
