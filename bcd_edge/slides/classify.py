"""A whole slide to its record: tiles of its tissue are read in threads, go through the classifier, and are kept as they come."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2

from bcd_edge.classifier import Classifier
from bcd_edge.errors import InputError, OutputError
from bcd_edge.pictures import DecodedImage
from bcd_edge.readers import slide as slides
from bcd_edge.readers.slide import Slide
from bcd_edge.records import THUMBNAIL, Record, SlideSummary, Timing
from bcd_edge.slides import geojson, heatmap, page, tiling, tissue
from bcd_edge.slides.aggregation import REVIEW, TileAnswer, aggregate, left_out
from bcd_edge.slides.settings import SlideSettings
from bcd_edge.slides.tiles import TileFile, run_of
from bcd_edge.slides.tiling import Block, Grid, Tile
from bcd_edge.slides.tissue import Tissue
from bcd_edge.system import machine
from bcd_edge.system.atomic import atomic_write
from bcd_edge.system.lock import exclusive

# Of the files of slides in a folder of results.
FOLDER: Final = "slides"
# Threads that read blocks: some wait for a network share while others decode.
READERS_PER_CORE: Final = 2
# Tile answers that are written at a time, so that little is lost by a power cut and the disk has little to do.
WRITTEN: Final = 64

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class _Job:
    """A slide with its grid, and where its files go."""

    classifier: Classifier
    slide: Slide
    settings: SlideSettings
    um_per_pixel: float
    grid: Grid
    folder: Path

    @property
    def title(self) -> str:
        return self.settings.title or self.slide.path.name

    @property
    def tile_mm2(self) -> float:
        """Area that a tile adds, without its overlap."""
        return (self.grid.step * self.um_per_pixel / 1000) ** 2

    def run(self) -> dict[str, Any]:
        """What decides the answers of tiles: an interrupted run with the same goes on."""
        ran = self.classifier.execution
        return {
            "path": str(self.slide.path.resolve()),
            "slide": slides.fingerprint(self.slide.path),
            "um_per_pixel": self.um_per_pixel,
            "tile_um": round(self.grid.side * self.um_per_pixel, 6),
            "overlap": self.settings.overlap,
            "level": self.grid.level,
            "bundle_sha256": ran.bundle_sha256,
            "precision": ran.precision,
            "provider": ran.provider,
            "threshold": self.classifier.rule.threshold,
            "quality": self.classifier.triage.measures_quality,
            "version": ran.version,
        }


def classify(classifier: Classifier, path: Path, settings: SlideSettings, *, name: str | None = None, progress: Progress | None = None) -> Record:
    """Classifies a slide; goes on where an earlier run of the same slide, bundle and settings ended.

    Args:
        classifier: loaded for `throughput`.
        path: the slide's file.
        settings: how.
        name: its name in the record; the path if not given.
        progress: called with the number of tiles that are done, and of all.

    Returns:
        A record of kind `slide`, whose decision is `review`; `failed` with the reason if the slide cannot be read or has no tissue.

    Raises:
        OutputError: its folder cannot be written.
        ProviderError: the engine failed.
        UsageError: no such field of view or overlap.
    """
    source = name or str(path)
    try:
        with slides.open(path) as slide:
            return _classify(classifier, slide, settings, source, progress or (lambda done, total: None))
    except InputError as error:
        return classifier.failed(source, error)
    except OutputError:  # of who follows the progress
        raise
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "filename", None) == str(path):
            return classifier.failed(source, InputError(f"The slide {path.name} could not be read ({reason}); copy it again."))
        place = settings.folder or settings.out
        raise OutputError(
            f"The files of {path.name} could not be written into {place} ({reason}); make room there, or give another folder."
        ) from None


def _classify(classifier: Classifier, slide: Slide, settings: SlideSettings, source: str, progress: Progress) -> Record:
    um_per_pixel = slides.um_per_pixel(slide, settings.um_per_pixel)
    grid = tiling.grid(slide, um_per_pixel, classifier.bundle, settings.field_um, settings.overlap)
    job = _Job(classifier, slide, settings, um_per_pixel, grid, settings.folder or _folder(settings.out, slide.path))
    job.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(job.folder / ".lock", 0.0) as is_held:
        if not is_held:
            raise InputError(f"The slide {slide.path.name} is being classified into {job.folder} by another process; wait for it.")
        return _locked(job, source, progress)


def _locked(job: _Job, source: str, progress: Progress) -> Record:
    seen = tissue.find(job.slide)
    with ThreadPoolExecutor(1, "bcd-edge hash") as hashing:
        sha256 = hashing.submit(slides.sha256, job.slide.path)  # of gigabytes: nothing waits for it
        with TileFile(job.folder, job.run(), job.grid) as tiles:
            timing = _fill(job, seen, tiles, progress)
            answers = sorted(tiles.answers.values(), key=lambda answer: (answer.tile.row, answer.tile.column))
        record = _record(job, source, sha256.result(), answers, timing)
    _write(job, seen, answers, record)
    return record


def _fill(job: _Job, seen: Tissue, tiles: TileFile, progress: Progress) -> Timing:
    """Classifies the tiles that have no answer yet; returns the milliseconds of work on them."""
    chosen, passed_over = tiling.choose(job.grid, seen)
    tiles.add(TileAnswer(tile, None, None, None, reason) for tile, reason in passed_over.items() if tile not in tiles.answers)
    todo = [tile for tile in chosen if tile not in tiles.answers]
    done, work = len(chosen) - len(todo), [0.0, 0.0, 0.0]
    progress(done, len(chosen))
    waiting: list[TileAnswer] = []
    pictures = _read_ahead(job.slide, job.grid, tiling.blocks(todo, job.grid))
    try:
        with closing(pictures), closing(job.classifier.classify_many(pictures)) as records:
            for tile, record in records:
                waiting.append(_answer(tile, record))
                if timing := record.timing_ms:
                    work = [sum(pair) for pair in zip(work, (timing.decode, timing.resize, timing.infer), strict=True)]
                if len(waiting) == WRITTEN:
                    tiles.add(waiting)
                    waiting = []
                done += 1
                progress(done, len(chosen))
    finally:  # after an interruption, too
        tiles.add(waiting)
    return Timing(*(round(ms, 3) for ms in (*work, sum(work))))


def _read_ahead(slide: Slide, grid: Grid, blocks: Sequence[Block]) -> Generator[tuple[Tile, DecodedImage], None, None]:
    """Tiles with their pixels, in the order of the blocks; each thread reads a block, and as many wait as there are threads."""
    count = READERS_PER_CORE * machine.cores()
    coming = iter(blocks)
    with ThreadPoolExecutor(count, "bcd-edge read") as pool:
        waiting: deque[Future[list[tuple[Tile, DecodedImage]]]] = deque()
        for block in itertools.islice(coming, count):
            waiting.append(pool.submit(_read_block, slide, grid, block))
        try:
            while waiting:
                pictures = waiting.popleft().result()
                for block in itertools.islice(coming, 1):
                    waiting.append(pool.submit(_read_block, slide, grid, block))
                yield from pictures
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read_block(slide: Slide, grid: Grid, block: Block) -> list[tuple[Tile, DecodedImage]]:
    started = time.perf_counter()
    tiles = list(block.read(slide, grid))
    decode_ms = 1000 * (time.perf_counter() - started) / len(tiles)
    return [(tile, DecodedImage(pixels, "", decode_ms, grid.um_per_pixel)) for tile, pixels in tiles]


def _answer(tile: Tile, record: Record) -> TileAnswer:
    """What the classifier says of a tile; one that cannot be judged by its quality is left out."""
    if record.status == "failed":
        return TileAnswer(tile, None, None, None, "nothing can be seen: it has one colour only")
    if record.quality and record.quality.reasons:
        return TileAnswer(tile, None, None, None, record.quality.reasons[0])
    return TileAnswer(tile, record.decision, record.p_malignant, record.novelty, "")


def _folder(out: Path, path: Path) -> Path:
    """The slide's own folder: of its name, or with a hash where another slide of this name has that one."""
    folder, place = out / path.stem, str(path.resolve())
    run = run_of(folder)
    if run is None or run.get("path") == place:
        return folder
    return out / f"{path.stem}-{hashlib.sha256(place.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _record(job: _Job, source: str, sha256: str, answers: Sequence[TileAnswer], timing: Timing) -> Record:
    """The slide's record.

    Raises:
        InputError: no tile has an answer.
    """
    total, slide, rule = aggregate(answers, job.tile_mm2), job.slide, job.classifier.rule
    if total is None:
        raise _nothing(slide, answers)
    prediction, answered = rule.predict(total.p_malignant), sum(total.counts.values())
    summary = SlideSummary(
        width=slide.width,
        height=slide.height,
        vendor=slide.vendor,
        field_um=round(job.grid.side * job.um_per_pixel, 3),
        overlap=job.settings.overlap,
        tiles=answered,
        **total.counts,
        left_out=len(answers) - answered,
        coverage=round(answered / len(answers), 4),
        aggregation=total.method,
        files=str(job.folder),
    )
    reasons = (REVIEW, f"{prediction.reasons[0]}: {total.method}", *(f"{count} tiles left out: {reason}" for reason, count in left_out(answers)))
    return Record(
        *(source, sha256, "ok", None, prediction.label, round(total.p_malignant, 6), "review", reasons, timing, job.classifier.execution),
        um_per_pixel=job.um_per_pixel,
        kind="slide",
        slide=summary,
    )


