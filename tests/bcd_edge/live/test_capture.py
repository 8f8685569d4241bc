"""Sources and the newest frame; a stream that vanishes and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bcd_edge.errors import InputError, UsageError
from bcd_edge.live.capture import Capture, Frame
from bcd_edge.live.sources import Source, parse

from .conftest import Stream, field, free_port


def every(capture: Capture) -> list[Frame]:
    frames = []
    while not capture.has_ended or capture.frames > capture.taken + capture.dropped:
        if (frame := capture.newest(5)) is not None:
            frames.append(frame)
    return frames


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0", "camera"),
        ("/dev/video7", "camera"),
        ("rtsp://10.0.0.9/h264", "stream"),
        ("https://camera.local/mjpeg", "stream"),
        ("nvarguscamerasrc ! nvvidconv ! appsink", "pipeline"),
    ],
)
def test_a_source_is_known_by_its_text(text: str, kind: str) -> None:
    assert parse(text).kind == kind


def test_a_source_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no such file or folder; give a camera's number"):
        parse("recording-that-is-not-there.mp4")


def test_the_password_of_a_stream_is_not_shown() -> None:
    assert parse("rtsp://admin:se:cret@10.0.0.9/h264").name == "rtsp://10.0.0.9/h264"


def test_a_pipeline_without_gstreamer_says_what_is_needed() -> None:
    with Capture(Source("videotestsrc ! appsink", "pipeline"), give_up_s=0) as capture:
        capture.newest(10)
        with pytest.raises(InputError, match=r"GStreamer|videotestsrc"):
            capture.raise_problem()


def test_a_video_is_read_to_its_end_and_every_frame_is_taken_or_counted(record: Callable[..., Path]) -> None:
    with Capture(Source(str(record([field()] * 40)), "video", fps=0)) as capture:
        frames = every(capture)
    assert capture.frames == 40
    assert len(frames) + capture.dropped == 40
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers))


def test_a_slow_reader_gets_the_newest_frame(record: Callable[..., Path]) -> None:
    with Capture(Source(str(record([field()] * 20)), "video", fps=0)) as capture:
        while not capture.has_ended:
            time.sleep(0.01)
        frame = capture.newest(0)
    assert frame is not None
    assert frame.number == 19
    assert capture.dropped == 19


def test_a_recording_begins_again_where_that_is_wanted(record: Callable[..., Path]) -> None:
    with Capture(Source(str(record([field()] * 5)), "video", fps=0, repeats=True)) as capture:
        while capture.frames < 12:
            assert capture.newest(10)


def test_an_empty_folder_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with Capture(parse(str(tmp_path / "empty"))) as capture:
        assert capture.newest(10) is None
        with pytest.raises(InputError, match="has no pictures; give another one"):
            capture.raise_problem()


def test_a_stream_that_vanishes_is_connected_again(stream: Stream) -> None:
    server = stream.start()
    with Capture(parse(stream.address), give_up_s=20, first_delay_s=0.05) as capture:
        until(capture, lambda: capture.state == "open")
        server.kill()
        until(capture, lambda: capture.state == "lost")
        assert "check cable, power and network. Trying again" in capture.problem or "cannot be opened" in capture.problem
        assert "secret" not in capture.problem
        before = capture.frames
        stream.start()
        until(capture, lambda: capture.frames > before)
        assert capture.state == "open"
        assert capture.problem == ""


def test_a_stream_that_never_comes_is_given_up() -> None:
    with Capture(parse(f"http://127.0.0.1:{free_port()}/live"), give_up_s=0.2, first_delay_s=0.05) as capture:
        until(capture, lambda: capture.has_ended)
        with pytest.raises(InputError, match=r"cannot be opened; check that it is connected.*Given up after 0.2 s"):
            capture.raise_problem()


def until(capture: Capture, is_so: Callable[[], bool]) -> None:
    """However slow the machine is, within minutes."""
    for _ in range(1200):
        if is_so():
            return
        capture.newest(0.1)
    raise AssertionError(capture.state)
