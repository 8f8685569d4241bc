"""The decoders held to second ones: every layout that the formats allow, and files damaged on purpose."""

from __future__ import annotations

import collections
import io
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from bcd_edge.errors import InputError
from bcd_edge.interleaved import medians
from bcd_edge.readers import raster
from bcd_edge.readers.codecs import png
from bcd_edge.synthetic import tissue
from benchmarks import dicom_files, layouts
from benchmarks.layouts import Cell
from benchmarks.tables import Row, markdown, put, shown

# Levels of 255 that two right decoders may differ by: rounding, and for JPEG another inverse transform.
TOLERANCE: Final = {"lossless": 1, "lossy": 3}
FILES: Final = 40
DAMAGES: Final = (
    "hole at 25 %",
    "hole at 50 %",
    "hole at 75 %",
    "missing at 25 %",
    "missing at 50 %",
    "missing at 75 %",
    "cut at 40 %",
    "noise at 50 %",
)
HOLE_BYTES: Final = 4096
# Formats without a checksum, whose decoder need not lose its step.
BLIND: Final = ("BMP", "TIFF none", "WebP lossless", "AVIF", "HEIC", "DICOM plain", "DICOM JPEG 2000")


@dataclass(frozen=True)
class Verdict:
    """What came of a cell: `equal`, `refused` with the reason expected, or `wrong` with what was seen instead."""

    cell: Cell
    kind: str
    detail: str = ""


def compare(images: Path | None, out: Path | None, seconds: float) -> None:
    """Measures all tables and prints them.

    Args:
        images: a ZIP of real JPEGs to damage; generated ones if None.
        out: a Markdown file with the marks `decoding`.
        seconds: for each side of the comparison of speed.
    """
    with silent_stderr() as text:
        rows = shown([*matrix([*layouts.cells(), *dicom_files.cells()]), *damage(images)])
    rows += shown(
        [Row("library text on standard error during all of it", "0 bytes", f"{len(text)} bytes", text[:80].decode(errors="replace") or "-")]
    )
    rows += shown([_speed(seconds)])
    put(markdown("Decoding", rows, *versions()), out, "decoding")


def matrix(cells: Iterable[Cell]) -> Iterator[Row]:
    """Decodes every cell by ours and by the second decoder; a row for each format."""
    verdicts: dict[str, list[Verdict]] = collections.defaultdict(list)
    for cell in cells:
        verdicts[cell.format].append(judge(cell))
    for name, group in verdicts.items():
        counts = collections.Counter(verdict.kind for verdict in group)
        wrong = [f"{verdict.cell.name}: {verdict.detail}" for verdict in group if verdict.kind == "wrong"]
        detail = f"{counts['equal']} equal, {counts['refused']} refused with the true reason"
        yield Row(f"{name}: {len(group)} layouts", "0 wrong", f"{len(wrong)} wrong", "; ".join([detail, *wrong[:5]]))


def judge(cell: Cell) -> Verdict:
    """Whether ours gives the second decoder's pixels and, where nothing is lost, those that were saved; or the refusal expected."""
    try:
        image = raster.decode(cell.data)
    except InputError as error:
        is_expected = cell.refusal is not None and cell.refusal in str(error)
        return Verdict(cell, "refused" if is_expected else "wrong", str(error))
    if cell.refusal is not None:
        return Verdict(cell, "wrong", f"decoded, though {cell.refusal}")
    for name, expected in (("the second decoder", cell.second()), ("what was saved", cell.saved)):
        if expected is None:
            continue
        if image.shape != expected.shape:
            return Verdict(cell, "wrong", f"{image.shape}, {name} {expected.shape}")
        difference = int(np.abs(image.astype(int) - expected).max())
        if difference > TOLERANCE["lossy" if cell.is_lossy else "lossless"]:
            return Verdict(cell, "wrong", f"{difference} levels from {name}")
    return Verdict(cell, "equal")


def damage(images: Path | None) -> Iterator[Row]:
    """Files with a part zeroed, missing, cut off or noisy; an answer with other pixels than the whole file's is a wrong one."""
    for name, files in damaged_kinds(images).items():
        counts: collections.Counter[str] = collections.Counter()
        for seed, data in enumerate(files):
            whole = raster.decode(data)
            counts.update(_outcome(harmed(data, kind, seed), whole) for kind in DAMAGES)
        answered = counts["other pixels"]
        wanted = "cannot be seen" if name in BLIND else "0 answered"
        detail = f"{counts['refused']} refused, {counts['same pixels']} with all pixels whole"
        yield Row(f"{name}: {len(files)} files, {len(DAMAGES)} kinds of damage", wanted, f"{answered} answered", detail)


