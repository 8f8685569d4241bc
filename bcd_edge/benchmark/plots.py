"""Plots as inline SVG: distribution of latency, latency against throughput, and the run over time.

Colours are those of Okabe and Ito (2008), distinguishable with any colour vision; a shape or a word repeats their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final

import numpy as np

from bcd_edge.benchmark.results import engine, label, rounded

Row = dict[str, Any]
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK: Final = "#1a1a1a"
GRID: Final = "#d9d9d9"
WIDTH: Final = 960
PLOT: Final = 600  # width of the plot beside the labels
TEXT_PX: Final = 7  # of a character at font size 12, wider than any system font draws on average
LINE: Final = 30
Scale = Callable[[float], float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


def colours(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """One for each provider and variant."""
    kinds = dict.fromkeys((row["provider"], row["precision"]) for row in rows)
    return {kind: COLOURS[index % len(COLOURS)] for index, kind in enumerate(kinds)}


def _log(low: float, high: float, start: float, end: float) -> Scale:
    span = math.log(high / low) or 1.0
    return lambda value: start + (end - start) * math.log(max(value, low) / low) / span


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range; four round values if the range is too narrow for three of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    return ticks if len(ticks) > 2 else [float(f"{value:.2g}") for value in np.geomspace(low * 1.1, high / 1.1, 4)]


def _text(x: float, y: float, words: str, anchor: str = "start", **more: str) -> str:
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = GRID, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" font-size="13" fill="{INK}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a margin, for a logarithmic axis; never empty."""
    known = [value for value in values if value > 0] or [1.0]
    return min(known) / 1.25, max(known) * 1.25


