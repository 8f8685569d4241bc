"""`bcd-edge explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcd_edge.cli._options import is_quiet, log_options, model_options

if TYPE_CHECKING:
    from bcd_edge.classifier import Classifier
    from bcd_edge.errors import InputError
    from bcd_edge.explain import Settings
    from bcd_edge.explain.page import Explained
    from bcd_edge.inputs import Inputs
    from bcd_edge.records import Record


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("explanations"), show_default=True, help="Folder of the results."
)
@click.option("--explainer", default="hadamard", show_default=True, help="hadamard (LIME with fewer masks), lime (the package as it is), occlusion.")
@click.option("--label", type=click.Choice(["benign", "malignant"]), help="Class to explain.  [default: the likelier one]")
@click.option("--samples", type=click.IntRange(0), default=0, help="Perturbed images, exactly.  [default: until it is settled]")
@click.option("--max-samples", type=click.IntRange(1), default=512, show_default=True, help="Perturbed images at most.")
@click.option("--time-budget", default="0", metavar="2s", help="Time for an image at most: 500ms, 2s; 0 for none.  [default: 0]")
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95, show_default=True, help="That the top order is settled.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Superpixels whose order and sign must be settled.")
@click.option("--segmentation", type=click.Choice(["slic", "quickshift"]), default="slic", show_default=True, help="Superpixels.")
@click.option("--segments", type=click.IntRange(1, 400), default=40, show_default=True, help="Superpixels wanted from slic.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed gives the same explanation.")
@click.option("--check", "seeds", type=click.IntRange(2), help="Repeat with so many seeds, and say how stable and how faithful it is.")
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
    time_budget: str,
    bundle_path: str | None,
    provider: str,
    device: str,
    precision: str | None,
    **how: Any,
) -> None:
    """Show which parts of an image speak for a diagnosis, and which against it.

    For each image: an overlay (PNG) and the numbers (JSON); for all of them a page, index.html. Orange superpixels speak
    for the label, blue ones against it. It shows what the model looks at, not what is in the tissue.

    Exit code: as predict.

    \b
    Examples:
      bcd-edge explain slide.png
      bcd-edge explain inbox/ --out why --time-budget 2s
      bcd-edge explain slide.png --check 5
    """
    from bcd_edge.classifier import EXPLAINED_BATCH, Classifier
    from bcd_edge.explain import Settings, load
    from bcd_edge.inputs import Inputs
    from bcd_edge.system.durations import seconds

    load(explainer)
    settings = Settings(time_budget_s=seconds(time_budget), **how)
    inputs = Inputs(paths)
    with Classifier.load(bundle_path, provider=provider, device=device, precision=precision, batch=EXPLAINED_BATCH) as classifier:
        failures = explain_all(classifier, _classified(classifier, inputs), out, explainer, settings, seeds, quiet=is_quiet(ctx))
    if failures:
        raise click.exceptions.Exit(1)


def _classified(classifier: Classifier, inputs: Inputs) -> Iterator[tuple[Record, Path | bytes | InputError]]:
    """Each input with its bytes, read once."""
    from bcd_edge.errors import InputError
    from bcd_edge.readers import raster

    for name, source in inputs:
        try:
            data = raster.read(source) if isinstance(source, Path) else source
        except InputError as error:
            data = error
        yield classifier.failed(name, data) if isinstance(data, InputError) else classifier.classify(data, name=name), data


def explain_all(
    classifier: Classifier,
    classified: Iterable[tuple[Record, Path | bytes | InputError]],
    out: Path,
    explainer: str,
    settings: Settings,
    seeds: int | None = None,
    *,
    quiet: bool = False,
    aside: bool = False,
) -> int:
    """Explains every image that was classified into `out`, as they come; returns how many could not be.

    What it did is told on standard output, on standard error if `aside`.
    """
    from bcd_edge.errors import InputError
    from bcd_edge.explain.files import Pages, unchanged, write
    from bcd_edge.outputs import printable

    out.mkdir(parents=True, exist_ok=True)
    pages = Pages(out)
    failures = 0
    try:
        for record, source in classified:
            try:
                if isinstance(source, InputError) or record.status == "failed":
                    raise InputError(str(record.error))
                data = unchanged(source, record)
                one = write(classifier.probabilities, classifier.bundle.input, record, data, out, explainer, settings)
            except InputError as error:
                failures += 1
                click.echo(f"{printable(record.source)}: {error}", err=True)
                continue
            pages.add(one)
            if not quiet:
                click.echo(_line(one), err=aside)
            if seeds:
                _check(classifier, data, explainer, settings, seeds)
    finally:  # an interruption leaves a page of what was explained until then
        pages.close()
    if pages.images and not (quiet and aside):
        more = f" to {pages.written[-1].name}" if len(pages.written) > 1 else ""
        click.echo(f"Wrote {pages.written[0]}{more} with {pages.images} explanation{'s' * (pages.images > 1)}.", err=aside)
    return failures


def _line(one: Explained) -> str:
    from bcd_edge.outputs import printable

    found = one.explanation
    sure = "settled" if found.settled else "not settled"
    return (
        f"{printable(Path(one.record.source).name)}: {one.record.decision}; {found.label} p {found.probability:.3f}, "
        f"{found.samples} samples, {sure}, {found.total_s:.2f} s"
    )


def _check(classifier: Classifier, data: bytes, explainer: str, settings: Settings, seeds: int) -> None:
    from bcd_edge.explain.check import check
    from bcd_edge.readers import raster

    image = raster.fit(raster.decode(data), classifier.bundle.input)
    found = check(classifier.probabilities, image, explainer, settings, seeds)
    click.echo(
        f"  {seeds} seeds: top-{settings.top} Jaccard {found.jaccard:.2f}, rank correlation {found.rank_correlation:.2f}, "
        f"{found.samples:.0f} samples each"
    )
    click.echo(
        f"  deletion {found.deletion:.3f} (random order {found.random_deletion:.3f}; lower is more faithful), "
        f"insertion {found.insertion:.3f} (random {found.random_insertion:.3f}; higher is)"
    )
