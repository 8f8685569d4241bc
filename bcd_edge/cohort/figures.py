"""Figures as SVG, for a page or a file of their own, and as PNG: effects with their intervals, distributions by group, survival, map of embeddings.

Colours are those of Okabe and Ito (2008), distinguishable with any colour vision; a word or a shape repeats their meaning.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.cohort.associations import Association, upper_half
from bcd_edge.cohort.dictionary import BY_NAME

if TYPE_CHECKING:
    import pandas as pd

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
INK, GRID, FAINT = "#1a1a1a", "#d9d9d9", "#767676"
ROW: Final = 20
LABELS: Final = 270
# Characters of a label that fit beside a figure, and of a legend's.
LABEL_CHARACTERS, LEGEND_CHARACTERS = 34, 20
# Pixels of a PNG for each unit of its SVG: a figure of 740 is 125 mm wide at 300 dpi.
ZOOM: Final = 2
FONTS: Final = "system-ui, DejaVu Sans, Arial, sans-serif"

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Place = Callable[[float], float]


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" font-size="12" fill="{INK}">'
    return f"{head}<title>{escape(title)}</title>{''.join(parts)}</svg>"


def standalone(svg: str) -> str:
    """A figure of the page as a file: with its namespace and font, on white."""
    return svg.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" font-family="{FONTS}" style="background: white" ', 1) + "\n"


def png(svg: str) -> bytes:
    """A standalone figure as PNG."""
    import resvg_py

    # lifelines brings matplotlib, which brings a font: a small computer may have none
    matplotlib = importlib.util.find_spec("matplotlib")
    folders = [str(Path(folder) / "mpl-data" / "fonts" / "ttf") for folder in (matplotlib and matplotlib.submodule_search_locations) or []]
    zoom = 1 if "<image" in svg else ZOOM  # thumbnails have no more pixels
    return resvg_py.svg_to_bytes(svg, background="white", zoom=zoom, font_dirs=folders, font_family="DejaVu Sans", sans_serif_family="DejaVu Sans")


def short(words: str, most: int) -> str:
    """Words in at most as many characters."""
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def _text(x: float, y: float, words: str, anchor: str = "start", colour: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = GRID, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _dot(x: float, y: float, colour: str, radius: float = 3, words: str = "") -> str:
    inside = f"<title>{escape(words)}</title>" if words else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" fill-opacity=".75">{inside}</circle>'


def _linear(low: float, high: float, start: float, end: float) -> Place:
    span = (high - low) or 1.0
    return lambda value: start + (end - start) * (min(max(value, low), high) - low) / span


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values within a range, at most as many."""
    span = (high - low) or 1.0
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next((factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most), 10)
    return [round(index * step, 10) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def forest(rows: Sequence[Association], title: str) -> str:
    """Effects of an outcome with their intervals, largest first; those that stand after correction are filled."""
    is_ratio = rows[0].measure == "hazard ratio"
    size: Callable[[float], float] = math.log2 if is_ratio else float
    centre = {"AUROC": 0.5, "Spearman": 0.0}.get(rows[0].measure, 0.0)
    rows = sorted(rows, key=lambda row: -abs(size(row.effect.value) - centre))
    ends = [size(end) for row in rows for end in (row.effect.low, row.effect.high) if end]
    low, high = (
        (0.0, 1.0) if rows[0].measure == "AUROC" else (-1.0, 1.0) if not is_ratio else (max(-4.0, min([-1.0, *ends])), min(4.0, max([1.0, *ends])))
    )
    place, bottom = _linear(low, high, LABELS + 10, 720), 14 + ROW * len(rows)
    parts = [_line(place(tick), 6, place(tick), bottom) for tick in ticks(low, high, 8)]
    parts += [_text(place(tick), bottom + 16, f"{2**tick:.2g}" if is_ratio else f"{tick:g}", "middle") for tick in ticks(low, high, 8)]
    parts.append(_line(place(centre), 6, place(centre), bottom, FAINT, 1.5))
    for index, row in enumerate(rows):
        y, colour = 18.0 + ROW * index, COLOURS[1] if row.is_found else COLOURS[6]
        parts.append(_text(LABELS, y + 4, BY_NAME[row.feature].title, "end"))
        if row.effect.low is not None and row.effect.high is not None:
            parts.append(
                _line(place(size(max(row.effect.low, 1e-9))) if is_ratio else place(row.effect.low), y, place(size(row.effect.high)), y, colour, 2)
            )
        parts.append(_dot(place(size(row.effect.value)), y, colour, 4, f"{row.effect.value:.3f}, q {row.q:.3g}"))
    unit = "hazard ratio per standard deviation" if is_ratio else rows[0].measure
    parts.append(_text(place((low + high) / 2), bottom + 34, f"{unit}, 95 % interval; orange: q below 0.05", "middle", FAINT))
    return _svg(740, bottom + 42, title, parts)


def distributions(feature: str, values: Floats, groups: Sequence[tuple[str, Bools]]) -> str:
    """A dot for each patient, by group, with median and quartiles."""
    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    place, bottom = _linear(low, high, LABELS + 16, 714), 20.0 + 64 * len(groups)
    parts = [_line(place(tick), 6, place(tick), bottom) for tick in ticks(low, high)]
    parts += [_text(place(tick), bottom + 16, f"{tick:g}", "middle") for tick in ticks(low, high)]
    for index, (name, members) in enumerate(groups):
        own, y, colour = values[members & np.isfinite(values)], 42.0 + 64 * index, COLOURS[index % len(COLOURS)]
        parts.append(_text(LABELS, y + 4, f"{short(name, LABEL_CHARACTERS - 6)} ({len(own)})", "end"))
        jitter = np.random.default_rng(0).uniform(-16, 16, len(own))
        parts += [_dot(place(float(value)), y + float(shift), colour) for value, shift in zip(own, jitter, strict=True)]
        if len(own):
            first, middle, last = (place(float(end)) for end in np.quantile(own, (0.25, 0.5, 0.75)))
            parts += [_line(first, y, last, y, INK, 2), _line(middle, y - 20, middle, y + 20, INK, 2.5)]
    shown = BY_NAME[feature]
    parts.append(_text(place((low + high) / 2), bottom + 34, f"{shown.label}; median and quartiles of patients", "middle", FAINT))
    return _svg(740, bottom + 42, shown.title, parts)


def scatter(feature: str, values: Floats, target: Floats, name: str) -> str:
    """A dot for each patient, outcome against feature."""
    both = np.isfinite(values) & np.isfinite(target)
    across, up = values[both], target[both]
    x, y = _linear(float(across.min()), float(across.max()), 70, 700), _linear(float(up.min()), float(up.max()), 230, 20)
    parts = [
        _line(x(tick), 12, x(tick), 240) + _text(x(tick), 256, f"{tick:g}", "middle") for tick in ticks(float(across.min()), float(across.max()))
    ]
    parts += [_line(62, y(tick), 708, y(tick)) + _text(56, y(tick) + 4, f"{tick:g}", "end") for tick in ticks(float(up.min()), float(up.max()), 5)]
    jitter = np.random.default_rng(0).uniform(-3, 3, len(up))
    parts += [_dot(x(float(a)), y(float(b)) + float(shift), COLOURS[0]) for a, b, shift in zip(across, up, jitter, strict=True)]
    shown = BY_NAME[feature]
    parts.append(_text(385, 276, f"{shown.label}; upwards: {name}", "middle", FAINT))
    return _svg(740, 286, f"{name} against {shown.title}", parts)


def survival(feature: str, values: Floats, times: Floats, events: Bools, name: str, note: str) -> str:
    """Kaplan-Meier curves of the halves of patients by a feature, with 95 % intervals, those at risk below."""
    both = np.isfinite(values) & np.isfinite(times)
    values, times, events = values[both], times[both], events[both]
    high, shown, last = upper_half(values), BY_NAME[feature], float(times.max())
    x, y = _linear(0, last, 70, 560), _linear(0, 1, 240, 20)
    parts = [_line(x(tick), 20, x(tick), 240) + _text(x(tick), 256, f"{tick:g}", "middle") for tick in ticks(0, last)]
    parts += [_line(70, y(tick), 560, y(tick)) + _text(62, y(tick) + 4, f"{tick:g}", "end") for tick in ticks(0, 1, 5)]
    for index, (half, members) in enumerate((("upper", high), ("lower", ~high))):
        colour, stroke = COLOURS[index], f'fill="none" stroke="{COLOURS[index]}" stroke-width="2.2"' + ' stroke-dasharray="7 4"' * index
        parts += _curve(times[members], events[members], x, y, colour, stroke)
        parts.append(f'<path d="M575 {40 + 20 * index}H600" {stroke}/>' + _text(606, 44 + 20 * index, f"{half} half"))
        parts.append(_text(50, 292 + 16 * index, half, "end", colour))
        parts += [_text(x(tick), 292 + 16 * index, str(int((times[members] >= tick).sum())), "middle", colour) for tick in ticks(0, last)]
    parts.append(_text(315, 274, "at risk", "middle", FAINT) + _text(575, 88, note, "start", FAINT))
    parts.append(_text(315, 332, f"{short(name, 40)}; halves of the patients by {shown.title}", "middle", FAINT))
    parts.append(_text(315, 348, "Bands are 95 % intervals; a tick is the end of a follow-up without the event", "middle", FAINT))
    return _svg(740, 358, f"Survival by {shown.title}", parts)


def _curve(times: Floats, events: Bools, x: Place, y: Place, colour: str, stroke: str) -> list[str]:
    """Survival of a group, its interval, and a tick at the end of each follow-up without the event."""
    from lifelines import KaplanMeierFitter

    fitted = KaplanMeierFitter().fit(times, events)
    curve = fitted.survival_function_.iloc[:, 0]
    low, high = (bound.fillna(curve) for _, bound in fitted.confidence_interval_.items())  # there is none where nobody is left
    band = f"{_steps(high, x, y)}L{_steps(low, x, y, backwards=True)[1:]}Z"
    path = f'<path d="{_steps(curve, x, y)}" {stroke}/>'
    ends = [(x(float(time)), y(float(curve.asof(time)))) for time in times[~events]]
    return [f'<path d="{band}" fill="{colour}" fill-opacity=".12"/>', path, *(_line(at, share - 4, at, share + 4, colour) for at, share in ends)]


def _steps(curve: pd.Series[float], x: Place, y: Place, *, backwards: bool = False) -> str:
    """A path with a share that lasts until the next time, the last one until the end of the group's follow-up."""
    corners = list(zip(np.repeat(curve.index.to_numpy(float), 2)[1:], np.repeat(curve.to_numpy(float), 2)[:-1], strict=True))
    return "M" + "L".join(f"{x(float(time)):.1f} {y(float(share)):.1f}" for time, share in (corners[::-1] if backwards else corners))


def cloud(points: Floats, groups: Sequence[str], words: Sequence[str], title: str) -> str:
    """A dot for each picture on a map, with `data-picture` for the script that shows its thumbnail."""
    kinds = list(dict.fromkeys(sorted(groups)))
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = _linear(float(low[0]), float(high[0]), 20, 540), _linear(float(low[1]), float(high[1]), 400, 20)
    parts = [f'<rect x="6" y="6" width="548" height="408" fill="none" stroke="{GRID}"/>']
    for index, (point, group, name) in enumerate(zip(points, groups, words, strict=True)):
        parts.append(_mark(x(float(point[0])), y(float(point[1])), kinds.index(group), f' data-picture="{index}"', name))
    for index, name in enumerate(kinds[: len(COLOURS)]):
        parts.append(_mark(568, 30 + 22 * index, index, "", name) + _text(580, 34 + 22 * index, short(name, LEGEND_CHARACTERS)))
    return _svg(740, 420, title, parts)


def _mark(x: float, y: float, kind: int, more: str, words: str) -> str:
    """Of a kind's colour and shape."""
    colour, shape = COLOURS[kind % len(COLOURS)], kind % 3
    drawn = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"',
        f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"',
        f'<path d="M{x:.1f} {y - 5:.1f}l5 8.5h-10z"',
    )[shape]
    tag = ("circle", "rect", "path")[shape]
    return f'{drawn} fill="{colour}" fill-opacity=".7"{more}><title>{escape(words)}</title></{tag}>'
