"""`bcd-edge live` as a process: files, streams, keys, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from bcd_edge.live import optics
from bcd_edge.results.journal import NAME, reading
from benchmarks.rulers import Drawing, draw

from .conftest import field, free_port

LIVE = [sys.executable, "-m", "bcd_edge", "live"]


def live(*arguments: object, fails_with: int = 0) -> tuple[str, str]:
    """Standard output and error."""
    done = subprocess.run([*LIVE, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == fails_with, done.stderr
    return done.stdout, done.stderr


def test_a_video_gives_json_lines(record: Callable[..., Path]) -> None:
    out, err = live(record([field()] * 12), "--fps", "10", "--format", "jsonl", "--um-per-pixel", "0.65")
    updates = [json.loads(line) for line in out.splitlines()]
    assert err.splitlines() == [
        "No objective: 0.65 µm per pixel; the whole frame; the camera's own white.",
        "For research. Assists a pathologist; it does not diagnose alone.",
    ]
    assert updates[-1]["state"] == "ended"
    answered = [update for update in updates if update["state"] == "answered"]
    assert answered
    assert {update["record"]["um_per_pixel"] for update in answered} == {0.65}
    assert answered[0]["smoothed"]["frames"] == 1
    assert updates[0]["state"] == "moving"
    assert updates[0]["record"] is None


def test_a_video_gives_lines_of_a_terminals_width_where_nobody_presses_keys(record: Callable[..., Path]) -> None:
    out, _ = live(record([field()] * 30), "--provider", "null", "-q")
    lines = out.splitlines()
    assert lines
    assert max(map(len, lines)) < 80
    assert "ms  dropped" in lines[0]


def test_a_stream_that_does_not_come_ends_with_a_sentence(tmp_path: Path) -> None:
    out, err = live(f"http://user:secret@127.0.0.1:{free_port()}/live", "--give-up", "1s", "--provider", "null", "-q", fails_with=1)
    assert (out + err).count("Given up after 1 s") == 1
    assert " @ 0x" not in err
    assert "secret" not in out + err
    assert "Traceback" not in err


def test_a_camera_that_is_not_there_ends_with_a_sentence() -> None:
    _, err = live("/dev/video97", "--give-up", "500ms", "--provider", "null", "-q", fails_with=1)
    assert "/dev/video97 cannot be opened; check that it is connected" in err


def test_a_file_that_is_no_video_ends_with_a_sentence(tmp_path: Path) -> None:
    text = tmp_path / "not.mp4"
    text.write_text("no video")
    out, err = live(text, "--provider", "null", "-q", fails_with=1)
    assert (out + err).count("not.mp4 is no video that can be read; give a video file such as MP4") == 1
    assert "connected" not in err


def test_an_unknown_scale_is_said_at_the_start(record: Callable[..., Path]) -> None:
    _, err = live(record([field()] * 3), "--provider", "null")
    assert "No objective: scale not known; the whole frame; the camera's own white." in err
    assert "measure it with: bcd-edge live calibrate PICTURE --objective NAME" in err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nowhere.mp4"], 2, "is no source of frames"),
        ([".", "--objective", "10x"], 2, "Nothing is remembered under the objective 10x"),
        ([".", "--region", "5"], 2, "is no region"),
        ([".", "--white-balance", "red"], 2, "is no white balance"),
        ([".", "--budget", "much"], 2, "is no power"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], code: int, sentence: str) -> None:
    assert sentence in live(*arguments, fails_with=code)[1]


def test_an_objective_is_calibrated_and_used(tmp_path: Path, record: Callable[..., Path]) -> None:
    picture = tmp_path / "micrometer.png"
    cv2.imwrite(str(picture), draw(Drawing((320, 240), pixels=20.0)))
    out, _ = live("calibrate", picture, "--objective", "20x")
    assert "0.5 µm per pixel" in out
    assert "remembered as 20x, for frames of 320x240" in out
    assert optics.recall("20x").um_per_pixel == pytest.approx(0.5, rel=0.005)
    frames = record([field()] * 6)
    _, err = live(frames, "--objective", "20x", "--region", "300x200+0+0", "--format", "jsonl", "--provider", "null")
    assert "Objective 20x: 0.5 µm per pixel in frames of 320x240; region 300x200+0+0; the camera's own white." in err
    assert optics.recall("20x").region == (300, 200, 0, 0)
    cv2.imwrite(str(picture), draw(Drawing((640, 480), pixels=20.0)))
    live("calibrate", picture, "--objective", "20x")
    assert "holds in frames of 640x480, and these are 320x240; set the camera" in live(frames, "--objective", "20x", "-q", fails_with=2)[1]
    live(frames, "--objective", "20x", "--um-per-pixel", "1", "--provider", "null", "-q")
    assert optics.recall("20x").frame == (320, 240)
    cv2.imwrite(str(picture), field())
    assert "shows no ruler" in live("calibrate", picture, "--objective", "20x", fails_with=1)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_keys_store_and_explain_a_frame_and_end_while_the_stream_goes_on(record: Callable[..., Path], tmp_path: Path) -> None:
    import os
    import pty

    leader, follower = pty.openpty()
    results, explanations = tmp_path / "results", tmp_path / "explanations"
    command = [*LIVE, str(record([field()] * 1500)), "--fps", "2", "--results", str(results), "--explain-out", str(explanations), "--patient", "P7"]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        seen = b""

        def until(text: bytes) -> None:
            nonlocal seen
            while text not in seen:
                seen += os.read(leader, 4096)

        until(b"/s")
        os.write(leader, b"s")
        until(b"Stored live/")
        os.write(leader, b"e")
        until(b"Explained ")
        os.write(leader, b"q")
        assert process.wait(120) == 0
    os.close(leader)
    assert b"Traceback" not in seen
    with reading(results / NAME) as db:
        (row,) = db.execute("SELECT record FROM images").fetchall()
    stored = json.loads(row["record"])
    assert stored["source"].startswith("live/")
    assert stored["intake"]["patient"] == "P7"
    assert len(list(explanations.glob("*.png"))) == 1
