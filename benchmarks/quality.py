"""What the quality check flags: of the real images, of pictures degraded on purpose, of pictures that are no histology."""

from __future__ import annotations

import collections
import csv
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from bcd_edge import Classifier
from bcd_edge.errors import InputError
from bcd_edge.options import RunOptions
from bcd_edge.readers import raster
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.triage.quality import SIDE, quality
from benchmarks.tables import Row, markdown, put, shown

# Collections of a data folder: archive, and the share of it that may be flagged.
TISSUE: Final = {
    "breakhis": ("breakhis/images.zip", "at most 1 %"),
    "idc": ("idc/idc_patches.zip", "at most 2 %"),
    "lc25000": ("lc25000/tiles.zip", "-"),
}
FOREIGN: Final = "foreign"
# Kinds of the foreign collection that pixels alone can tell from H&E, and those that are H&E or stained nearly like it.
VISIBLE: Final = (
    *("breast_ultrasound", "dermoscopy", "electron_microscopy", "endoscopy", "fluorescence_phase", "ihc_dab"),
    *("mammogram", "natural", "radiology_other", "retina_fundus", "screen_document"),
)
DEGRADED: Final = 200
# The answer begins to change where this share of it turns from benign to malignant or the other way.
CHANGED: Final = 0.05

# Decision by the probability alone, and whether the picture is novel.
Answer = tuple[str, bool]
Degradation = Callable[[UInt8Image, float], UInt8Image]


def compare(data: Path, bundle: Path | None, out: Path | None, flagged: Path | None) -> None:
    """Measures every row, prints the table, and puts it between the marks of `out`.

    Args:
        data: a folder with breakhis/, idc/, lc25000/ and foreign/ as `python -m train data` reads them.
        bundle: whose answers say where a degradation begins to matter; the embedded one if None.
        out: a Markdown file with the marks `quality`.
        flagged: a file that gets one line for each tissue image that is flagged.
    """
    lines: list[str] = []
    rows = shown([*_tissue(data, lines), *_foreign(data), *_degraded(data, bundle), _cost(data)])
    if flagged:
        flagged.write_text("\n".join(lines) + "\n", encoding="utf-8")
    put(markdown("Quality", rows), out, "quality")


def reasons(image: UInt8Image) -> tuple[str, ...]:
    """Why a picture is flagged, without the figures; nothing if it is not."""
    try:
        return tuple(reason.partition(":")[0] for reason in quality(image).reasons)
    except InputError:
        return ("nothing to see",)


