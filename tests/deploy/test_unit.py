"""The systemd units, their settings and their set-up: understood by systemd and by bcd-edge."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from bcd_edge.cli import _config, main, serve, watch
from deploy import clinic

UNIT = Path(__file__).parents[2] / "deploy" / "bcd-edge-watch.service"
SERVER = UNIT.with_name("bcd-edge-serve.service")


@pytest.mark.parametrize("unit", [UNIT, SERVER], ids=lambda unit: unit.stem)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_it(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    # the command is not installed where this test runs; everything else is taken as it stands
    copy.write_text(unit.read_text().replace("/opt/bcd-edge/bin/bcd-edge", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_its_settings_are_options_of_the_command() -> None:
    context = click.Context(main, info_name="bcd-edge")
    defaults = _config.defaults(UNIT.with_name("config.toml"), main, context, "watch")
    assert defaults["watch"]["group"] == "bcd-edge-readers"


def test_the_servers_settings_are_options_and_its_port_is_the_units() -> None:
    context = click.Context(main, info_name="bcd-edge")
    defaults = _config.defaults(UNIT.with_name("config.toml"), main, context, "serve")["serve"]
    assert (defaults["address"], defaults["hosts"]) == ("0.0.0.0", ["edge.clinic.local"])
    assert f"SocketBindAllow=tcp:{defaults['port']}\n" in SERVER.read_text()


def test_every_line_of_the_set_up_is_typed_by_the_check() -> None:
    typed = clinic.lines(clinic.PAGE.read_text(encoding="utf-8"))
    assert [line.text for line in typed[:2]] == ["sudo apt-get install -y python3-venv make", "make demo"]
    assert [line.exit_code for line in typed if "watch status ~/try" in line.text] == [1]
    assert typed[-1].text == "sudo rm -r /opt/bcd-edge"
    written = [line[4:] for line in clinic.PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    assert [line.text for line in typed if line.text not in clinic.READERS] == written


def test_its_options_are_options_of_the_command() -> None:
    command = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(), re.MULTILINE)[0].split()
    arguments = command[command.index("watch") + 1 :]
    context = click.Context(watch.command, info_name="watch", auto_envvar_prefix=None)
    watch.command.parse_args(context, list(arguments))
    assert str(context.params["inbox"]) == "/srv/bcd-edge/inbox"
    assert str(context.params["out"]).startswith("/var/lib/bcd-edge/")


def test_the_server_starts_on_the_watchers_folder_and_is_hardened_like_it() -> None:
    watcher, server = (dict(re.findall(r"^([A-Za-z]+)=(.*)$", unit.read_text(), re.MULTILINE)) for unit in (UNIT, SERVER))
    command = server["ExecStart"].split()
    context = click.Context(serve.command, info_name="serve")
    serve.command.parse_args(context, command[command.index("serve") + 1 :])
    assert str(context.params["results"]) in watcher["ExecStart"].split()
    own = {"Description", "After", "ExecStart", "ExecReload", "ReadWritePaths", "IPAddressDeny", "IPAddressAllow"}
    assert {name: value for name, value in watcher.items() if name not in own}.items() <= server.items()


def test_it_is_hardened_and_may_be_reloaded() -> None:
    text = UNIT.read_text()
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "UMask=0077", "ExecReload=/bin/kill -HUP $MAINPID"):
        assert line in text.splitlines()
