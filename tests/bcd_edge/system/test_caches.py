"""A cache entry is used only if its files match their checksums."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bcd_edge import backends, bundle, plugins
from bcd_edge.options import RunOptions
from bcd_edge.system import caches

OPENVINO = pytest.mark.skipif(not backends.availability("openvino").available, reason="openvino is not installed")


def sealed(folder: Path) -> Path:
    with caches.entry(folder / "entry") as entry:
        assert entry
        (entry / "model.blob").write_bytes(b"compiled")
    return entry


def test_a_sealed_entry_is_reused(tmp_path: Path) -> None:
    entry = sealed(tmp_path)
    sealed_at = (entry / caches.SEAL).stat().st_mtime_ns
    with caches.entry(entry) as opened:
        assert opened == entry
        assert (entry / "model.blob").read_bytes() == b"compiled"
    assert (entry / caches.SEAL).stat().st_mtime_ns == sealed_at  # nothing changed, so no checksum is computed again
    with caches.entry(entry):
        (entry / "timing.cache").write_bytes(b"one more")
    assert "timing.cache" in (entry / caches.SEAL).read_text()


@pytest.mark.parametrize("damage", ["changed", "more", "missing", "no seal", "seal is nonsense", "half written"])
def test_an_entry_that_does_not_match_its_checksums_is_deleted(damage: str, tmp_path: Path) -> None:
    entry = sealed(tmp_path)
    file, seal = entry / "model.blob", entry / caches.SEAL
    if damage == "changed":
        file.write_bytes(b"comp1led")
    elif damage == "more":
        (entry / "other.blob").write_bytes(b"x")
    elif damage == "missing":
        file.unlink()
    elif damage == "no seal":
        seal.unlink()
    else:
        seal.write_text("nonsense" if damage == "seal is nonsense" else seal.read_text()[:20])
    with caches.entry(entry) as opened:
        assert opened == entry
        assert list(entry.iterdir()) == []


def test_an_entry_that_an_exception_interrupted_is_deleted(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), caches.entry(tmp_path / "entry") as entry:
        assert entry
        (entry / "model.blob").write_bytes(b"half")
        raise RuntimeError
    with caches.entry(tmp_path / "entry") as entry:
        assert entry
        assert list(entry.iterdir()) == []


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file" / "entry", None):
        with caches.entry(place) as opened:
            assert opened is None


WAITING = """
import sys
from pathlib import Path
from bcd_edge.system import caches
print("here", flush=True)
with caches.entry(Path(sys.argv[1])) as entry:
    print(*sorted(file.name for file in entry.iterdir()))
"""


def test_another_process_waits_for_an_entry_being_built_and_uses_it(tmp_path: Path) -> None:
    place = tmp_path / "entry"
    with caches.entry(place) as entry:
        assert entry
        other = subprocess.Popen([sys.executable, "-c", WAITING, str(place)], stdout=subprocess.PIPE, text=True)
        assert other.stdout
        assert other.stdout.readline() == "here\n"
        time.sleep(0.5)  # enough time to delete an entry that is not sealed yet
        (entry / "model.blob").write_bytes(b"compiled")
    assert other.communicate()[0].split() == ["model.blob", caches.SEAL]


def test_a_process_that_never_releases_the_lock_is_not_waited_for_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(caches, "LOCK_TIMEOUT_S", 0.3)
    with caches.entry(tmp_path / "entry") as first, caches.entry(tmp_path / "entry") as second:
        assert first
        assert second is None
    assert [record.message for record in caplog.records] == [
        "Another bcd-edge process is preparing the same model; waiting for it.",
        "Timed out; this process prepares the model again, without caching it.",
    ]


def test_waiting_can_be_interrupted(tmp_path: Path) -> None:
    with caches.entry(tmp_path / "entry"):
        other = subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path / "entry")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert other.stderr
        assert "waiting for it" in other.stderr.readline()
        other.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in other.communicate(timeout=30)[1]


def test_the_key_is_all_of_its_parts() -> None:
    keys = [("a", "b"), ("ab", ""), ("a", "b", ""), ("a", "c")]
    assert len({caches.folder("openvino", *key) for key in keys}) == 4
    assert caches.folder("openvino", "a").parent == caches.root() / "openvino"


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCD_EDGE_CACHE", "/somewhere")
    assert caches.root() == Path("/somewhere")
    monkeypatch.delenv("BCD_EDGE_CACHE")
    assert caches.root().is_absolute()


@OPENVINO
def test_openvino_compiles_once_and_rebuilds_a_damaged_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, size = bundle.open().model()[1][0], bundle.open().input
    batch = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3), dtype=np.uint8)

    def answer() -> np.ndarray:
        backend = plugins.load("bcd_edge.backends.providers", "openvino").open(model, RunOptions(batch=1, threads=1), tmp_path / "entry")
        return backend.infer(batch)

    first = answer()
    blobs = list((tmp_path / "entry").glob("*.blob"))
    assert blobs
    stamps = [blob.stat().st_mtime_ns for blob in blobs]
    assert np.array_equal(answer(), first)
    assert [blob.stat().st_mtime_ns for blob in blobs] == stamps
    for blob in blobs:
        content = bytearray(blob.read_bytes())
        content[len(content) // 2] ^= 0xFF
        blob.write_bytes(content)
    assert np.array_equal(answer(), first)
    assert [blob.stat().st_mtime_ns for blob in blobs] != stamps
    for blob in blobs:
        os.truncate(blob, 1000)
    assert np.array_equal(answer(), first)
