"""`python -m train`: light at start, torch is imported by the command that needs it."""

from __future__ import annotations

from pathlib import Path

import click

from bcd_edge.cli import ErrorGroup


@click.group(cls=ErrorGroup)
def main() -> None:
    """Train the breast tissue classifier of bcd-edge."""


@main.command()
@click.option(
    "--data", multiple=True, required=True, metavar="KIND=PATH", help="Images: breakhis=, idc= or lc25000= and a folder or .zip. Repeatable."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the run.")
@click.option(
    "--weights",
    default="none",
    show_default=True,
    metavar="none|imagenet|FILE",
    help="Where the network starts: random, torchvision's ImageNet weights, or a checkpoint.",
)
@click.option("--size", type=click.IntRange(32, 1024), default=150, show_default=True, help="Side of the network input in pixels.")
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True)
@click.option("--epoch-images", type=click.IntRange(0), default=0, help="Images drawn an epoch; 0 draws as many as there are.")
@click.option("--batch-size", type=click.IntRange(2), default=32, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=3e-4, show_default=True, help="Peak of the one-cycle schedule.")
@click.option("--weight-decay", type=click.FloatRange(0), default=0.05, show_default=True)
@click.option(
    "--averaging",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.995,
    show_default=True,
    help="Decay a step of the moving average of weights that is kept; 0 keeps the last.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides the split by patient and every random draw.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that augment images; 0 does it in this one.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in --out.")
def fit(out: Path, resume: bool, device: str, workers: int, **settings: object) -> None:
    """Fine-tune a ResNet-50, split by patient; keeps the epoch with the best validation AUROC.

    \b
    Example:
      python -m train fit --data breakhis=data/breakhis/images.zip --out runs/first
    """
    from train.fit import Settings
    from train.fit import fit as run

    run(Settings(**settings), out, resume=resume, device=device, workers=workers)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(prog_name="python -m train")
