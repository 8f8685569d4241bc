"""The runtime beside alternatives, and beside an estimate of the machine's limit."""

from __future__ import annotations

import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from bcd_edge import Classifier, backends, bundle, plugins
from bcd_edge.bundle import Bundle
from bcd_edge.interleaved import in_turns, medians
from bcd_edge.options import Plan, RunOptions
from bcd_edge.outputs.formats import csv as csv_output
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue
from bcd_edge.system import machine
from benchmarks import baselines
from benchmarks.tables import Row, markdown, put, shown

# The field of view of BreaKHis.
HEIGHT, WIDTH = 460, 700
DISTINCT: Final = 60
# Copies of each picture in the folder of the throughput rows: long enough that its first and last images do not matter.
REPEATS: Final = 5
TURNS: Final = 5


def compare(seconds: float, out: Path | None) -> None:
    """Measures every row, prints the table, and puts it between the marks of `out`.

    Args:
        seconds: for each side of a row.
        out: a Markdown file with the marks `runtime`.
    """
    opened = bundle.open()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["BCD_EDGE_CACHE"] = str(folder / "cache")  # the defaults are measured, not what `tune` chose here at another time
        files = _pictures(folder / "distinct")
        measures: tuple[Callable[[], list[Row]], ...] = (
            lambda: _one_image(files[0].read_bytes(), folder, seconds),
            lambda: _benchmark_app(opened, folder, seconds),
            lambda: _stream(opened, folder, files, seconds),
            lambda: _cold_start(files[0]),
            lambda: _memory(folder, files),
        )
        rows = shown(row for measure in measures for row in measure())
    put(markdown(opened.name, rows, *baselines.versions()), out, "runtime")


def _pictures(folder: Path) -> list[Path]:
    """PNG files of generated tissue, 700 x 460, none like another."""
    folder.mkdir()
    files = []
    for seed in range(DISTINCT):
        files.append(folder / f"{seed:05}.png")
        cv2.imwrite(str(files[-1]), tissue(seed, height=HEIGHT, width=WIDTH)[..., ::-1])
    return files


def _one_image(png: bytes, folder: Path, seconds: float) -> list[Row]:
    """File bytes to probability, warm, in turns."""
    baseline_calls, missing = baselines.of(png, folder)
    with Classifier.load() as classifier:
        times = medians({"ours": lambda: classifier.classify(png)} | baseline_calls, seconds)
        ran = classifier.execution
    rows = []
    for name, wanted in (("PyTorch eager", "6 x faster"), ("PyTorch compiled", "faster"), ("Ultralytics' predictor", "faster")):
        work = f"one 700 x 460 PNG in memory, warm, beside {name} with an FP32 ResNet-50"
        if name in missing:
            rows.append(Row(work, wanted, "not measured", missing[name]))
        else:
            detail = f"{ran.provider} {ran.precision} {times['ours']:.1f} ms, {name} {times[name]:.1f} ms"
            rows.append(Row(work, wanted, f"{times[name] / times['ours']:.1f} x", detail))
    return rows


def _benchmark_app(opened: Bundle, folder: Path, seconds: float) -> list[Row]:
    """The provider and OpenVINO's own tool on the same file, in turns, each in a process of its own."""
    work, wanted = "openvino provider, model alone, batch 1, beside benchmark_app with the latency hint", "within 5 %"
    if not backends.availability("openvino").available or not opened.variants("openvino"):
        return [Row(work, wanted, "not measured", "OpenVINO is not installed, or the bundle has no file for it")]
    variant, (model,) = opened.model(None, "openvino")
    file = folder / "model.onnx"
    file.write_bytes(model)
    size = opened.input
    shape = f"[1,{size.height},{size.width},3]"
    tool = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(file), "-d", "CPU", "-hint", "latency", "-shape", shape]
    tool += ["-api", "sync", "-infer_precision", "f32", "-t", str(max(1, round(seconds / TURNS)))]
    provider = [sys.executable, "-c", _PROVIDER, str(file), str(size.height), str(size.width), str(seconds / TURNS)]
    turns = in_turns(
        {"theirs": lambda: float(re.findall(r"Median:\s+([\d.]+) ms", _output(tool))[0]), "ours": lambda: float(_output(provider))}, TURNS
    )
    ours, theirs = turns["ours"], turns["theirs"]
    ratio = statistics.median(ours) / statistics.median(theirs)
    detail = f"{variant['precision']}: provider {statistics.median(ours):.2f} ms, benchmark_app {statistics.median(theirs):.2f} ms"
    return [Row(work, wanted, f"{ratio:.3f} of its latency", detail)]


_PROVIDER = """
import sys, time, statistics
from pathlib import Path
import numpy as np
from bcd_edge.backends.providers import openvino
from bcd_edge.options import RunOptions
backend = openvino.open(Path(sys.argv[1]).read_bytes(), RunOptions(batch=1))
image = np.random.default_rng(0).integers(0, 256, (1, int(sys.argv[2]), int(sys.argv[3]), 3), np.uint8)
for _ in range(10):
    backend.infer(image)
times, ends = [], time.perf_counter() + float(sys.argv[4])
while time.perf_counter() < ends:
    started = time.perf_counter()
    backend.infer(image)
    times.append(1000 * (time.perf_counter() - started))
print(statistics.median(times))
"""


