"""A microscope's live picture: latency, rate, processor and memory, beside the same work alone and beside a loop that one would write instead.

A video file's frame counts from the moment at which it is due, so its decoding is in the latency. A stream's frame counts from the moment at which
its JPEG is handed to the ffmpeg that serves it, on this machine: server, network stack, reading and decoding are in the latency, a camera's own
exposure and encoding are not. Its number is drawn into the frame, so that the answer is told from what the network saw.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from bcd_edge import Classifier, bundle
from bcd_edge.estimates import RESAMPLES, Estimate, of_resamples
from bcd_edge.interleaved import in_turns
from bcd_edge.live.capture import Capture
from bcd_edge.live.output import JsonLines
from bcd_edge.live.session import Session, Update
from bcd_edge.live.sources import Source, parse
from bcd_edge.options import RunOptions
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.synthetic import tissue
from benchmarks import baselines, live_stream
from benchmarks.tables import Row, markdown, put, shown

WIDTH, HEIGHT, FPS = 1280, 800, 25
CLIP_S: Final = 10
TURNS: Final = 5
# Of a camera that gives more than can be answered.
FAST_FPS: Final = 60
# Not counted at the beginning of a turn: a stream's first frames have waited for the connection.
WARM_UP_S: Final = 1.0
HOURS: Final = 8

SAME, FLOAT = "the same INT8 model", "an FP32 ResNet-50, as it exports one"

# Milliseconds of each frame of a turn.
Times = list[float]
# From uint8 BGR, H x W x 3.
Predictor = Callable[[UInt8Image], object]


def measure(picture: Path | None, seconds: float, minutes: float, out: Path | None) -> None:
    """Measures every row, prints the table, and puts it between the marks of `out`.

    Args:
        picture: tissue that the camera sees; drawn if not given.
        seconds: for each side of a comparison, over all turns.
        minutes: of the run whose memory is watched.
        out: a Markdown file with the marks `live`.
    """
    with tempfile.TemporaryDirectory() as name, Classifier.load() as classifier:
        folder = Path(name)
        clip = record(folder, picture)
        loops = predictors(folder)
        parts: tuple[Callable[[], list[Row]], ...] = (
            lambda: from_file(classifier, loops, clip, seconds / TURNS),
            lambda: from_stream(classifier, loops, clip, folder, seconds / TURNS),
            lambda: rate(classifier, clip, seconds / TURNS),
            lambda: processor(classifier, clip, seconds / TURNS),
            lambda: [memory(folder, clip, minutes)],
        )
        rows = shown(row for part in parts for row in part())
    put(markdown(bundle.open().name, rows, *baselines.versions()), out, "live")


def record(folder: Path, picture: Path | None, seconds: float = CLIP_S) -> Path:
    """A video of one still field with the noise of a sensor, by ffmpeg."""
    if picture is None:
        picture = folder / "field.png"
        cv2.imwrite(str(picture), tissue(5, height=HEIGHT, width=WIDTH)[..., ::-1])
    clip = folder / "field.mp4"
    seen = f"scale={WIDTH}:{HEIGHT}:flags=bicubic,noise=alls=6:allf=t,format=yuv420p"
    source = ["-loop", "1", "-framerate", str(FPS), "-i", str(picture), "-vf", seen, "-t", str(seconds)]
    subprocess.run(["ffmpeg", "-loglevel", "error", *source, "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", str(clip)], check=True)
    return clip


# --- how each answers ---


def live_updates(classifier: Classifier, source: Source, seconds: float) -> Iterator[tuple[Update, Session]]:
    """What `bcd-edge live` writes in this time after the warm-up, with its JSON lines."""
    with Capture(source) as capture, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        lines, session, ends, has_answered = JsonLines(nowhere), Session(capture, classifier), None, False
        for update in session.updates():
            if update is None or update.frame is None:
                continue
            lines.write(update)
            now_s = time.perf_counter()
            ends = ends or now_s + WARM_UP_S + seconds
            if now_s > ends and has_answered:  # a machine that stands still for long must not end it without an answer
                return
            if now_s > ends - seconds:
                has_answered |= update.state == "answered"
                yield update, session


def _live_file(classifier: Classifier, source: Source, seconds: float) -> Times:
    return [update.latency_ms for update, _ in live_updates(classifier, source, seconds) if update.state == "answered" and update.latency_ms]


def _alone(classifier: Classifier, source: Source, seconds: float) -> Times:
    """Decoding, fitting to the network and inference in one thread, with nothing else, at the same rate."""
    reader, times = source.open(), []
    ends = time.perf_counter() + WARM_UP_S + seconds
    while time.perf_counter() < ends:
        due_s, frame = reader.grab(), reader.retrieve()
        assert due_s is not None
        assert frame is not None
        classifier.probabilities(raster.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), classifier.bundle.input)[None])
        if time.perf_counter() > ends - seconds:
            times.append(1000 * (time.perf_counter() - due_s))
    reader.close()
    return times


def predictors(folder: Path) -> dict[str, Predictor]:
    """Ultralytics' predictor on the embedded model, and on a float network of its size, as it exports one itself; none where it is not installed."""
    if not find_spec("ultralytics"):
        return {}
    from torchvision.models import resnet50

    return {
        SAME: baselines.predictor(baselines.same_model(), folder / "same.onnx"),
        FLOAT: baselines.ultralytics(resnet50(num_classes=2).eval(), folder),
    }


