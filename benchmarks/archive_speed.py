"""What `bcd-edge archive` takes beside `predict` and Ray's own recipe, whether its plans come true, and the memory of its listing."""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import cv2

from bcd_edge.interleaved import in_turns
from bcd_edge.synthetic import tissue
from benchmarks.archive_faults import archive
from benchmarks.tables import Row

DISTINCT: Final = 40
TURNS: Final = 3
# So many pictures take hardly longer than the start.
FEW: Final = 20


def _pictures(folder: Path, count: int) -> Path:
    """PNG files of the field of view of BreaKHis, none with the content of another: a comment tells them apart."""
    folder.mkdir(parents=True)
    drawn = [cv2.imencode(".png", tissue(seed)[..., ::-1])[1].tobytes() for seed in range(DISTINCT)]
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(exist_ok=True)
        (place / f"{number:06}.png").write_bytes(_commented(drawn[number % DISTINCT], number))
    return folder


def _commented(png: bytes, number: int) -> bytes:
    """A PNG with a tEXt chunk before its last one."""
    chunk = b"tEXt" + b"Comment\0" + str(number).encode()
    return png[:-12] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[-12:]


def _predict(source: Path) -> list[str]:
    return [sys.executable, "-m", "bcd_edge", "predict", str(source), "--format", "jsonl", "--quiet"]


def own_engine(folder: Path, count: int) -> Row:
    """Whole commands in turns, with their start and end; their processor time, too, which neighbours disturb less."""
    source = _pictures(folder / "in", count)
    calls = {"predict": lambda: _spent(_predict(source)), "archive": lambda: _spent(archive(source, "--out", _fresh(folder / "out")))}
    turns = in_turns(calls, TURNS)
    predict, own = ([statistics.median(turn[index] for turn in turns[name]) for index in (0, 1)] for name in ("predict", "archive"))
    ratios = [100 * (own[index] / predict[index] - 1) for index in (0, 1)]
    return Row(
        f"own engine beside `bcd-edge predict --format jsonl`, {count:,} pictures of 700 x 460, whole commands",
        "at most 3 % slower",
        f"{ratios[0]:+.1f} %",
        f"{own[0]:.1f} s beside {predict[0]:.1f} s, medians of {TURNS} turns; "
        f"processor time {own[1]:.1f} s beside {predict[1]:.1f} s ({ratios[1]:+.1f} %)",
    )


