"""Region, white balance, scale, and what is remembered of them."""

from __future__ import annotations

import numpy as np
import pytest

from bcd_edge.errors import UsageError
from bcd_edge.live import optics
from bcd_edge.live.optics import Optics
from bcd_edge.triage.scale import Scale

from .conftest import field


def test_a_region_is_cut_and_made_rgb() -> None:
    frame = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    assert np.array_equal(Optics(region=(4, 2, 3, 1)).apply(frame), frame[1:3, 3:7, ::-1])
    with pytest.raises(UsageError, match=r"region 4x2\+6\+1 is not in a frame of 8x6"):
        Optics(region=(4, 2, 6, 1)).apply(frame)


def test_a_field_larger_than_the_bundle_knows_is_cut_to_the_middle() -> None:
    frame = np.zeros((600, 1000, 3), np.uint8)
    scale = Scale(60, 400)
    assert Optics(um_per_pixel=1.0).apply(frame, scale, 350).shape == (350, 350, 3)
    assert Optics(um_per_pixel=0.5).apply(frame, scale, 350).shape == (600, 1000, 3)
    assert Optics().apply(frame, scale, 350).shape == (600, 1000, 3)


def test_a_scale_holds_in_frames_of_its_size_only() -> None:
    calibrated = Optics(0.65, frame=(500, 400))
    assert calibrated.apply(np.zeros((400, 500, 3), np.uint8)).shape == (400, 500, 3)
    with pytest.raises(UsageError, match=r"holds in frames of 500x400, and these are 1000x800; set the camera to that size, or calibrate again"):
        calibrated.apply(np.zeros((800, 1000, 3), np.uint8))


def test_glass_becomes_white() -> None:
    glass = np.full((40, 60, 3), (180, 200, 150), np.uint8)
    gains = optics.white_gains(glass)
    balanced = Optics(gains=gains).apply(np.ascontiguousarray(glass[..., ::-1]))
    assert balanced.min() == balanced.max() == 200


def test_tissue_or_darkness_is_no_glass() -> None:
    for picture in (np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8), field()):
        with pytest.raises(UsageError, match="no empty glass"):
            optics.white_gains(picture)


def test_an_objective_is_remembered_with_what_is_changed_later() -> None:
    assert optics.recall("10x") == Optics()
    optics.remember("10x", Optics(0.65, (640, 480, 100, 50), (1.1, 1.0, 1.3), (1280, 800)))
    optics.remember("40x", Optics(0.16))
    assert optics.recall("10x") == Optics(0.65, (640, 480, 100, 50), (1.1, 1.0, 1.3), (1280, 800))
    assert optics.changed(optics.recall("10x"), 0.32, None).frame is None
    assert optics.changed(optics.recall_known("40x"), None, "10x20+0+0") == Optics(0.16, (10, 20, 0, 0))
    with pytest.raises(UsageError, match=r"objective 20x \(known: 10x, 40x\); give"):
        optics.recall_known("20x")
    optics.presets_path().write_text('{"10x": 3}')
    with pytest.raises(UsageError, match="correct or remove the file"):
        optics.recall("10x")


@pytest.mark.parametrize("text", ["", "10x20", "0x5+1+1", "a"])
def test_a_region_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no region; write"):
        optics.parse_region(text)


@pytest.mark.parametrize("text", ["", "1,1", "1,1,9", "a,b,c"])
def test_gains_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no white balance; write"):
        optics.parse_gains(text)
