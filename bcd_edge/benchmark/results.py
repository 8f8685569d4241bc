"""A finished run as a file: benchmark.schema.json, checked when it is written and when it is read, and a flat CSV beside it."""

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
    """JSON of a run after its schema was checked: what is written can be read again."""
    problem = next(iter(_validator().iter_errors(run)), None)
    assert problem is None, problem
    return json.dumps(run, separators=(",", ":"), allow_nan=False)


def read(path: Path) -> dict[str, Any]:
    """A run that `bcd-edge benchmark` wrote.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} could not be read ({reason}); give the {RUN} that bcd-edge benchmark wrote.") from None
    if not isinstance(run, dict) or run.get("schema") != SCHEMA:
        found = run.get("schema") if isinstance(run, dict) else None
        raise UsageError(f"{path} is no benchmark of schema {SCHEMA} ({found} was found); give a {RUN} of this version of bcd-edge.")
    problem = next(iter(_validator().iter_errors(run)), None)
    if problem:
        where = "/".join(map(str, problem.absolute_path)) or "its top"
        raise UsageError(f"{path} is damaged ({where}: {problem.message[:100]}); run the benchmark again.")
    return run


@cache
def _validator() -> jsonschema.protocols.Validator:
    schema = json.loads(resources.files("bcd_edge").joinpath("benchmark/benchmark.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def table(rows: list[dict[str, Any]]) -> str:
    """CSV, a line for each row, dots for nested keys; without raw samples and series, which the JSON has."""
    flat = [dict(_flat(row)) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if before == "" and key in ("raw", "series", "files"):
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, "; ".join(map(str, value)) if isinstance(value, list | tuple) else value


def named(row: dict[str, Any]) -> str:
    """What ran, in a few words."""
    threads = f", {row['threads']} thread{'s' * (row['threads'] > 1)}" if row["threads"] else ""
    at_once = f", {row['inferences']} at once" if row["inferences"] > 1 else ""
    return f"{row['provider']} {row['precision']}, batch {row['batch']}{threads}{at_once}"


def shown(figure: dict[str, Any], digits: int = 3) -> str:
    """`2.81 [2.79, 2.90]`, with `-` for an end that too few samples leave unknown."""
    ends = ("-" if figure[end] is None else significant(figure[end], digits) for end in ("low", "high"))
    return f"{significant(figure['value'], digits)} [{', '.join(ends)}]"


def significant(value: float, digits: int = 3) -> str:
    """Rounded to significant digits, without an exponent."""
    return f"{float(f'{value:.{digits}g}'):,.{max(0, digits - 1 - _magnitude(value))}f}"


def _magnitude(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
