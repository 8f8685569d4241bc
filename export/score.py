"""`python -m export score`: what `bcd-edge predict` said about the test patients, beside what the manifest promises."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from bcd_edge import bundle as reading
from export.members import divided
from train.evaluation.scores import score_strata

TOLERANCE = 5e-4  # three digits


def score(predictions: Path, bundle: Path | None, data: Sequence[str], split: Path | None) -> bool:
    """Prints both and returns whether they agree to three digits on every metric.

    Rows are matched to labels by the SHA-256 of the file, so file names and order do not matter; rows of other
    images (training patients among them) are left out.

    Raises:
        click.ClickException: the CSV misses a test image, or is not one of `bcd-edge predict --format csv`.
    """
    opened = reading.open(bundle)
    try:
        with predictions.open(newline="", encoding="utf-8") as lines:
            rows = {row["sha256"]: row for row in csv.DictReader(lines) if row["status"] == "ok"}
        others = {row["execution.bundle"] for row in rows.values() if row["execution.bundle_sha256"] != opened.sha256}
    except (OSError, KeyError, ValueError) as error:
        raise click.ClickException(f"{predictions} is not the output of `bcd-edge predict --format csv` ({error}).") from None
    if others:
        raise click.ClickException(
            f"{predictions} was made with the bundle {', '.join(sorted(others))}, and this is {opened.name}; name the right one: --bundle DIR."
        )
    training = opened.manifest["training"]
    how = str(split or training["settings"].get("split", "patient"))
    test = divided(data, training["settings"] | {"size": opened.input.height}, how, training["split"]["fingerprint"])["test"]
    missing = [sha256 for sha256 in test.sha256 if sha256 not in rows]
    if missing:
        raise click.ClickException(
            f"{predictions} has no answer for {len(missing)} of {len(test)} test images; run `bcd-edge predict` over all of them."
        )
    p = np.array([float(rows[sha256]["p_malignant"]) for sha256 in test.sha256])
    precisions = {row["execution.precision"] for row in rows.values()}
    promised = next((variant for variant in opened.manifest["variants"] if {variant["precision"]} == precisions), None)
    if promised is None:
        raise click.ClickException(f"{predictions} was made with {', '.join(precisions)}; the bundle has {', '.join(opened.precisions)}.")
    measured = score_strata(test, p, opened.decision)
    ran = " and ".join(sorted({row["execution.provider"] for row in rows.values()}))
    title = f"{opened.name} {promised['precision']}: predicted on {ran}, manifest on {promised.get('gate', {}).get('provider', 'cpu')}"
    table = Table("set", "images", "metric", "predicted", "manifest", title=title)
    agree = True
    for source, scores in measured.items():
        for name, promise in promised["test"][source]["metrics"].items():
            metric, expected = scores["metrics"][name], promise["value"]
            same = abs(metric["value"] - expected) <= TOLERANCE
            agree &= same
            table.add_row(source, str(scores["images"]), name, f"{metric['value']:.4f}", f"{expected:.4f}{'' if same else ' differs'}")
    Console().print(table)
    return agree
