"""`bcd-edge live`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcd_edge.cli._groups import DefaultGroup, OwnArgument
from bcd_edge.cli._options import is_quiet, log_options, run_options
from bcd_edge.cli._types import DURATION

if TYPE_CHECKING:
    from bcd_edge.live.actions import Actions
    from bcd_edge.live.capture import Capture
    from bcd_edge.live.optics import Optics
    from bcd_edge.live.output import JsonLines, Lines
    from bcd_edge.live.session import Session

QUALITY = "Whether pictures that are blurred or no H&E get no answer or need review; without it they get the model's answer, for research."


@click.group(cls=DefaultGroup, subcommand_metavar="", options_metavar="[OPTIONS]")
@click.argument("source", cls=OwnArgument)
@click.option("--objective", metavar="10x", help="Name under which scale, region and white balance are remembered.")
@click.option(
    "--um-per-pixel", "--mpp", "um_per_pixel", type=click.FloatRange(0, min_open=True), help="Width of a camera's pixel on the slide in µm."
)
@click.option("--region", metavar="WxH+X+Y", help="Part of the frame that is used, in pixels; all: the whole frame.")
@click.option("--white-balance", metavar="glass|off|R,G,B", help="Colours of empty glass from the first frame, the camera's own, or factors.")
@click.option("--fps", type=click.FloatRange(0.1, 1000), help="Frames per second of a video, folder or camera.  [default: its own, of a folder 25]")
@click.option("--format", "format_name", type=click.Choice(["line", "jsonl"]), default="line", show_default=True, help="Output format.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), help="Folder of results for frames that are stored with the key s.")
@click.option("--patient", help="Whose frames they are, for those that are stored.")
@click.option(
    "--explain-out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("explanations"),
    show_default=True,
    help="Folder for frames that are explained with the key e.",
)
@click.option("--half-life", type=DURATION, default="1s", show_default=True, metavar="TIME", help="After which an answer weighs half in the mean.")
@click.option("--give-up", type=DURATION, default="60s", show_default=True, metavar="TIME", help="Without a frame, after which the command ends.")
@click.option("--budget", metavar="10W", help="Power that is kept by answering less often; needs a meter, such as a Jetson's.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Operating threshold; the review band stretches to hold it.  [default: the bundle's]")
@click.option("--quality/--no-quality", "measures_quality", default=True, show_default=True, envvar="BCD_EDGE_QUALITY", help=QUALITY)
@run_options
@log_options
def command(**asked: Any) -> None:
    """Classify a microscope's live picture.

    SOURCE is a camera's number, a device, an rtsp:// or http:// stream, a GStreamer pipeline, a video file, or a folder of pictures. The
    newest frame is always taken. A frame that is still and in focus gets an answer, which is smoothed over time.

    Keys: s stores the frame as a case, e explains it, q ends. In a browser: bcd-edge serve RESULTS --live SOURCE

    Exit code: 0 the source ended, or q; 1 given up without a frame; 2 usage; 3 bundle refused; 4 provider or power meter unavailable; 5
    output not written; 130 interrupted.

    \b
    Examples:
      bcd-edge live 0 --objective 10x
      bcd-edge live /dev/video0 --objective 10x --um-per-pixel 0.65 --white-balance glass
      bcd-edge live rtsp://camera.clinic.local/stream --results results/
      bcd-edge live recording.mp4 --format jsonl > answers.jsonl
    """
    import logging
    import sys

    from bcd_edge.classifier import Classifier
    from bcd_edge.cli._options import take_options
    from bcd_edge.live import output
    from bcd_edge.live.actions import Actions
    from bcd_edge.live.budget import governor, parse_watts
    from bcd_edge.live.capture import Capture
    from bcd_edge.live.session import Session, Settings
    from bcd_edge.live.sources import parse

    options = asked.get("options") or take_options(asked)
    power = governor(parse_watts(asked["budget"])) if asked["budget"] else None
    optics = _optics(asked)
    capture = Capture(parse(asked["source"], asked["fps"]), give_up_s=asked["give_up"])
    lines = (output.JsonLines if asked["format_name"] == "jsonl" else output.Lines)(sys.stdout)
    model = {"path": asked["bundle_path"], "options": options, "threshold": asked["threshold"], "measures_quality": asked["measures_quality"]}
    with Classifier.load(**model) as classifier, capture:  # the model first, so that no frame waits for it
        for sentence in classifier.warnings:
            logging.getLogger(__name__).warning(sentence)
        optics = _completed(asked, optics, capture, lines)
        _say_what_is_active(asked["objective"], optics)
        session = Session(capture, classifier, Settings(optics, asked["half_life"]), power)
        with Actions(model, optics.um_per_pixel, asked["results"], asked["explain_out"], lines.say, patient=asked["patient"]) as actions:
            _loop(session, lines, actions)
        lines.close()
        capture.raise_problem()


def _optics(asked: dict[str, Any]) -> Optics:
    from dataclasses import replace

    from bcd_edge.live import optics

    given = {name: asked[name] for name in ("um_per_pixel", "region", "white_balance")}
    recalled = (optics.recall if any(given.values()) else optics.recall_known)(asked["objective"])
    wanted = optics.changed(recalled, given["um_per_pixel"], given["region"])
    if given["white_balance"] not in (None, "glass"):
        wanted = replace(wanted, gains=None if given["white_balance"] == "off" else optics.parse_gains(given["white_balance"]))
    if asked["objective"] and wanted != recalled:
        optics.remember(asked["objective"], wanted)
    return wanted


def _completed(asked: dict[str, Any], wanted: Optics, capture: Capture, lines: Lines | JsonLines) -> Optics:
    """With the white of the first frame, if that is to be glass, and its size, if that of an objective's scale is not known."""
    from dataclasses import replace

    from bcd_edge.live import optics

    takes_white = asked["white_balance"] == "glass"
    takes_size = bool(asked["objective"] and wanted.um_per_pixel and not wanted.frame)
    if not (takes_white or takes_size):
        return wanted
    while (frame := capture.newest(1.0)) is None:
        if capture.has_ended:
            return wanted
    completed = wanted
    if takes_size:
        height, width = frame.pixels_hwc_bgr_u8.shape[:2]
        completed = replace(completed, frame=(width, height))
    if takes_white:
        completed = replace(completed, gains=optics.white_gains(replace(completed, gains=None).apply(frame.pixels_hwc_bgr_u8)))
        lines.say("White balance: {}, {}, {}.".format(*completed.gains or ()))
    if asked["objective"]:
        optics.remember(asked["objective"], completed)
    return completed


