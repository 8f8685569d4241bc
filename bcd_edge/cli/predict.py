"""`bcd-edge predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcd_edge import plugins
from bcd_edge.cli._options import is_quiet, log_options, run_options, slide_options, take_triage, triage_options

if TYPE_CHECKING:
    from rich.progress import Progress

    from bcd_edge.classifier import Classifier
    from bcd_edge.inputs import Inputs
    from bcd_edge.options import RunOptions
    from bcd_edge.outputs import Output
    from bcd_edge.plan import Purpose
    from bcd_edge.readers.raster import UInt8Image
    from bcd_edge.records import Record
    from bcd_edge.slides.settings import SlideSettings


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), help="Operating threshold; the review band is extended to include it.  [default: the bundle's]"
)
@click.option(
    "--format",
    "format_name",
    envvar="BCD_EDGE_PREDICT_FORMAT",
    type=click.Choice(plugins.names("bcd_edge.outputs.formats")),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option("--explain", is_flag=True, help="Explain every image, too; needs bcd-edge[explain].")
@click.option(
    "--explain-out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("explanations"),
    show_default=True,
    help="Folder for the explanations.",
)
@slide_options
@triage_options
@run_options
@log_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    bundle_path: str | None,
    options: RunOptions,
    threshold: float | None,
    format_name: str,
    explain: bool,
    explain_out: Path,
    slide_out: Path,
    field_um: float | None,
    overlap: float,
    **asked: Any,
) -> None:
    """Classify images and whole slides: files, folders, globs, or - for one image on standard input.

    Of a whole slide (SVS, NDPI, MRXS, pyramidal TIFF, DICOM ...; needs bcd-edge[slide]) the tissue is classified tile by tile. Its
    answer is always review; tiles, regions, heat map and a page to zoom into are written into a folder. An interrupted slide goes on
    where it ended.

    Results go to standard output, everything else to standard error.

    Exit code: 0 success, 1 some inputs failed, 2 usage, 3 bundle refused, 4 provider unavailable, 5 output not written,
    130 interrupted.

    \b
    Examples:
      bcd-edge predict slide.png
      bcd-edge predict inbox/ --format csv > results.csv
      cat slide.png | bcd-edge predict -
      bcd-edge predict inbox/ --explain
      bcd-edge predict biopsy.svs --slide-out slides
    """
    import logging
    import sys

    from bcd_edge.classifier import Classifier
    from bcd_edge.cli.explain import for_explaining
    from bcd_edge.explain.surrogate import require_package
    from bcd_edge.inputs import Inputs
    from bcd_edge.readers import slide
    from bcd_edge.slides.settings import SlideSettings

    if explain:
        require_package()
        explain_out.mkdir(parents=True, exist_ok=True)  # fails before an hour of work, not after it
        options = for_explaining(options)
    single = explain or (len(paths) == 1 and (paths[0] == "-" or Path(paths[0]).is_file()) and not slide.recognises(paths[0]))
    triage = take_triage(asked)
    slides = SlideSettings(slide_out, field_um, overlap, triage["um_per_pixel"])
    inputs = Inputs(paths)
    failures = 0
    purpose: Purpose = "latency" if single else "throughput"
    with Classifier.load(bundle_path, options, threshold=threshold, purpose=purpose, **triage) as classifier:
        for sentence in classifier.warnings:
            logging.getLogger(__name__).warning(sentence)
        logging.getLogger(__name__).info("%s, %s", classifier.plan, classifier.execution)
        output = plugins.load("bcd_edge.outputs.formats", format_name).open(sys.stdout)
        shows = not single and not is_quiet(ctx) and sys.stderr.isatty() and (format_name == "table" or not sys.stdout.isatty())
        try:
            if explain:
                failures = _explain(classifier, inputs, output, explain_out, quiet=is_quiet(ctx))
            else:
                with _bars(shows) as bars:
                    for record in _progress(_records(classifier, inputs, single, slides, bars), inputs, bars):
                        failures += record.status == "failed"
                        output.write(record)
        finally:  # after an interruption, too, to show what was classified until then
            output.close()
    if inputs.skipped and not is_quiet(ctx):
        click.echo(f"Skipped in folders and globs, because they are hidden or no images: {inputs.skipped}.", err=True)
    if failures and format_name != "table":
        click.echo(f"{failures} input{'s' * (failures > 1)} failed; see the error in their records.", err=True)
    if failures:
        raise click.exceptions.Exit(1)


def _explain(classifier: Classifier, inputs: Inputs, output: Output, out: Path, *, quiet: bool) -> int:
    """Classifies and explains each image with the loaded model; returns the number of failed inputs."""
    from bcd_edge.cli.explain import classified, explain_all
    from bcd_edge.explain import Settings

    def written() -> Iterator[tuple[Record, UInt8Image | None]]:
        for record, image in classified(classifier, inputs):
            output.write(record)
            yield record, image

    return explain_all(classifier, written(), out, "hadamard", Settings(), quiet=quiet, aside=True)


def _records(classifier: Classifier, inputs: Inputs, single: bool, slides: SlideSettings, bars: Progress | None) -> Iterator[Record]:
    """Classifies a single image without threads, which take time to start, many as a stream, and whole slides one by one."""
    from contextlib import closing
    from itertools import groupby

    from bcd_edge.errors import InputError
    from bcd_edge.readers import slide

    for is_slide, group in groupby(inputs, lambda item: isinstance(item[1], Path) and slide.recognises(item[1])):
        if is_slide:
            from bcd_edge.slides.classify import classify

            for name, path in group:
                assert isinstance(path, Path)
                with _tiles(bars, path.name) as progress:
                    yield classify(classifier, path, slides, name=name, progress=progress)
        elif single:
            for name, source in group:
                yield classifier.failed(name, source) if isinstance(source, InputError) else classifier.classify(source, name=name)
        else:
            with closing(classifier.classify_many(group)) as records:
                for _, record in records:
                    yield record


@contextmanager
def _bars(shows: bool) -> Iterator[Progress | None]:
    """Progress bars on standard error, with rate and remaining time; None where none are to be shown."""
    if not shows:
        yield None
        return
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(show_speed=True)),
        *(TextColumn("{task.fields[rate]}"), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        yield progress


def _progress(records: Iterator[Record], inputs: Inputs, bars: Progress | None) -> Iterator[Record]:
    """Shows the number of images while records pass through."""
    bar = bars.add_task("", total=None, rate="") if bars else None
    for record in records:
        if bars and bar is not None:
            speed = bars.tasks[0].speed
            bars.update(bar, advance=1, total=inputs.listed, rate=f"{speed:.0f} images/s" if speed else "")
        yield record


@contextmanager
def _tiles(bars: Progress | None, name: str) -> Iterator[Callable[[int, int], None]]:
    """Shows the number of a slide's tiles while it is classified."""
    from rich.markup import escape

    bar = bars.add_task(escape(name), total=None, rate="") if bars else None

    def show(done: int, total: int) -> None:
        if bars and bar is not None:
            speed = next(task.speed for task in bars.tasks if task.id == bar)
            bars.update(bar, completed=done, total=total, rate=f"{speed:.0f} tiles/s" if speed else "")

    yield show
    if bars and bar is not None:
        bars.remove_task(bar)
