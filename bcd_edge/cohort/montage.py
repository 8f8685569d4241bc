"""Pictures at both ends of a feature."""

from __future__ import annotations

import base64
from html import escape
from typing import Final

import numpy as np
import pyarrow as pa

from bcd_edge.cohort.dictionary import BY_NAME
from bcd_edge.cohort.figures import FAINT, INK, short
from bcd_edge.readers import raster

EACH: Final = 6
# From one thumbnail to the next, and the whole figure.
STEP, WIDTH = 124, 740


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
    """Two rows of thumbnails with their values and patients, as SVG."""
    shown, parts, top = BY_NAME[feature], [], 16
    for words, rows in zip((f"lowest: {shown.label}", "highest"), ends(table, feature), strict=True):
        pictures = table.take(rows).to_pylist()
        sizes = [_size(picture["thumbnail"]) for picture in pictures]
        below = top + 8 + max((height for height, _ in sizes), default=0)
        parts.append(f'<text x="0" y="{top}">{escape(words)}</text>')
        for column, (picture, (height, width)) in enumerate(zip(pictures, sizes, strict=True)):
            x = column * STEP
            place = f'x="{x}" y="{top + 8}" width="{width}" height="{height}"'
            parts.append(f'<image {place} href="{data_url(picture["thumbnail"])}"><title>{escape(picture["picture"])}</title></image>')
            parts.append(f'<text x="{x}" y="{below + 14}">{picture[feature]:.4g}</text>')
            parts.append(f'<text x="{x}" y="{below + 29}" fill="{FAINT}">{escape(short(picture["patient"], 16))}</text>')
        top = below + 56
    head = f'<svg viewBox="0 0 {WIDTH} {top - 16}" width="{WIDTH}" role="img" font-size="12" fill="{INK}">'
    return f"{head}<title>{escape(f'Pictures at both ends of {shown.title}')}</title>{''.join(parts)}</svg>"


def _size(jpeg: bytes) -> tuple[int, int]:
    """Height and width in pixels."""
    height, width = raster.decode(jpeg).shape[:2]
    return height, width


def data_url(jpeg: bytes) -> str:
    """A JPEG inside a page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
