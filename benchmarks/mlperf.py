"""`bcd-edge benchmark` as a user runs it: the sweep in the documentation, and LoadGen's figures beside ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from bcd_edge.benchmark import results
from bcd_edge.benchmark.results import interval, rounded
from bcd_edge.errors import ProviderError
from benchmarks.tables import put

PROVIDERS: Final = ("--provider", "cpu,openvino", "--precision", "fp32,int8")
SWEEP: Final = (*PROVIDERS, "--batch", "1,8,32", "--quick")
CHECKED: Final = (*PROVIDERS, "--scenario", "singlestream,offline", "--scope", "model", "--loadgen")


def compare(bundle: Path, folder: Path, out: Path | None) -> None:
    """Runs both, keeps their files, and puts a table of each between the marks `sweep` and `loadgen` of `out`.

    Args:
        bundle: with the variants fp32 and int8.
        folder: folder for what `bcd-edge benchmark` writes.
        out: a Markdown file.

    Raises:
        ProviderError: the command failed; it said why.
    """
    sweep, checked = _run(bundle, folder / "sweep", SWEEP), _run(bundle, folder / "loadgen", CHECKED)
    put(_table(sweep, ("metric", "images/s", "verdict"), _swept), out, "sweep")
    put(_table(checked, ("ours", "LoadGen", "ours / LoadGen", "its verdict"), _checked), out, "loadgen")


def _run(bundle: Path, folder: Path, options: tuple[str, ...]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bcd_edge", "benchmark", "--bundle", str(bundle), "--out", str(folder), *options]
    if subprocess.run(command).returncode:
        raise ProviderError(f"bcd-edge benchmark {' '.join(options)} did not finish, see above.")
    return results.read(folder / results.RUN)


def _table(run: dict[str, Any], columns: tuple[str, ...], cells: Any) -> str:
    machine = run["environment"]["machine"]
    libraries = (f"{name} {run['environment']['libraries'].get(name, 'none')}" for name in ("onnxruntime", "openvino"))
    where = f"{run['bundle']['name']}, {machine['cpu']}, {machine['cores']} cores, {run['created'][:10]}"
    head = f"{where}, {', '.join(libraries)}; {run['rule']['duration_s']:g} s per row."
    lines = [head, "", f"| engine | scenario | scope | {' | '.join(columns)} |", "|---" * (len(columns) + 3) + "|"]
    lines += [f"| {results.label(row)} | {row['scenario']} | {row['scope']} | {' | '.join(cells(row))} |" for row in run["rows"]]
    return "\n".join(lines)


def _figure(row: dict[str, Any]) -> str:
    return f"{row['metric']['name'].replace('_ms', ', ms').replace('images_per_s', 'images/s')}: {interval(row['metric'])}"


def _swept(row: dict[str, Any]) -> tuple[str, ...]:
    server = f", at {rounded(row['server']['qps'])} queries/s" if row["server"] else ""
    verdict = f"unsteady: {'; '.join(row['unsteady'])}" if row["unsteady"] else "VALID" if row["verdict"]["valid"] else "INVALID"
    return _figure(row) + server, rounded(row["images_per_s"]["value"]), verdict


def _checked(row: dict[str, Any]) -> tuple[str, ...]:
    loadgen = row["loadgen"]
    value = "none" if loadgen["value"] is None else rounded(loadgen["value"], 4)
    return _figure(row), value, str(loadgen["ours_over_theirs"]), str(loadgen["verdict"])
