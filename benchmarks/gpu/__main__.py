"""One part, in a process of its own: `python -m benchmarks.gpu PART SETTING JOURNAL DONE...`; a JSON line before and after each step."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks.gpu.setting import Setting, Steps, failure


def run(part: str, setting: Setting, journal: Path, done: list[str]) -> None:
    """Runs the steps of a part that are not done."""
    steps: Steps = importlib.import_module(f"benchmarks.gpu.{part}").steps(setting)
    for name, step in steps.items():
        if name in done:
            continue
        _append(journal, {"step": name, "begun": True})
        print(f"{part}: {name}", flush=True)
        started = time.monotonic()
        try:
            figures = step()
        except Exception as error:
            figures = failure(error)
            print(figures["traceback"], flush=True)
        _append(journal, {"step": name, "seconds": round(time.monotonic() - started, 2), "figures": figures})


def _append(journal: Path, row: dict[str, object]) -> None:
    with journal.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    run(sys.argv[1], Setting(**json.loads(sys.argv[2])), Path(sys.argv[3]), sys.argv[4:])
