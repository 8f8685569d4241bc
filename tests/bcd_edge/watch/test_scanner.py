"""What of an inbox is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge.readers import raster
from bcd_edge.watch import disposal
from bcd_edge.watch.models import PendingDisposal
from bcd_edge.watch.scanner import TEMPORARY, Scanner, is_wanted, stat

letters = st.text(st.characters(exclude_characters="/\0.~", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(letters, max_size=3), letters, st.sampled_from(raster.suffixes()))
def test_images_are_wanted_in_any_folder_and_any_case(folders: list[str], stem: str, suffix: str) -> None:
    path = "/".join([*folders, stem + suffix])
    assert is_wanted(path, (), ())
    assert is_wanted("/".join([*folders, stem + suffix.upper()]), (), ())
    assert not is_wanted(path, (), ("*" + suffix,))
    assert not is_wanted(path, ("*.none",), ())


@given(letters, st.sampled_from(raster.suffixes()), st.sampled_from(TEMPORARY))
def test_temporary_and_hidden_names_are_never_wanted(stem: str, suffix: str, temporary: str) -> None:
    for path in (f"{stem}{suffix}{temporary}", f".{stem}{suffix}", f"~{stem}{suffix}", f".{stem}/a{suffix}"):
        assert not is_wanted(path, ("*",), ())


def test_a_folder_that_may_not_be_read_hides_nothing_else(tmp_path: Path, until: Callable[[Callable[[], object], str], None], caplog: Any) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    with Scanner(tmp_path, scan_s=0.05, events=False) as scanner:
        until(lambda: scanner.scans > 1, "two scans")
        assert {file.path for file in scanner.fetch(100)} == {"b.png", "open/a.png"}
        tmp_path.rename(tmp_path.with_name("away"))
        until(lambda: scanner.problem, "the inbox to be missed")
        tmp_path.with_name("away").rename(tmp_path)
        until(lambda: scanner.problem is None, "the inbox to be found")


def test_a_file_without_a_suffix_is_taken_by_its_content(tmp_path: Path, until: Callable[[Callable[[], object], str], None]) -> None:
    picture = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for name, data in (("IMG0001", picture), ("README", b"no image"), ("old.scan", picture), ("~IMG", picture)):
        (tmp_path / name).write_bytes(data)
    with Scanner(tmp_path, exclude=["skip*"], scan_s=0.05, events=False) as scanner:
        until(lambda: scanner.scans > 1, "two scans")
        assert {file.path for file in scanner.fetch(100)} == {"IMG0001"}
        assert scanner.skipped == {"": 1, ".scan": 1}
        (tmp_path / "README").write_bytes(picture)  # it was not complete
        (tmp_path / "skipped").write_bytes(picture)
        until(lambda: scanner.skipped == {".scan": 1}, "the file to be complete")
        until(lambda: "README" in {file.path for file in scanner.fetch(100)}, "the file to be taken")
    with Scanner(tmp_path, include=["*.scan"], scan_s=0.05, events=False) as scanner:
        until(lambda: scanner.scans > 1, "two scans")
        assert {file.path for file in scanner.fetch(100)} == {"old.scan"}


def test_rights_count_as_a_change(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    before = stat(tmp_path, "a.png")
    (tmp_path / "a.png").chmod(0o640)
    assert stat(tmp_path, "a.png") != before


class TestDisposal:
    """An answered input, and what else may lie there by then."""

    @pytest.fixture(params=["same disk", "other disk"])
    def pending(self, request: pytest.FixtureRequest, place: Any, monkeypatch: pytest.MonkeyPatch) -> PendingDisposal:
        if request.param == "other disk":
            real = Path.rename

            def rename(self: Path, target: Path) -> Path:
                if target.is_relative_to(place.results):
                    raise OSError(18, "Invalid cross-device link")  # EXDEV
                return real(self, target)

            monkeypatch.setattr(Path, "rename", rename)
        place.drop("a.png", seed=1)
        (place.results / "tmp").mkdir(parents=True)
        import hashlib

        sha256 = hashlib.sha256((place.inbox / "a.png").read_bytes()).hexdigest()
        seen = stat(place.inbox, "a.png")
        assert seen is not None
        return PendingDisposal(1, seen, sha256, disposal.target_path("a.png", sha256, "2026-01-01", place.results))

    def test_it_is_moved_once(self, place: Any, pending: PendingDisposal) -> None:
        assert disposal.put_away(pending, place.inbox, place.results) == pending.target
        assert (place.results / str(pending.target)).read_bytes() == place.picture(1)
        assert not list(place.inbox.iterdir())
        assert not list((place.results / "tmp").iterdir())
        assert disposal.put_away(pending, place.inbox, place.results) == pending.target

    def test_other_content_stays(self, place: Any, pending: PendingDisposal) -> None:
        place.drop("a.png", seed=2)
        assert disposal.put_away(pending, place.inbox, place.results) is None
        assert (place.inbox / "a.png").read_bytes() == place.picture(2)

    def test_content_that_came_between_look_and_renaming_is_put_back(
        self, place: Any, pending: PendingDisposal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = disposal._status

        def status(path: str) -> os.stat_result | None:
            before = real(path)
            if path.endswith("/a.png"):
                place.drop("b.png", seed=2)
                (place.inbox / "b.png").replace(path)
            return before

        monkeypatch.setattr(disposal, "_status", status)
        assert disposal.put_away(pending, place.inbox, place.results) is None
        assert {path.name: path.read_bytes() for path in place.inbox.iterdir()} == {"a.png": place.picture(2)}

    def test_ended_in_the_middle_with_a_new_file_of_that_name(self, place: Any, pending: PendingDisposal) -> None:
        (place.inbox / "a.png").rename(place.inbox / f".{pending.sha256[:16]}-{pending.id}.bcd-edge")
        place.drop("a.png", seed=2)
        assert disposal.put_away(pending, place.inbox, place.results) == pending.target
        assert (place.results / str(pending.target)).read_bytes() == place.picture(1)
        assert (place.inbox / "a.png").read_bytes() == place.picture(2)

    def test_what_cannot_be_moved_lies_where_it_lay(self, place: Any, pending: PendingDisposal) -> None:
        (place.results / "processed").write_text("in the way")
        with pytest.raises(OSError, match=r"exists|directory"):
            disposal.put_away(pending, place.inbox, place.results)
        assert [path.name for path in place.inbox.iterdir()] == ["a.png"]
