"""`bcd-edge archive` through vanishing nodes and a failing store, and what it costs beside `predict` and Ray's own recipe."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import cv2
import pyarrow.dataset as ds

from bcd_edge import bundle
from bcd_edge.archive.verify import verify
from bcd_edge.interleaved import in_turns
from bcd_edge.synthetic import tissue
from benchmarks.tables import Row, markdown, put, shown

# The field of view of BreaKHis for what is timed; a small one where only the number of inputs matters.
FIELD, SMALL = (460, 700), (60, 80)
DISTINCT: Final = 40
TURNS: Final = 3


def measure(out: Path | None, *, pictures: int, objects: int, names: int, timed: int) -> None:
    """Measures every row, prints the table, and puts it between the marks of `out`.

    Args:
        out: a Markdown file with the marks `archive`.
        pictures: of the cluster whose nodes and driver are killed.
        objects: in the store that fails.
        names: in the listing whose memory is measured.
        timed: pictures of each timed run.
    """
    measures: tuple[Callable[[Path], Iterable[Row]], ...] = (
        lambda folder: [_killed_cluster(folder, pictures)],
        lambda folder: [_failing_store(folder, objects)],
        lambda folder: _timed(folder, timed),
        lambda folder: [_listing(folder, names)],
    )
    rows = []
    for each in measures:
        with tempfile.TemporaryDirectory() as name:
            os.environ["BCD_EDGE_CACHE"] = f"{name}/cache"  # the defaults are measured, not what `tune` chose here
            rows += shown(each(Path(name)))
    versions = [f"{package} {metadata.version(package)}" for package in ("ray", "pyarrow", "torch")]
    put(markdown(bundle.open().name, rows, *versions), out, "archive")


def _pictures(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """PNG files, none with the content of another: a comment tells them apart."""
    folder.mkdir(parents=True)
    drawn = [cv2.imencode(".png", tissue(seed, height=size[0], width=size[1])[..., ::-1])[1].tobytes() for seed in range(DISTINCT)]
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(exist_ok=True)
        (place / f"{number:06}.png").write_bytes(_commented(drawn[number % DISTINCT], number))
    return folder


def _commented(png: bytes, number: int) -> bytes:
    """A PNG with a tEXt chunk before its last one."""
    chunk = b"tEXt" + b"Comment\0" + str(number).encode()
    return png[:-12] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[-12:]


def _archive(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "bcd_edge", "archive", *map(str, arguments), "--quiet"]


def _killed_cluster(folder: Path, count: int) -> Row:
    """Three nodes; a node vanishes at a fifth and at two fifths, the driver at three fifths."""
    from ray.cluster_utils import Cluster

    source, out = _pictures(folder / "in", count, SMALL), folder / "out"
    shard_size = max(1, count // 50)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        options = ("--out", out, "--shard-size", shard_size, "--provider", "cpu", "--ray-address", cluster.address)
        driver = subprocess.Popen(_archive(source, *options))
        for share in (0.2, 0.4):
            _until(out, share * count / shard_size, driver)
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            cluster.add_node(num_cpus=1)
        _until(out, 0.6 * count / shard_size, driver)
        driver.kill()
        driver.wait()
        committed = len(_shards(out))
        subprocess.run(_archive(*options, "--resume"), check=True)
    finally:
        cluster.shutdown()
    subprocess.run(_archive(source, "--out", folder / "undisturbed", "--shard-size", shard_size, "--provider", "cpu"), check=True)
    assert verify(out).problems == (), verify(out).problems
    disturbed, undisturbed = _rows(out), _rows(folder / "undisturbed")
    equal = sum(a == b for a, b in zip(disturbed, undisturbed, strict=True))
    return Row(
        f"{count:,} pictures on a Ray cluster of three nodes on this machine, a node killed twice, the driver once, then `--resume`",
        "every row, none twice, none torn; equal to a run without faults",
        f"{len(disturbed):,} rows, {len({row['source'] for row in disturbed}):,} inputs; {equal:,} equal",
        f"{committed} shards were there when the driver was killed; p to 5 digits, times left out",
    )


def _until(out: Path, shards: float, driver: subprocess.Popen[bytes]) -> None:
    while len(_shards(out)) < shards:
        assert driver.poll() is None, "the driver ended"
        time.sleep(0.2)


def _shards(out: Path) -> list[Path]:
    return list(out.rglob("shard-*.parquet"))


def _rows(out: Path) -> list[dict[str, Any]]:
    """All rows without the times; the last digits depend on which pictures share a batch."""
    table = ds.dataset(out / "records", partitioning="hive").to_table().sort_by("row").drop_columns(["timing_ms", "part"])
    rounded = ("p_malignant", "novelty")
    return [row | {key: row[key] and round(row[key], 5) for key in rounded} for row in table.to_pylist()]


# 5 % of the reads fail, 5 % take half a second; the listing is spared, so that what is counted are reads.
_STORE = """
import random, sys, time
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
application, draw = DomainDispatcherApplication(create_backend_app), random.Random(21)
def store(environ, start):
    if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(".png"):
        chance = draw.random()
        if chance < 0.05:
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        if chance < 0.1:
            time.sleep(0.5)
    return application(environ, start)
