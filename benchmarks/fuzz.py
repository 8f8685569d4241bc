"""`readers.raster.decode` with mutated files of every format: no crash, no hang, no memory beyond four times the picture, no other error."""

from __future__ import annotations

import collections
import multiprocessing
import resource
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue
from benchmarks.decoding import silent_stderr
from benchmarks.tables import Row, markdown, put, shown

# Cases of one process, which is given up as a whole when it crashes or hangs; its last case is named.
CHUNK: Final = 500
# Beyond what the process has when it starts: four times the largest picture of the seeds, and room for the decoders themselves.
MEMORY_BYTES: Final = 512 * 2**20
HANG_S: Final = 5.0
SIZE: Final = (90, 130)
Outcome = tuple[int, str, float]


def run(cases: int, seed: int, out: Path | None) -> None:
    """Fuzzes in processes of `CHUNK` cases each, prints what came of them, and puts the table between the marks `fuzz` of `out`."""
    started = time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    faults: list[str] = []
    slowest = 0.0
    for start in range(0, cases, CHUNK):
        for case, outcome, seconds in chunk(seed, start, min(CHUNK, cases - start)):
            counts[outcome.split(":")[0]] += 1
            slowest = max(slowest, seconds)
            if not outcome.startswith(("decoded", "refused")):
                faults.append(f"seed {seed} case {case} {outcome}")
    kinds = f"{counts['decoded']:,} decoded, {counts['refused']:,} refused"
    detail = f"seed {seed}: {kinds}; slowest {slowest:.2f} s; {time.monotonic() - started:.0f} s in all"
    rows = shown([Row(f"{cases:,} mutated files of {len(seeds())} kinds", "0 faults", f"{len(faults)} faults", "; ".join([detail, *faults[:5]]))])
    put(markdown("Fuzzing", rows), out, "fuzz")


def chunk(seed: int, start: int, cases: int) -> list[Outcome]:
    """Cases in a process of their own with a limit of memory: number, what came of it, seconds."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, seed, start, cases))
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
    return bytes(data)


_SEEDS: list[bytes] = []


def seeds() -> list[bytes]:
    """Whole files of every format and of the layouts that take different ways through the decoders."""
    if not _SEEDS:
        _SEEDS.extend(_seeds())
    return _SEEDS


def _seeds() -> Iterator[bytes]:
    from benchmarks.layouts import by_pillow, png_file, tiff_file

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


def _work(sender: Connection, seed: int, start: int, cases: int) -> None:
    mutated(seed, start)
    in_use = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES, in_use + MEMORY_BYTES))
    sender.send(None)
    for case in range(start, start + cases):
        data = mutated(seed, case)
        began = time.perf_counter()
        with silent_stderr() as text:
            outcome = _outcome(data)
        seconds = time.perf_counter() - began
        if text:
            outcome = f"text: {text[:100]!r}"
        elif seconds > HANG_S:
            outcome = f"slow: {seconds:.1f} s"
        sender.send((case, outcome, seconds))
    sender.close()


def _outcome(data: bytes) -> str:
    try:
        image = raster.decode(data)
    except InputError as error:
        return "refused" if str(error).endswith(".") else f"no sentence: {error}"
    except Exception as error:
        return f"other error: {type(error).__name__}: {error}"
    return "decoded" if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 else f"shape: {image.shape}"