def harmed(data: bytes, kind: str, seed: int) -> bytes:
    """One kind of damage, its place as a share of the file."""
    action, _, share = kind.partition(" at ")
    at = int(len(data) * float(share.split()[0]) / 100)
    length = min(HOLE_BYTES, len(data) // 5)
    if action == "cut":
        return data[:at] + (b"\xff\xd9" if data.startswith(b"\xff\xd8") else b"")
    noise = np.random.default_rng(seed).integers(0, 256, length, np.uint8).tobytes()
    filling = {"hole": bytes(length), "missing": b"", "noise": noise}[action]
    return data[:at] + filling + data[at + length :]


def damaged_kinds(images: Path | None) -> dict[str, list[bytes]]:
    """Format and compression to whole files: real JPEGs where given, and tissue in every compression that is read."""
    pictures = [tissue(seed, height=230, width=350) for seed in range(FILES // 2)]
    jpegs = _zipped(images) if images else [layouts.by_pillow(picture, "JPEG", quality=90) for picture in pictures * 2]
    kinds = {"JPEG": jpegs, "progressive JPEG": [_progressive(data) for data in jpegs]}
    kinds["PNG"] = [layouts.by_pillow(picture, "PNG") for picture in pictures]
    kinds["PNG with alpha"] = [layouts.by_pillow(np.dstack([picture, picture[..., 0]]), "PNG") for picture in pictures]
    for scheme in layouts.READ:
        kinds[f"TIFF {scheme}"] = [layouts.tiff_file(picture, compression=scheme, rowsperstrip=64) for picture in pictures]
    kinds["WebP lossless"] = [layouts.by_pillow(picture, "WEBP", lossless=True) for picture in pictures]
    kinds["WebP lossy"] = [layouts.by_pillow(picture, "WEBP", quality=90) for picture in pictures]
    kinds["AVIF"] = [layouts.by_pillow(picture, "AVIF", quality=90) for picture in pictures]
    kinds["HEIC"] = [layouts.heic(picture) for picture in pictures]
    for kind in ("plain", "deflated", "RLE", "JPEG", "JPEG-LS", "JPEG 2000"):
        kinds[f"DICOM {kind}"] = [dicom_files.whole(kind, picture) for picture in pictures]
    kinds["BMP"] = [layouts.by_pillow(picture, "BMP") for picture in pictures]
    return kinds


def versions() -> list[str]:
    """What decodes, and what it is held to."""
    import imagecodecs
    import pydicom
    import simplejpeg
    import tifffile

    library = png.spng()
    return [
        f"simplejpeg {simplejpeg.__version__}" if hasattr(simplejpeg, "__version__") else "simplejpeg",
        "libspng" if library else "libspng missing",
        f"OpenCV {cv2.__version__}",
        f"Pillow {Image.__version__}",  # type: ignore[attr-defined]
        f"tifffile {tifffile.__version__}",
        f"imagecodecs {imagecodecs.__version__}",
        f"pydicom {pydicom.__version__}",
    ]


@contextmanager
def silent_stderr() -> Iterator[bytearray]:
    """What is written to the process's standard error meanwhile, by C libraries too; there afterwards."""
    text, kept = bytearray(), os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            text += file.read()


def _outcome(data: bytes, whole: raster.UInt8Image) -> str:
    try:
        return "same pixels" if np.array_equal(raster.decode(data), whole) else "other pixels"
    except InputError:
        return "refused"


def _zipped(images: Path) -> list[bytes]:
    with zipfile.ZipFile(images) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg")))
        return [archive.read(name) for name in names[:: max(1, len(names) // FILES)][:FILES]]


def _progressive(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return layouts.by_pillow(np.asarray(image.convert("RGB")), "JPEG", quality=90, progressive=True)


def _speed(seconds: float) -> Row:
    picture = tissue(1)
    data = layouts.by_pillow(picture, "PNG")
    times = medians({"ours": lambda: raster.decode(data), "OpenCV": lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)}, seconds)
    detail = f"{times['ours']:.1f} ms, cv2.imdecode {times['OpenCV']:.1f} ms"
    return Row("one 700 x 460 PNG in memory beside cv2.imdecode", "faster", f"{times['OpenCV'] / times['ours']:.2f} x", detail)
