"""Stands in for `systemctl` where systemd is not running: starts a unit with its account, folders, file system and environment.

Of the unit's hardening it applies ProtectHome, ProtectSystem=strict, ReadWritePaths, NoNewPrivileges and UMask, which decide what the service
can read and write. It is copied into the root of `python -m deploy clinic` and uses nothing but the standard library.
"""

from __future__ import annotations

import configparser
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

UNITS = Path("/etc/systemd/system")
RUN = Path("/run/stand-in")


def service(unit: str) -> dict[str, str]:
    """The section [Service]; of keys that are repeated, the last."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / f"{unit}.service")
    return dict(parser["Service"])


def start(unit: str) -> int:
    """Starts ExecStart and waits five seconds; its exit code if it has ended by then, else 0."""
    settings = service(unit)
    account = pwd.getpwnam(settings["User"])
    writable = settings.get("ReadWritePaths", "").split()
    for kind, parent in (("State", "/var/lib"), ("Cache", "/var/cache")):
        folder = Path(parent, settings[f"{kind}Directory"])
        folder.mkdir(exist_ok=True)
        os.chown(folder, account.pw_uid, account.pw_gid)
        folder.chmod(int(settings[f"{kind}DirectoryMode"], 8))
        writable.append(str(folder))
    mounts = [f"mount --bind {path} {path}" for path in [*writable, "/tmp"]] + ["mount -o remount,bind,ro /"]
    mounts += [f"mount -t tmpfs -o mode=0,ro none {path}" for path in ("/home", "/root") if settings["ProtectHome"] == "yes"]
    drop = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups", "--no-new-privs", "--bounding-set=-all"]
    command = f"{'; '.join(mounts)}; exec {shlex.join(drop)} {settings['ExecStart']}"
    RUN.mkdir(exist_ok=True)
    with (RUN / f"{unit}.log").open("ab") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", command],
            env=dict([settings["Environment"].split("=", 1)]) | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd="/",
            umask=int(settings["UMask"], 8),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (RUN / f"{unit}.pid").write_text(str(process.pid))
    time.sleep(5)
    return process.poll() or 0


def is_running(unit: str) -> bool:
    """Whether the process exists and is no zombie."""
    status = Path("/proc", (RUN / f"{unit}.pid").read_text(), "stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def stop(unit: str) -> int:
    """Sends SIGTERM and waits for the end."""
    os.kill(int((RUN / f"{unit}.pid").read_text()), signal.SIGTERM)
    while is_running(unit):
        time.sleep(0.1)
    return 0


def show(unit: str) -> int:
    """Prints the log; 3 if the unit is not running, as systemctl."""
    print((RUN / f"{unit}.log").read_text(errors="replace"))
    return 0 if is_running(unit) else 3


def main(verb: str, *words: str) -> int:
    """The exit code of systemctl for the verbs that docs/clinic.md uses."""
    units = [word for word in words if not word.startswith("--")]
    if verb == "daemon-reload":
        return 0
    actions = {"enable": start, "start": start, "disable": stop, "stop": stop, "status": show}
    return max(actions[verb](unit) for unit in units)


if __name__ == "__main__":
    if not shutil.which("unshare"):
        sys.exit("unshare is missing; install util-linux")
    sys.exit(main(*sys.argv[1:]))