server = make_server("127.0.0.1", 0, store, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


def _failing_store(folder: Path, count: int) -> Row:
    """The S3 server of moto, in a process of its own."""
    import fsspec

    work = f"an S3 store (moto) with {count:,} objects, 5 % errors and 5 % slow answers"
    wanted = "all answered, retries counted, nothing twice"
    if not _is_installed("moto", "s3fs"):
        return Row(work, wanted, "not measured", "needs: pip install moto[server] s3fs")
    server = subprocess.Popen([sys.executable, "-c", _STORE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout
        os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(server.stdout.readline())}", "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        source, out = _pictures(folder / "in", count, SMALL), folder / "out"
        store = fsspec.filesystem("s3")
        store.mkdir("archive")
        store.put(str(source), "archive/in", recursive=True)
        started = time.perf_counter()
        subprocess.run(_archive("s3://archive/in", "--out", out, "--provider", "cpu"), check=True)
        seconds = time.perf_counter() - started
    finally:
        server.kill()
        server.wait()
    result, manifest = verify(out), json.loads((out / "manifest.json").read_bytes())
    assert (result.problems, result.failed, result.copies) == ((), 0, 0), result
    return Row(work, wanted, f"{result.rows:,} rows, {manifest['retries']:,} retries, 0 failed, 0 twice", f"{count / seconds:.0f} images/s")


def _timed(folder: Path, count: int) -> Iterator[Row]:
    """Whole commands in turns: predict, the own engine, Ray, and Ray's recipe; then the plan beside the own engine."""
    source = _pictures(folder / "in", count, FIELD)
    predict = [sys.executable, "-m", "bcd_edge", "predict", str(source), "--format", "jsonl", "--quiet"]
    calls: dict[str, Callable[[], float]] = {
        "predict": lambda: _seconds(predict),
        "archive": lambda: _seconds(_archive(source, "--out", _fresh(folder / "own"))),
        "ray": lambda: _rate_on_ray(folder, source, count),
    }
    turns = in_turns(calls, TURNS)
    times = {name: statistics.median(values) for name, values in turns.items()}
    planned = _plan(folder, source, min(1000, count // 2))
    yield Row(
        f"own engine beside `bcd-edge predict --format jsonl`, {count:,} pictures of 700 x 460, whole commands",
        "at most 3 % slower",
        f"{100 * (times['archive'] / times['predict'] - 1):+.1f} %",
        f"{times['archive']:.1f} s beside {times['predict']:.1f} s",
    )
    yield Row(
        "`--ray` beside `bcd-edge predict`, the time of its work without the start of Ray and its workers",
        "at most 12 % slower",
        f"{100 * (times['ray'] / times['predict'] - 1):+.1f} %",
        f"{times['ray']:.1f} s beside {times['predict']:.1f} s",
    )
    yield Row(
        "plan from a sample beside the time of the whole run",
        "within 15 %",
        f"{100 * (planned * count / times['archive'] - 1):+.1f} %",
        f"{planned * count:.1f} s beside {times['archive']:.1f} s",
    )
    work, wanted = "own engine beside Ray's image-classification recipe (Ray Data, PyTorch ResNet-50, FP32, batches of 16)", "3 x faster"
    if not _is_installed("pandas"):
        yield Row(work, wanted, "not measured", 'needs: pip install "ray[data]"')
        return
    recipe = _recipe(source, min(count, 200))
    ratio = recipe / (times["archive"] / count)
    yield Row(work, wanted, f"{ratio:.1f} x", f"{count / times['archive']:.0f} images/s beside {1 / recipe:.1f}")


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _fresh(out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    return out


def _rate_on_ray(folder: Path, source: Path, count: int) -> float:
    """From the manifest: what Ray itself takes to start is not counted."""
    out = _fresh(folder / "ray")
    subprocess.run(_archive(source, "--out", out, "--ray", "--shard-size", max(1, count // 10)), check=True)
    manifest = (out / "manifest.json").stat().st_mtime
    return manifest - (out / "listing/000000.parquet").stat().st_mtime


def _plan(folder: Path, source: Path, size: int) -> float:
    """Seconds for an image, as planned."""
    out = _fresh(folder / "plan")
    subprocess.run(_archive(source, "--out", out, "--sample", size), check=True, stdout=subprocess.DEVNULL)
    return float(json.loads((out / "plan.json").read_bytes())["image_s"]["value"])


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
from pathlib import Path
from bcd_edge.archive.listing import Listing
with Listing(Path(sys.argv[2]), [sys.argv[1]], 1000) as listing:
    for _ in listing.numbers():
        pass
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(listing.inputs, int(peak.split()[1]))
"""


def _listing(folder: Path, names: int) -> Row:
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


def _is_installed(*names: str) -> bool:
    from importlib.util import find_spec

    return all(find_spec(name) for name in names)
