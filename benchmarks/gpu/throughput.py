"""Images a second over batches, and from the bytes of a file to a record; the memory that it takes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import psutil

from bcd_edge.interleaved import in_turns
from benchmarks.gpu import engines
from benchmarks.gpu.setting import Figures, Setting, Steps

ROUNDS = 3
WARM_UP = 3  # calls that choose kernels and record graphs


def steps(setting: Setting) -> Steps:
    """Records first; then the precisions, float16 first."""
    order = sorted(setting.precisions(), key=lambda name: name != "fp16")
    made: dict[str, Callable[[], Figures]] = {"records": partial(_records, setting, order[0])}
    for precision in order:
        made[f"batches, {precision}"] = partial(_batches, setting, precision)
    return made | {"batches, PyTorch": partial(_pytorch, setting)}


def _records(setting: Setting, precision: str) -> Figures:
    """PNG bytes to records, beside each half alone: decoding with a provider that answers at once, and the card with pixels that are there."""
    pictures = [cv2.imencode(".png", picture[..., ::-1])[1].tobytes() for picture in setting.drawn()]
    batch, streams, count = (2, 1, 4) if setting.dry_run else (32, 2, 600)
    work = [(index, pictures[index % len(pictures)]) for index in range(count)]
    images = setting.inputs(batch)
    with (
        setting.classifier(precision, batch=batch, streams=streams) as classifier,
        setting.classifier(setting.precisions()[0], "null", batch=batch, streams=streams) as decoding,
    ):
        backend = setting.open_backend(precision, batch=batch)
        turns = in_turns(
            {
                "records": lambda: _rate(count, _drain, classifier.classify_many(work)),
                "decoding": lambda: _rate(count, _drain, decoding.classify_many(work)),
                "card": lambda: _rate(count, _repeat, backend.infer, images, count // batch),
            },
            1 if setting.dry_run else ROUNDS,
        )
        rates = {name: float(np.median(values)) for name, values in turns.items()}
        backend.close()
    bound = min(rates["decoding"], rates["card"])
    shape = {"precision": precision, "batch": batch, "streams": streams, "images": count}
    return shape | {"images_per_s": rates, "turns": turns, "share_of_bound": rates["records"] / bound} | memory()


def _batches(setting: Setting, precision: str) -> Figures:
    """An engine for any batch over all sizes, and one of a fixed size with its graph for some."""
    figures: dict[str, dict[int, float]] = {}
    before = memory()
    flexible = setting.open_backend(precision)
    figures["any size"] = {size: _best(flexible.infer, setting.inputs(size), setting.seconds / 4) for size in setting.batches}
    flexible.close()
    for name, options in (("fixed size, graph", {}), ("fixed size, channels last", {"nhwc": "1"})):
        figures[name] = {}
        for size in setting.batches[::3]:
            backend = setting.open_backend(precision, batch=size, **options)
            figures[name][size] = _best(backend.infer, setting.inputs(size), setting.seconds / 4)
            backend.close()
    return {"images_per_s": figures, "before": before, "after": memory()}


def _pytorch(setting: Setting) -> Figures:
    figures: dict[str, dict[int, float]] = {"PyTorch eager": {}}
    for size in setting.batches[::3]:
        image = setting.inputs(size)[:, :32, :32].copy() if setting.dry_run else setting.inputs(size)
        call = engines.torch_call(setting, image)
        figures["PyTorch eager"][size] = _best(lambda _, call=call: call(), image, setting.seconds / 4)
    return {"images_per_s": figures} | memory()


def _best(infer: Callable[[np.ndarray], object], images: np.ndarray, seconds: float) -> float:
    """Images a second: the median of some turns after a warm-up."""
    for _ in range(WARM_UP if seconds else 0):
        infer(images)
    rates = []
    for _ in range(ROUNDS if seconds else 1):
        calls, started = 0, time.perf_counter()
        while not calls or time.perf_counter() - started < seconds / ROUNDS:
            infer(images)
            calls += 1
        rates.append(calls * len(images) / (time.perf_counter() - started))
    return float(np.median(rates))


def _rate(count: int, work: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    work(*arguments)
    return count / (time.perf_counter() - started)


def _drain(records: Iterable[tuple[int, object]]) -> None:
    for _ in records:
        pass


def _repeat(infer: Callable[[np.ndarray], object], images: np.ndarray, calls: int) -> None:
    """From two threads, as the pipeline calls."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(infer, [images] * max(1, calls)))


def memory() -> Figures:
    """What this process has of the machine's memory, and all processes of the card's, in MiB."""
    gc.collect()
    figures: Figures = {"rss_mib": round(psutil.Process().memory_info().rss / 2**20)}
    try:
        import pynvml

        pynvml.nvmlInit()
        figures["card_mib"] = round(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used / 2**20)
    except Exception as error:  # no package, no driver
        figures["card"] = f"not measured: {error}"
    return figures
