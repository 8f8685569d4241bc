"""`readers.raster.decode` with mutated files of every format: no crash, no hang, no memory beyond four times the picture, no other error."""

from __future__ import annotations

import collections
import io
import json
import multiprocessing
import resource
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import pillow_heif
from PIL import Image

from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from bcd_edge.readers.codecs import png
from bcd_edge.readers.pixels import MAX_PIXELS
from bcd_edge.synthetic import tissue
from benchmarks.decoding import silent_stderr
from benchmarks.tables import Row, markdown, put, shown

# Cases of one process; one that crashes or hangs is followed by another, which starts after the case at fault.
CHUNK: Final = 10_000
# The hard limit, beyond what the process has when it starts: four times the largest picture that is read, and room for the decoders.
LIMIT_BYTES: Final = 4 * 3 * MAX_PIXELS + 512 * 2**20
# What one case may take: four times the picture that it declares, and a fixed part for a decoder's own tables and buffers.
FACTOR: Final = 4
ROOM_BYTES: Final = 32 * 2**20
HANG_S: Final = 5.0  # of processor time; ten times as much of the clock's
SIZE: Final = (90, 130)
Outcome = tuple[int, str, float]


def run(cases: int, seed: int, log: Path | None, out: Path | None) -> None:
    """Fuzzes in processes of `CHUNK` cases each and prints what came of it.

    Args:
        cases: how many mutated files.
        seed: of the mutations.
        log: a file that keeps what came of each process, so that an interrupted run goes on where it was; None keeps nothing.
        out: a Markdown file with the marks `fuzz`.
    """
    counts: collections.Counter[str] = collections.Counter()
    faults: list[str] = []
    slowest = elapsed = 0.0
    for start in range(0, cases, CHUNK):
        entry = _logged(log, seed, start, min(CHUNK, cases - start))
        counts.update(entry["counts"])
        faults += entry["faults"]
        slowest, elapsed = max(slowest, entry["slowest_s"]), elapsed + entry["elapsed_s"]
    detail = f"seed {seed}: {counts['decoded']:,} decoded, {counts['refused']:,} refused; slowest {slowest:.2f} s; {elapsed:.0f} s in all"
    work = f"{cases:,} mutated files of {len(seeds())} kinds: crash, hang over {HANG_S:g} s, memory, library text, other errors"
    from benchmarks import memory

    rows = shown([Row(work, "0 faults", f"{len(faults)} faults", "; ".join([detail, *faults[:5]])), memory.row()])
    put(markdown("Fuzzing", rows), out, "fuzz")


def _logged(log: Path | None, seed: int, start: int, cases: int) -> dict[str, Any]:
    """What came of one process's cases, from the log if they ran before."""
    key = {"seed": seed, "start": start, "cases": cases}
    for line in log.read_text(encoding="utf-8").splitlines() if log and log.exists() else ():
        if key.items() <= (entry := json.loads(line)).items():
            return dict(entry)
    began = time.monotonic()
    outcomes = chunk(partial(mutated, seed), start, cases)
    entry = key | {
        "counts": collections.Counter(outcome.partition(":")[0] for _, outcome, _ in outcomes),
        "faults": [f"case {case} {outcome}" for case, outcome, _ in outcomes if not outcome.startswith(("decoded", "refused"))],
        "slowest_s": max(seconds for _, _, seconds in outcomes),
        "elapsed_s": time.monotonic() - began,
    }
    if log:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    return entry


def chunk(read: Callable[[int], bytes], start: int, cases: int) -> list[Outcome]:
    """Decodes the files that `read` gives for numbers, in processes with a limit of memory: number, what came of it, seconds."""
    outcomes: list[Outcome] = []
    while len(outcomes) < cases:
        outcomes += _process(read, start + len(outcomes), cases - len(outcomes))
    return outcomes


def _process(read: Callable[[int], bytes], start: int, cases: int) -> list[Outcome]:
    """Cases in one process, up to the first that ends it."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, read, start, cases))
    process.start()
    sender.close()
    outcomes: list[Outcome] = []
    receiver.recv()  # it has imported what it needs
    while len(outcomes) < cases:
        try:
            if not receiver.poll(10 * HANG_S):
                outcomes.append((start + len(outcomes), "hang: no answer", 10 * HANG_S))
                break
            outcomes.append(receiver.recv())
        except EOFError:
            process.join()
            outcomes.append((start + len(outcomes), f"crash: exit code {process.exitcode}", 0.0))
            break
    process.kill()
    process.join()
    return outcomes


def mutated(seed: int, case: int) -> bytes:
    """One file: a seed with bytes flipped, parts removed, repeated, swapped with another file's, or lengths and numbers replaced."""
    random = np.random.default_rng((seed, case))
    files = seeds()
    data = bytearray(files[int(random.integers(len(files)))])
    for _ in range(int(random.integers(1, 6))):
        # headers hold the numbers that decoders trust, so half of the changes fall there
        at = int(random.integers(min(len(data), 200) if random.random() < 0.5 else len(data)))
        length = int(2 ** random.uniform(0, 10))
        action = int(random.integers(7))
        if action == 0:
            data[at] ^= 1 << int(random.integers(8))
        elif action == 1:
            data[at : at + 1] = bytes([random.choice([0, 1, 0x7F, 0x80, 0xFF])])
        elif action == 2:
            value = int(random.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 65536]))
            data[at : at + 4] = value.to_bytes(4, "big" if random.random() < 0.5 else "little")
        elif action == 3 and len(data) > length + 1:
            del data[at : at + length]
        elif action == 4:
            data[at:at] = data[at : at + length]
        elif action == 5:
            other = files[int(random.integers(len(files)))]
            data[at : at + length] = other[at : at + length]
        else:
            data[at : at + length] = random.integers(0, 256, min(length, len(data) - at), np.uint8).tobytes()
        if not data:
            data = bytearray(b"\0")
    # without right checksums nothing of a changed PNG reaches its decoder
    return with_checksums(bytes(data)) if random.random() < 0.7 else bytes(data)


