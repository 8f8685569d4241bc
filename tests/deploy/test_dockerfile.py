"""The rules of Dockerfile.jetson and of the compose file, checked on their text: needs no Docker."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from bcd_edge.cli import serve as serving
from bcd_edge.cli import watch as watching
from deploy import dockerfile, environments
from deploy.dockerfile import Instruction

ROOT = Path(__file__).parents[2]
SOURCE = (ROOT / "Dockerfile.jetson").read_text(encoding="utf-8")
HEAD, *STAGES = dockerfile.stages(SOURCE)
LAST = STAGES[-1]


def texts(stage: list[Instruction], name: str) -> list[str]:
    return [instruction.text for instruction in stage if instruction.name == name]


def test_an_instruction_is_read_over_its_lines_without_comments() -> None:
    assert dockerfile.stages("# no\nARG A=1\nFROM x:1 AS y\n# no\nRUN one \\\n  # no\n && two\n\nfrom y\nUSER 1\n") == [
        [Instruction("ARG", "A=1")],
        [Instruction("FROM", "x:1 AS y"), Instruction("RUN", "one && two")],
        [Instruction("FROM", "y"), Instruction("USER", "1")],
    ]


def test_every_base_has_a_tag_of_its_own_and_both_jetpacks_a_stage() -> None:
    defaults = dockerfile.arguments(HEAD)
    names: set[str] = set()
    for stage in STAGES:
        image, _, name = texts(stage, "FROM")[0].partition(" AS ")
        for key, value in defaults.items():
            image = image.replace(f"${{{key}}}", value)
        if image not in names:
            assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", image), image
        names.add(name)
    assert names >= {"wheels", "jetpack6", "jetpack7"}
    assert texts(LAST, "FROM") == ["jetpack${JETPACK}"]
    assert defaults["JETPACK"] == "6"
    assert (defaults["L4T_JETPACK"], defaults["L4T_TENSORRT"]) == ("r36.4.0", "r10.3.0-runtime")
    assert defaults["CUDA"].startswith("13.")
    assert defaults["CUDA"].endswith("ubuntu24.04")


def test_the_engine_is_a_build_argument_and_its_hash_is_checked_before_anything_uses_it() -> None:
    (wheels,) = [stage for stage in STAGES if texts(stage, "FROM")[0].endswith(" AS wheels")]
    assert dockerfile.arguments(wheels) == {"ORT_WHEEL": "", "ORT_SHA256": ""}
    names = [instruction.name for instruction in wheels]
    assert texts(wheels, "ADD") == ["${ORT_WHEEL} /wheels/"]
    added = names.index("ADD")
    first_run = wheels[added + 1 + names[added + 1 :].index("RUN")]
    assert first_run.text == 'echo "${ORT_SHA256}  $(echo /wheels/*.whl)" | sha256sum --check --strict'
    assert texts(wheels, "SHELL") == ['["/bin/bash", "-o", "pipefail", "-c"]']


@pytest.mark.parametrize(("kind", "ok"), [("right", True), ("wrong", False), ("", False)])
def test_a_wrong_or_missing_hash_ends_the_build(tmp_path: Path, kind: str, ok: bool) -> None:
    """The line itself, with the folder changed."""
    (line,) = [text for stage in STAGES for text in texts(stage, "RUN") if "sha256sum" in text]
    (tmp_path / "engine.whl").write_bytes(b"engine")
    right = subprocess.run(["sha256sum", tmp_path / "engine.whl"], capture_output=True, text=True).stdout.split()[0]
    digest = {"right": right, "wrong": "0" * 64}.get(kind, kind)
    command = ["bash", "-o", "pipefail", "-c", line.replace("/wheels", str(tmp_path))]
    done = subprocess.run(command, env={"ORT_SHA256": digest, "PATH": "/usr/bin:/bin"}, capture_output=True)
    assert (done.returncode == 0) is ok


def test_the_last_stage_takes_wheels_alone_and_no_torch() -> None:
    assert "torch" not in SOURCE
    assert texts(LAST, "COPY") == texts(LAST, "ADD") == []
    commands = dockerfile.installation(SOURCE)
    assert "--only-binary=:all:" in commands
    assert "--mount" not in commands
    assert re.findall(r"\S*\.whl\S*", commands) == ["/wheels/onnxruntime*.whl", '/wheels/bcd_edge-*.whl)[dicom,serve,watch]"']
    assert "pip check" in commands
    assert re.fullmatch(r"numpy==1\.26\.\d+", dockerfile.arguments(LAST)["NUMPY"])
    assert "opencv-python-headless" in " ".join(environments.project()["dependencies"])


def test_no_compiler_and_no_cache_are_left() -> None:
    runs = [text for stage in STAGES for text in texts(stage, "RUN")]
    for text in runs:
        assert text.count("apt-get update") == text.count("rm -rf /var/lib/apt/lists/*") == text.count("--no-install-recommends")
        assert len(re.findall(r"pip (?:install|wheel|download)", text)) == text.count("--no-cache-dir")
    (apt,) = [text for text in texts(LAST, "RUN") if "apt-get install" in text]
    packages = re.search(r"--no-install-recommends ((?:[\w.+-]+ )+)&&", apt)
    assert packages
    assert packages[1].split() == ["python3-venv"]
    assert "for compiler in cc gcc g++ clang nvcc; do" in apt
    assert "exit 1" in apt


def test_it_runs_as_an_ordinary_user_and_has_a_health_check() -> None:
    names = [instruction.name for instruction in LAST]
    (user,) = texts(LAST, "USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert f"--uid {user.partition(':')[0]} " in " ".join(texts(LAST, "RUN"))
    assert names.index("USER") > max(index for index, name in enumerate(names) if name == "RUN")
    assert json.loads(texts(LAST, "VOLUME")[0]) == ["/inbox", "/results", "/cache"]
    assert "BCD_EDGE_CACHE=/cache" in texts(LAST, "ENV")[0]
    (health,) = texts(LAST, "HEALTHCHECK")
    assert json.loads(health[health.index("[") :]) == ["bcd-edge", "doctor"]
    assert texts(LAST, "ENTRYPOINT") == ['["bcd-edge"]']


def test_the_build_context_is_the_wheels_sources() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {"bcd_edge", "pyproject.toml", "README.md", "LICENSE", "*.whl"}


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    return content


def test_the_watcher_and_its_metrics_are_for_this_machine_only() -> None:
    services = compose()["services"]
    watch, metrics = services["watch"], services["metrics"]
    assert watch["runtime"] == "nvidia"
    assert all(port.startswith("127.0.0.1:") for port in watch["ports"])
    assert "ports" not in metrics
    assert metrics["network_mode"] == "service:watch"
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] == "unless-stopped"
        assert re.search(r":[\w.${}-]*\d", service["image"])
    port = watch["command"][watch["command"].index("--metrics-port") + 1]
    (scraped,) = yaml.safe_load(compose()["configs"]["prometheus"]["content"])["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"localhost:{port}"]}]
    inside = {volume.split(":")[-1] for volume in watch["volumes"] if not volume.endswith(":ro")}
    assert inside == set(json.loads(texts(LAST, "VOLUME")[0]))


def test_the_commands_of_image_and_compose_exist() -> None:
    watch = pytest.importorskip("bcd_edge.cli.watch", reason="this version has no watch folder").command
    options = {name for parameter in watch.params for name in parameter.opts}
    for command in (json.loads(texts(LAST, "CMD")[0]), compose()["services"]["watch"]["command"]):
        assert command[0] == "watch"
        assert {word for word in command if word.startswith("--")} <= options


def test_the_server_reads_the_watchers_folders_and_listens_with_tls() -> None:
    serve, watch = compose()["services"]["serve"], compose()["services"]["watch"]
    command = click.Context(serving.command, info_name="serve")
    replaced = Path(__file__)  # of a certificate and key that must exist
    words = [str(replaced) if word.startswith("/tls/") else word for word in serve["command"]]
    serving.command.parse_args(command, words[1:])
    assert (words[0], str(command.params["results"]), command.params["address"]) == ("serve", "/results", "0.0.0.0")
    assert command.params["certificate"] == command.params["key"] == replaced
    assert serve["ports"] == [f"{command.params['port']}:{command.params['port']}"]
    inside = [re.sub(r"\$\{.*?\}", "", volume).split(":")[1] for volume in serve["volumes"]]
    assert inside == ["/inbox", "/results", "/tls", "/cache"]
    assert (serve["profiles"], serve["environment"]) == (["review"], watch["environment"])


def test_the_camera_is_the_servers_and_dicom_the_watchers() -> None:
    parts = {name: yaml.safe_load((ROOT / "deploy" / f"compose.{name}.yaml").read_text(encoding="utf-8"))["services"] for name in ("camera", "dicom")}
    (camera,), (dicom,) = ([*part.values()] for part in parts.values())
    base = compose()["services"]
    assert [*parts["camera"], *parts["dicom"]] == ["serve", "watch"]
    assert camera["command"][: len(base["serve"]["command"])] == base["serve"]["command"]
    assert dicom["command"][: len(base["watch"]["command"])] == base["watch"]["command"]
    source = camera["command"][camera["command"].index("--live") + 1]
    assert [device.rpartition(":")[2] for device in camera["devices"]] == [source]
    port = dicom["command"][dicom["command"].index("--dicom-port") + 1]
    assert dicom["ports"] == [f"{port}:{port}"]
    for command, words in ((serving.command, camera["command"]), (watching.command, dicom["command"])):
        assert {word for word in words if word.startswith("--")} <= {name for parameter in command.params for name in parameter.opts}


def test_the_oldest_series_of_each_requirement_is_pinned() -> None:
    pins = environments.oldest()
    assert "numpy==1.24.*" in pins
    assert "rich==13.0.*" in pins
    assert "onnxruntime==1.20.*" in pins
    assert any(pin.startswith("tomli==2.0.*; python_version") for pin in pins)
