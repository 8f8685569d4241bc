"""`bcd-edge predict`."""

from __future__ import annotations

import click


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--bundle", "bundle_path", type=click.Path(), help="Folder or .zip of a bundle.  [default: the embedded one]")
@click.option("--provider", default="cpu", show_default=True, help="Inference engine.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="Variant of the bundle.  [default: its first for the provider]")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Operating threshold; the review band stretches to hold it.  [default: the bundle's]")
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads for one inference; 0 leaves it to the engine.")
@click.option("--format", "format_name", type=click.Choice(["table", "jsonl", "csv"]), default="table", show_default=True, help="Output format.")
def command(
    paths: tuple[str, ...], bundle_path: str | None, provider: str, precision: str | None, threshold: float | None, threads: int, format_name: str
) -> None:
    """Classify images: files, folders, globs, or - for one image on standard input.

    Exit code: 0 all fine, 1 some inputs failed, 2 usage, 3 bundle refused, 4 provider unavailable, 5 output not written.

    \b
    Examples:
      bcd-edge predict slide.png
      bcd-edge predict inbox/ --format csv > results.csv
      cat slide.png | bcd-edge predict -
    """
    import sys

    from bcd_edge import plugins
    from bcd_edge.classifier import Classifier
    from bcd_edge.errors import InputError
    from bcd_edge.inputs import Inputs
    from bcd_edge.outputs import printable

    inputs = Inputs(paths)
    failures = 0
    with Classifier.load(bundle_path, provider=provider, precision=precision, threshold=threshold, threads=threads) as classifier:
        for sentence in classifier.warnings:
            click.echo(f"warning: {printable(sentence)}", err=True)
        output = plugins.load("bcd_edge.outputs", format_name).open(sys.stdout)
        try:
            for name, source in inputs:
                record = classifier.failed(name, source) if isinstance(source, InputError) else classifier.classify(source, name=name)
                failures += record.status == "failed"
                output.write(record)
        finally:  # an interruption shows what was classified until then
            output.close()
    if inputs.skipped:
        click.echo(f"Left out of folders and globs, not images by their names: {inputs.skipped}.", err=True)
    if failures and format_name != "table":
        click.echo(f"{failures} inputs failed; their records say why.", err=True)
    if failures:
        raise click.exceptions.Exit(1)