def with_checksums(data: bytes) -> bytes:
    """A PNG with the checksums that its chunks should have; anything else as it is."""
    if not png.matches(data):
        return data
    parts, at = [png.SIGNATURE], len(png.SIGNATURE)
    while at + 12 <= len(data) and (end := at + 8 + int.from_bytes(data[at : at + 4], "big")) <= len(data):
        parts += [data[at:end], zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    return b"".join([*parts, data[at:]])


_SEEDS: list[bytes] = []


def seeds() -> list[bytes]:
    """Whole files of every format and of the layouts that take different ways through the decoders."""
    if not _SEEDS:
        _SEEDS.extend(_seeds())
    return _SEEDS


def _seeds() -> Iterator[bytes]:
    from benchmarks import dicom_files
    from benchmarks.layouts import by_pillow, heic, png_file, tiff_file

    picture = tissue(5, height=SIZE[0], width=SIZE[1], glands=1, scattered=40)
    alpha = np.dstack([picture, picture[..., 0]])
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 2, "comment": b"a comment"}):
        yield by_pillow(picture, "JPEG", **options)
    yield by_pillow(picture, "JPEG", "CMYK")
    yield by_pillow(picture, "PNG")
    yield by_pillow(alpha, "PNG")
    yield from (png_file(colour, bits, interlaced=True, keyed=keyed) for colour, bits, keyed in ((3, 4, True), (0, 16, True), (2, 8, False)))
    for compression in ("none", "lzw", "deflate", "packbits", "lzma", "jpeg"):
        yield tiff_file(picture, compression=compression, tile=(32, 32))
        yield tiff_file(picture, compression=compression, rowsperstrip=16, byteorder=">")
    yield tiff_file(picture.astype(np.uint16) * 257, compression="deflate", predictor=True)
    yield tiff_file(np.ascontiguousarray(picture.transpose(2, 0, 1)), planarconfig="separate", bigtiff=True)
    yield by_pillow(picture, "BMP")
    yield by_pillow(picture, "BMP", "P")
    yield by_pillow(picture, "WEBP", lossless=True)
    yield by_pillow(alpha, "WEBP", quality=80)
    yield by_pillow(picture, "AVIF", quality=80)
    yield heic(picture)
    for kind in ("plain", "deflated", "RLE", "JPEG", "JPEG-LS", "JPEG 2000"):
        yield dicom_files.whole(kind, picture)


def _work(sender: Connection, read: Callable[[int], bytes], start: int, cases: int) -> None:
    pillow_heif.register_heif_opener()
    read(start)
    in_use = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + LIMIT_BYTES, in_use + LIMIT_BYTES))
    sender.send(None)
    for case in range(start, start + cases):
        data = read(case)
        before = reset_peak()
        began = time.process_time()
        with silent_stderr() as text:
            outcome, size = _outcome(data)
        seconds = time.process_time() - began
        taken = peak() - before
        if text:
            outcome = f"text: {text[:100]!r}"
        elif seconds > HANG_S:
            outcome = f"slow: {seconds:.1f} s"
        elif taken > FACTOR * size + ROOM_BYTES and taken > FACTOR * max(size, _declared(data)) + ROOM_BYTES:
            outcome = f"memory: {taken / 2**20:.0f} MiB for a picture of {size / 2**20:.1f} MiB; {outcome}"
        sender.send((case, outcome, seconds))
    sender.close()


def _outcome(data: bytes) -> tuple[str, int]:
    """What came of a file, and the bytes of its picture if it was decoded."""
    try:
        image = raster.decode(data)
    except InputError as error:
        return ("refused" if str(error).endswith(".") else f"no sentence: {error}"), 0
    except Exception as error:
        return f"other error: {type(error).__name__}: {error}", 0
    return ("decoded" if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 else f"shape: {image.shape}"), image.nbytes


def _declared(data: bytes) -> int:
    """Bytes of the picture's samples in RGB by its header, as Pillow reads it; 0 where it reads none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return 3 * image.width * image.height * (2 if image.info.get("bit_depth", 8) > 8 else 1)  # HEIF
    except Exception:
        return 0


def reset_peak() -> int:
    """Sets the peak of the process's memory to what it has now; the bytes that it has."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def peak() -> int:
    """The most bytes that the process had since `reset_peak`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split(maxsplit=1)[0])
