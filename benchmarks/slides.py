"""Whole slides: speed beside the machine's bound and beside a common way to do it, memory, time to the first answer, and a slide's DICOM twin."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bcd_edge import bundle, plan
from bcd_edge.classifier import Classifier
from bcd_edge.interleaved import in_turns
from bcd_edge.loading import LoadedModel, load_model
from bcd_edge.options import RunOptions
from bcd_edge.readers import raster, slide
from bcd_edge.readers.slide import Slide
from bcd_edge.slides import tiling, tissue
from bcd_edge.slides.classify import classify
from bcd_edge.slides.settings import SlideSettings
from bcd_edge.slides.tiling import Grid, Tile
from bcd_edge.system import machine
from bcd_edge.triage.quality import quality
from benchmarks import baselines
from benchmarks.slide_files import Drawn, periodic, write_dicom, write_svs
from benchmarks.tables import Row, markdown, put, shown

LARGE: Final = (100_000, 80_000)
TENTH: Final = (32_768, 24_576)
# Of the rows about speed: short turns, because the speed of a shared machine drifts within seconds.
TURNS: Final = (32_768, 16_384)
ROUNDS: Final = 9
FEW_ROUNDS: Final = 3
STARTS: Final = 5
# Tiles of one round of the common way, which takes several times as long for each.
SOME: Final = 32
BATCH: Final = 32
# Prints when the first tile has its answer; the process ends there.
FIRST: Final = """
import os, sys
from pathlib import Path
from bcd_edge.classifier import Classifier
from bcd_edge.slides.classify import classify
from bcd_edge.slides.settings import SlideSettings
def show(done, total):
    if done:
        os._exit(0)
with Classifier.load(purpose="throughput") as classifier:
    classify(classifier, Path(sys.argv[1]), SlideSettings(Path(sys.argv[2])), progress=show)
