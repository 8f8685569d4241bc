"""Overlays come after the answers, survive a stop, and hold up no image."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import cv2
import pytest

from bcd_edge.options import RunOptions

pytest.importorskip("lime", reason='pip install "bcd-edge[explain]"')


def test_every_answer_gets_an_overlay_and_inputs_are_deleted_after_it(place: Any) -> None:
    place.drop("a.png", "b.png")
    place.run(model={"options": RunOptions(provider="cpu")}, overlay=True, after="delete")
    overlays = place.query("SELECT overlay FROM images")
    assert len(overlays) == 2
    for path in overlays:
        assert cv2.imread(str(place.results / path)).shape[1] >= 480
        numbers = json.loads((place.results / path.replace(".overlay.png", ".explanation.json")).read_text())
        assert numbers["record"]["execution"]["provider"] == "cpu"
    assert not list(place.inbox.iterdir())
    assert place.verification().problems == ()
    assert "overlay</a>" in (place.results / "summary.html").read_text()


def test_no_name_is_interned(place: Any, interned: list[str]) -> None:
    place.drop("marked.png")
    interned.clear()
    place.run(overlay=True)
    assert [text for text in interned if "marked" in text] == []
    assert place.query("SELECT overlay LIKE 'records/%' FROM images") == [1]


def test_an_overlay_that_was_wanted_before_a_stop_is_drawn_after_it(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bcd_edge.watch.overlays import Overlays

    place.drop("a.png")
    with monkeypatch.context() as patch:
        patch.setattr(Overlays, "advance", lambda self: False)
        place.run(model={"options": RunOptions(provider="cpu")}, overlay=True, after="move")
    assert place.query("SELECT overlay FROM images") == ["wanted"]
    place.run(model={"options": RunOptions(provider="cpu")}, overlay=True)
    assert place.query("SELECT overlay LIKE 'records/%' FROM images") == [1]


def test_an_input_that_is_gone_by_then_is_said_and_not_tried_for_ever(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bcd_edge.watch.overlays import Overlays

    place.drop("a.png")
    with monkeypatch.context() as patch:
        patch.setattr(Overlays, "advance", lambda self: False)
        place.run(overlay=True)
    (place.inbox / "a.png").unlink()
    place.run(overlay=True)
    assert place.query("SELECT overlay FROM images") == ["The file does not exist; give the path of an image."]
    assert place.verification().problems == ()


def test_a_question_to_the_model_waits_while_images_wait(place: Any) -> None:
    done = subprocess.run(place.command("--once", "--explain"), capture_output=True)
    assert done.returncode == 0
    import threading

    from bcd_edge.watch.overlays import Overlays

    free = threading.Event()
    overlays = Overlays.__new__(Overlays)
    overlays._idle = free
    free.set()
    overlays.pause()
    assert not free.is_set()