def _nothing(slide: Slide, answers: Sequence[TileAnswer]) -> InputError:
    if not answers:
        return InputError(f"No tissue was seen on the slide {slide.path.name}; check that it is stained with H&E and that the scan is complete.")
    reasons = ", ".join(f"{reason} ({count})" for reason, count in left_out(answers))
    return InputError(f"No tile of the slide {slide.path.name} can be classified: {reasons}; scan it again.")


def _write(job: _Job, seen: Tissue, answers: Sequence[TileAnswer], record: Record) -> None:
    """Regions, heat map, page, and a picture without answers."""
    slide, grid = job.slide, job.grid
    atomic_write(job.folder / "regions.geojson", geojson.document(answers, grid, (slide.width, slide.height), job.tile_mm2, job.title))
    heat = heatmap.layer(answers, grid)
    atomic_write(job.folder / "tiles.png", cv2.imencode(".png", cv2.cvtColor(heat, cv2.COLOR_RGBA2BGRA))[1].tobytes())
    heading = f"{job.title}: p(malignant) {record.p_malignant:.3f}, needs pathologist review. For research."
    drawn = heatmap.draw(seen.picture_hwc_u8, seen.scale, heat, grid, job.um_per_pixel, job.classifier.rule, heading)
    atomic_write(job.folder / "heatmap.png", drawn)
    thumbnail = cv2.cvtColor(seen.picture_hwc_u8, cv2.COLOR_RGB2BGR)
    atomic_write(job.folder / THUMBNAIL, cv2.imencode(".jpg", thumbnail, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    page.write(job.folder, slide, grid, answers, record, job.title)