def _loop_file(predict: Predictor, clip: Path, seconds: float) -> Times:
    """A loop of `read` and the predictor, at the video's rate; where it is too slow for that, the next frame is due when it comes to it."""
    video, times = cv2.VideoCapture(str(clip)), []
    due_s = time.perf_counter()
    ends = due_s + WARM_UP_S + seconds
    while due_s < ends:
        time.sleep(max(0.0, due_s - time.perf_counter()))
        is_read, frame = video.read()
        if not is_read:
            video = cv2.VideoCapture(str(clip))
            continue
        predict(np.asarray(frame, np.uint8))
        now_s = time.perf_counter()
        if now_s > ends - seconds:
            times.append(1000 * (now_s - due_s))
        due_s = max(now_s, due_s + 1 / FPS)
    return times


# --- the rows ---


def from_file(classifier: Classifier, predictors: dict[str, Predictor], clip: Path, turn_s: float) -> list[Row]:
    """The latency of a video file's frames."""
    source = parse(str(clip), repeats=True)
    loops = {name: partial(_loop_file, predict, clip, turn_s) for name, predict in predictors.items()}
    turns = {"live": partial(_live_file, classifier, source, turn_s), "alone": partial(_alone, classifier, source, turn_s)} | loops
    return _latency(f"video file, {WIDTH} x {HEIGHT}, H.264, {FPS}/s", _in_turns(turns), "decode + fit + infer alone")


def from_stream(classifier: Classifier, predictors: dict[str, Predictor], clip: Path, folder: Path, turn_s: float) -> list[Row]:
    """The latency of frames that ffmpeg serves over HTTP, from their hand-over to the server."""
    parts = live_stream.numbered(clip, folder / "parts")
    video = live_stream.as_video(parts, FPS, folder / "parts.mkv")
    same = {name: predict for name, predict in predictors.items() if name == SAME}
    rows = []
    for fps in (FPS, FAST_FPS):
        loops = {name: partial(_loop_stream, predict, parts, fps, turn_s) for name, predict in same.items()}
        sides = {"live": partial(_live_stream, classifier, parts, fps, turn_s)} | loops
        if fps == FPS:
            sides["alone"] = partial(_alone, classifier, parse(str(video), FPS, repeats=True), turn_s)
        rows += _latency(f"MJPEG over HTTP from ffmpeg, {fps}/s", _in_turns(sides), "decode + fit + infer of the same JPEGs alone")
    return rows


