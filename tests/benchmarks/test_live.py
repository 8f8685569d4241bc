"""The benchmark of the live picture at its smallest."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from bcd_edge import Classifier
from bcd_edge.live.stillness import MOST_CHANGE
from bcd_edge.options import RunOptions
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue
from benchmarks import baselines, live, live_stream, rulers, stillness

pytestmark = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg: apt-get install ffmpeg")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TURNS": 1, "WARM_UP_S": 0.2, "WIDTH": 320, "HEIGHT": 200}.items():
        monkeypatch.setattr(live, name, value)


@pytest.fixture
def nothing() -> Iterator[Classifier]:
    with Classifier.load(options=RunOptions(provider="null")) as classifier:
        yield classifier


def test_a_number_is_read_from_the_jpeg_it_was_drawn_into(tmp_path: Path) -> None:
    parts = live_stream.numbered(live.record(tmp_path, None, 0.5), tmp_path / "parts")
    names = sorted(parts.glob("*.jpg"))
    assert [live_stream.number(raster.decode(raster.read(path))) for path in names] == list(range(len(names)))
    assert len(names) > 10
    assert live_stream.number(live_stream.draw_number(np.zeros((20, 200, 3), np.uint8), 170)) == 170


def test_an_answer_belongs_to_the_last_frame_of_its_number_before_it() -> None:
    assert live_stream.since([(10.5, 3), (12.5, 3)], [(3, 10.0), (4, 11.0), (3, 12.0)]) == [500, 500]


def test_a_file_is_measured_beside_the_same_work_alone(tmp_path: Path, nothing: Classifier) -> None:
    (row,) = live.from_file(nothing, {}, live.record(tmp_path, None, 1), 0.3)
    p50, p99, *_ = (float(figure) for figure in re.findall(r"\d+\.\d", row.detail))
    assert 0 < p50 <= p99


def test_the_ratio_is_that_of_medians() -> None:
    turns = {"live": [[2.0, 4.0, 6.0], [4.0]], "alone": [[1.0, 2.0, 9.0], [2.0]], live.SAME: [[6.0], [6.0]]}
    alone, same = live._latency("a file", turns, "the work alone")
    assert (alone.ratio, same.ratio) == ("2.00 x (2.00 to 2.00)", "1.50 x (1.50 to 1.50)")
    assert alone.detail.startswith("p50 4.0 ms, p99 5.9 ms; alone 2.0 and")


def test_a_stream_from_ffmpeg_tells_the_time_since_its_frames_were_handed_over(tmp_path: Path, nothing: Classifier) -> None:
    parts = live_stream.numbered(live.record(tmp_path, None, 1), tmp_path / "parts")
    times = live._live_stream(nothing, parts, 25, 0.3)
    assert times
    assert min(times) > 0
    assert live._loop_stream(lambda frame: None, parts, 25, 0.3)


def test_processor_time_and_memory_are_told(tmp_path: Path, nothing: Classifier) -> None:
    clip = live.record(tmp_path, None, 1)
    (row,) = live.processor(nothing, clip, 0.4)
    assert "without inference" in row.detail
    row = live.memory(tmp_path, clip, 0.02)
    frames, tenth = re.findall(r"([\d,]+) frames|([\d.]+) MiB after", row.detail)
    assert int(frames[0].replace(",", "")) > 0
    assert float(tenth[1]) > 20


def test_the_loop_beside_it_runs_the_same_model(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    with Classifier.load(options=RunOptions(provider="cpu")) as classifier:
        picture = raster.resize(tissue(3), classifier.bundle.input)
        ours, temperature = classifier.probabilities(picture[None])[0], classifier.bundle.members[0].temperature
    exact = onnxruntime.SessionOptions()
    exact.add_session_config_entry("session.x64quantprecision", "1")  # as in bcd-edge; without it sums saturate on some processors
    session = onnxruntime.InferenceSession(baselines.same_model().SerializeToString(), exact, providers=["CPUExecutionProvider"])
    benign, malignant = session.run(None, {"images": (picture / np.float32(255)).astype(np.float32).transpose(2, 0, 1)[None]})[0][0]
    assert benign + malignant == pytest.approx(1, abs=1e-5)
    logit = np.log(malignant / benign) / temperature
    assert 1 / (1 + np.exp(-logit)) == pytest.approx(ours, abs=1e-3)


def test_stillness_grows_with_the_shift_and_stays_below_its_limit_in_noise() -> None:
    changes = list(stillness._changes(tissue(2), 2).values())
    still, shifted = changes[: len(stillness.NOISES) + len(stillness.LAMPS)], changes[-len(stillness.SHIFTS) :]
    assert max(still) < MOST_CHANGE
    assert shifted == sorted(shifted)
    assert shifted[-1] > MOST_CHANGE


def test_noise_hides_blur_from_a_single_picture_and_not_from_a_live_one() -> None:
    blurred = [np.asarray(cv2.GaussianBlur(tissue(seed, height=284, width=284), (0, 0), 8), np.uint8) for seed in range(2)]
    assert stillness._share(blurred, 0, 3) == "0 / 2"
    assert stillness._share([tissue(2, height=284, width=284)], 0, 3) == "0 / 0"


def test_outcomes_of_drawn_rulers_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rulers.measure(2, None)
    counts = re.findall(r"\| (\d) of 2 \| (\d) \| (\d) \|", capsys.readouterr().out)
    assert [sum(map(int, row)) for row in counts] == [2, 2]
