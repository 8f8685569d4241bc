"""Whether the card answers as the CPU does, with every precision, batch, thread and mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from bcd_edge import Classifier, backends, selftest
from bcd_edge.backends import Backend
from bcd_edge.errors import BcdEdgeError
from bcd_edge.options import RunOptions
from benchmarks.gpu.setting import Figures, Setting, Steps

FIXED = 4  # images of a batch of fixed size


def steps(setting: Setting) -> Steps:
    """Golden images first; the repository's own tests of providers last."""
    made: dict[str, Callable[[], Figures]] = {f"golden images, {setting.provider}": partial(_golden, setting, setting.provider)}
    if not setting.dry_run and backends.availability("tensorrt").available:
        made["golden images, tensorrt"] = partial(_golden, setting, "tensorrt")
    for precision in setting.precisions():
        made[f"batches, {precision}"] = partial(_batches, setting, precision)
    for precision in setting.precisions():
        made[f"pictures, {precision}"] = partial(_pictures, setting, precision)
    return made | {"threads": partial(_threads, setting), "mistakes": partial(_mistakes, setting), "tests": partial(_tests, setting)}


def _golden(setting: Setting, provider: str) -> Figures:
    outcomes = selftest.run(setting.bundle or None, provider=provider)
    return {
        outcome.precision or "none": {
            "verdict": outcome.verdict,
            "from_exported": outcome.from_exported,
            "from_reference": outcome.from_reference,
            "reason": outcome.reason,
        }
        for outcome in outcomes
    }


def _batches(setting: Setting, precision: str) -> Figures:
    """The largest difference of a logit from the CPU's over batches of any size, of a fixed size with and without a graph, and of two replays."""
    images = setting.inputs(FIXED if setting.dry_run else 32)
    cpu = setting.open_backend(precision, provider="cpu")
    expected = cpu.infer(images)[:, :2]
    differences = {}
    for name, batch, options in (
        ("any size", None, {}),
        ("fixed size, graph", FIXED, {}),
        ("fixed size, no graph", FIXED, {"graph": "0"}),
        ("fixed size, channels last", FIXED, {"nhwc": "1"}),
    ):
        backend = setting.open_backend(precision, batch=batch, **options)
        sizes = [batch] * 3 if batch else [size for size in setting.batches if size <= len(images)]
        answers = [(size, backend.infer(images[:size])[:, :2]) for size in sizes]
        differences[name] = max(float(np.abs(logits - expected[:size]).max()) for size, logits in answers)
        backend.close()
    return {"largest_logit": float(np.abs(expected).max()), "logit_difference": differences}


def _pictures(setting: Setting, precision: str) -> Figures:
    """Differences of p_malignant from the CPU's over drawn pictures, and decisions that differ."""
    pictures = setting.drawn()
    records = {}
    for provider in ("cpu", setting.provider):
        with setting.classifier(precision, provider) as classifier:
            records[provider] = [classifier.classify(picture) for picture in pictures]
            device = classifier.execution.device
    pairs = list(zip(records["cpu"], records[setting.provider], strict=True))
    differences = np.array([abs(float(ours.p_malignant or 0) - float(theirs.p_malignant or 0)) for theirs, ours in pairs])
    return {
        "pictures": len(pictures),
        "device": device,
        "max_delta_p": float(differences.max()),
        "mean_delta_p": float(differences.mean()),
        "decisions_that_differ": sum(theirs.decision != ours.decision for theirs, ours in pairs),
    }


def _threads(setting: Setting) -> Figures:
    """A fixed batch from several threads at once: the same answers as one after the other."""
    backend = setting.open_backend(setting.precisions()[0], batch=2)
    batches = [setting.inputs(2, seed) for seed in range(8)]
    expected = [backend.infer(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(backend.infer, batches * (1 if setting.dry_run else 20)))
    backend.close()
    same = [np.array_equal(answer, expected[index % 8]) for index, answer in enumerate(answers)]
    largest = max(float(np.abs(answer - expected[index % 8]).max()) for index, answer in enumerate(answers))
    return {"calls": len(same), "bit_identical": sum(same), "largest_difference": largest}


def _mistakes(setting: Setting) -> Figures:
    """What each mistake is answered with; anything but an error of ours stands there as it is."""
    precision = setting.precisions()[0]
    backend = setting.open_backend(precision, batch=2)
    image = setting.inputs(2)
    mistakes: dict[str, Callable[[Backend], object]] = {
        "another size": lambda engine: engine.infer(image[:, :7, :7]),
        "another type": lambda engine: engine.infer(image.astype(np.float32)),  # type: ignore[arg-type]
        "a device that is not there": lambda _: Classifier.load(setting.bundle or None, RunOptions(provider=setting.provider, device="99")),
        "closed": lambda engine: (engine.close(), engine.infer(image)),
    }
    if backend.batch:
        mistakes = {"another batch": lambda engine: engine.infer(image[:1])} | mistakes
    return {name: _answer(partial(call, backend)) for name, call in mistakes.items()}


def _answer(call: Callable[[], object]) -> str:
    try:
        call()
    except BcdEdgeError as error:
        return str(error)
    except Exception as error:
        return f"not ours: {type(error).__name__}: {str(error)[:200]}"
    return "no error"


def _tests(setting: Setting) -> Figures:
    """The repository's tests of providers, of which most are skipped where no card is."""
    folder = Path(__file__).parents[2] / "tests" / "bcd_edge" / "backends"
    chosen = [str(folder / "test_contract.py"), "-k", "says_whether"] if setting.dry_run else [str(folder)]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parents[2])
    lines = [line for line in done.stdout.splitlines() if not line.startswith("SKIPPED")]
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (passed|failed|skipped|error)", lines[-1] if lines else "")}
    return {"exit_code": done.returncode, **counts, "output": "\n".join(lines[-120:])[-6000:] + done.stderr[-1000:]}
