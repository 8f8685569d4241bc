"""The systemd unit is one that systemd understands, and its command is one that the program understands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from bcd_edge.cli import watch

UNIT = Path(__file__).parents[2] / "deploy" / "bcd-edge-watch.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_it(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    # the command is not installed where this test runs; everything else is taken as it stands
    copy.write_text(UNIT.read_text().replace("/opt/bcd-edge/bin/bcd-edge", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


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
