"""Frames to answers: still and in focus or not, the same answer as a file's, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from bcd_edge.classifier import Classifier
from bcd_edge.errors import UsageError
from bcd_edge.live import cases
from bcd_edge.live.capture import Capture, Frame
from bcd_edge.live.optics import Optics
from bcd_edge.live.session import Session, Settings
from bcd_edge.live.sources import Source
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.results import pictures
from bcd_edge.results.folder import Results

from .conftest import field


@pytest.fixture
def look(classifier: Classifier) -> Callable[..., list[str]]:
    """States of these frames, one after another; none is dropped."""

    def states(frames: list[UInt8Image], optics: Optics | None = None) -> list[str]:
        session = Session(Capture(Source("frames", "video")), classifier, Settings(optics or Optics()))
        looked = [session._look(Frame(np.ascontiguousarray(frame[..., ::-1]), number, 0.1 * number)) for number, frame in enumerate(frames)]
        assert all(update.record is None for update in looked if update.state != "answered")
        return [update.state for update in looked]

    return states


def test_moving_blurred_and_empty_frames_say_so(look: Callable[..., list[str]]) -> None:
    sharp, other = field(5), field(9)
    blurred = cv2.GaussianBlur(other, (0, 0), 9)
    empty = np.full_like(sharp, 230)
    frames = [sharp, sharp, sharp, other, other, blurred, blurred, empty, sharp, sharp]
    states = look(frames)
    assert states[:5] == ["moving", "answered", "answered", "moving", "answered"]
    assert states[6:] == ["out of focus", "unusable", "moving", "answered"]


def test_review_has_its_reason_and_a_cut_frame_is_told(classifier: Classifier) -> None:
    session = Session(Capture(Source("frames", "video")), classifier, Settings(Optics(um_per_pixel=6.0)))
    frame = np.ascontiguousarray(field()[..., ::-1])
    updates = [session._look(Frame(frame, number, 0.1 * number)) for number in range(3)]
    assert session.view is not None
    assert session.view.is_cut
    width, height, left, top = session.view.used
    assert (width, height) == session.picture_hwc_u8.shape[:2] == (height, width)
    assert (2 * left + width, 2 * top + height) == pytest.approx((frame.shape[1], frame.shape[0]), abs=1)
    for update in updates:
        assert bool(update.reason) == (update.state != "answered" or update.smoothed.decision == "review")


def noisy(picture: UInt8Image, grey_values: float, seed: int) -> UInt8Image:
    return np.asarray(np.clip(np.rint(picture + np.random.default_rng(seed).normal(0, grey_values, picture.shape)), 0, 255), np.uint8)


@pytest.mark.parametrize("grey_values", [2, 3, 8])
@pytest.mark.parametrize("optics", [None, Optics(um_per_pixel=4.0)])
def test_the_cameras_noise_is_no_fine_detail(look: Callable[..., list[str]], grey_values: float, optics: Optics | None) -> None:
    sharp = field(5)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 5)
    for picture, state in ((sharp, "answered"), (blurred, "out of focus")):
        assert look([noisy(picture, grey_values, seed) for seed in range(4)], optics)[1:] == [state] * 3


def test_a_kept_frame_has_the_frames_answer_and_that_of_its_file(classifier: Classifier, tmp_path: Path) -> None:
    optics = Optics(0.65, (300, 200, 8, 8), (1.05, 1.0, 1.1))
    session = Session(Capture(Source("frames", "video")), classifier, Settings(optics))
    for number in (0, 1):
        update = session._look(Frame(np.ascontiguousarray(field()[..., ::-1]), number, 0.1 * number))
    assert session.picture_hwc_u8 is not None
    with Results.open(tmp_path / "results") as results:
        results.use(classifier.bundle, classifier.rule)
        name, stored = cases.keep(results, classifier, session.picture_hwc_u8, optics.um_per_pixel, patient="P7")
        row = results.journal.connection.execute("SELECT target FROM names").fetchone()
    file = tmp_path / "results" / pictures.kept_path(str(stored.sha256))
    assert row["target"] == str(file.relative_to(tmp_path / "results")).encode()
    again = classifier.classify(file, name=name)
    assert update.record is not None
    for record in (stored, again):
        assert record.p_malignant == update.record.p_malignant
        assert record.reasons == update.record.reasons
        assert record.um_per_pixel == pytest.approx(0.65, abs=1e-4)
        assert record.quality == update.record.quality
    assert again.sha256 == stored.sha256


def test_a_region_outside_the_frame_is_said(look: Callable[..., list[str]]) -> None:
    with pytest.raises(UsageError, match="is not in a frame of 320x240; give another --region"):
        look([field()], Optics(region=(1920, 1080, 0, 0)))
