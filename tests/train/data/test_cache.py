"""The same pixels whether they come from the decoder or the disk, and no run that a cache can stop."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

from bcd_edge.bundle import Input
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue
from train.data import cache
from train.data.sources import Item


def item(seed: int, name: str = "") -> Item:
    picture = cv2.imencode(".png", tissue(seed, height=40, width=60, scattered=5))[1].tobytes()
    return Item("idc", name or f"{seed}.png", picture, False, str(seed))


ITEMS = [item(seed) for seed in range(4)]


@pytest.fixture(autouse=True)
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BCD_EDGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "images"


def test_the_second_run_decodes_nothing_and_gets_the_pixels_of_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.pixels(ITEMS, 32)
    with monkeypatch.context() as without_decoder:
        without_decoder.delattr(raster, "decode")
        second = cache.pixels(ITEMS, 32)
    for index, item in enumerate(ITEMS):
        assert np.array_equal(second[index], raster.resize(raster.decode(item.data), Input(32, 32)))
    for pixels in (first, second):
        assert isinstance(pixels, np.memmap)
        assert not pixels.flags.writeable
        assert pixels.dtype == np.uint8
        assert pixels.shape == (4, 32, 32, 3)


def test_names_and_labels_do_not_matter_to_the_key_and_everything_that_changes_pixels_does(monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache.key(ITEMS, 32)
    assert cache.key([item(seed, "elsewhere.png") for seed in range(4)], 32) == key
    others = [cache.key(ITEMS[::-1], 32), cache.key(ITEMS[:3], 32), cache.key(ITEMS, 33)]
    for module, name, value in ((cache, "POLICY", cache.POLICY + 1), (cv2, "__version__", "0")):
        with monkeypatch.context() as changed:
            changed.setattr(module, name, value)
            others.append(cache.key(ITEMS, 32))
    assert len({key, *others}) == 6


def test_the_policy_number_stands_for_these_pixels() -> None:
    """If this fails, `bcd_edge.readers.raster` gives other pixels than before: raise `train.data.cache.POLICY` and correct the values."""
    picture = np.array([[[0, 0, 0, 255], [10, 20, 30, 255]], [[20, 40, 60, 255], [10, 20, 30, 0]]], np.uint8)  # BGR and alpha
    decoded = raster.decode(cv2.imencode(".png", picture)[1].tobytes())
    assert decoded.tolist() == [[[0, 0, 0], [30, 20, 10]], [[60, 40, 20], [255, 255, 255]]]
    assert raster.resize(decoded, Input(1, 1)).tolist() == [[[86, 79, 71]]]
    assert raster.resize(decoded[:1], Input(1, 4)).tolist() == [[[0, 0, 0], [8, 5, 3], [23, 15, 8], [30, 20, 10]]]
    assert cache.POLICY == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "nonsense", "pickle", "other shape", "grown"])
def test_a_damaged_file_is_made_anew(damage: str, where: Path) -> None:
    expected = np.array(cache.pixels(ITEMS, 32))
    (file,) = where.iterdir()
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    if damage == "cut":
        os.truncate(file, 9000)
    elif damage == "pickle":
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    elif damage == "other shape":
        np.save(file, np.zeros((4, 31, 32, 3), np.uint8))
    else:
        file.write_bytes({"flipped": bytes(data), "empty": b"", "nonsense": b"x" * 200, "grown": file.read_bytes() + b"x"}[damage])
    assert np.array_equal(cache.pixels(ITEMS, 32), expected)
    assert np.array_equal(np.load(file), expected)
    assert list(where.iterdir()) == [file]


def test_a_folder_that_cannot_be_written_costs_one_line(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where.write_bytes(b"a file, not a folder")
    pixels = cache.pixels(ITEMS, 32)
    assert np.array_equal(pixels[0], raster.resize(raster.decode(ITEMS[0].data), Input(32, 32)))
    assert not pixels.flags.writeable
    message = capsys.readouterr().err
    assert "BCD_EDGE_CACHE" in message
    assert str(where) in message
    assert "Traceback" not in message


def test_the_first_damaged_image_ends_the_decoding_of_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = raster.decode
    monkeypatch.setattr(raster, "decode", lambda data: (decoded.append(data), decode(data))[1])
    with pytest.raises(click.ClickException):
        cache.pixels([Item("idc", "bad.png", b"no image", True, "1"), *(replace(ITEMS[0], name=f"{index}.png") for index in range(2000))], 32)
    assert len(decoded) < 1000


def test_a_full_disk_leaves_no_rest(where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def save(file: object, array: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", save)
    assert len(cache.pixels(ITEMS, 32)) == 4
    assert "No space left" in capsys.readouterr().err
    assert list(where.iterdir()) == []


def test_what_was_not_used_for_longest_goes_first_and_strangers_stay(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (32, 33, 34):
        cache.pixels(ITEMS, size)
    files = {size: where / f"{cache.key(ITEMS, size)}.npy" for size in (32, 33, 34, 35)}
    stranger = where / "mine.npy"
    stranger.write_bytes(b"x")
    for age, path in enumerate([files[34], files[33], files[32], stranger]):
        os.utime(path, (1000 - age, 1000 - age))
    cache.pixels(ITEMS, 32)  # used: now the youngest
    monkeypatch.setattr(cache, "LIMIT_BYTES", sum(files[size].stat().st_size for size in (32, 33, 34)) + 1000)
    cache.pixels(ITEMS, 35)
    assert {path.name for path in where.iterdir()} == {files[32].name, files[35].name, "mine.npy"}


def test_more_than_the_cache_holds_is_not_kept_and_nothing_is_removed_for_it(
    where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.pixels(ITEMS, 32)
    monkeypatch.setattr(cache, "LIMIT_BYTES", 15_000)
    assert len(cache.pixels(ITEMS, 64)) == 4
    assert "not kept" in capsys.readouterr().err
    assert len(list(where.iterdir())) == 1


def test_a_damaged_image_ends_the_run_by_name(where: Path) -> None:
    with pytest.raises(click.ClickException, match=r"breakhis bad\.png: This is not an image"):
        cache.pixels([*ITEMS, Item("breakhis", "bad.png", b"no image", True, "1")], 32)
    assert not where.exists()


def test_nothing_is_nothing() -> None:
    assert cache.pixels([], 32).shape == (0, 32, 32, 3)


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    assert cache.folder().name == "images"
    monkeypatch.delenv("BCD_EDGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache.folder() == Path("/var/cache/bcd-edge/images")
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache.folder() == Path("/home/somebody/.cache/bcd-edge/images")


@pytest.mark.parametrize("module", ["train.data.cache", "train.data.audit", "train.data.sources"])
def test_no_torch(module: str) -> None:
    script = f"import sys, {module}; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True).stdout == "False\n"
    )
