"""Sources list in an order that a listing goes on with, after any item; stores that fail are tried again."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bcd_edge.archive import folders, sources, stores
from bcd_edge.archive.items import Item
from bcd_edge.archive.listing import Listing
from bcd_edge.errors import UsageError
from bcd_edge.inputs import Inputs
from bcd_edge.readers import raster
from tests.bcd_edge.archive.conftest import rows, run


def listed(text: object, after: str | None = None) -> list[Item]:
    return list(sources.open(str(text)).items(0, after))


def goes_on_after_each(text: object) -> list[Item]:
    """The listing; from behind each of its items on, it lists the rest."""
    whole = listed(text)
    for number, item in enumerate(whole, 1):
        assert listed(text, item.position) == whole[number:]
    return whole


def test_a_folder_lists_what_predict_takes(collection: Path) -> None:
    (collection / "P1/loop").symlink_to(collection)
    (collection / "P1/dangling.png").symlink_to("missing")
    (collection / os.fsdecode(b"P1/\xff.png")).write_bytes(b"")
    whole = goes_on_after_each(collection)
    assert sorted(item.path for item in whole) == sorted(name for name, _ in Inputs([str(collection)]))
    assert [item.error for item in whole if item.error] == [f"{collection}/P1/loop is a link to a folder above it; remove the link."]
    assert whole[-1].size == (collection / "P2/cut.png").stat().st_size


def test_an_unreadable_folder_is_a_failed_input(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    whole = goes_on_after_each(collection)
    assert [item.error for item in whole if item.error] == [
        f"The folder {collection}/P2/below could not be read (Permission denied); give this user permission."
    ]


@pytest.mark.parametrize("pattern", ["P?/*.png", "**/*.png", "P2/below/0*"])
def test_a_glob_lists_what_predict_takes(collection: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [item.path for item in goes_on_after_each(collection / pattern)] == sorted(name for name, _ in Inputs([f"{collection}/{pattern}"]))
    monkeypatch.chdir(collection)
    assert [item.path for item in goes_on_after_each(pattern)] == sorted(name for name, _ in Inputs([pattern]))


def test_an_empty_folder_is_a_failed_input(tmp_path: Path) -> None:
    (item,) = goes_on_after_each(tmp_path)
    assert item.error == f"{tmp_path} contains no image ({', '.join(raster.suffixes())}); give another source."


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_tells_patient_slide_and_scale(tmp_path: Path, collection: Path, kind: str) -> None:
    manifest = collection.parent / f"files.{kind}"
    columns = {
        "file": ["collection/P1/00.png", str(collection / "P2/01.png"), "", "collection/P1/03.png"],
        "patient": ["A", "B", "C", ""],
        "um_per_pixel": ["0.5", "", "", "wide"],
    }
    if kind == "csv":
        with manifest.open("w", newline="") as file:
            csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    else:
        pq.write_table(pa.table(columns), manifest)
    whole = goes_on_after_each(manifest)
    assert [(item.patient, item.um_per_pixel, bool(item.error)) for item in whole] == [
        ("A", 0.5, False),
        ("B", None, False),
        ("C", None, True),
        (None, None, True),
    ]
    run(tmp_path / "out", manifest)
    assert [(row["status"], row["um_per_pixel"], row["intake"]["patient"]) for row in rows(tmp_path / "out")] == [
        ("ok", 0.5, "A"),
        ("ok", None, "B"),
        ("failed", None, "C"),
        ("failed", None, None),
    ]


def test_a_manifest_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files.csv").write_text("path\nx.png\n")
    with pytest.raises(UsageError, match=r"files.csv has no column file \(it has path\)"):
        listed(tmp_path / "files.csv")


class Unsteady(MemoryFileSystem):
    """Every third call fails."""

    protocol = "unsteady"
    store, pseudo_dirs = {}, [""]
    calls = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("unsteady://", "memory://"))

    def _fail(self) -> None:
        Unsteady.calls += 1
        if Unsteady.calls % 3 == 0:
            raise ConnectionError("slow down")

    def cat_file(self, *arguments: object, **options: object) -> bytes:
        self._fail()
        return super().cat_file(*arguments, **options)

    def ls(self, *arguments: object, **options: object) -> list[object]:
        self._fail()
        return super().ls(*arguments, **options)


@pytest.fixture
def store(pictures: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """24 objects in two folders of a store that is not reliable."""
    monkeypatch.setattr(stores, "FIRST_WAIT_S", 0.0)
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    memory = Unsteady()
    for index in range(24):
        memory.pipe_file(f"/bucket/{'ab'[index % 2]}/{index:02}.png", pictures[index % 20])
    memory.pipe_file("/bucket/a/notes.txt", b"none")
    yield "unsteady://bucket"
    memory.store.clear()


def test_an_object_store_that_fails_is_tried_again(tmp_path: Path, store: str) -> None:
    assert len(goes_on_after_each(store)) == 24
    assert [item.path for item in goes_on_after_each(f"{store}/b/0*.png")] == [f"{store}/b/{index:02}.png" for index in (1, 3, 5, 7, 9)]
    summary = run(tmp_path / "out", store)
    assert (summary.counts["rows"], summary.counts["ok"], summary.counts["copied"]) == (24, 24, 4)
    assert summary.retries >= 24 // 3
    assert [row["source"] for row in rows(tmp_path / "out")] == [item.path for item in listed(store)]


def test_nothing_in_a_store_is_refused(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (f"{store}/*/*.nothing", f"{store}/c/*.png", f"{store}/c"):
        with pytest.raises(UsageError, match=r"There is no image \(.*\) in unsteady://bucket/"):
            run(tmp_path / "out", source)
    monkeypatch.setattr(Unsteady, "ls", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("gone")))
    with pytest.raises(UsageError, match=r"unsteady://bucket could not be listed \(ConnectionError: gone\); fix this"):
        run(tmp_path / "out", store)
    assert not (tmp_path / "out").exists()


def test_an_object_that_never_comes_is_a_failed_input(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unsteady, "cat_file", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("gone")))
    run(tmp_path / "out", f"{store}/a/00.png")
    assert rows(tmp_path / "out")[0]["error"] == "unsteady://bucket/a/00.png could not be read in 6 attempts (ConnectionError: gone)."


def test_what_is_listed_is_worked_on_while_listing_goes_on(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    first_is_read = threading.Event()
    tree = sources._Tree.items

    def waiting(self: object, index: int, after: str | None) -> Iterator[Item]:
        for number, item in enumerate(tree(self, index, after)):
            if number == 7:
                assert first_is_read.wait(60)
            yield item

    monkeypatch.setattr(sources._Tree, "items", waiting)
    with Listing(folders.open(tmp_path), [str(collection)], 5) as listing:
        numbers = listing.numbers()
        assert len(listing.items(next(numbers))) == 5
        assert not listing.is_complete
        first_is_read.set()
        assert list(numbers) == [1, 2, 3, 4, 5]
    assert (listing.inputs, listing.is_complete) == (28, True)


def test_a_limit_of_the_rate_spaces_reads_by_their_size(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(stores.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(stores.time, "sleep", waits.append)
    reader = stores.Reader(1000.0)
    whole = [item for item in listed(collection) if item.size]
    for item in whole:
        reader.read(item)
    assert reader.bytes_read == sum(item.size or 0 for item in whole)
    assert waits == pytest.approx([sum(item.size or 0 for item in whole[:number]) / 1000 for number in range(len(whole))])
