"""`bcd-edge doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bcd_edge.cli._options import log_options, model_options

if TYPE_CHECKING:
    from bcd_edge.system.doctor import Report
    from bcd_edge.system.jetson import Jetson


@click.command()
@model_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@log_options
def command(bundle_path: str | None, provider: str, device: str, precision: str | None, as_json: bool) -> None:
    """Say whether bcd-edge can run here, and what to do if not.

    Looks at the processor, memory and disk, NVIDIA cards, a Jetson's power mode and clocks, every inference engine,
    packages in each other's way, and the bundle; starts the provider once.

    Exit code: 0 it can run, 1 something must be mended first.

    \b
    Examples:
      bcd-edge doctor
      bcd-edge doctor --provider cuda
    """
    import json

    from bcd_edge.system import doctor

    report = doctor.examine(bundle_path, provider=provider, device=device, precision=precision)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=1))
    else:
        _show(report)
    if not report.fine:
        raise click.exceptions.Exit(1)


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    from bcd_edge.outputs import printable

    console = Console(markup=False, highlight=False)
    there = report.machine
    features = "features not told by this system" if there["features"] is None else ", ".join(there["features"]) or "none that speed up INT8"
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, text in (
        ("processor", f"{there['cpu']}, {there['cores']} cores, {there['architecture']}"),
        ("", features),
        ("memory", f"{there['memory_gib']} GiB"),
        ("system", f"{there['system']}, Python {there['python']}"),
        *_jetson(there["jetson"]),
        ("NVIDIA", "; ".join(there["nvidia"]) or "no card that nvidia-smi tells of"),
        ("packages", ", ".join(f"{name} {version}" for name, version in report.libraries.items())),
    ):
        grid.add_row(name, printable(text))
    console.print(grid)
    console.print()
    table = Table.grid(padding=(0, 2, 0, 0))
    words = {True: "yes", None: "no", False: "NO"}
    for check in (*report.providers, *report.checks):
        cure = f"\n{check.cure}" if check.cure and check.fine is not True else ""
        table.add_row(words[check.fine], check.name, printable(check.says) + cure)
    console.print(table)
    console.print()
    console.print(f"bcd-edge can run here, on {report.chosen}." if report.fine else "Mend what says NO first.", style="bold")


def _jetson(found: Jetson | None) -> list[tuple[str, str]]:
    if not found:
        return [("Jetson", "no")]
    clocks = [f"{clock.name} {clock.mhz} MHz ({clock.lowest_mhz} to {clock.highest_mhz}, {clock.governor})" for clock in found.clocks]
    mode = f"{found.power_mode or 'not told by this system'}; there are {', '.join(found.power_modes) or 'none told'}"
    return [
        ("Jetson", f"{found.board or 'board not told'}, JetPack {found.jetpack or 'not told'}, L4T {found.l4t or 'not told'}"),
        ("power mode", mode),
        ("clocks", "; ".join(clocks) or "not told by this system"),
    ]
