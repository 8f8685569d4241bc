"""The systemd unit, its settings and its set-up: understood by systemd and by bcd-edge."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from bcd_edge.cli import _config, main, watch
from deploy import clinic

UNIT = Path(__file__).parents[2] / "deploy" / "bcd-edge-watch.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_it(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    # the command is not installed where this test runs; everything else is taken as it stands
    copy.write_text(UNIT.read_text().replace("/opt/bcd-edge/bin/bcd-edge", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_its_settings_are_options_of_the_command() -> None:
    context = click.Context(main, info_name="bcd-edge")
    defaults = _config.defaults(UNIT.with_name("config.toml"), main, context, "watch")
    assert defaults["watch"]["group"] == "bcd-edge-readers"


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


def test_it_is_hardened_and_may_be_reloaded() -> None:
    text = UNIT.read_text()
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "UMask=0077", "ExecReload=/bin/kill -HUP $MAINPID"):
        assert line in text.splitlines()
