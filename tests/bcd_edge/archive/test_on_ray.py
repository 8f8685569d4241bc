"""A cluster of three nodes on this machine: nodes vanish and join, the driver is killed, and there is one row per input all the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs bcd-edge[ray]")

from ray.cluster_utils import Cluster

from bcd_edge.archive import progress
from bcd_edge.archive.sample import plan
from bcd_edge.archive.settings import Answers
from bcd_edge.archive.verify import verify
from bcd_edge.errors import UsageError
from bcd_edge.options import RunOptions
from tests.bcd_edge.archive.conftest import WORK, rows, run, same

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without work, and two nodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            started.add_node(num_cpus=1)
        yield started
        started.shutdown()


def test_a_node_vanishes_and_the_driver_is_killed(
    tmp_path: Path, collection: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["archive", str(collection), "--out", str(out), "--shard-size", "2", "--provider", "cpu", "--ray-address", cluster.address, "--quiet"]
    script = """
import os, signal, sys
from bcd_edge.archive import destination
real = destination.Destination.commit
def killed(self, shard, *rest):
    real(self, shard, *rest)
    if len(self.committed()) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
destination.Destination.commit = killed
from bcd_edge.cli import main
main(sys.argv[1:])
"""
    assert subprocess.run([sys.executable, "-c", script, *command], capture_output=True).returncode == -9
    assert len(list(out.rglob("shard-*.parquet"))) == 3
    nodes, calls = list(cluster.worker_nodes), []

    def show(self: Any) -> None:
        calls.append(self.line())
        if len(calls) == 1:
            cluster.remove_node(nodes[0], allow_graceful=False)
            cluster.add_node(num_cpus=1)

    monkeypatch.setattr(progress.Progress, "show", show)
    counts = run(out, collection, shard_size=2, work=replace(WORK, ray_address=cluster.address), resume=True).counts
    assert (counts["rows"], counts["failed"]) == (28, 3)
    assert "is lost" in capsys.readouterr().out
    assert verify(out).problems == ()
    monkeypatch.undo()
    run(tmp_path / "here", collection, shard_size=2)
    assert [same(row) for row in rows(out)] == [same(row) for row in rows(tmp_path / "here")]


def test_a_sample_on_the_cluster(tmp_path: Path, collection: Path, cluster: Cluster) -> None:
    work = replace(WORK, ray_address=cluster.address, options=RunOptions(provider="null"))
    sampled = plan(tmp_path / "out", Answers((str(collection),), shard_size=5), work, 20, 0.5, write=print)
    assert (sampled.inputs, sampled.sampled, sampled.nodes) == (28, 20, 2)
    assert sampled.hours.value > sampled.start_s / 3600
    assert run(tmp_path / "out", collection, work=replace(WORK, options=RunOptions(provider="null")), resume=True).counts["rows"] == 28


def test_what_a_worker_cannot_do_is_its_own_error(tmp_path: Path, collection: Path, cluster: Cluster) -> None:
    work = replace(WORK, ray_address=cluster.address, options=RunOptions(provider="cpu", precision="fp32"))
    with pytest.raises(Exception, match="fp32") as caught:
        run(tmp_path / "out", collection, work=work)
    assert type(caught.value).__module__ == "bcd_edge.errors"


def test_no_cluster(tmp_path: Path, collection: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no Ray cluster at 127.0.0.1:1 .* start one with: ray start --head"):
        run(tmp_path / "out", collection, work=replace(WORK, ray_address="127.0.0.1:1"))
