"""`bcd-edge explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcd_edge import plugins
from bcd_edge.cli._options import is_quiet, log_options, model_options, scale_options, take_triage
from bcd_edge.cli._types import DURATION

if TYPE_CHECKING:
    from bcd_edge.classifier import Classifier
    from bcd_edge.explain import Settings
    from bcd_edge.explain.page import Explained
    from bcd_edge.inputs import Inputs
    from bcd_edge.options import RunOptions
    from bcd_edge.readers.raster import UInt8Image
    from bcd_edge.records import Record


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("explanations"), show_default=True, help="Folder to write to.")
@click.option(
    "--explainer",
    default="hadamard",
    show_default=True,
    metavar=f"[{'|'.join(plugins.names('bcd_edge.explain.explainers'))}]",
    help="Method.",
)
@click.option("--label", type=click.Choice(["benign", "malignant"]), help="Class to explain.  [default: the record's label]")
@click.option("--samples", type=click.IntRange(0), default=0, help="Exact number of perturbed images.  [default: until converged]")
@click.option("--max-samples", type=click.IntRange(1), default=512, show_default=True, help="Maximum number of perturbed images.")
@click.option(
    "--time-budget",
    "time_budget_s",
    type=DURATION,
    default="0",
    metavar="2s",
    help="Maximum time per image, such as 500ms; the first 33 samples always run; 0: no limit.  [default: 0]",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1, max_open=True),
    default=0.95,
    show_default=True,
    help="Confidence level for convergence of the top superpixels.",
)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Number of superpixels whose order and sign must converge.")
@click.option("--segmentation", type=click.Choice(["slic", "quickshift"]), default="slic", show_default=True, help="Algorithm for superpixels.")
@click.option("--segments", type=click.IntRange(1, 400), default=40, show_default=True, help="Number of superpixels for slic.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed; the same seed gives the same explanation.")
@click.option("--check", "seeds", type=click.IntRange(2), help="Repeat with this many seeds, and report stability and faithfulness.")
@scale_options
@model_options
@log_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    out: Path,
    explainer: str,
    seeds: int | None,
    time_budget_s: float,
    bundle_path: str | None,
    options: RunOptions,
    **how: Any,
) -> None:
    """Show which parts of an image speak for a diagnosis, and which against it.

    Writes an overlay (PNG) and the numbers (JSON) of each image, and a page, index.html. Orange superpixels speak for
    the label, blue ones against it. An explanation shows what the model looks at, not what is in the tissue.

    Exit code: as for predict.

    \b
    Examples:
      bcd-edge explain slide.png
      bcd-edge explain inbox/ --out explanations/ --time-budget 2s
      bcd-edge explain slide.png --check 5
    """
    from bcd_edge.classifier import Classifier
    from bcd_edge.explain import Settings, load
    from bcd_edge.inputs import Inputs

    load(explainer)
    scale = take_triage(how)
    settings = Settings(time_budget_s=time_budget_s, **how)
    with Classifier.load(bundle_path, for_explaining(options), **scale) as classifier:
        failures = explain_all(classifier, classified(classifier, Inputs(paths)), out, explainer, settings, seeds, quiet=is_quiet(ctx))
    if failures:
        raise click.exceptions.Exit(1)


def for_explaining(options: RunOptions) -> RunOptions:
    """The options with the batch size of an explainer, unless one was requested."""
    from dataclasses import replace

    from bcd_edge.classifier import EXPLAINED_BATCH

    return replace(options, batch=options.batch or EXPLAINED_BATCH)


def classified(classifier: Classifier, inputs: Inputs) -> Iterator[tuple[Record, UInt8Image | None]]:
    """Yields the record and the pixels of each input, decoded once; no pixels if that failed."""
    from bcd_edge.errors import InputError
    from bcd_edge.pictures import decode

    for name, source in inputs:
        try:
            image = decode(source)
        except InputError as error:
            yield classifier.failed(name, error), None
        else:
            yield classifier.classify(image, name=name), image.pixels_hwc_u8


def explain_all(
    classifier: Classifier,
    images: Iterable[tuple[Record, UInt8Image | None]],
    out: Path,
    explainer: str,
    settings: Settings,
    seeds: int | None = None,
    *,
    quiet: bool = False,
    aside: bool = False,
) -> int:
    """Explains every classified image into the folder `out`; returns the number of failed inputs.

    Progress goes to standard output, or to standard error if `aside`.
    """
    from bcd_edge.explain.files import Pages, write
    from bcd_edge.outputs import printable

    out.mkdir(parents=True, exist_ok=True)
    pages = Pages(out)
    failures = 0
    try:
        for record, image in images:
            if image is None or record.status == "failed":
                failures += 1
                click.echo(f"{printable(record.source)}: {record.error}", err=True)
                continue
            explained = write(classifier.probabilities, classifier.bundle.input, record, image, out, explainer, settings)
            pages.add(explained)
            if not quiet:
                click.echo(_line(explained), err=aside)
            if seeds:
                _check(classifier, image, explainer, settings, seeds)
    finally:  # after an interruption, too, so that the page has what was explained until then
        pages.close()
    if pages.images and not (quiet and aside):
        more = f" to {pages.written[-1].name}" if len(pages.written) > 1 else ""
        click.echo(f"Wrote {pages.written[0]}{more} with {pages.images} explanation{'s' * (pages.images > 1)}.", err=aside)
    return failures


def _line(explained: Explained) -> str:
    from bcd_edge.outputs import printable

    record, explanation = explained.record, explained.explanation
    outcome = "converged" if explanation.converged else f"not converged ({explanation.reason})"
    return (
        f"{printable(Path(record.source).name)}: {record.decision}; {explanation.label} p {explanation.probability:.3f}, "
        f"{explanation.samples} samples, {outcome}, {explanation.total_s:.2f} s"
    )


def _check(classifier: Classifier, image_hwc_u8: UInt8Image, explainer: str, settings: Settings, seeds: int) -> None:
    from bcd_edge.explain.check import check
    from bcd_edge.readers import raster

    result = check(classifier.probabilities, raster.resize(image_hwc_u8, classifier.bundle.input), explainer, settings, seeds)
    click.echo(
        f"  {seeds} seeds: top-{settings.top} Jaccard {result.jaccard:.2f}, rank correlation {result.rank_correlation:.2f}, "
        f"{result.samples:.0f} samples each"
    )
    click.echo(
        f"  deletion {result.deletion:.3f} (random order {result.random_deletion:.3f}; lower is more faithful), "
        f"insertion {result.insertion:.3f} (random {result.random_insertion:.3f}; higher is)"
    )
