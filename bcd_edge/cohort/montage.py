"""Pictures at both ends of a feature."""

from __future__ import annotations

import base64
from html import escape
from typing import Final

import numpy as np
import pyarrow as pa

from bcd_edge.cohort.dictionary import BY_NAME

EACH: Final = 6


def ends(table: pa.Table, feature: str, each: int = EACH) -> tuple[list[int], list[int]]:
    """Rows with the lowest and with the highest values, one per patient, so that no patient fills a row; nearest to the middle last."""
    values = np.array(table[feature].to_pylist(), np.float64)
    patients = table["patient"].to_pylist()
    order = [int(index) for index in np.argsort(values, kind="stable") if np.isfinite(values[index])]
    low = _one_each(order, patients)
    high = _one_each(order[::-1], patients)
    each = min(each, len(low) // 2)
    return low[:each], high[:each]


def _one_each(order: list[int], patients: list[str]) -> list[int]:
    first: dict[str, int] = {}
    for index in order:
        first.setdefault(patients[index], index)
    return list(first.values())


def montage(table: pa.Table, feature: str) -> str:
    """Two rows of thumbnails with their values, as HTML."""
    low, high = ends(table, feature)
    shown = BY_NAME[feature]
    rows = ((f"lowest: {shown.title}, {shown.unit}", low), ("highest", high))
    return "".join(
        f'<p class="ends">{escape(name)}</p><div class="strip">{"".join(_figure(table, index, feature) for index in these)}</div>'
        for name, these in rows
    )


def _figure(table: pa.Table, index: int, feature: str) -> str:
    value, patient = table[feature][index].as_py(), table["patient"][index].as_py()
    alternative = f"a picture of patient {patient}"
    caption = f"<figcaption>{value:.4g}<br>{escape(patient)}</figcaption>"
    return f'<figure><img alt="{escape(alternative)}" src="{data_url(table["thumbnail"][index].as_py())}">{caption}</figure>'


def data_url(jpeg: bytes) -> str:
    """A JPEG inside a page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
