"""Sensors, fingerprint and memory on recorded trees, and on this machine, whatever it lacks."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bcd_edge.benchmark import environment, memory, sensors
from bcd_edge.benchmark.sensors import Reading, Recorder

Tree = Callable[..., Path]


def test_a_pc_tells_clocks_heat_and_throttling(tree: Tree) -> None:
    found = sensors.look(tree("pc"))
    assert (found.mhz, found.celsius, found.throttled, found.gpu_mhz) == (3200, 64, 12, None)


def test_a_jetson_tells_its_gpus_clock(tree: Tree) -> None:
    found = sensors.look(tree("orin-nano"))
    assert (found.mhz, found.gpu_mhz, found.celsius, found.throttled) == (1510.4, 624.75, 51.875, None)


def test_a_machine_without_sensors_tells_nothing(tree: Tree) -> None:
    assert sensors.look(tree()) == Reading(0.0)
    assert environment.power(tree()) == dict.fromkeys(("governor", "preference", "min_mhz", "max_mhz", "turbo", "profile"))
    assert environment.limits(tree()) == {"processors": None, "memory_gib": None}
    assert environment.container(tree()) is None


def test_clocks_come_from_cpuinfo_where_cpufreq_is_missing(tree: Tree) -> None:
    assert sensors.core_mhz(tree("", **{"proc/cpuinfo": "cpu MHz\t\t: 2600.000\ncpu MHz\t\t: 2400.000\n"})) == [2600, 2400]


def test_the_fingerprint_of_a_pc(tree: Tree) -> None:
    found = environment.fingerprint(tree("pc"))
    assert found["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert found["kernel"] == "6.1.0-18-amd64"
    assert found["limits"] == {"processors": 1.5, "memory_gib": 2.0}
    assert found["power"] == {
        "governor": "powersave",
        "preference": "balance_performance",
        "min_mhz": 800,
        "max_mhz": 4700,
        "turbo": True,
        "profile": "balanced",
    }
    assert environment.power_mode(found) == "governor powersave, preference balance_performance, turbo True, profile balanced"
    assert found["machine"]["cores"] >= 1
    assert found["libraries"]["numpy"]


def test_a_jetsons_power_mode_is_part_of_what_must_be_alike() -> None:
    root = Path(__file__).parents[1] / "system" / "jetson" / "orin"
    found = environment.fingerprint(root)
    assert found["machine"]["jetson"]["power_mode"]
    assert environment.power_mode(found).startswith(f"nvpmodel {found['machine']['jetson']['power_mode']}")


@pytest.mark.parametrize("name", ["", "pc", "orin-nano", "agx-orin"])
def test_a_fingerprint_never_fails_and_is_plain(tree: Tree, name: str) -> None:
    root = tree(name)
    assert json.loads(json.dumps(environment.fingerprint(root))) == environment.fingerprint(root)
    for file in [file for file in root.rglob("*") if file.is_file()]:
        file.write_bytes(b"\xff\xfe not what was expected")
    json.dumps(environment.fingerprint(root))


def test_this_machine_too() -> None:
    found = json.loads(json.dumps(environment.fingerprint()))
    assert found["os"]
    assert found["kernel"] in (None, platform.release())


@pytest.mark.parametrize(
    ("files", "said"),
    [({".dockerenv": ""}, "docker"), ({"run/.containerenv": ""}, "podman"), ({"proc/1/cgroup": "0::/kubepods/burstable/pod1\n"}, "kubepods")],
)
def test_containers_are_seen(tree: Tree, files: dict[str, str], said: str) -> None:
    assert environment.container(tree("", **files)) == said


def test_control_groups_of_version_1(tree: Tree) -> None:
    files = {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000", "memory/memory.limit_in_bytes": "9223372036854771712"}
    assert environment.limits(tree("", **{f"sys/fs/cgroup/{name}": text for name, text in files.items()})) == {"processors": 0.5, "memory_gib": None}


STEADY = [Reading(float(at), 3000, 900, 60, 4) for at in range(10)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"mhz": 2400}, "the clock went from 3000 to 2400 MHz"),
        ({"gpu_mhz": 600}, "the GPU clock went from 900 to 600 MHz"),
        ({"celsius": 71}, "the temperature moved from 60 to 71 °C"),
        ({"celsius": 69, "mhz": 2800}, ""),
        ({"throttled": 6}, "cores were throttled 2 times"),
        ({"mhz": None, "gpu_mhz": None, "celsius": None, "throttled": None}, ""),
    ],
)
def test_a_machine_that_moved_is_unsteady(change: dict[str, float | None], said: str) -> None:
    readings = STEADY[:5] + [replace(one, **change) for one in STEADY[5:]]
    assert sensors.unsteady(readings, 0.0) == ([said] if said else [])


@pytest.mark.parametrize(("drift", "count"), [(0.1, 0), (0.11, 1)])
def test_halves_that_differ_by_more_than_a_tenth_are_unsteady(drift: float, count: int) -> None:
    assert len(sensors.unsteady(STEADY, drift)) == count


def test_a_recorder_looks_at_the_start_and_at_the_end(tree: Tree) -> None:
    with Recorder(tree("pc")) as recorder:
        pass
    assert len(recorder.readings) >= 2
    assert recorder.readings[0].mhz == recorder.readings[-1].mhz == 3200


def test_a_run_has_a_reading_before_and_after_it() -> None:
    recorder = Recorder(readings=[Reading(float(at)) for at in range(10)])
    assert [one.at_s for one in recorder.between(3.5, 2.0)] == [-0.5, 0.5, 1.5, 2.5]
    assert [one.at_s for one in recorder.between(-1, 100)] == [float(at + 1) for at in range(10)]


def test_the_peak_of_memory_can_be_set_back(tree: Tree) -> None:
    root = tree("pc", **{"proc/self/clear_refs": ""})
    assert memory.reset_peak(root)
    assert (root / "proc/self/clear_refs").read_text() == "5"
    assert memory.peak_mib(root) == 256
    assert not memory.reset_peak(tree("agx-orin"))


@pytest.mark.skipif(not memory.reset_peak(), reason="this system does not set the high-water mark back")
def test_a_peak_of_this_process_is_seen_and_forgotten() -> None:
    memory.reset_peak()
    before = memory.peak_mib()
    np.ones(2**24).sum()  # 128 MiB
    high = memory.peak_mib()
    memory.reset_peak()
    assert before is not None
    assert high > before + 100
    assert memory.peak_mib() < high - 50
