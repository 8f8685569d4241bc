"""A data set in an object store is the one on a disk; claims of many threads share calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem

from bcd_edge.archive import folders, stores
from bcd_edge.archive.claims import BatchedClaims
from bcd_edge.archive.contents import Place
from bcd_edge.archive.destination import Destination
from bcd_edge.archive.verify import verify
from bcd_edge.cli import main
from bcd_edge.errors import InputError, OutputError, UsageError
from tests.bcd_edge.archive.conftest import WORK, rows, run, same

ROOT = Path(__file__).parents[3]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A place in a store of which every third write fails; what stays on this machine is below `tmp_path`."""
    write, calls = MemoryFileSystem.pipe_file, []

    def unsteady(self: MemoryFileSystem, *arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) % 3 == 0:
            raise ConnectionError("slow down")
        write(self, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", unsteady)
    monkeypatch.setattr(stores, "FIRST_WAIT_S", 0.0)
    monkeypatch.setenv("BCD_EDGE_CACHE", str(tmp_path / "cache"))
    yield "memory://bucket/out"
    MemoryFileSystem.store.clear()


def test_a_data_set_in_a_store_goes_on_from_another_machine(tmp_path: Path, collection: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "here", collection)
    with pytest.raises(InputError, match="--resume --retry-failed"):
        run(bucket, collection, work=replace(WORK, max_failures=2))
    assert 0 < len(Destination(bucket).committed()) < 6
    monkeypatch.setenv("BCD_EDGE_CACHE", str(tmp_path / "another"))  # so the index of contents is not there
    summary = run(bucket, collection, resume=True)
    assert (summary.counts["rows"], summary.counts["failed"]) == (28, 3)
    assert summary.retries > 0
    result = verify(bucket)
    assert (result.rows, result.problems) == (28, ())
    assert [same(row) for row in rows(bucket)] == [same(row) for row in rows(tmp_path / "here")]
    damaged = f"/{bucket.partition('://')[2]}/records/part=0000/shard-000001.parquet"
    MemoryFileSystem.store[damaged].seek(0)
    MemoryFileSystem.store[damaged].truncate(1000)
    assert run(bucket, collection, resume=True).counts["rows"] == 28
    assert verify(bucket).problems == ()
    assert len(Destination(bucket).folder.read("damaged/shard-000001.parquet")) == 1000
    compared = CliRunner().invoke(main, ["archive", "compare", str(tmp_path / "here"), bucket, "--out", str(tmp_path / "changes")])
    assert "25 compared, 0 with another decision" in compared.output


def test_a_store_that_takes_nothing(collection: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda *_, **__: (_ for _ in ()).throw(PermissionError("Access Denied")))
    with pytest.raises(OutputError, match=r"memory://bucket/out cannot be written \(Access Denied\)"):
        run(bucket, collection)


def test_what_writes_no_whole_objects_is_refused() -> None:
    with pytest.raises(UsageError, match="A data set cannot be written to sftp://; give a folder"):
        folders.open("sftp://host/out")


def test_slides_are_put_into_the_store(tmp_path: Path, bucket: str) -> None:
    slide = ROOT.parent / "shared/data/slides/CMU-1-Small-Region.svs"
    pytest.importorskip("openslide")
    if not slide.exists():
        pytest.skip("needs ../shared/data/slides")
    run(bucket, slide, field_um=700)
    names = Destination(bucket).folder.names("slides")
    assert any(name.endswith(".html") for name in names)
    assert not any(name.endswith(".lock") for name in names)
    assert not list((tmp_path / "cache").rglob("*.html"))


def test_claims_that_wait_go_together() -> None:
    batches: list[int] = []

    def call(requests: list[tuple[bytes, Place]]) -> list[Place | None]:
        while not batches and len(claims._waiting) < 7:  # until all others wait for the first one
            time.sleep(0.001)
        batches.append(len(requests))
        return [Place(place.shard + 1, place.row) if place.row % 2 else None for _, place in requests]

    claims, barrier = BatchedClaims(call), threading.Barrier(8)

    def claim(row: int) -> Place | None:
        barrier.wait(60)
        return claims.claim(bytes([row]), Place(0, row))

    with ThreadPoolExecutor(8) as threads:
        owners = list(threads.map(claim, range(8)))
    assert owners == [Place(1, row) if row % 2 else None for row in range(8)]
    assert sum(batches) == 8
    assert len(batches) == 2


def test_a_call_that_fails_fails_all_of_its_claims() -> None:
    def call(requests: list[tuple[bytes, Place]]) -> list[Place | None]:
        raise ConnectionError("gone")

    claims = BatchedClaims(call)
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(claims.claim, bytes([row]), Place(0, row)) for row in range(4)]
    assert [str(future.exception()) for future in futures] == ["gone"] * 4
