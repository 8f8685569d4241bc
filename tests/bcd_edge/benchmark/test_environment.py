"""Sensors, fingerprint and memory on recorded trees, and on this machine, whatever it lacks."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bcd_edge.benchmark import environment, memory, sensors
from bcd_edge.benchmark.sensors import Contention, CpuTimes, Reading, Recorder, Sensors

Tree = Callable[..., Path]


def test_a_pc_tells_clocks_heat_and_throttling(tree: Tree) -> None:
    assert sensors.read_sensors(tree("pc")) == Sensors(3200, None, 64, 12)


def test_a_jetson_tells_its_gpus_clock(tree: Tree) -> None:
    assert sensors.read_sensors(tree("orin-nano")) == Sensors(1510.4, 624.75, 51.875, None)


def test_a_machine_without_sensors_tells_nothing(tree: Tree) -> None:
    assert sensors.read_sensors(tree()) == Sensors()
    assert environment.power(tree()) == dict.fromkeys(("governor", "preference", "min_mhz", "max_mhz", "turbo", "profile"))
    assert environment.limits(tree()) == {"processors": None, "memory_gib": None}
    assert environment.container(tree()) is None


def test_clocks_come_from_cpuinfo_where_cpufreq_is_missing(tree: Tree) -> None:
    assert sensors.core_mhz(tree("", **{"proc/cpuinfo": "cpu MHz\t\t: 2600.000\ncpu MHz\t\t: 2400.000\n"})) == [2600, 2400]


def test_the_fingerprint_of_a_pc(tree: Tree) -> None:
    fingerprint = environment.fingerprint(tree("pc"))
    assert fingerprint["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert fingerprint["kernel"] == "6.1.0-18-amd64"
    assert fingerprint["limits"] == {"processors": 1.5, "memory_gib": 2.0}
    assert fingerprint["power"] == {
        "governor": "powersave",
        "preference": "balance_performance",
        "min_mhz": 800,
        "max_mhz": 4700,
        "turbo": True,
        "profile": "balanced",
    }
    assert environment.power_mode(fingerprint) == "governor powersave, preference balance_performance, turbo True, profile balanced"
    assert fingerprint["machine"]["cores"] >= 1
    assert fingerprint["libraries"]["numpy"]


def test_a_jetsons_power_mode_is_part_of_what_must_be_alike() -> None:
    root = Path(__file__).parents[1] / "system" / "jetson" / "orin"
    fingerprint = environment.fingerprint(root)
    assert fingerprint["machine"]["jetson"]["power_mode"]
    assert environment.power_mode(fingerprint).startswith(f"nvpmodel {fingerprint['machine']['jetson']['power_mode']}")


@pytest.mark.parametrize("name", ["", "pc", "orin-nano", "agx-orin"])
def test_a_fingerprint_never_fails_and_is_plain(tree: Tree, name: str) -> None:
    root = tree(name)
    assert json.loads(json.dumps(environment.fingerprint(root))) == environment.fingerprint(root)
    for file in [file for file in root.rglob("*") if file.is_file()]:
        file.write_bytes(b"\xff\xfe not what was expected")
    json.dumps(environment.fingerprint(root))


def test_this_machine_too() -> None:
    fingerprint = json.loads(json.dumps(environment.fingerprint()))
    assert fingerprint["os"]
    assert fingerprint["kernel"] in (None, platform.release())


@pytest.mark.parametrize(
    ("files", "expected"),
    [({".dockerenv": ""}, "docker"), ({"run/.containerenv": ""}, "podman"), ({"proc/1/cgroup": "0::/kubepods/burstable/pod1\n"}, "kubepods")],
)
def test_containers_are_seen(tree: Tree, files: dict[str, str], expected: str) -> None:
    assert environment.container(tree("", **files)) == expected


def test_control_groups_of_version_1(tree: Tree) -> None:
    files = {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000", "memory/memory.limit_in_bytes": "9223372036854771712"}
    assert environment.limits(tree("", **{f"sys/fs/cgroup/{name}": text for name, text in files.items()})) == {"processors": 0.5, "memory_gib": None}


STEADY = [Reading(float(at), Sensors(3000, 900, 60, 4)) for at in range(10)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ""),
        ({"mhz": 2400}, "the clock changed from 3000 to 2400 MHz"),
        ({"gpu_mhz": 600}, "the GPU clock changed from 900 to 600 MHz"),
        ({"celsius": 71}, "the temperature changed from 60 to 71 °C"),
        ({"celsius": 69, "mhz": 2800}, ""),
        ({"throttled": 6}, "cores were throttled 2 times"),
        ({"mhz": None, "gpu_mhz": None, "celsius": None, "throttled": None}, ""),
    ],
)
def test_a_machine_that_moved_is_unsteady(change: dict[str, float | None], expected: str) -> None:
    readings = STEADY[:5] + [replace(reading, sensors=replace(reading.sensors, **change)) for reading in STEADY[5:]]
    assert sensors.unsteady([readings], 0.0) == ([expected] if expected else [])


def test_cpu_time_is_that_of_processes_and_the_hypervisor(tree: Tree) -> None:
    root = tree(
        "", **{"proc/stat": "cpu 1 2 3\ncpu0 100 20 30 999 50 4 6 70 0 0\ncpu1 0 0 0 999 0 0 0 30 0 0\nintr 1\n", "proc/loadavg": "1.25 1 1 1/9 3\n"}
    )
    times = sensors.read_cpu_times(root)
    assert (times.busy_s, times.stolen_s, times.load) == (1.6, 1.0, 1.25)
    assert sensors.read_cpu_times(tree("", **{"proc/stat": "cpu0 0 0 0 0 0 0 0 0 0 0\n"})).busy_s is None  # a sandbox that hides it


def busy_turn(other_s: float, stolen_s: float = 0.0) -> list[Reading]:
    """Ten seconds, in which this process used twelve and others `other_s` seconds of the processor."""
    return [Reading(0.0, cpu=CpuTimes(100.0, 7.0, 3.0, 0.5)), Reading(10.0, cpu=CpuTimes(112.0 + other_s, 19.0, 3.0 + stolen_s, 0.75))]


def test_contention_is_what_others_used_during_the_turns() -> None:
    assert sensors.contention([busy_turn(4.0, 1.0), busy_turn(2.0)]) == Contention(0.3, 0.05, 0.75)
    assert sensors.contention([STEADY]) == Contention(None, None, None)


@pytest.mark.parametrize(
    ("other_s", "stolen_s", "reasons"),
    [
        (0.9, 0.1, []),
        (1.2, 0.0, ["other processes used 0.12 cores"]),
        (20.0, 0.5, ["other processes used 2.00 cores", "the hypervisor took 0.05 cores"]),
    ],
)
def test_a_row_beside_others_is_unsteady(other_s: float, stolen_s: float, reasons: list[str]) -> None:
    assert sensors.unsteady([busy_turn(other_s, stolen_s)], 0.0) == reasons


@pytest.mark.skipif(sensors.read_cpu_times().busy_s is None, reason="this system does not report the CPU time of others")
def test_a_program_that_computes_is_seen() -> None:
    before = sensors.read()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    used = sensors.contention([[before, sensors.read(at_s=1.0)]])
    assert used.other_cores is not None
    assert used.other_cores > 0.4


@pytest.mark.parametrize(("drift", "count"), [(0.1, 0), (0.11, 1)])
def test_halves_that_differ_by_more_than_a_tenth_are_unsteady(drift: float, count: int) -> None:
    assert len(sensors.unsteady([STEADY], drift)) == count


def test_a_recorder_looks_at_the_start_and_at_the_end(tree: Tree) -> None:
    with Recorder(tree("pc")) as recorder:
        pass
    assert len(recorder.readings) >= 2
    assert recorder.readings[0].sensors.mhz == recorder.readings[-1].sensors.mhz == 3200


def test_a_run_has_a_reading_before_and_after_it() -> None:
    recorder = Recorder(readings=[Reading(float(at)) for at in range(10)])
    assert [reading.at_s for reading in recorder.between(3.5, 2.0)] == [-0.5, 0.5, 1.5, 2.5]
    assert [reading.at_s for reading in recorder.between(-1, 100)] == [float(at + 1) for at in range(10)]


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
