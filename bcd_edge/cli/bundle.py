"""`bcd-edge bundle`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from bcd_edge.bundle import Bundle


@click.group()
def command() -> None:
    """Show a bundle, check its files, or test that this machine computes what the exporter computed.

    PATH is a folder or a .zip; the default is the embedded bundle.

    Exit code: 0 success, 1 a result is off, 2 usage, 3 bundle refused, 4 provider unavailable, 5 output not written.
    """


@command.command(short_help="Show the model, its accuracy and its limits.")
@click.argument("path", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
def info(path: str | None, as_json: bool) -> None:
    """Show what the model is, its accuracy on the test patients, its intended use and its limits."""
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
    with console.capture() as captured:
        console.print(f"{printable(opened.name)}, created {printable(manifest['created'])}, manifest {opened.sha256[:12]}\n")
        for part in (_facts(opened), _variants(opened), *_figures(opened)):
            console.print(part)
            console.print()
        for title, sentences in (("Data", manifest.get("data", [])), ("Intended use", [manifest["intended_use"]]), ("Limits", manifest["limits"])):
            console.print(title, style="bold")
            console.print(_grid(("-", sentence) for sentence in sentences))
    click.echo(captured.get(), nl=False)


@command.command(short_help="Check the manifest and the hash of every file.")
@click.argument("path", required=False, type=click.Path())
def verify(path: str | None) -> None:
    """Check the manifest and the hash of every file in it.

    Files that are not in the manifest are listed; they are never loaded.
    """
    from bcd_edge import bundle
    from bcd_edge.errors import BundleError
    from bcd_edge.outputs import printable

    opened = bundle.open(path, kind=None)
    problems, strays = bundle.verify(opened)
    for sentence in problems:
        click.echo(printable(sentence), err=True)
    for name in strays:
        click.echo(f"not in the manifest, never loaded: {printable(name)}")
    if problems:
        raise BundleError(f"{opened.path} must not be used: {len(problems)} of its files are missing or do not match the manifest.")
    models = sum(len(bundle.files(variant)) for variant in opened.variants())
    click.echo(f"fine: {printable(opened.name)}, model files {models}, golden images {len(opened.golden())}, manifest {opened.sha256[:12]}")


@command.command(short_help="Test that this machine computes correct results.")
@click.argument("path", required=False, type=click.Path())
@click.option("--provider", help="Test only this inference engine.  [default: all]")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="Test only this precision.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
def selftest(path: str | None, provider: str | None, precision: str | None, as_json: bool) -> None:
    """Run the bundle's golden images through every inference engine that runs here.

    A result is off if it differs from the exporter's result for the same file by more than rounding can explain:
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
        for outcome in outcomes:
            differences = _small(outcome.from_exported), _small(outcome.from_reference)
            table.add_row(outcome.provider, printable(outcome.file), *differences, outcome.verdict)
        console = Console(markup=False, highlight=False)
        console.print(table)
        for outcome in outcomes:
            if outcome.reason:
                console.print(f"{outcome.provider} {outcome.precision}".strip() + f": {printable(outcome.reason)}", soft_wrap=True)
    if any(outcome.verdict in ("off", "failed") for outcome in outcomes):
        click.echo("This machine does not compute what the exporter computed: do not use the variants that are off or failed here.", err=True)
        raise click.exceptions.Exit(1)


def _facts(opened: Bundle) -> Table:
    members, rule = opened.members, opened.decision
    sizes = ", ".join(f"{member.input.height} x {member.input.width}" for member in members)
    averaging = f"; p is the mean of {len(members)} networks" if len(members) > 1 else ""
    return _grid(
        [
            ("input", f"RGB, the whole image resized to {sizes} pixels{averaging}"),
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


def _figures(opened: Bundle) -> Iterator[Table]:
    """The main metrics of the first variant, with a row per test set; nothing where they were not measured."""
    from bcd_edge.outputs import printable

    titles = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}
    variant = opened.variants()[0]
    if not variant.get("test"):
        return
    table = _table(f"{variant['precision']} on", *titles.values())
    for name, scores in variant["test"].items():
        table.add_row(printable(name), *(_figure(scores.get("metrics", {}).get(metric)) for metric in titles))
    table.caption = "On patients that were not in training; 95 % intervals in brackets."
    table.caption_justify = "left"
    yield table


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
