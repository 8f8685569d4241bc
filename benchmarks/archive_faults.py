"""`bcd-edge archive` on a Ray cluster whose nodes and driver are killed, and from an object store that fails."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import cv2
import pyarrow.dataset as ds

from bcd_edge.archive.verify import verify
from bcd_edge.synthetic import tissue
from benchmarks.tables import Row

# Where only the number of inputs matters they are small, and each is another piece of drawn tissue.
HEIGHT, WIDTH = 60, 80
FIELDS: Final = 10
TOLERANCE: Final = 1e-5


def archive(*arguments: object) -> list[str]:
    """The command."""
    return [sys.executable, "-m", "bcd_edge", "archive", *map(str, arguments), "--quiet"]


def _pictures(folder: Path, count: int) -> Path:
    """PNG files in folders of 1,000."""
    fields = [tissue(seed) for seed in range(FIELDS)]
    height, width, _ = fields[0].shape
    corners = random.Random(21).sample(range(FIELDS * (height - HEIGHT) * (width - WIDTH)), count)
    for number, corner in enumerate(corners):
        field, place = divmod(corner, (height - HEIGHT) * (width - WIDTH))
        top, left = divmod(place, width - WIDTH)
        path = folder / f"{number // 1000:03}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), fields[field][top : top + HEIGHT, left : left + WIDTH, ::-1])
    return folder


def killed_cluster(folder: Path, count: int) -> Row:
    """Three nodes; a node vanishes at a fifth and at two fifths, the driver at three fifths."""
    from ray.cluster_utils import Cluster

    source, out = _pictures(folder / "in", count), folder / "out"
    shard_size = max(1, count // 50)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        options = ("--out", out, "--shard-size", shard_size, "--provider", "cpu", "--ray-address", cluster.address)
        driver = subprocess.Popen(archive(source, *options))
        for share in (0.2, 0.4):
            _until(out, share * count / shard_size, driver)
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            cluster.add_node(num_cpus=1)
        _until(out, 0.6 * count / shard_size, driver)
        driver.kill()
        driver.wait()
        committed = len(_shards(out))
        subprocess.run(archive(*options, "--resume"), check=True)
    finally:
        cluster.shutdown()
    subprocess.run(archive(source, "--out", folder / "undisturbed", "--shard-size", shard_size, "--provider", "cpu"), check=True)
    result = verify(out)
    assert result.problems == (), result.problems
    disturbed, undisturbed = _rows(out), _rows(folder / "undisturbed")
    equal = sum(map(_is_equal, disturbed, undisturbed))
    return Row(
        f"{count:,} pictures on a Ray cluster of three nodes on this machine, a node killed twice, the driver once, then `--resume`",
        "every row, none twice, none torn; equal to a run without faults, row for row",
        f"{len(disturbed):,} rows, {len({row['source'] for row in disturbed}):,} inputs, {result.failed:,} failed; {equal:,} equal",
        f"provider cpu, pictures of {WIDTH} x {HEIGHT}, {len({row['p_malignant'] for row in disturbed}):,} different answers; {committed} of "
        f"{math.ceil(count / shard_size)} shards were there when the driver was killed; p and novelty to {TOLERANCE:g}, times left out",
    )


def _until(out: Path, shards: float, driver: subprocess.Popen[bytes]) -> None:
    while len(_shards(out)) < shards:
        assert driver.poll() is None, "the driver ended"
        time.sleep(0.2)


def _shards(out: Path) -> list[Path]:
    return list(out.rglob("shard-*.parquet"))


def _rows(out: Path) -> list[dict[str, Any]]:
    """All rows in the order of the listing, without the times."""
    return ds.dataset(out / "records", partitioning="hive").to_table().sort_by("row").drop_columns(["timing_ms", "part"]).to_pylist()


def _is_equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether all columns are equal; the last digits of p and novelty depend on which pictures share a batch."""
    near = ("p_malignant", "novelty")
    exact = [name for name in first if name not in near]
    return all(first[name] == second[name] for name in exact) and all(math.isclose(first[name], second[name], abs_tol=TOLERANCE) for name in near)


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


def failing_store(folder: Path, count: int) -> Row:
    """The S3 server of moto, in a process of its own."""
    import fsspec

    work = f"an S3 store (moto) with {count:,} objects, 5 % errors and 5 % slow answers"
    wanted = "all answered, retries counted, nothing twice"
    if not all(find_spec(name) for name in ("moto", "s3fs")):
        return Row(work, wanted, "not measured", "needs: pip install moto[server] s3fs")
    server = subprocess.Popen([sys.executable, "-c", _STORE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout
        os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(server.stdout.readline())}", "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        source, out = _pictures(folder / "in", count), folder / "out"
        store = fsspec.filesystem("s3")
        store.mkdir("archive")
        store.put(str(source), "archive/in", recursive=True)
        started = time.perf_counter()
        subprocess.run(archive("s3://archive/in", "--out", out, "--provider", "cpu"), check=True)
        seconds = time.perf_counter() - started
    finally:
        server.kill()
        server.wait()
    result, manifest = verify(out), json.loads((out / "manifest.json").read_bytes())
    assert (result.problems, result.failed, result.copies) == ((), 0, 0), result
    return Row(work, wanted, f"{result.rows:,} rows, {manifest['retries']:,} retries, 0 failed, 0 twice", f"{count / seconds:.0f} images/s")
