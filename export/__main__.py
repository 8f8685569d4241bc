"""`python -m export`: light at start, torch is imported by the command that needs it."""

from __future__ import annotations

from pathlib import Path

import click

from bcd_edge.cli import ErrorGroup

data = click.option("--data", multiple=True, metavar="KIND=PATH", help="The images of the run, where they lie now.  [default: where they lay]")


@click.group(cls=ErrorGroup)
def main() -> None:
    """Turn a training run into a bundle, refusing what lost accuracy."""


@main.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Folder written by `python -m train fit`.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the new bundle.")
@data
@click.option("--variants", default="fp32,int8", show_default=True, help="Which files the bundle carries, the default one first.")
@click.option("--name", default="resnet50-breast", show_default=True)
@click.option("--version", "release", default="1", show_default=True)
def bundle(run: Path, out: Path, data: tuple[str, ...], variants: str, name: str, release: str) -> None:
    """Write a bundle: ONNX files, manifest and model card.

    FP32 and INT8 are both compared with the PyTorch checkpoint on the test patients, whichever the bundle carries.
    Exit code 3 if one lost too much; nothing is written then.
    """
    wanted = variants.split(",")
    if not set(wanted) <= {"fp32", "int8"}:
        raise click.UsageError(f"--variants {variants}: choose from fp32 and int8, separated by a comma.")
    from export.bundle import build

    build(run, out, data, wanted, name, release)


@main.command()
@click.argument("predictions", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), help="The bundle that predicted.  [default: the embedded one]")
@click.option("--data", multiple=True, required=True, metavar="KIND=PATH", help="The images of the run, all of them.")
@click.option("--split", type=click.Path(path_type=Path, exists=True), help="The run's split.json, if it was not split by --seed.")
def score(predictions: Path, bundle: Path | None, data: tuple[str, ...], split: Path | None) -> None:
    """Check the CSV of `bcd-edge predict` over the test patients against the manifest; exit code 1 if they differ."""
    from export.score import score as run

    raise SystemExit(0 if run(predictions, bundle, data, split) else 1)


if __name__ == "__main__":
    main(prog_name="python -m export")
