"""Noise from two frames: it is measured, and lamp and drift are not."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from bcd_edge.live.noise import LEAST, Noise, finest, noise_energy

from .conftest import field

GREY = cv2.cvtColor(field(), cv2.COLOR_RGB2GRAY).astype(np.float32)


def noise(seed: int, grey_values: float) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, grey_values, GREY.shape).astype(np.float32)


def energy(plane: npt.NDArray[np.float32]) -> float:
    return float(np.mean(finest(plane) ** 2))


@pytest.mark.parametrize("grey_values", [0.5, 3, 8])
@pytest.mark.parametrize("lamp", [1.0, 1.03])
def test_the_noise_of_two_frames_is_measured_whatever_the_lamp(grey_values: float, lamp: float) -> None:
    measured = noise_energy(finest(GREY + noise(1, grey_values)), finest(lamp * GREY + noise(2, grey_values)))
    assert measured == pytest.approx(energy(noise(1, grey_values)), rel=0.05)


def test_a_slow_drift_is_mostly_no_noise() -> None:
    across = np.float32([[1, 0, 0.3], [0, 1, 0.1]])
    drifted = cv2.warpAffine(GREY, across, GREY.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    change = energy(drifted - GREY) / 2
    assert noise_energy(finest(GREY), finest(drifted)) < change / 2


def test_a_frame_that_comes_twice_or_moves_tells_nothing() -> None:
    frames = [np.clip(np.rint(GREY + noise(seed, 4)), 0, 255).astype(np.uint8) for seed in range(3)]
    measured = Noise()
    measured.observe(frames[0], is_still=False)
    measured.observe(frames[0], is_still=True)
    assert measured.energy == LEAST
    measured.observe(frames[1], is_still=True)
    before = measured.energy
    assert before > LEAST
    measured.observe(frames[1], is_still=True)
    measured.observe(255 - frames[2], is_still=False)
    assert measured.energy == before
