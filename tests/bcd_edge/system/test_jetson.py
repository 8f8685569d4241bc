"""Read from file trees of an Orin and a Thor, which follow the published formats; they were not recorded from a board."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bcd_edge.cli import main
from bcd_edge.system import jetson, machine
from bcd_edge.system.jetson import Clock, Jetson

TREES = Path(__file__).parent / "jetson"


def test_an_orin_reports_everything() -> None:
    assert jetson.read(TREES / "orin") == Jetson(
        board="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        l4t="36.4.3",
        jetpack="6.2",
        power_mode="MAXN_SUPER",
        power_modes=["15W", "25W", "MAXN_SUPER"],
        clocks=[
            Clock("policy0", 1344, 730, 1728, "schedutil"),
            Clock("policy4", 730, 730, 1728, "schedutil"),
            Clock("17000000.gpu", 306, 306, 1020, "nvhost_podgov"),
        ],
    )


def test_a_thor_without_the_package_and_with_a_mode_never_changed() -> None:
    board = jetson.read(TREES / "thor")
    assert board
    assert (board.board, board.l4t, board.jetpack) == ("NVIDIA Jetson AGX Thor Developer Kit", "38.2.0", "7")
    assert (board.power_mode, board.power_modes) == ("120W", ["MAXN", "120W", "90W", "70W"])
    assert [clock.name for clock in board.clocks] == ["policy0", "gpu-gpc-0", "gpu-nvd-0"]
    assert all(clock.lowest_mhz == clock.mhz == clock.highest_mhz for clock in board.clocks)


def test_a_container_that_hides_the_device_tree_still_reports(tmp_path: Path) -> None:
    tree = shutil.copytree(TREES / "orin", tmp_path / "orin")
    shutil.rmtree(tree / "proc")
    assert (board := jetson.read(tree))
    assert (board.board, board.l4t) == ("", "36.4.3")
    (tree / "sys/devices/soc0").mkdir()
    (tree / "sys/devices/soc0/machine").write_text("NVIDIA Jetson Orin Nano\n")
    assert (board := jetson.read(tree))
    assert board.board == "NVIDIA Jetson Orin Nano"


def test_boards_are_told_apart_where_their_processors_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda: "model name : ARMv8 Processor rev 1 (v8l)\n")
    monkeypatch.setattr(jetson, "board", lambda: "NVIDIA Jetson Orin Nano Developer Kit")
    assert machine.cpu_name() == "NVIDIA Jetson Orin Nano Developer Kit"
    monkeypatch.setattr(jetson, "board", lambda: "")
    assert machine.cpu_name() == "ARMv8 Processor rev 1 (v8l)"


@pytest.mark.parametrize("board", ["", "Raspberry Pi 5 Model B Rev 1.0\0"])
def test_anything_else_is_no_jetson(tmp_path: Path, board: str) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text(board)
    assert jetson.read(tmp_path) is None
    assert jetson.read(tmp_path / "missing") is None


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"pmode:9999\nR (release), REVISION\n\n\n< POWER_MODEL ID=x >\nPackage: nvidia-jetpack\n"])
def test_damaged_files_never_end_it(tmp_path: Path, content: bytes) -> None:
    tree = shutil.copytree(TREES / "orin", tmp_path / "orin")
    for file in tree.rglob("*"):
        if file.is_file() and file.name != "model":
            file.write_bytes(content)
    assert (board := jetson.read(tree))
    assert (board.l4t, board.jetpack, board.power_modes, board.clocks) == ("", "", [], [])


def test_a_removed_package_has_no_version(tmp_path: Path) -> None:
    tree = shutil.copytree(TREES / "orin", tmp_path / "orin")
    status = tree / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("install ok installed", "deinstall ok config-files"))
    assert (board := jetson.read(tree))
    assert board.jetpack == "6"


@pytest.mark.parametrize("tree", ["orin", "thor"])
def test_doctor_prints_it(monkeypatch: pytest.MonkeyPatch, tree: str) -> None:
    board = jetson.read(TREES / tree)
    assert board
    monkeypatch.setattr(jetson, "read", lambda: board)
    output = " ".join(CliRunner().invoke(main, ["doctor"], catch_exceptions=False).output.split())
    clock = board.clocks[-1]
    expected = board.board, f"JetPack {board.jetpack}", f"L4T {board.l4t}", board.power_mode, f"{clock.mhz} MHz", clock.governor
    assert [text for text in expected if text not in output] == []
    printed = CliRunner().invoke(main, ["doctor", "--json"], catch_exceptions=False).output
    assert json.loads(printed)["machine"]["jetson"] == json.loads(json.dumps(dataclasses.asdict(board)))