def _say_what_is_active(objective: str | None, optics: Optics) -> None:
    """On standard error, once."""
    if is_quiet(click.get_current_context()):
        return
    click.echo(f"{f'Objective {objective}' if objective else 'No objective'}: {optics.described()}", err=True)
    if optics.um_per_pixel is None:
        click.echo("Answers are only right at the scale of the training; measure it with: bcd-edge live calibrate PICTURE --objective NAME", err=True)
    click.echo("For research. Assists a pathologist; it does not diagnose alone.", err=True)


def _loop(session: Session, lines: Lines | JsonLines, actions: Actions) -> None:
    from bcd_edge.live.keys import keys

    with keys() as pressed:
        for update in session.updates():
            if update is not None:
                lines.write(update)
            key = pressed()
            if key == "q":
                return
            if key in ("s", "e") and session.picture_hwc_u8 is not None:
                (actions.keep if key == "s" else actions.explain)(session.picture_hwc_u8)


@command.command("calibrate")
@click.argument("picture", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--objective", required=True, metavar="10x", help="Name under which the scale is remembered.")
@click.option("--division", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Distance of the ruler's lines in µm.")
@log_options
def calibrate(picture: Path, objective: str, division: float) -> None:
    """Measure µm per pixel from a picture of a stage micrometer, and remember it for an objective.

    The picture must be as large as the camera's frames, and the lines upright or level. Distances are counted from line to line.

    Exit code: 0 measured, 1 no ruler in the picture, 2 usage, 5 not written.

    \b
    Examples:
      bcd-edge live calibrate micrometer-10x.png --objective 10x
      bcd-edge live calibrate micrometer-40x.png --objective 40x --division 10
    """
    from dataclasses import replace

    from bcd_edge.live import micrometer, optics
    from bcd_edge.readers import raster

    image = raster.decode(raster.read(picture))
    height, width, _ = image.shape
    ruler = micrometer.measure(image)
    um = optics.check_um(division / ruler.pixels_per_line)
    optics.remember(objective, replace(optics.recall(objective), um_per_pixel=um, frame=(width, height)))
    click.echo(
        f"{um:g} µm per pixel: {ruler.lines} divisions of {division:g} µm, {ruler.pixels_per_line:.2f} pixels each; remembered as {objective}, for "
        f"frames of {width}x{height}."
    )