def _stream(opened: Bundle, folder: Path, files: list[Path], seconds: float) -> list[Row]:
    """A folder to CSV, beside an estimate of the machine's limit and beside a plain loop, in turns."""
    with Classifier.load(purpose="throughput") as classifier:
        chosen = classifier.plan
        single = _core_seconds(opened, chosen, files[0].read_bytes(), seconds / 4)
        variant, _ = opened.model(chosen.precision, chosen.provider)
        plain = _plain_loop(opened.model(variant["precision"], "cpu")[1][0], opened)
        files = files * REPEATS
        count = len(files)
        times = medians({"ours": lambda: _to_csv(classifier, files), "plain": lambda: plain(files)}, seconds)
    per_image = {name: value / count / 1000 for name, value in times.items()}
    bound = machine.cores() / single
    engine = f"{chosen.provider} {variant['precision']}, batch {chosen.batch}, {chosen.streams} streams"
    return [
        Row(
            "folder of 700 x 460 PNGs to CSV beside an estimate of the limit, cores / (decode + infer seconds of one core)",
            "85 % of it",
            f"{100 / per_image['ours'] / bound:.0f} %",
            f"{engine}: {1 / per_image['ours']:.0f} images/s, estimate {bound:.0f}",
        ),
        Row(
            "the same folder beside a plain loop of cv2.imread and onnxruntime",
            "1.5 x faster",
            f"{per_image['plain'] / per_image['ours']:.2f} x",
            f"{1 / per_image['ours']:.0f} images/s, plain loop {1 / per_image['plain']:.0f}",
        ),
    ]


def _core_seconds(opened: Bundle, chosen: Plan, png: bytes, seconds: float) -> float:
    """Seconds of one core per image: decoding, and its share of an inference on one thread."""
    _, (model,) = opened.model(chosen.precision, chosen.provider)
    backend = plugins.load("bcd_edge.backends.providers", chosen.provider).open(model, RunOptions(batch=chosen.batch, threads=1))
    batch = np.zeros((chosen.batch, opened.input.height, opened.input.width, 3), np.uint8)
    times = medians({"decode": lambda: raster.resize(raster.decode(png), opened.input), "infer": lambda: backend.infer(batch)}, seconds)
    backend.close()
    return (times["decode"] + times["infer"] / chosen.batch) / 1000


def _to_csv(classifier: Classifier, files: list[Path]) -> None:
    output = csv_output.open(io.StringIO())
    for _, record in classifier.classify_many((file, file) for file in files):
        assert record.status == "ok"
        output.write(record)
    output.close()


def _plain_loop(model: bytes, opened: Bundle) -> Callable[[list[Path]], None]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    size = opened.input.width, opened.input.height

    def run(files: list[Path]) -> None:
        lines = []
        for file in files:
            image = cv2.resize(cv2.imread(str(file))[..., ::-1], size, interpolation=cv2.INTER_AREA)
            logits = session.run(None, {"image": image[None]})[0][0]
            lines.append(f"{file},{1 / (1 + np.exp(logits[0] - logits[1]))}")
        assert len("\n".join(lines)) > 0

    return run


def _cold_start(file: Path) -> list[Row]:
    """Whole processes."""
    commands = {
        "ours": [sys.executable, "-m", "bcd_edge", "predict", str(file), "--format", "csv"],
        "torch": [sys.executable, "-c", "import torch, torchvision"],
    }
    turns = in_turns({name: partial(_seconds, command) for name, command in commands.items()}, TURNS + 1)
    ours, theirs = (statistics.median(turns[name][1:]) for name in commands)  # the first finds cold disk caches
    work = "cold start: shell to first record, beside `import torch, torchvision`"
    return [Row(work, "under 0.5", f"{ours / theirs:.2f}", f"{ours:.2f} s beside {theirs:.2f} s")]


def _memory(folder: Path, files: list[Path]) -> list[Row]:
    """Peak resident memory of the command itself over folders of 100 and 10,000 names of the same pictures."""
    peaks: dict[int, float] = {}
    for count in (100, 10_000):
        with _links(folder / str(count), files, count) as inbox, (folder / "out.csv").open("wb") as out:
            process = subprocess.Popen([sys.executable, "-m", "bcd_edge", "predict", str(inbox), "--format", "csv"], stdout=out)
            # not wait4's figure: it begins with what the parent had when it forked
            while process.poll() is None:
                peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8"))
                peaks[count] = max(peaks.get(count, 0.0), int(peak[1]) / 1024 if peak else 0.0)
                time.sleep(0.02)
            assert process.returncode == 0
    detail = f"{peaks[100]:.0f} MiB for 100 files, {peaks[10_000]:.0f} MiB for 10,000"
    return [Row("peak memory of the folder run", "under 400 MB, the same for 100 and 10,000 files", f"{max(peaks.values()):.0f} MiB", detail)]


@contextmanager
def _links(where: Path, files: list[Path], count: int) -> Iterator[Path]:
    where.mkdir()
    for index in range(count):
        os.link(files[index % len(files)], where / f"{index:06}.png")
    yield where


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _seconds(command: list[str]) -> float:
    """Wall time of a process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started