def blurred(image: UInt8Image, strength: float) -> UInt8Image:
    """Out of focus: a Gaussian of so many pixels at the size that is looked at."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), strength * image.shape[1] / SIDE), np.uint8)


def scaled(image: UInt8Image, strength: float) -> UInt8Image:
    """Exposed so many times as long."""
    return np.asarray(np.clip(image * strength, 0, 255), np.uint8)


def faded(image: UInt8Image, strength: float) -> UInt8Image:
    """So much of its contrast around middle grey."""
    return np.asarray(np.clip(128 + (image - 128.0) * strength, 0, 255), np.uint8)


def greyed(image: UInt8Image, strength: float) -> UInt8Image:
    """So much of its colour gone."""
    grey = image.mean(axis=2, keepdims=True)
    return np.asarray(np.rint(image + (grey - image) * strength), np.uint8)


def negative(image: UInt8Image, strength: float) -> UInt8Image:
    """Dark for light, as a film negative; there is one strength only."""
    return np.asarray(255 - image, np.uint8)


def emptied(image: UInt8Image, strength: float) -> UInt8Image:
    """So much of its width empty glass."""
    emptied = image.copy()
    emptied[:, : int(image.shape[1] * strength)] = 243
    return emptied


def rotated(image: UInt8Image, strength: float) -> UInt8Image:
    """Red and blue exchanged, as by a wrong order of channels."""
    return np.ascontiguousarray(image[..., ::-1])


DEGRADATIONS: Final[dict[str, tuple[Degradation, Sequence[float]]]] = {
    "blur, pixels of 192": (blurred, (0.7, 1, 1.4, 2, 3, 4)),
    "underexposed, times": (scaled, (0.8, 0.65, 0.5, 0.35, 0.25)),
    "overexposed, times": (scaled, (1.15, 1.3, 1.5, 1.8)),
    "contrast, times": (faded, (0.7, 0.5, 0.3, 0.15, 0.05)),
    "colour removed": (greyed, (0.25, 0.5, 0.75, 0.9, 1)),
    "negative": (negative, (1,)),
    "empty": (emptied, (0.5, 0.7, 0.8, 0.9, 0.95)),
    "red and blue exchanged": (rotated, (1,)),
}


def _tissue(data: Path, lines: list[str]) -> Iterator[Row]:
    for name, (archive, wanted) in TISSUE.items():
        counts: collections.Counter[str] = collections.Counter()
        images = flagged = 0
        for file, image in _images(data / archive):
            given = reasons(image)
            images, flagged = images + 1, flagged + bool(given)
            counts.update(given)
            if given:
                lines.append(f"{name},{file},{'; '.join(given)}")
        detail = f"{flagged} of {images:,}: " + (", ".join(f"{reason} {count}" for reason, count in counts.most_common()) or "none")
        yield Row(f"{name}, flagged", wanted, f"{flagged / images:.1%}", detail)


def _foreign(data: Path) -> Iterator[Row]:
    with (data / FOREIGN / "manifest.csv").open(encoding="utf-8", newline="") as file:
        kinds = {row["file"]: row["kind"] for row in csv.DictReader(file)}
    flags: dict[str, list[bool]] = collections.defaultdict(list)
    for name, image in _images(data / FOREIGN / "images.zip"):
        kind = next((kind for file, kind in kinds.items() if name.endswith(file)), None)
        if kind:
            flags[kind].append(bool(reasons(image)))
    for title, visible in (("no H&E to the eye", True), ("H&E of other laboratories and organs, or stained nearly like it", False)):
        groups = {kind: values for kind, values in sorted(flags.items()) if (kind in VISIBLE) == visible}
        flagged, images = sum(map(sum, groups.values())), sum(map(len, groups.values()))
        detail = ", ".join(f"{kind} {sum(values)}/{len(values)}" for kind, values in groups.items())
        yield Row(f"foreign pictures, {title}, flagged", "as many as pixels can tell" if visible else "-", f"{flagged} of {images}", detail)


def _degraded(data: Path, bundle: Path | None) -> Iterator[Row]:
    """For each degradation the weakest strength that turns the model's answers, and what share is flagged there and beyond.

    An answer turns when the decision by probability alone goes from benign to malignant or back; novelty is counted beside quality.
    """
    images = [image for _, image in _images(data / TISSUE["breakhis"][0])]
    images = [images[index] for index in np.random.default_rng(0).choice(len(images), min(DEGRADED, len(images)), replace=False)]
    with Classifier.load(bundle, RunOptions(), purpose="throughput", measures_quality=False) as classifier:

        def answers(pictures: Sequence[UInt8Image]) -> list[Answer]:
            records = [record for _, record in classifier.classify_many(enumerate(pictures))]
            return [(classifier.rule.predict(record.p_malignant or 0.0).decision, (record.novelty or 0.0) > 1) for record in records]

        before = answers(images)
        for name, (degrade, strengths) in DEGRADATIONS.items():
            turned: dict[float, float] = {}
            flagged: dict[float, float] = {}
            either: dict[float, float] = {}
            for strength in strengths:
                pictures = [degrade(image, strength) for image in images]
                after = answers(pictures)
                is_flagged = [bool(reasons(picture)) for picture in pictures]
                turned[strength] = float(np.mean([{old, new} == {"benign", "malignant"} for (old, _), (new, _) in zip(before, after, strict=True)]))
                flagged[strength] = float(np.mean(is_flagged))
                either[strength] = float(np.mean([flag or is_novel for flag, (_, is_novel) in zip(is_flagged, after, strict=True)]))
            begins = next((strength for strength in strengths if turned[strength] >= CHANGED), None)
            figures = "; ".join(
                f"{strength:g}: {turned[strength]:.0%} turned, {flagged[strength]:.0%} flagged, {either[strength]:.0%} with novelty"
                for strength in strengths
            )
            measured = f"{flagged[begins]:.0%} at {begins:g}" if begins is not None else "no strength turns 5 % of the answers"
            yield Row(f"{name}, flagged where answers begin to turn", "95 %", measured, figures)


def _cost(data: Path) -> Row:
    image = next(image for _, image in _images(data / TISSUE["breakhis"][0]))
    picture = np.asarray(cv2.resize(image, (700, 460)), np.uint8)
    reduced = np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    times = {"whole": _fastest(lambda: quality(picture)), "reduced": _fastest(lambda: quality(picture, reduced))}
    detail = f"where the network's input is not {SIDE} x {SIDE}, {times['whole']:.2f} ms; the fastest of 200"
    return Row("cost for 700 x 460, reduced already for the network", "under 1 ms", f"{times['reduced']:.2f} ms", detail)


def _fastest(call: Callable[[], object]) -> float:
    """Milliseconds of the fastest of many calls: the machine's other work makes the rest slower."""
    times = []
    for _ in range(200):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return min(times)


def _images(archive: Path) -> Iterator[tuple[str, UInt8Image]]:
    with zipfile.ZipFile(archive) as file:
        for name in sorted(file.namelist()):
            if name.lower().endswith(raster.suffixes()):
                yield name, raster.decode(file.read(name))
