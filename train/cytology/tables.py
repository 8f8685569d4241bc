"""The two Wisconsin tables, and which of their rows must not be parted by a split."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MISSING: Final = frozenset({"", "?", "na", "nan"})
CLASSES: Final = {"2": False, "4": True}


@dataclass(frozen=True)
class Table:
    """Rows of a collection.

    Attributes:
        name: of the collection.
        features: names of the F columns.
        x: float64 N x F, NaN where missing.
        malignant: N labels.
        groups: N names; rows with the same features, or the same id, have the same.
        twins: N numbers; rows with the same features have the same.
    """

    name: str
    features: list[str]
    x: Floats
    malignant: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.str_]
    twins: npt.NDArray[np.intp]


def original(path: Path) -> Table:
    """The original set: nine grades, 1 to 10 (Wolberg & Mangasarian, PNAS 1990); columns `id`, the features, and `class`, 2 or 4.

    Raises:
        click.ClickException: it is no such table.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"id", "class"} <= rows[0].keys() or {row["class"] for row in rows} - CLASSES.keys():
        raise click.ClickException(
            f"{path} is not the original Wisconsin table: it needs columns id and class (2 or 4); give breast-cancer-wisconsin.csv."
        )
    features = [name for name in rows[0] if name not in ("id", "class")]
    try:
        x = np.array([[np.nan if (row[name] or "").strip().lower() in MISSING else float(row[name]) for name in features] for row in rows])
    except ValueError as error:
        raise click.ClickException(f"{path} has a cell that is no number ({error}); correct it, or leave it empty.") from None
    return _table("original", features, x, np.array([CLASSES[row["class"]] for row in rows]), [row["id"] for row in rows])


def diagnostic() -> Table:
    """The diagnostic set of scikit-learn: thirty measures of nuclei (Street, Wolberg & Mangasarian, SPIE 1993)."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return _table("diagnostic", list(data.feature_names), data.data, data.target == 0, [str(row) for row in range(len(data.target))])


def _table(name: str, features: list[str], x: Floats, malignant: npt.NDArray[np.bool_], ids: list[str]) -> Table:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    twins = np.unique(np.nan_to_num(x, nan=-1), axis=0, return_inverse=True)[1].ravel()
    people = np.unique(ids, return_inverse=True)[1]
    # rows are joined through their features and through their id, until nothing more joins
    edges = coo_array((np.ones(len(x)), (twins, people + twins.max() + 1)), shape=(count := twins.max() + people.max() + 2, count))
    component = connected_components(edges, directed=False)[1]
    return Table(name, features, x, malignant, component[twins].astype(str), twins)
