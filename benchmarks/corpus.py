"""Every file of a folder of odd images through `readers.raster.decode`, beside Pillow: no fault, no other pixels, no false refusal."""

from __future__ import annotations

import collections
import csv
import warnings
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import Image, ImageOps

from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from benchmarks.decoding import silent_stderr
from benchmarks.fuzz import chunk
from benchmarks.tables import Row, markdown, put, shown

# Levels of 255 in the mean: decoders of JPEG and of chroma differ by more in single pixels.
TOLERANCE: Final = 1.5


def run(folder: Path, listing: Path | None, out: Path | None) -> None:
    """Decodes every file, prints what came of it, and puts the table between the marks `corpus` of `out`.

    Args:
        folder: with files of any kind.
        listing: a CSV file that gets a line for each file.
        out: a Markdown file.
    """
    pillow_heif.register_heif_opener()
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [str(path.relative_to(folder)) for path in files]
    outcomes = [outcome for _, outcome, _ in chunk(partial(_read, files), 0, len(files))]
    beside = [_beside(path) if outcome.startswith(("decoded", "refused")) else "" for path, outcome in zip(files, outcomes, strict=True)]
    if listing:
        with listing.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("file", "outcome", "beside Pillow"), *zip(names, outcomes, beside, strict=True)])
    put(markdown("Corpus", shown(_rows(names, outcomes, beside))), out, "corpus")


def _rows(names: list[str], outcomes: list[str], beside: list[str]) -> list[Row]:
    counts = collections.Counter(outcome.partition(":")[0] for outcome in outcomes)
    faults = [f"{name}: {outcome}" for name, outcome in zip(names, outcomes, strict=True) if not outcome.startswith(("decoded", "refused"))]
    detail = "; ".join([f"{counts['decoded']:,} decoded, {counts['refused']:,} refused", *faults])
    rows = [Row(f"{len(names):,} files", "0 faults", f"{len(faults)} faults", detail)]
    for title in ("other pixels than Pillow's", "called damaged, and read by Pillow"):
        given = [name for name, comparison in zip(names, beside, strict=True) if comparison.startswith(title)]
        rows.append(Row(title, "each explained", str(len(given)), ", ".join(given) or "-"))
    return rows


def _read(files: list[Path], case: int) -> bytes:
    return files[case].read_bytes()


def _beside(path: Path) -> str:
    """Ours beside Pillow's: what differs, or what was refused."""
    data = path.read_bytes()
    with silent_stderr():
        theirs = _by_pillow(path)
        try:
            ours = raster.decode(data)
        except InputError as error:
            is_doubtful = theirs is not None and "damaged" in str(error)
            return f"called damaged, and read by Pillow: {error}" if is_doubtful else str(error)
    if theirs is None:
        return "read by ours only"
    if theirs.shape != ours.shape:
        return f"other pixels than Pillow's: {ours.shape}, {theirs.shape}"
    difference = float(np.abs(ours.astype(int) - theirs).mean())
    return f"other pixels than Pillow's: {difference:.1f} levels in the mean" if difference > TOLERANCE else "equal"


def _by_pillow(path: Path) -> npt.NDArray[Any] | None:
    """Upright RGB on white, None where Pillow cannot or warns."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error")
            upright = ImageOps.exif_transpose(image)
            if "A" in upright.mode or "transparency" in upright.info:
                rgba = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            if upright.mode.startswith("I"):  # Pillow cuts off what is above 255
                return np.dstack([np.rint(np.asarray(upright, np.float64) / 257)] * 3)
            return np.asarray(upright.convert("RGB"))
    except Exception:  # its plug-ins raise nearly anything
        return None
