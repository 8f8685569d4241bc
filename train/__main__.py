"""`python -m train`: light at start, torch is imported by the command that needs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bcd_edge import plugins
from bcd_edge.cli import ErrorGroup
from train import runs
from train.choices import STAGES, TEACHERS

Command = Callable[..., Any]
NETWORKS = click.Choice(plugins.names("train.networks"))
KINDS_HELP = f"KIND is one of {', '.join(plugins.names('train.data.sources'))}, and not needed where it shows."
out_folder = click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the run.")
folds_option = click.option("--folds", type=click.IntRange(3), default=5, show_default=True, help="Groups of patients; each tests once.")


label_option = click.option(
    "--label", multiple=True, metavar="NAME=benign|malignant|skip", help="Class of the folders or manifest rows called NAME. Repeatable."
)


def settings_options(**changed: Any) -> Callable[[Command], Command]:
    """The options of `train.training.Settings`; `changed` names the defaults that a command has for itself."""

    def option(name: str, kind: Any, default: Any, text: str) -> Callable[[Command], Command]:
        key = name.lstrip("-").replace("-", "_")
        return click.option(name, type=kind, default=changed.get(key, default), show_default=True, help=text)

    share = click.FloatRange(0, 1, max_open=True)
    every = [
        click.option("--data", multiple=True, required=True, metavar="[KIND=]PATH", help=f"Images: a folder, .zip or .csv; {KINDS_HELP} Repeatable."),
        click.option("--magnification", multiple=True, metavar="100X", help="Only images of this magnification. Repeatable.  [default: all]"),
        label_option,
        option("--seed", click.IntRange(0), 0, "Decides the split and every random draw."),
        option("--network", NETWORKS, "resnet50", "Architecture."),
        click.option(
            "--init",
            default="none",
            show_default=True,
            metavar="none|imagenet|FILE",
            help="Where the network starts: random, torchvision's ImageNet weights, or a file, such as the best.pt of a pretraining.",
        ),
        option("--size", click.IntRange(32, 1024), 150, "Side of the network input in pixels."),
        option("--head-epochs", click.IntRange(0), 1, "Epochs in which only the head learns."),
        option("--epochs", click.IntRange(1), 12, "Epochs in all."),
        option(
            "--unfreeze",
            click.Choice(["auto", *STAGES]),
            "auto",
            "First stage that learns after the head epochs; auto: layer3 from ImageNet weights, else all.",
        ),
        option("--epoch-images", click.IntRange(0), 2000, "Images drawn an epoch; 0 draws as many as there are."),
        option("--batch-size", click.IntRange(2), 32, "Images in a forward pass."),
        option("--accumulate", click.IntRange(1), 1, "Forward passes for one step of the optimiser."),
        option("--learning-rate", click.FloatRange(0, min_open=True), 4e-4, "Peak rate of the head."),
        option("--layer-decay", click.FloatRange(0, 1, min_open=True), 0.8, "Rate of a stage as a share of the next one's."),
        option("--warm-up", share, 0.15, "Share of a phase in which the rate rises; then it falls as a cosine."),
        option("--weight-decay", click.FloatRange(0), 0.05, "Of AdamW; norms and biases have none."),
        option("--label-smoothing", share, 0.0, "Share of each label given to the other class."),
        option("--mixup", click.FloatRange(0), 0.0, "Alpha of mixup; 0 mixes nothing."),
        option("--jitter", share, 0.1, "How much stain colours are changed at most; light half as much."),
        option("--ema-decay", share, 0.99, "Decay a step of the moving average of weights that is kept; 0 keeps the last."),
        option("--patience", click.IntRange(0), 0, "Stop after so many epochs without a better one; 0 never does."),
        option("--teacher", click.Choice(["none", *TEACHERS]), "none", "Network whose features the student also learns to predict."),
        option("--distillation", click.FloatRange(0), 1.0, "Weight of the teacher's loss."),
        option("--labels", click.Choice(["class", "subtype"]), "class", "What the head tells apart; subtype: every tumour type a collection names."),
        option(
            "--backbone-rate", click.FloatRange(0, min_open=True), 1.0, "Rate of everything before the head, as a share of what --layer-decay gives."
        ),
        option("--batch-norm", click.Choice(["adapt", "frozen"]), "adapt", "Whether batch statistics follow the images or stay those of --init."),
        option("--soften", click.FloatRange(0, 1), 0.0, "Share of training images that lose sharpness, against copies of lower resolution."),
        option("--dropout", share, 0.0, "Share of features that the subtype head does not see in training."),
    ]

    def wrap(command: Command) -> Command:
        for add in reversed(every):
            command = add(command)
        return command

    return wrap


def machine_options(command: Command) -> Command:
    """What changes how fast a run is and not what it computes."""
    for add in (
        click.option("--compile", "compiled", is_flag=True, help="torch.compile the network; pays on a GPU and long runs."),
        click.option(
            "--workers", type=click.IntRange(0), default=0, show_default=True, help="Threads that gather batches ahead; 0 gathers when one is needed."
        ),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    ):
        command = add(command)
    return command


split_option = click.option(
    "--split",
    default="patient",
    show_default=True,
    metavar="patient|image|FILE",
    help="By patient; by image, which leaks; or the split.json of a run.",
)
resume_option = click.option("--resume", is_flag=True, help="Go on with the interrupted run in --out.")


@click.group(cls=ErrorGroup)
def main() -> None:
    """Train the breast tissue classifier of bcd-edge."""


@main.command()
@settings_options()
@split_option
@out_folder
@resume_option
@machine_options
def fit(out: Path, resume: bool, device: str, workers: int, compiled: bool, **settings: object) -> None:
    """Fine-tune a network, split by patient; keeps the epoch with the best validation AUROC.

    \b
    Example:
      python -m train fit --data breakhis=images.zip --init runs/pretrain/best.pt --out runs/first
    """
    with runs.exclusive(out, "the same command and --resume"):
        from train.fit import fit as run
        from train.training import Settings

        run(Settings(**settings), out, resume=resume, device=device, workers=workers, compiled=compiled)  # type: ignore[arg-type]


@main.command()
@settings_options(
    size=96, head_epochs=0, epochs=20, epoch_images=0, unfreeze="stem", batch_size=64, learning_rate=1e-3, layer_decay=1.0, ema_decay=0.995
)
@split_option
@out_folder
@resume_option
@machine_options
def pretrain(out: Path, resume: bool, device: str, workers: int, compiled: bool, **settings: object) -> None:
    """Train on a larger related set, for `fit --init`: all layers from the start, small pictures, many epochs.

    The patients that the split holds out are never trained on, so that a later `fit` with the same seed can test on them.

    \b
    Example:
      python -m train pretrain --data idc=idc_patches.zip --data lc25000=tiles.zip --out runs/pretrain
      python -m train fit --data breakhis=images.zip --init runs/pretrain/best.pt --out runs/breast
    """
    with runs.exclusive(out, "the same command and --resume"):
        from train.fit import fit as run
        from train.training import Settings

        run(Settings(**settings), out, resume=resume, device=device, workers=workers, compiled=compiled)  # type: ignore[arg-type]


@main.command("data")
@click.argument("paths", nargs=-1, required=True, metavar="[KIND=]PATH...")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split that is checked.")
@click.option("--split", "how", default="patient", show_default=True, metavar="patient|image|FILE", help="The split that is checked.")
@label_option
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Also write the findings here.")
def data_command(paths: tuple[str, ...], seed: int, how: str, label: tuple[str, ...], json_path: Path | None) -> None:
    """Describe image collections and check them; exit code 1 if a duplicate or a patient crosses the split, or one has one class only."""
    from rich.console import Console

    from train.data.audit import audit

    clean = audit(
        paths,
        seed=seed,
        split="patient" if how not in ("patient", "image") else how,
        split_file=None if how in ("patient", "image") else Path(how),
        console=Console(),
        json_path=json_path,
        labels=label,
    )
    raise SystemExit(0 if clean else 1)


@main.command("cross-validate")
@settings_options()
@folds_option
@out_folder
@machine_options
def cross_validate(out: Path, folds: int, device: str, workers: int, compiled: bool, **settings: object) -> None:
    """Train and test once per fold of patients; run it again to go on after an interruption.

    Prints the out-of-fold figures with intervals, beside colour alone and frozen features with the same folds.
    """
    with runs.exclusive(out, "the same command"):
        from train.evaluation.cross_validation import cross_validate as run
        from train.training import Settings

        run(Settings(**settings), out, folds, device=device, workers=workers, compiled=compiled)  # type: ignore[arg-type]


@main.command("reproduce-published")
@settings_options()
@out_folder
@machine_options
def reproduce_published(out: Path, device: str, workers: int, compiled: bool, **settings: object) -> None:
    """The published protocol (140 test images, 60 benign and 80 malignant, split by image) beside one split by patient."""
    with runs.exclusive(out, "the same command"):
        from train.evaluation.reproduce import reproduce
        from train.training import Settings

        reproduce(Settings(**settings), out, device=device, workers=workers, compiled=compiled)  # type: ignore[arg-type]


@main.command()
@settings_options()
@split_option
@folds_option
@click.option("--trials", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, help="TOML with a [[trial]] for each.")
@click.option("--only", default="", metavar="TRIAL", help="Run this trial alone, so that several processes can share the work.")
@click.option("--final", is_flag=True, help="Train the best trial on all folds and test it on the patients set aside.")
@out_folder
@machine_options
def study(out: Path, trials: Path, folds: int, only: str, final: bool, device: str, workers: int, compiled: bool, **settings: object) -> None:
    """Compare recipes with folds of patients, choose one, and say what the choice is worth; run it again to go on.

    \b
    Example:
      python -m train study --data breakhis=images.zip --init resnet50v2.safetensors --trials trials.toml --out runs/study --final
    """
    from train.study import study as run
    from train.training import Settings

    run(Settings(**settings), trials, out, folds, device=device, only=only, final=final)  # type: ignore[arg-type]


@main.command()
@click.option("--data", multiple=True, required=True, metavar="[KIND=]PATH", help="Images: a folder, .zip or .csv. Repeatable.")
@click.option("--init", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Initial weights to take along.")
@click.option("--size", type=click.IntRange(32, 1024), default=192, show_default=True, help="Side of the network input in pixels.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the pack.")
def pack(data: tuple[str, ...], init: Path | None, size: int, out: Path) -> None:
    """Write images and weights small enough to travel to a machine with a GPU; `study` and `fit` read them there."""
    from train.pack import pack as run

    run(data, init, size, out)


@main.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, help="breast-cancer-wisconsin.csv, the original set."
)
@click.option("--folds", type=click.IntRange(3), default=10, show_default=True, help="Groups of rows; each tests once.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides splits and networks.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures into this page, too.")
@out_folder
def cytology(data: Path, folds: int, seed: int, page: Path | None, out: Path) -> None:
    """Compare models of graded cells by nested cross-validation, beside published figures, and fit the one to embed.

    \b
    Example:
      python -m train cytology --data breast-cancer-wisconsin.csv --out runs/cytology
    """
    with runs.exclusive(out, "the same command"):
        from train.cytology.fit import fit as run

        run(data, out, folds, seed, page)


@main.command()
@click.option("--network", type=NETWORKS, default="resnet50", show_default=True)
@click.option("--size", type=click.IntRange(75, 1024), default=150, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=32, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True, help="For each of the three.")
@machine_options
def bench(network: str, size: int, batch_size: int, seconds: float, device: str, workers: int, compiled: bool) -> None:
    """Images a second of the loader alone, of the step on pixels that are there already, and of both together."""
    from train.bench import bench as run

    run(network, size, batch_size, seconds, device=device, workers=workers, compiled=compiled)


if __name__ == "__main__":
    main(prog_name="python -m train")
