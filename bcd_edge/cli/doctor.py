"""`bcd-edge doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bcd_edge.cli._options import log_options, model_options

if TYPE_CHECKING:
    from bcd_edge.options import RunOptions
    from bcd_edge.system.doctor import Report
    from bcd_edge.system.jetson import Jetson


@click.command()
@model_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@log_options
def command(bundle_path: str | None, options: RunOptions, as_json: bool) -> None:
    """Check whether bcd-edge can run here, and how to fix it if not.

    Checks the processor, memory and disk, NVIDIA cards, a Jetson's power mode and clocks, every inference engine,
    conflicting packages and the bundle; loads the model once on the provider.

    Exit code: 0 bcd-edge can run, 1 something must be fixed first.

    \b
    Examples:
      bcd-edge doctor
      bcd-edge doctor --provider cuda
    """
    import json

    from bcd_edge.system import doctor

    report = doctor.examine(bundle_path, options)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=1))
    else:
        _show(report)
    if not report.ok:
        raise click.exceptions.Exit(1)


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    from bcd_edge.outputs import printable

    console = Console(markup=False, highlight=False)
    facts = Table.grid(padding=(0, 2, 0, 0))
    for name, text in _facts(report):
        facts.add_row(name, printable(text))
    checks = Table.grid(padding=(0, 2, 0, 0))
    words = {True: "yes", None: "no", False: "NO"}
    for check in (*report.providers, *report.checks):
        fix = f"\nfix: {check.fix}" if check.fix and check.ok is not True else ""
        checks.add_row(words[check.ok], check.name, printable(check.message) + fix)
    verdict = f"bcd-edge can run here, on {report.chosen}." if report.ok else "bcd-edge cannot run here: fix the items marked NO."
    for part in (facts, "", checks, ""):
        console.print(part)
    console.print(verdict, style="bold")


def _facts(report: Report) -> list[tuple[str, str]]:
    machine = report.machine
    features = "features not reported" if machine["features"] is None else ", ".join(machine["features"]) or "no features that speed up INT8"
    return [
        ("processor", f"{machine['cpu']}, {machine['cores']} cores, {machine['architecture']}"),
        ("", features),
        ("memory", f"{machine['memory_gib']} GiB"),
        ("system", f"{machine['system']}, Python {machine['python']}"),
        *_jetson(machine["jetson"]),
        ("NVIDIA", "; ".join(machine["nvidia"]) or "nvidia-smi reports no card"),
        ("packages", ", ".join(f"{name} {version}" for name, version in report.libraries.items())),
    ]


def _jetson(board: Jetson | None) -> list[tuple[str, str]]:
    if not board:
        return [("Jetson", "no")]
    unknown = "not reported"
    clocks = [f"{clock.name} {clock.mhz} MHz ({clock.lowest_mhz} to {clock.highest_mhz}, {clock.governor})" for clock in board.clocks]
    return [
        ("Jetson", f"{board.board or 'board ' + unknown}, JetPack {board.jetpack or unknown}, L4T {board.l4t or unknown}"),
        ("power mode", f"{board.power_mode or unknown}; available: {', '.join(board.power_modes) or unknown}"),
        ("clocks", "; ".join(clocks) or unknown),
    ]
