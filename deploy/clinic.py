"""docs/clinic.md, typed line by line: each indented line runs as written, as a user who may use sudo, in a root of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from bcd_edge.errors import UsageError
from deploy.environments import ROOT

PAGE: Final = ROOT / "docs" / "clinic.md"
USER: Final = "technician"
SOURCE: Final = f"/home/{USER}/bcd-edge"
RESULTS: Final = "/var/lib/bcd-edge/results"
# Typed when the service has classified an image: who can read the results? `nobody` is in no group.
READERS: Final = (
    f"grep -q synthetic-stroma {RESULTS}/summary.html",
    f"cat {RESULTS}/daily/*.csv",
    f"find {RESULTS} -name '*.overlay.png' -readable | grep .",
    f"cat {RESULTS}/journal.sqlite3  # exit code 1",
    f"sudo -u nobody ls {RESULTS}  # exit code 2",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line to type, and the exit code it must end with; the document says so in a comment where it is not 0."""

    text: str
    exit_code: int


def lines(page: str) -> list[Line]:
    """The indented lines of the document in order, the checks of the readers before its last section."""
    steps, uninstall = page.split("\n## Uninstall\n")
    texts = [*re.findall(r"^    (.+)$", steps, re.MULTILINE), *READERS, *re.findall(r"^    (.+)$", uninstall, re.MULTILINE)]
    codes = (re.search(r"# exit code (\d+)$", text) for text in texts)
    return [Line(text, int(code[1]) if code else 0) for text, code in zip(texts, codes, strict=True)]


def run() -> None:
    """Runs this module as root of a new mount and process namespace, which takes everything with it when it ends.

    Raises:
        UsageError: not root on Linux, or a tool is missing.
    """
    missing = [tool for tool in ("unshare", "chroot", "apt-get", "git") if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        raise UsageError(
            f"The check of docs/clinic.md needs root on Debian or Ubuntu{', and ' + missing[0] if missing else ''}; run it as root there."
        )
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-m", "deploy.clinic"]
    if subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode:
        raise click.exceptions.Exit(1)


def _make_root() -> Path:
    """A copy-on-write view of this machine in memory, with a user who may use sudo and the tracked files of this tree in the home folder."""
    work = Path("/mnt")
    for command in ("mount --make-rprivate /", f"mount -t tmpfs none {work}", f"mkdir {work}/upper {work}/work {work}/root"):
        subprocess.run(command.split(), check=True)
    root = work / "root"
    layers = f"lowerdir=/,upperdir={work}/upper,workdir={work}/work"
    subprocess.run(["mount", "-t", "overlay", "none", "-o", layers, root], check=True)
    for command in (
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
        f"mount --rbind /sys {root}/sys",
        f"mount -t tmpfs -o mode=1777 none {root}/tmp",
    ):
        subprocess.run(command.split(), check=True)
    setup = f"apt-get install --yes --quiet sudo; useradd --create-home --shell /bin/bash {USER}; install -d -o {USER} {SOURCE}"
    subprocess.run(["chroot", root, "sh", "-ec", setup], check=True, stdout=subprocess.DEVNULL)
    (root / "etc/sudoers.d/technician").write_text(f"Defaults !env_reset\n{USER} ALL=(ALL) NOPASSWD: ALL\n")
    stand_in = root / "usr/local/bin/systemctl"
    stand_in.write_text("#!/usr/bin/python3\n" + (ROOT / "deploy" / "systemctl.py").read_text())
    stand_in.chmod(0o755)
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for file in files.stdout.splitlines():
        copy = root / SOURCE[1:] / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy)
    subprocess.run(["chroot", root, "chown", "-R", f"{USER}:", SOURCE], check=True)
    return root


def _type(root: Path, line: Line) -> int:
    """Runs a line in a new login of the user, so that groups given by earlier lines count; its exit code."""
    own = {"HOME": f"/home/{USER}", "USER": USER, "LOGNAME": USER, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYENV", "BCD_EDGE", "VIRTUAL"))}
    login = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "bash", "-c", f"cd {SOURCE}; {line.text}"]
    return subprocess.run(["chroot", root, *login], env=kept | own).returncode


def main() -> int:
    """Types every line until one ends otherwise than the document says; 0 if none does."""
    root = _make_root()
    for line in lines(PAGE.read_text(encoding="utf-8")):
        click.secho(f"$ {line.text}", bold=True)
        if (code := _type(root, line)) != line.exit_code:
            click.echo(f"FAILED: exit code {code}, and {line.exit_code} was expected.")
            return 1
    click.echo("passed: every line of docs/clinic.md ran as written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
