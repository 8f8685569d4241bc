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
@click.option(
    "--run",
    "runs",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    required=True,
    help="Folder written by `python -m train fit`. Several make an ensemble whose probabilities are averaged.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the new bundle; the report goes to OUT-report.")
@data
@click.option(
    "--variants",
    default="int8,fp16,fp32",
    show_default=True,
    help="Which files the bundle carries, the default one first: fp32, fp16, int8, int8-openvino (quantised by NNCF, for OpenVINO), "
    "int8-tensorrt (symmetric, for TensorRT), int8-no-vnni (for x86 CPUs without VNNI).",
)
@click.option("--calibration", type=click.Choice(["auto", "minmax", "entropy", "percentile"]), default="auto", show_default=True)
@click.option("--max-drop", multiple=True, metavar="METRIC=NUMBER", help="What a variant may lose, such as auroc=0.005. Repeatable.")
@click.option("--allow-refused", is_flag=True, help="Carry a refused variant, for research; the manifest and the runtime say so.")
@click.option("--seconds", type=click.FloatRange(0), default=2.0, show_default=True, help="To measure a variant's latency on a provider; 0 does not.")
@click.option("--previous", type=click.Path(path_type=Path, exists=True), help="The bundle that this one replaces; the model card compares them.")
@click.option(
    "--previous-split",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="split.json of that bundle's run, if it held out other people: both are compared on those whom neither has learned from.",
)
@click.option("--name", required=True, help="Name of the bundle; records and reports carry it.")
@click.option("--version", default="1", show_default=True, help="Version of the bundle.")
@click.option("--description", default="", help="Which tissue, stain, laboratory and magnification; for the model card.")
@click.option("--intended-use", default="", help="Who may use it for what; for the model card.")
@click.option("--licence", default="", help="Licence of the weights; for the model card.")
def bundle(
    runs: tuple[Path, ...],
    out: Path,
    data: tuple[str, ...],
    variants: str,
    calibration: str,
    max_drop: tuple[str, ...],
    allow_refused: bool,
    seconds: float,
    previous: Path | None,
    previous_split: Path | None,
    **statement: str,
) -> None:
    """Write a bundle: ONNX files, golden inputs, manifest and model card.

    Every variant is compared with the PyTorch checkpoint on the test patients. One whose interval's bad end passes a
    bound is refused: it is not in the bundle, the report says why, and the exit code is 3.
    """
    from export.bundle import build
    from export.gate import parse_bounds
    from export.manifest import Statement
    from export.variants import KINDS

    wanted = list(dict.fromkeys(variants.split(",")))
    if not set(wanted) <= set(KINDS):
        raise click.UsageError(f"--variants {variants}: choose from {', '.join(KINDS)}, separated by commas.")
    bounds = parse_bounds(max_drop)
    choices = {"allow_refused": allow_refused, "method": calibration, "seconds": seconds, "previous": previous, "previous_split": previous_split}
    build(runs, out, data, wanted, Statement(**statement), bounds=bounds, **choices)  # type: ignore[arg-type]


@main.command()
@click.argument("predictions", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), help="The bundle that predicted.  [default: the embedded one]")
@click.option("--data", multiple=True, required=True, metavar="KIND=PATH", help="The images of the run, all of them.")
@click.option("--split", type=click.Path(path_type=Path, exists=True), help="The run's split.json, if it was not split by --seed.")
def score(predictions: Path, bundle: Path | None, data: tuple[str, ...], split: Path | None) -> None:
    """Check the CSV of `bcd-edge predict` over the test patients against the manifest; exit code 1 if they differ."""
    from export.score import score as run

    raise SystemExit(0 if run(predictions, bundle, data, split) else 1)


@main.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), help="The INT8 bundle.  [default: the embedded one]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the new bundle.")
@click.option("--data", multiple=True, metavar="KIND=PATH", help="The images of the run, all of them, to compare both on the test patients.")
@click.option("--split", type=click.Path(path_type=Path, exists=True), help="The run's split.json, if it was not split by --seed.")
def dequantise(bundle: Path | None, out: Path, data: tuple[str, ...], split: Path | None) -> None:
    """Write an FP32 bundle with the weights of an INT8 one, to compare speed and engines with.

    Its name ends in -fp32-from-int8: it isn't the FP32 network that was trained. How its answers differ from INT8's is
    printed, and written into its manifest.
    """
    from export.dequantise import dequantise as run

    run(bundle, out, data, split)


@main.command()
@click.option(
    "--run", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Folder written by `python -m train cytology`."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the new bundle.")
@click.option("--name", default="cytology-wisconsin", show_default=True, help="Name of the bundle.")
@click.option("--version", default="1", show_default=True, help="Version of the bundle.")
def cytology(run: Path, out: Path, name: str, version: str) -> None:
    """Write a bundle of kind tabular, for `bcd-edge cytology`."""
    from export.cytology import build

    build(run, out, name, version)


if __name__ == "__main__":
    main(prog_name="python -m export")