def _live_stream(classifier: Classifier, parts: Path, fps: float, seconds: float) -> Times:
    with live_stream.served(parts, fps) as (address, handed):
        answers = [
            (time.perf_counter(), live_stream.number(session.picture_hwc_u8))
            for update, session in live_updates(classifier, parse(address), seconds)
            if update.state == "answered" and session.picture_hwc_u8 is not None
        ]
        return live_stream.since(answers, handed())


def _loop_stream(predict: Predictor, parts: Path, fps: float, seconds: float) -> Times:
    answers = []
    with live_stream.served(parts, fps) as (address, handed):
        video = cv2.VideoCapture(address)
        ends = time.perf_counter() + WARM_UP_S + seconds
        while time.perf_counter() < ends and (read := video.read())[0]:
            frame = np.asarray(read[1], np.uint8)
            predict(frame)
            answers.append((time.perf_counter(), live_stream.number(frame)))
        video.release()
        return live_stream.since([answer for answer in answers if answer[0] > ends - seconds], handed())


def _in_turns(sides: dict[str, Callable[[], Times]]) -> dict[str, list[Times]]:
    """Without the first turn, in which libraries are still being loaded."""
    return {side: turns[1:] for side, turns in in_turns(sides, TURNS + 1).items()}


def _latency(work: str, turns: dict[str, list[Times]], alone: str) -> list[Row]:
    p50, p99 = ({side: float(np.percentile(np.concatenate(times), q)) for side, times in turns.items()} for q in (50, 99))
    ours, rows = f"p50 {p50['live']:.1f} ms, p99 {p99['live']:.1f} ms", []
    for side in turns.keys() - {"live"}:
        figures = f"{ours}; {'alone' if side == 'alone' else 'loop'} {p50[side]:.1f} and {p99[side]:.1f} ms"
        if side == "alone":
            rows.append(Row(f"glass to answer, {work}, beside {alone}", "p50 within 20 %", _shown(_ratio(turns["live"], turns[side])), figures))
        else:
            name = f"glass to answer, {work}, beside a loop of cv2.VideoCapture and Ultralytics' classify predictor on {side}"
            rows.append(Row(name, "2 x faster at p50", _shown(_ratio(turns[side], turns["live"])), figures))
    return sorted(rows, key=lambda row: row.work, reverse=True) or [Row(f"glass to answer, {work}", "", ours, baselines.ULTRALYTICS)]


def _ratio(above: Sequence[Times], below: Sequence[Times]) -> Estimate:
    """Median over turns of the ratio of their medians; the interval is of resampled turns."""
    ratios = np.array([np.median(one) / np.median(other) for one, other in zip(above, below, strict=True)])
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    return of_resamples(float(np.median(ratios)), np.median(drawn, axis=1))


def _shown(ratio: Estimate) -> str:
    return f"{ratio.value:.2f} x ({ratio.low:.2f} to {ratio.high:.2f})"


def rate(classifier: Classifier, clip: Path, turn_s: float) -> list[Row]:
    """Answers per second to a camera that gives more than can be answered, beside a loop that only fits and infers the same frame."""
    frame = cv2.VideoCapture(str(clip)).read()[1]

    def answered() -> float:
        return len(_live_file(classifier, parse(str(clip), FAST_FPS, repeats=True), turn_s)) / turn_s

    def bound() -> float:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < turn_s:
            classifier.probabilities(raster.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), classifier.bundle.input)[None])
            count += 1
        return min(float(FAST_FPS), count / turn_s)

    turns = {key: float(np.median(found)) for key, found in in_turns({"live": answered, "bound": bound}, TURNS).items()}
    detail = f"{turns['live']:.1f} answered/s, bound {turns['bound']:.1f}: the camera's rate or 1 / (fit + infer), which decodes nothing"
    return [Row(f"answered frames of a file played at {FAST_FPS}/s", "beside the bound", f"{100 * turns['live'] / turns['bound']:.0f} %", detail)]