"""


# `bcd-edge` that tells its peak of resident memory at the end: what the parent had does not count.
PEAK: Final = """
import atexit, sys
from benchmarks.fuzz import peak
from bcd_edge.cli import main
atexit.register(lambda: print(peak(), file=sys.stderr))
main()
"""


@dataclass(frozen=True, slots=True)
class _Work:
    """A slide with its grid and tiles, and the model."""

    path: Path
    slide: Slide
    grid: Grid
    tiles: list[Tile]
    model: LoadedModel


def measure(texture: Path | None, out: Path | None) -> None:
    """Measures every row, prints the table, and puts it between the marks of `out`.

    Args:
        texture: a slide from whose middle the tissue is taken; drawn tissue if not given.
        out: a Markdown file with the marks `slides`.
    """
    opened = bundle.open()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["BCD_EDGE_CACHE"] = str(folder / "cache")  # the defaults are measured, not what `tune` chose here at another time
        picture = _texture(texture)
        small = write_svs(folder / "small.svs", Drawn(*TURNS, ((0.0, 0.0, 1.0, 1.0),), picture=picture))
        tenth = write_svs(folder / "tenth.svs", Drawn(*TENTH, picture=picture))
        large = write_svs(folder / "large.svs", Drawn(*LARGE, picture=picture))
        measures: tuple[Callable[[], list[Row]], ...] = (
            lambda: _speed(small, folder),
            lambda: _first(large, folder),
            lambda: _memory([large, tenth], folder),
            lambda: _twin(picture, folder),
        )
        rows = shown(row for measure in measures for row in measure())
    put(markdown(opened.name, rows, *baselines.versions()), out, "slides")


def _texture(path: Path | None) -> Any:
    if path is None:
        return None
    with slide.open(path) as opened:
        return periodic(opened.read(0, opened.width // 2 - 256, opened.height // 2 - 256, 512, 512))


def _speed(path: Path, folder: Path) -> list[Row]:
    """Ours beside the bound and beside the common way, in turns."""
    opened = bundle.open()
    model = load_model(opened, plan.choose(opened, "throughput", RunOptions()))
    with slide.open(path) as scanned:
        grid = tiling.grid(scanned, slide.um_per_pixel(scanned, None), opened)
        work = _Work(path, scanned, grid, tiling.choose(grid, tissue.find(scanned))[0], model)
        beside = _Common(work)
        runs = iter(range(1000))
        with Classifier(model) as classifier:
            ours = {"ours": lambda: _ours(classifier, path, folder / f"run{next(runs)}")}
            limits = {"read": lambda: _read_s(work), "infer": lambda: _infer_s(work), "prepare": lambda: _prepare_s(work)}
            common = {"common": lambda: beside.tile_s(level=work.grid.level), "level 0": lambda: beside.tile_s(level=0)}
            bound, others = in_turns(ours | limits, ROUNDS), in_turns(ours | common, FEW_ROUNDS)
    return [_bound_row(bound, len(work.tiles)), *_common_rows(others)]


def _bound_row(seconds: dict[str, list[float]], tiles: int) -> Row:
    ours, read, infer, prepare = (np.array(seconds[name]) for name in ("ours", "read", "infer", "prepare"))
    shares = (read + infer) / machine.cores() / ours
    work = f"a slide's {tiles} tiles, from opening it to the last answer, beside the bound cores / (read + decode seconds + infer core-seconds)"
    detail = (
        f"{1 / np.median(ours):.0f} tiles/s on {machine.cores()} cores; a tile: read and decode {1000 * np.median(read):.2f} ms, infer "
        f"{1000 * np.median(infer):.2f} core-ms, and beyond the bound resize and quality {1000 * np.median(prepare):.2f} ms; {ROUNDS} rounds: "
        f"{', '.join(f'{share:.0%}' for share in sorted(shares))}"
    )
    return Row(work, "at least 85 %", f"{np.median(shares):.0%}", detail)


def _common_rows(seconds: dict[str, list[float]]) -> Iterator[Row]:
    """One row for each level that the common way can read."""
    for name, text in {"level 0": "from level 0, as WSInfer does", "common": "from the level that we read"}.items():
        ratios = np.array(seconds[name]) / np.array(seconds["ours"])
        work = f"the same beside a loader with one process, OpenSlide {text}, torchvision's transforms and PyTorch, FP32, batches of {BATCH}"
        rates = f"{1 / np.median(seconds['ours']):.0f} and {1 / np.median(seconds[name]):.1f} tiles/s"
        detail = f"{rates}; {FEW_ROUNDS} rounds: {', '.join(f'{ratio:.1f}' for ratio in sorted(ratios))}"
        yield Row(work, "at least 3 times as fast", f"{np.median(ratios):.1f} times", detail)


def _ours(classifier: Classifier, path: Path, out: Path) -> float:
    """Seconds per tile; the heat map and the page come after the last tile."""
    started, last, count = time.perf_counter(), 0.0, 0

    def note(done: int, total: int) -> None:
        nonlocal last, count
        last, count = time.perf_counter(), total

    record = classify(classifier, path, SlideSettings(out), progress=note)
    assert record.status == "ok", record.error
    return (last - started) / count


def _read_s(work: _Work) -> float:
    """Seconds of one thread to read and decode a tile."""
    blocks = tiling.blocks(work.tiles, work.grid)[:20]
    started = time.perf_counter()
    tiles = sum(len(list(block.read(work.slide, work.grid))) for block in blocks)
    return (time.perf_counter() - started) / tiles


def _infer_s(work: _Work) -> float:
    """Core-seconds of a tile in the engine, whose streams fill the cores."""
    backend, chosen = work.model.backends[0], work.model.plan
    size = work.model.bundle.input
    batch = np.random.default_rng(1).integers(0, 256, (chosen.batch, size.height, size.width, 3), np.uint8)
    calls = max(1, 120 // chosen.batch)
    started = time.perf_counter()
    with ThreadPoolExecutor(chosen.streams) as pool:
        list(pool.map(lambda _: backend.infer(batch), range(calls)))
    return (time.perf_counter() - started) * machine.cores() / (calls * chosen.batch)


def _prepare_s(work: _Work) -> float:
    """Seconds of one thread to resize a tile and to measure its quality."""
    pixels = work.slide.read(work.grid.level, *work.grid.origin(work.tiles[0]), work.grid.pixels, work.grid.pixels)
    started = time.perf_counter()
    for _ in range(200):
        quality(pixels, raster.resize(pixels, work.model.bundle.input))
    return (time.perf_counter() - started) / 200


class _Common:
    """What one would write instead: a data set that reads a tile at a time, a loader with one process, and an untrained ResNet-50."""

    def __init__(self, work: _Work) -> None:
        from torchvision.models import resnet50

        self._work, self._network = work, resnet50(num_classes=2).eval()

    def tile_s(self, level: int) -> float:
        """Seconds per tile, in steady state: the first batch is not timed."""
        import torch
        from torch.utils.data import DataLoader

        some = self._work.tiles[: SOME + BATCH]
        side = self._work.grid.side / self._work.slide.levels[level].downsample
        size = self._work.model.bundle.input
        data = _Tiles(self._work.path, [self._work.grid.origin(tile) for tile in some], level, round(side), (size.height, size.width))
        started, count = 0.0, 0
        with torch.inference_mode():
            for batch in DataLoader(data, batch_size=BATCH, num_workers=1):  # type: ignore[arg-type]
                self._network(batch)
                started, count = started or time.perf_counter(), count + len(batch)
        return (time.perf_counter() - started) / (count - BATCH)


@dataclass(slots=True)
class _Tiles:
    """A map-style data set of PyTorch: tiles as float32, 3 x H x W."""

    path: Path
    places: list[tuple[int, int]]
    level: int
    side: int
    size: tuple[int, int]
    handle: Any = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        import openslide
        import torch
        from torchvision.transforms import v2

        self.handle = self.handle or openslide.OpenSlide(self.path)
        image = self.handle.read_region(self.places[index], self.level, (self.side, self.side)).convert("RGB")
        return v2.Compose([v2.Resize(self.size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])(image)


def _first(path: Path, folder: Path) -> list[Row]:
    """From the start of the process to the first tile's answer."""
    seconds = []
    for index in range(STARTS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", FIRST, path, folder / f"first{index}"], check=True)
        seconds.append(time.perf_counter() - started)
    work = f"from the start of the process to the first tile's answer, {LARGE[0]:,} x {LARGE[1]:,} pixels"
    return [Row(work, "under 2 s", f"{np.median(seconds):.2f} s", f"{STARTS} starts: {min(seconds):.2f} to {max(seconds):.2f} s; levels 1, 4 and 16")]


def _memory(paths: list[Path], folder: Path) -> list[Row]:
    """Peak resident memory of `bcd-edge predict`, files included."""
    peaks, tiles = zip(*(_predict(path, folder / "memory") for path in paths), strict=True)
    size = paths[0].stat().st_size / 1e9
    detail = (
        f"{tiles[0]:,} tiles of a file of {size:.1f} GB, and {tiles[1]:,} of one with a tenth of the pixels: {peaks[0]:.0f} and {peaks[1]:.0f} MB"
    )
    work = f"peak memory of bcd-edge predict, {LARGE[0]:,} x {LARGE[1]:,} pixels"
    return [Row(work, "under 600 MB, and the same for a tenth", f"{peaks[0]:.0f} MB, {peaks[0] / peaks[1]:.2f} times", detail)]


def _predict(path: Path, out: Path) -> tuple[float, int]:
    """Peak memory in MB, and how many tiles were classified."""
    command = [sys.executable, "-c", PEAK, "predict", "--quiet", "--slide-out", str(out), str(path)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    return int(done.stderr.split()[-1]) / 1e6, len(_rows(out / path.stem))


def _rows(folder: Path) -> dict[tuple[str, str], str]:
    """A slide's probabilities by place."""
    with (folder / "tiles.csv").open(encoding="utf-8", newline="") as file:
        return {(row["x"], row["y"]): row["p_malignant"] for row in csv.DictReader(file)}


def _twin(picture: Any, folder: Path) -> list[Row]:
    """A DICOM slide beside its SVS twin: the same compressed tiles in another file."""
    drawn = Drawn(16_384, 12_288, picture=picture)
    paths = write_svs(folder / "twin.svs", drawn), write_dicom(folder / "dicom", drawn)
    with Classifier.load(purpose="throughput") as classifier:
        records = [classify(classifier, path, SlideSettings(folder / "twins")) for path in paths]
    svs, dicom = (_rows(Path(record.slide.files)) for record in records if record.slide)
    assert svs.keys() == dicom.keys()
    apart = max(abs(float(svs[place] or 0) - float(dicom[place] or 0)) for place in svs)
    return [
        Row(
            "a DICOM slide and its SVS twin", "the same tiles, p within 0.01", f"p within {apart:.2g}", f"{len(svs)} tiles at the same places in both"
        )
    ]
