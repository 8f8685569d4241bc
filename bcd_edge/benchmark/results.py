"""A run as a file: benchmark.schema.json, validated on writing and reading, and a flat CSV beside it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jsonschema

from bcd_edge.errors import UsageError

SCHEMA: Final = 1
RUN, TABLE, PAGE = "run.json", "run.csv", "report.html"


def dump(run: dict[str, Any]) -> str:
    """JSON of a run, validated: what is written can be read again."""
    problem = next(iter(_validator().iter_errors(run)), None)
    assert problem is None, problem
    return json.dumps(run, separators=(",", ":"), allow_nan=False)


def read(path: Path) -> dict[str, Any]:
    """Reads a run that `bcd-edge benchmark` wrote.

    Raises:
        UsageError: it cannot be read, or is not a benchmark run.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} could not be read ({reason}); give the {RUN} that bcd-edge benchmark wrote.") from None
    if not isinstance(run, dict) or run.get("schema") != SCHEMA:
        schema = run.get("schema") if isinstance(run, dict) else None
        raise UsageError(f"{path} is not a benchmark run of schema {SCHEMA} (its schema: {schema}); give a {RUN} of this version of bcd-edge.")
    problem = next(iter(_validator().iter_errors(run)), None)
    if problem:
        where = "/".join(map(str, problem.absolute_path)) or "top level"
        raise UsageError(f"{path} is damaged ({where}: {problem.message[:100]}); run the benchmark again.")
    return run


@cache
def _validator() -> jsonschema.protocols.Validator:
    schema = json.loads(resources.files("bcd_edge").joinpath("benchmark/benchmark.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def table(rows: list[dict[str, Any]]) -> str:
    """CSV, a line per row, dots for nested keys; without raw samples and series, which are in the JSON."""
    flat_rows = [dict(flatten({key: value for key, value in row.items() if key not in ("raw", "series", "files")})) for row in rows]
    columns = list(dict.fromkeys(key for row in flat_rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat_rows)
    return out.getvalue()


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of a dotted key and a plain value; a list becomes text."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, "; ".join(map(str, value)) if isinstance(value, list | tuple) else value


def engine(provider: str, precision: str) -> str:
    """The name of what computes; the precision of an ONNX file is not known."""
    return provider if precision == "unknown" else f"{provider} {precision}"


def label(row: dict[str, Any]) -> str:
    """What ran, in a few words."""
    threads = f", {row['threads']} thread{'s' * (row['threads'] > 1)}" if row["threads"] else ""
    streams = f", {row['streams']} streams" if row["streams"] > 1 else ""
    return f"{engine(row['provider'], row['precision'])}, batch {row['batch']}{threads}{streams}"


def interval(figure: dict[str, Any], digits: int = 3) -> str:
    """`2.81 [2.79, 2.90]`, with `-` for an end that is unknown because of too few samples."""
    ends = ("-" if figure[end] is None else rounded(figure[end], digits) for end in ("low", "high"))
    return f"{rounded(figure['value'], digits)} [{', '.join(ends)}]"


def rounded(value: float, digits: int = 3) -> str:
    """To significant digits, without an exponent."""
    return f"{float(f'{value:.{digits}g}'):,.{max(0, digits - 1 - _magnitude(value))}f}"


def _magnitude(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