def distribution(rows: Sequence[Row]) -> str:
    """A line for each row with queries: 1 % to 99.9 % thin, the middle half thick, the median a dot, p90 and p99 as ticks."""
    timed = [row for row in rows if row["scenario"] != "Offline"]
    if not timed:
        return ""
    points = (0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
    quantiles = [np.quantile(np.array(row["raw"]["latency_ns"], np.float64) / 1e6, points).tolist() for row in timed]
    labels = [f"{row['scenario']} {row['scope']}: {label(row)}" for row in timed]
    left = TEXT_PX * max(map(len, labels)) + 20
    width = left + PLOT
    low, high = _range([value for values in quantiles for value in values])
    x, own = _log(low, high, left, width - 30), colours(rows)
    height = LINE * len(timed) + 50
    parts = [_line(x(tick), 10, x(tick), height - 40) + _text(x(tick), height - 22, f"{tick:g}", "middle") for tick in _ticks(low, high)]
    parts.append(_text((left + width) / 2, height - 4, "latency of a query, ms (logarithmic)", "middle"))
    for index, (row, words, (p1, p25, p50, p75, p90, p99, p999)) in enumerate(zip(timed, labels, quantiles, strict=True)):
        y, colour = 10 + LINE * (index + 0.5), own[row["provider"], row["precision"]]
        parts.append(_text(left - 10, y + 4, words, "end", font_size="12"))
        parts.append(_line(x(p1), y, x(p999), y, colour, 1.5) + _line(x(p25), y, x(p75), y, colour, 9))
        parts += [_line(x(value), y - 8, x(value), y + 8, colour, 2) for value in (p90, p99)]
        parts.append(f'<circle cx="{x(p50):.1f}" cy="{y:.1f}" r="4.5" fill="#fff" stroke="{colour}" stroke-width="2.5"/>')
    return _svg(width, height, "Distribution of latency", parts)


def frontier(rows: Sequence[Row], scope: str) -> str:
    """Images per second against the 90th percentile of latency, and the line of rows that no other one beats in both."""
    of_scope = [row for row in rows if row["scope"] == scope]
    if not of_scope:
        return ""
    height, bottom = 420.0, 360.0
    places = [(row["images_per_s"]["value"], row["latency_ms"]["p90"]["value"]) for row in of_scope]
    (left, right), (low, high) = (_range([place[axis] for place in places]) for axis in (0, 1))
    x, y, own = _log(left, right, 70, WIDTH - 250), _log(low, high, bottom, 20), colours(rows)
    parts = [_line(x(tick), 20, x(tick), bottom) + _text(x(tick), bottom + 18, f"{tick:g}", "middle") for tick in _ticks(left, right)]
    parts += [_line(70, y(tick), WIDTH - 250, y(tick)) + _text(62, y(tick) + 4, f"{tick:g}", "end") for tick in _ticks(low, high)]
    parts += [_line(70, bottom, WIDTH - 250, bottom, INK), _line(70, 20, 70, bottom, INK)]
    parts.append(_text((WIDTH - 180) / 2, bottom + 40, "images per second (logarithmic; right is better)", "middle"))
    parts.append(_text(16, 190, "p90 of latency, ms (lower is better)", "middle", transform="rotate(-90 16 190)"))
    best = [place for place in sorted(places) if not any(other != place and other[0] >= place[0] and other[1] <= place[1] for other in places)]
    path = " ".join(f"{x(rate):.1f},{y(latency):.1f}" for rate, latency in best)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1" stroke-dasharray="5 4"/>')
    marks = [(x(rate), y(latency)) for rate, latency in places]
    taken = [(mark_x - 8, mark_y - 8, mark_x + 8, mark_y + 8) for mark_x, mark_y in marks]
    for row, (mark_x, mark_y) in zip(of_scope, marks, strict=True):
        parts.append(_mark(row["scenario"], mark_x, mark_y, own[row["provider"], row["precision"]]))
        text_x, _, _, text_y = _free((mark_x + 9, mark_y - 18, mark_x + 9 + TEXT_PX * len(_split(row)), mark_y - 7), taken)
        if text_y > mark_y + 8:  # the label had to move away
            parts.append(_line(mark_x, mark_y, text_x, text_y - 4, INK, 0.5))
        parts.append(_text(text_x, text_y, _split(row), font_size="11", paint_order="stroke", stroke="#fff", stroke_width="3"))
    return _svg(WIDTH, height, f"Latency and throughput, {scope}", parts + _legend(rows, WIDTH - 230, 30))


def _split(row: Row) -> str:
    """`b8 t2 s2`: batch, threads and streams; `t` only where threads were set."""
    threads = f" t{row['threads']}" if row["threads"] else ""
    return f"b{row['batch']}{threads} s{row['streams']}"


def _free(box: Box, taken: list[Box]) -> Box:
    """The box of a point's label, moved down until it covers no mark and no other label; it is taken then."""
    left, top, right, bottom = box
    while any(left < other[2] and right > other[0] and top < other[3] and bottom > other[1] for other in taken):
        top, bottom = top + 4, bottom + 4
    taken.append((left, top, right, bottom))
    return left, top, right, bottom


def _legend(rows: Sequence[Row], x: float, y: float) -> list[str]:
    parts = []
    for (provider, precision), colour in colours(rows).items():
        parts.append(f'<rect x="{x - 6:.0f}" y="{y - 6:.0f}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 14, y + 4, engine(provider, precision)))
        y += 22
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        y += 22
        parts.append(_mark(scenario, x, y, INK) + _text(x + 14, y + 4, scenario))
    dashes = f'<line x1="{x - 8:.0f}" y1="{y + 32:.0f}" x2="{x + 8:.0f}" y2="{y + 32:.0f}" stroke="{INK}" stroke-dasharray="5 4"/>'
    return [*parts, dashes, _text(x + 14, y + 36, "no row is better in both"), _text(x - 6, y + 64, "b batch, t threads, s streams")]


def _mark(scenario: str, x: float, y: float, colour: str) -> str:
    """Circle, square, triangle, diamond."""
    shapes = {"MultiStream": "-6,-6 6,-6 6,6 -6,6", "Offline": "0,-7 7,6 -7,6", "Server": "0,-8 8,0 0,8 -8,0"}
    if scenario not in shapes:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}" fill-opacity=".85"/>'
    return f'<polygon transform="translate({x:.1f} {y:.1f})" points="{shapes[scenario]}" fill="{colour}" fill-opacity=".85"/>'


def over_time(rows: Sequence[Row]) -> str:
    """A small plot for each row of several seconds: images per second from zero, clock and temperature if known."""
    lasting = [row for row in rows if len(row["series"]) > 1]
    columns = max(1, min(3, len(lasting)))
    width, height = (WIDTH - 12 * (columns - 1)) / columns, 170.0
    parts = []
    for index, row in enumerate(lasting):
        x, y = index % columns * (width + 12), index // columns * (height + 12)
        parts.append(f'<g transform="translate({x:.0f} {y:.0f})">{_small(row, width, height, colours(rows)[row["provider"], row["precision"]])}</g>')
    total = -(-len(lasting) // columns) * (height + 12)
    return _svg(WIDTH, total, "Images per second over time", parts) if lasting else ""


def _small(row: Row, width: float, height: float, colour: str) -> str:
    series, bottom, top = row["series"], height - 34, 48.0
    most, seconds = max(point["images_per_s"] for point in series) * 1.1 or 1.0, series[-1]["end_s"]
    step = seconds / len(series)
    path = " ".join(
        f"{40 + (width - 50) * (point['end_s'] - step / 2) / seconds:.1f},{bottom - (bottom - top) * point['images_per_s'] / most:.1f}"
        for point in series
    )
    heat = _change(series, "mhz", "MHz") + _change(series, "celsius", "°C")
    return "".join(
        [
            _text(0, 14, f"{row['scenario']} {row['scope']}", font_size="12", font_weight="600"),
            _text(0, 30, label(row), font_size="12"),
            _line(40, bottom, width - 10, bottom, INK) + _line(40, top, width - 10, top),
            _text(34, bottom + 4, "0", "end", font_size="11") + _text(34, top + 4, rounded(most, 2), "end", font_size="11"),
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            _text(width - 10, bottom + 15, f"{seconds:.0f} s", "end", font_size="11") + _text(40, bottom + 15, "images/s", font_size="11"),
            _text(40, bottom + 30, ", ".join(heat), font_size="11"),
        ]
    )


def _change(series: Sequence[dict[str, Any]], key: str, unit: str) -> list[str]:
    known = [point[key] for point in series if point[key] is not None]
    return [f"{known[0]:.0f} to {known[-1]:.0f} {unit}"] if known else []