def processor(classifier: Classifier, clip: Path, turn_s: float) -> list[Row]:
    """Processor time of everything but inference: that of the same stream with a provider which computes nothing, beside all of it."""
    source = parse(str(clip), repeats=True)

    def per_frame(which: Classifier) -> float:
        """Milliseconds of this process per answer."""
        started_s, answers = None, 0
        for update, _ in live_updates(which, source, turn_s):
            started_s = time.process_time() if started_s is None else started_s
            answers += update.state == "answered"
        assert started_s is not None
        return 1000 * (time.process_time() - started_s) / answers

    def decoding() -> float:
        reader, frames = source.open(), int(FPS * turn_s)
        started_s = time.process_time()
        for _ in range(frames):
            reader.grab()
            reader.retrieve()
        reader.close()
        return 1000 * (time.process_time() - started_s) / frames

    def fitting() -> float:
        frame, started_s = cv2.VideoCapture(str(clip)).read()[1], time.process_time()
        for _ in range(FPS):
            raster.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), classifier.bundle.input)
        return 1000 * (time.process_time() - started_s) / FPS

    with Classifier.load(options=RunOptions(provider="null")) as nothing:
        sides = {"all": lambda: per_frame(classifier), "rest": lambda: per_frame(nothing), "decode": decoding, "fit": fitting}
        turns = in_turns(sides, TURNS)
    whole, rest, decode, fit = (float(np.median(turns[key])) for key in sides)
    ran = classifier.execution
    detail = f"per frame at {FPS}/s: {whole:.1f} ms of a core with {ran.provider} {ran.precision}, "
    detail += f"{rest:.1f} without inference, of them {decode:.1f} to decode and {fit:.1f} to fit"
    share = f"{100 * rest / whole:.0f} %; {100 * (rest - decode - fit) / whole:.0f} % beyond decode and fit"
    return [Row("processor time of everything but inference", "under 15 %", share, detail)]


def memory(folder: Path, clip: Path, minutes: float) -> Row:
    """Resident memory of the command itself, with small frames as fast as they are decoded, and no inference."""
    small = folder / "small.mkv"
    command = ["ffmpeg", "-loglevel", "error", "-i", str(clip), "-vf", "scale=320:200", "-c:v", "mjpeg", "-q:v", "4", str(small)]
    subprocess.run(command, check=True)
    done = subprocess.run([sys.executable, "-c", _MEMORY, str(small), str(60 * minutes)], check=True, capture_output=True, text=True)
    frames, tenth, last = (float(figure) for figure in done.stdout.split())
    hours = frames / FPS / 3600
    detail = f"{frames:,.0f} frames of 320 x 200 in {minutes:g} min, as many as {hours:.1f} h at {FPS}/s have; null provider; "
    detail += f"{tenth:.1f} MiB after a tenth, {last:.1f} MiB at the end; at this growth {(last - tenth) / 0.9 * HOURS / hours:+.1f} MiB in {HOURS} h"
    return Row("memory of a long stream", "flat", f"{last - tenth:+.1f} MiB", detail)


_MEMORY = """
import os, re, sys, time
from pathlib import Path
from bcd_edge import Classifier
from bcd_edge.live.capture import Capture
from bcd_edge.live.output import JsonLines
from bcd_edge.live.session import Session
from bcd_edge.live.sources import parse
from bcd_edge.options import RunOptions
seconds, started, frames, tenth = float(sys.argv[2]), time.monotonic(), 0, None
resident = lambda: int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
with Classifier.load(options=RunOptions(provider="null")) as classifier, Capture(parse(sys.argv[1], 0, repeats=True)) as capture:
    lines = JsonLines(open(os.devnull, "w"))
    for update in Session(capture, classifier).updates():
        if update is None:
            continue
        lines.write(update)
        passed = time.monotonic() - started
        if tenth is None and passed > seconds / 10:
            tenth = resident()
        if passed > seconds:
            break
    print(capture.frames, tenth, resident())
"""
