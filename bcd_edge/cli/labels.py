"""`bcd-edge labels`."""

from __future__ import annotations

from pathlib import Path

import click

from bcd_edge.cli._results import answering_bundle, pseudonyms, results_argument, writing
from bcd_edge.labels import LABELS_FILE


@click.group()
def command() -> None:
    """Turn reviews into labels to train with."""


@command.command(short_help="Write what readers agreed on, for training.")
@results_argument
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
@click.option(
    "--inbox",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the pictures are that bcd-edge watch left there.  [default: the inbox of the last watcher]",
)
@click.option(
    "--source", default="", metavar="NAME", help="Name of the collection that these patients belong to.  [default: one of this folder's own]"
)
@click.option(
    "--split",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="split.json of the running bundle's training: whoever is in it stays in the same part.",
)
@click.option(
    "--bundle",
    "bundle_path",
    type=click.Path(path_type=Path),
    help="The running bundle; its test patients must not become training patients.  [default: the embedded one if it answered last]",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in --out.")
@pseudonyms
def export(
    results: Path, out: Path, inbox: Path | None, source: str, split: Path | None, bundle_path: Path | None, overwrite: bool, pseudonymise: bool
) -> None:
    """Write the pictures in RESULTS that readers agreed on, with labels and patients, as a folder to train on.

    Only benign and malignant are labels. Readers who disagree are settled by the patient's sign-out, or left out; so are
    pictures without a patient. Each patient is in one part, for good: train, validation or test.

    \b
    Examples:
      bcd-edge labels export results/ --out labels/
      python -m train fit --data labels/ --split labels/split.json --out runs/next
    """
    from bcd_edge.errors import UsageError
    from bcd_edge.results.labels import export as run
    from bcd_edge.results.pictures import watched_inbox

    if "/" in source or source != source.strip():
        raise UsageError(f"--source {source!r} is not a name; write one without / and without space around it, such as clinic.")
    with writing(results) as opened:
        bundle = answering_bundle(opened.journal.connection, bundle_path)
        exported = run(
            opened,
            out,
            inbox=inbox or watched_inbox(results),
            source=source,
            split=split,
            bundle=bundle,
            pseudonymise=pseudonymise,
            overwrite=overwrite,
        )
    patients = ", ".join(f"{count:,} {part}" for part, count in exported.patients.items())
    labels = ", ".join(f"{count:,} {label}" for label, count in exported.labels.items())
    click.echo(f"{out / LABELS_FILE}: {labels}, of patients of {exported.source}: {patients}")
    if exported.tested:
        click.echo(f"Test patients of the split given, who stay test patients: {', '.join(exported.tested)}")
    if exported.left_out:
        click.echo("Left out: " + ", ".join(f"{count:,} {reason}" for reason, count in exported.left_out.items()))
    click.echo(f"Next: python -m train fit --data {out} --split {out / 'split.json'} --out RUN")
