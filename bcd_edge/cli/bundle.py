"""`bcd-edge bundle`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from bcd_edge.bundle import Bundle


@click.group()
def command() -> None:
    """Look at a bundle, check its files, or prove that this machine answers as the exporter's did.

    PATH is a folder or a .zip; without it the bundle that comes with the program is meant.

    Exit code: 0 all fine, 1 an answer is off, 2 usage, 3 bundle refused, 4 no provider, 5 output not written.
    """


@command.command(short_help="What the model is, how good it was, its limits.")
@click.argument("path", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
def info(path: str | None, as_json: bool) -> None:
    """What the model is, how good it was on its test patients, and what it must not be used for."""
    import json

    from rich.console import Console

    from bcd_edge import bundle
    from bcd_edge.outputs import printable

    opened = bundle.open(path)
    if as_json:
        click.echo(json.dumps(opened.manifest, indent=1))
        return
    manifest = opened.manifest
    console = Console(markup=False, highlight=False)
    with console.capture() as shown:
        console.print(f"{printable(opened.name)}, created {printable(manifest['created'])}, manifest {opened.sha256[:12]}\n")
        for part in (_facts(opened), _variants(opened), _figures(opened)):
            console.print(part)
            console.print()
        for title, sentences in (("Data", manifest.get("data", [])), ("Intended use", [manifest["intended_use"]]), ("Limits", manifest["limits"])):
            console.print(title, style="bold")
            console.print(_grid(("-", sentence) for sentence in sentences))
    click.echo(shown.get(), nl=False)


@command.command(short_help="Check the manifest and every file's hash.")
@click.argument("path", required=False, type=click.Path())
def verify(path: str | None) -> None:
    """Check the manifest and the hash of every file that it names.

    Files that the manifest does not name are listed; nothing loads them.
    """
    from bcd_edge import bundle
    from bcd_edge.errors import BundleError
    from bcd_edge.outputs import printable

    opened = bundle.open(path)
    problems, strays = bundle.verify(opened)
    for sentence in problems:
        click.echo(printable(sentence), err=True)
    for name in strays:
        click.echo(f"not named by the manifest, never loaded: {printable(name)}")
    if problems:
        raise BundleError(f"{opened.path} must not be used: {len(problems)} of its files are missing or not what the manifest says.")
    models = sum(len(bundle.files(variant)) for variant in opened.variants())
    click.echo(f"fine: {printable(opened.name)}, model files {models}, golden images {len(opened.golden())}, manifest {opened.sha256[:12]}")


@command.command(short_help="Whether this machine answers as it should.")
@click.argument("path", required=False, type=click.Path())
@click.option("--provider", help="Only this inference engine.  [default: every one]")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="Only this precision.  [default: every one]")
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
def selftest(path: str | None, provider: str | None, precision: str | None, as_json: bool) -> None:
    """Run the bundle's golden images through every inference engine that runs here.

    An answer is off when it differs from what the exporter measured for the same file by more than rounding explains:
    0.001 in fp32, 0.01 in fp16, 0.05 in int8.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from bcd_edge import selftest as testing
    from bcd_edge.outputs import printable

    outcomes = testing.run(path, provider=provider, precision=precision)
    if as_json:
        click.echo(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    else:
        table = _table("provider", "variant", "max |dp| exported", "max |dp| PyTorch", "verdict")
        for one in outcomes:
            table.add_row(one.provider, printable(one.file), _small(one.from_exported), _small(one.from_reference), one.verdict)
        console = Console(markup=False, highlight=False)
        console.print(table)
        for one in outcomes:
            if one.reason:
                console.print(f"{one.provider} {one.precision}".strip() + f": {printable(one.reason)}", soft_wrap=True)
    if any(outcome.verdict in ("off", "failed") for outcome in outcomes):
        click.echo("This machine does not answer as the exporter's did: do not use the variants that are off or failed here.", err=True)
        raise click.exceptions.Exit(1)


def _facts(opened: Bundle) -> Table:
    members, rule = opened.members, opened.decision
    sizes = ", ".join(f"{member.input.height} x {member.input.width}" for member in members)
    several = f"; p is the mean of {len(members)} networks" if len(members) > 1 else ""
    return _grid(
        [
            ("input", f"RGB, the whole image stretched to {sizes} pixels{several}"),
            ("decision", f"malignant from p {rule.threshold:.3f}; review from {rule.review_low:.3f} up to {rule.review_high:.3f}"),
            ("", opened.manifest["decision"]["chosen"]),
            ("licence", opened.manifest["licence"]),
        ]
    )


def _variants(opened: Bundle) -> Table:
    from bcd_edge import bundle

    table = _table("variant", "file", "MB", "for", "gate")
    for variant in opened.variants():
        entries = bundle.files(variant)
        size = sum(entry["bytes"] for entry in entries) / 1e6
        names = "\n".join(entry["file"] for entry in entries)
        table.add_row(variant["precision"], names, f"{size:.1f}", ", ".join(variant.get("providers", ["every provider"])), _verdict(variant))
    return table


def _verdict(variant: dict[str, Any]) -> str:
    from bcd_edge.outputs import printable

    if "gate" not in variant:
        return "no verdict recorded"
    refused = variant["gate"]["refused"]
    return printable("REFUSED: " + "; ".join(refused)) if refused else "passed"


def _figures(opened: Bundle) -> Table:
    """The main metrics of the first variant, a row for each set of test images."""
    from bcd_edge.outputs import printable

    shown = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}
    variant = opened.variants()[0]
    table = _table(f"{variant['precision']} on", *shown.values())
    for name, scores in variant.get("test", {}).items():
        table.add_row(printable(name), *(_figure(scores.get("metrics", {}).get(metric)) for metric in shown))
    table.caption = "Patients never trained on; in brackets the 95 % interval."
    table.caption_justify = "left"
    return table


def _figure(metric: dict[str, float] | None) -> str:
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]" if metric else "-"


def _small(delta: float | None) -> str:
    return "-" if delta is None else f"{delta:.1e}"


def _grid(rows: Iterable[tuple[str, str]]) -> Table:
    from rich.table import Table

    from bcd_edge.outputs import printable

    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, text in rows:
        grid.add_row(name, printable(text))
    return grid


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, header_style="bold", pad_edge=False)