def _spent(command: list[str]) -> tuple[float, float]:
    """Seconds of a command, and of the processor for it."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _seconds(command: list[str]) -> float:
    return _spent(command)[0]


def _fresh(out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    return out


def on_ray(folder: Path, count: int) -> Row:
    """The work without the start of either: of predict, what more than a few pictures take beyond those few."""
    source, few = _pictures(folder / "in", count), _pictures(folder / "few", FEW)
    calls: dict[str, Callable[[], float]] = {
        "predict": lambda: (_seconds(_predict(source)) - _seconds(_predict(few))) / (count - FEW),
        "ray": lambda: _work_on_ray(_fresh(folder / "out"), source, count) / count,
    }
    predict, ray = (1000 * statistics.median(values) for values in in_turns(calls, TURNS).values())
    return Row(
        f"`--ray` beside `bcd-edge predict`, {count:,} pictures, without the start of either",
        "at most 12 % slower",
        f"{100 * (ray / predict - 1):+.1f} %",
        f"{ray:.1f} ms an image beside {predict:.1f} ms, medians of {TURNS} turns",
    )


def _work_on_ray(out: Path, source: Path, count: int) -> float:
    """From the first shard's listing, for which loaded workers wait, to the complete manifest."""
    subprocess.run(archive(source, "--out", out, "--ray", "--shard-size", max(1, count // 50)), check=True)
    return (out / "manifest.json").stat().st_mtime - (out / "listing/000000.parquet").stat().st_mtime


def plan(folder: Path, count: int) -> Row:
    """A plan, then the run that goes on with its listing, whole command."""
    source, out, sample = _pictures(folder / "in", count), folder / "out", min(1000, count // 2)
    subprocess.run(archive(source, "--out", out, "--sample", sample), check=True, stdout=subprocess.DEVNULL)
    hours = json.loads((out / "plan.json").read_bytes())["hours"]
    seconds = _seconds(archive("--out", out, "--resume"))
    planned, low, high = (3600 * hours[name] for name in ("value", "low", "high"))
    return Row(
        f"plan from a sample of {sample:,} beside the time of the whole run, {count:,} pictures",
        "within 15 %",
        f"{100 * (planned / seconds - 1):+.1f} %",
        f"{planned:.1f} s ({low:.1f} to {high:.1f}) beside {seconds:.1f} s",
    )


def recipe(folder: Path, count: int) -> Row:
    """The own engine with its start, Ray's recipe without it."""
    work, wanted = "own engine beside Ray's image-classification recipe (Ray Data, PyTorch ResNet-50, FP32, batches of 16)", "3 x faster"
    if not find_spec("pandas"):
        return Row(work, wanted, "not measured", 'needs: pip install "ray[data]"')
    source, some = _pictures(folder / "in", count), min(count, 200)
    own = _seconds(archive(source, "--out", folder / "out")) / count
    theirs = _recipe(source, some)
    return Row(work, wanted, f"{theirs / own:.1f} x", f"{1 / own:.0f} images/s beside {1 / theirs:.1f}")


# After "Image Classification Batch Inference with PyTorch" in Ray's documentation, with random weights: their values do not change the time.
_RECIPE = """
import sys, time, numpy as np, ray, torch
from torchvision import models, transforms
ray.init(log_to_driver=False, include_dashboard=False)
ray.data.DataContext.get_current().enable_progress_bars = False
transform = transforms.Compose([transforms.ToTensor(), models.ResNet50_Weights.IMAGENET1K_V2.transforms()])
def preprocess(row):
    return {"original": row["image"], "transformed": transform(row["image"])}
class ResnetModel:
    def __init__(self):
        self.model = models.resnet50()
        self.model.eval()
    def __call__(self, batch):
        with torch.inference_mode():
            prediction = self.model(torch.from_numpy(np.asarray(batch["transformed"])))
        return {"predicted": prediction.argmax(dim=1).numpy()}
images = ray.data.read_images(sys.argv[1], mode="RGB").limit(int(sys.argv[2]))
started = time.perf_counter()
count = images.map(preprocess).map_batches(ResnetModel, concurrency=1, batch_size=16).materialize().count()
print((time.perf_counter() - started) / count)
"""


def _recipe(source: Path, count: int) -> float:
    """Seconds for an image, the start of Ray left out."""
    command = [sys.executable, "-c", _RECIPE, str(source), str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


_LISTING = """
import sys
from bcd_edge.archive import folders
from bcd_edge.archive.listing import Listing
with Listing(folders.open(sys.argv[2]), [sys.argv[1]], 1000) as listing:
    for _ in listing.numbers():
        pass
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(listing.inputs, int(peak.split()[1]))
"""


def listing(folder: Path, names: int) -> Row:
    """A tenth of the names, then all: half of them in one folder, the others in folders of 1,000."""
    peaks = {}
    for count in (names // 10, names):
        source = folder / str(count)
        for number in range(count):
            place = source / ("flat" if number < count // 2 else f"{number // 1000:05}")
            if number in (0, count // 2) or number % 1000 == 0:
                place.mkdir(parents=True, exist_ok=True)
            os.close(os.open(place / f"{number:08}.png", os.O_CREAT))
        command = [sys.executable, "-c", _LISTING, str(source), str(folder / f"listing-{count}")]
        started = time.perf_counter()
        listed, peak = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        seconds = time.perf_counter() - started
        assert listed == count
        peaks[count] = peak / 1024
        shutil.rmtree(source)
    detail = f"{peaks[names // 10]:.0f} MiB for {names // 10:,} names; {names / seconds:,.0f} names/s"
    return Row(f"driver's memory for a listing of {names:,} names", "flat, under 500 MB", f"{peaks[names]:.0f} MiB", detail)
