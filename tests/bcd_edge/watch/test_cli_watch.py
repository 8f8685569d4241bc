"""`bcd-edge watch` as a person, a service manager and a monitor use it: real processes, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Until = Callable[[Callable[[], object], str], None]


@contextmanager
def watching(place: Any, *options: str, log: Path, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as stream:
        process = subprocess.Popen(place.command(*options), stdout=stream, stderr=stream, **how)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)
    assert "Traceback" not in log.read_text()


def test_once_ends_with_0_and_with_1_where_something_has_no_answer(place: Any) -> None:
    place.drop("a.png")
    assert subprocess.run(place.command("--once"), capture_output=True).returncode == 0
    (place.inbox / "b.png").write_bytes(b"no image")
    done = subprocess.run(place.command("--once"), capture_output=True, text=True)
    assert done.returncode == 1
    assert "b.png: This is not an image" in done.stderr
    assert "Without an answer: 1; the report says why." in done.stdout


def test_sigterm_finishes_what_is_in_flight_and_ends_with_0(place: Any, until: Until, tmp_path: Path) -> None:
    place.drop(*(f"{index}.png" for index in range(300)))
    with watching(place, log=tmp_path / "log") as process:
        until(lambda: place.done() > 0, "the first answers")
        process.terminate()
        assert process.wait(30) == 0
    assert place.query("SELECT COUNT(*) FROM files WHERE state = 'taken'") == [0]
    assert json.loads((place.results / "heartbeat.json").read_text())["state"] == "stopped"
    assert place.verification().problems == ()


def test_a_second_watcher_is_refused_with_who_holds_the_results(place: Any, until: Until, tmp_path: Path) -> None:
    with watching(place, log=tmp_path / "log") as process:
        until((place.results / "heartbeat.json").exists, "the heartbeat")
        done = subprocess.run(place.command(), capture_output=True, text=True)
        assert done.returncode == 2
        assert f"process {process.pid} on {socket.gethostname()}" in done.stderr
        assert place.tell("status").returncode == 0
        process.kill()
        process.wait()
    assert place.tell("status").returncode == 1
    assert subprocess.run(place.command("--once"), capture_output=True).returncode == 0


def test_sighup_reads_the_configuration_again_and_keeps_the_old_one_if_it_is_wrong(place: Any, until: Until, tmp_path: Path) -> None:
    config, log = tmp_path / "config.toml", tmp_path / "log"
    config.write_text("")
    with watching(place, log=log, env=os.environ | {"BCD_EDGE_CONFIG": str(config)}) as process:
        until((place.results / "heartbeat.json").exists, "the heartbeat")
        config.write_text('[watch]\nexclude = ["x*"]\nafter = "move"\n')
        process.send_signal(signal.SIGHUP)
        until(lambda: "was read again" in log.read_text(), "a word about it")
        place.drop("x.png", "a.png")
        until(lambda: not (place.inbox / "a.png").exists(), "the image to be moved")
        config.write_text('[watch]\nafter = "burn"\n')
        process.send_signal(signal.SIGHUP)
        until(lambda: "The configuration is not changed" in log.read_text(), "a word about the mistake")
        place.drop("b.png")
        until(lambda: not (place.inbox / "b.png").exists(), "the next image to be moved")
        assert (place.inbox / "x.png").exists()
        process.terminate()
        assert process.wait(30) == 0
    assert place.done() == 2


def test_events_are_heard_long_before_the_next_look(place: Any, until: Until, tmp_path: Path) -> None:
    pytest.importorskip("watchfiles", reason='pip install "bcd-edge[watch]"')
    with watching(place, "--scan", "60m", log=tmp_path / "log"):
        until((place.results / "heartbeat.json").exists, "the heartbeat")
        place.drop("a.png", "new/folder/b.png")
        until(lambda: place.done() == 2, "both images")
        (place.inbox / os.fsdecode(b"\xff.png")).write_bytes(place.picture("x"))  # watchfiles cannot tell of it, and must go on
        place.drop("c.png")
        until(lambda: place.done() == 4, "what came with and after a name that is no text")
        place.inbox.rename(place.inbox.with_name("away"))
        place.inbox.mkdir()
        place.drop("d.png")
        until(lambda: place.done() == 5, "what came into another folder of the inbox's name")


def test_polling_finds_what_no_event_tells(place: Any, until: Until, tmp_path: Path) -> None:
    script = "import sys; sys.modules['watchfiles'] = None; from bcd_edge.cli import main; main()"
    command = place.command("--poll")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([command[0], "-c", script, *command[3:]], stderr=log)
        until((place.results / "heartbeat.json").exists, "the heartbeat")
        place.drop("a.png")
        until(lambda: place.done() == 1, "the image")
        process.terminate()
        assert process.wait(30) == 0


def test_metrics_on_localhost(place: Any, until: Until, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason='pip install "bcd-edge[watch]"')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place.drop("a.png", "b.png")
    (place.inbox / "c.png").write_bytes(b"")
    with watching(place, "--metrics-port", str(port), log=tmp_path / "log"):
        until(lambda: place.query("SELECT COUNT(*) FROM files WHERE state = 'quarantined'") == [1] if place.done() == 2 else False, "the answers")
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        taken = subprocess.run(place.command("--metrics-port", str(port)), capture_output=True, text=True)
    assert 'bcd_edge_images_total{decision="review"} 2.0' in metrics
    assert 'bcd_edge_failed_attempts_total{state="quarantined"} 1.0' in metrics
    assert "bcd_edge_heartbeat_timestamp_seconds" in metrics
    assert taken.returncode == 2
    assert "give another --metrics-port" in taken.stderr


def test_metrics_without_the_package_say_which_line_to_type(place: Any) -> None:
    script = "import sys; sys.modules['prometheus_client'] = None; from bcd_edge.cli import main; main()"
    command = place.command("--metrics-port", "9464")
    done = subprocess.run([command[0], "-c", script, *command[3:]], capture_output=True, text=True)
    assert done.returncode == 4
    assert 'pip install "bcd-edge[watch]"' in done.stderr


def test_json_logs_have_the_answer_in_fields(place: Any) -> None:
    place.drop("a.png")
    done = subprocess.run(place.command("--once", "-v", "--json-logs"), capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (answer,) = [line for line in lines if "p_malignant" in line]
    assert (answer["file"], answer["decision"], answer["p_malignant"]) == ("a.png", "review", 0.5)


def test_verify_finds_what_was_changed_or_lost(place: Any) -> None:
    place.drop("a.png", "b.png", "c.png")
    place.run(after="move")
    assert place.tell("verify").stdout == "ok: 3 images done, 3 inputs moved\n"
    first, second, _ = sorted((place.results / "records").rglob("*.json"))
    first.write_text(first.read_text().replace("review", "benign"))
    second.unlink()
    (table,) = (place.results / "daily").iterdir()
    table.write_text(table.read_text().replace("a.png", "a,png"))
    next((place.results / "processed").rglob("*.png")).write_bytes(b"")
    done = place.tell("verify")
    assert done.returncode == 1
    assert "is not what was written" in done.stderr
    assert "could not be read" in done.stderr
    assert "4 problems" in done.stderr
    assert "watch verify --repair" in done.stderr
    done = place.tell("verify", "--repair")
    assert done.returncode == 1
    assert done.stdout == "3 files repaired\n"
    assert "processed/" in done.stderr  # a moved input is not in the journal
    assert "1 problem among 3 images" in done.stderr


def test_the_page_of_a_running_watcher_follows_a_recount(place: Any, tmp_path: Path, until: Any) -> None:
    page = place.results / "summary.html"
    place.drop("P1/a.png")
    with watching(place, log=tmp_path / "log"):
        until(lambda: page.exists() and "P1/a.png" in page.read_text(), "the image on the page")
        assert "<h2>Patients" not in page.read_text()
        assert place.tell("recount", "--patients", "folder").stderr == ""
        until(lambda: "<h2>Patients" in page.read_text(), "the patient on the page")
    assert "when the watcher runs again" in place.tell("recount", "--patients", "folder").stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act for another")
def test_what_root_repairs_belongs_to_the_owner_of_the_results(place: Any) -> None:
    place.drop("a.png")
    place.run()
    for path in (place.results, *place.results.rglob("*")):
        os.chown(path, 1234, 1234)
    next((place.results / "records").rglob("*.json")).unlink()
    assert place.tell("verify", "--repair").returncode == 0
    assert place.tell("recount", "--patients", r"(?P<patient>a)").returncode == 0
    assert {(path.stat().st_uid, path.stat().st_gid) for path in place.results.rglob("*") if path.suffix in (".json", ".csv")} == {(1234, 1234)}


def test_a_day_that_is_none_is_2(place: Any) -> None:
    place.run()
    assert place.tell("report", "--day", "2026-01-01").returncode == 0
    done = place.tell("report", "--day", "heute")
    assert (done.returncode, "'heute' does not match the format '%Y-%m-%d'" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ["status", "report", "retry", "verify"])
def test_a_folder_that_is_none_of_results_is_2(place: Any, name: str) -> None:
    done = place.tell(name)
    assert done.returncode == 2
    assert "is not a folder of results" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ["--stable-for", "soon"],
        ["--min-free", "much"],
        ["--patients", "(?P<slide>x)"],
        ["--patients", "("],
        ["--after", "burn"],
        ["--max-attempts", "0"],
    ],
)
def test_usage_is_2(place: Any, wrong: list[str]) -> None:
    done = subprocess.run(place.command("--once", *wrong), capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not place.results.exists()


def test_a_missing_inbox_is_2_with_once_and_waited_for_without(place: Any, until: Until, tmp_path: Path) -> None:
    place.inbox.rmdir()
    assert subprocess.run(place.command("--once"), capture_output=True).returncode == 2
    with watching(place, log=tmp_path / "log"):
        until(lambda: "cannot be read" in (tmp_path / "log").read_text(), "a word about it")
        place.inbox.mkdir()
        place.drop("a.png")
        until(lambda: place.done() == 1, "the image")
        until(lambda: "can be read again" in (tmp_path / "log").read_text(), "a word that it is back")


def test_a_folder_that_cannot_be_written_is_5(place: Any) -> None:
    place.results.write_text("a file")
    assert subprocess.run(place.command("--once"), capture_output=True).returncode == 2
    command = [argument if argument != str(place.results) else "/proc/nowhere" for argument in place.command("--once")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr


def test_commands_and_options_are_told_together(place: Any) -> None:
    done = subprocess.run([*place.command()[:4], "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for word in ("--after", "status", "report", "retry", "verify"):
        assert word in done.stdout
    inbox = place.inbox.with_name("status")  # a folder called like a command is named with its path
    place.inbox.rename(inbox)
    command = [argument if argument != str(place.inbox) else "./status" for argument in place.command("--once")]
    assert subprocess.run(command, capture_output=True, cwd=inbox.parent).returncode == 0
