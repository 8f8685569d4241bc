"""The files of each variant, from PyTorch networks to ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx

from bcd_edge import backends
from bcd_edge.decision import ensemble, probabilities
from export import gate, graph, quantise
from export.members import Member
from train.data.images import Images, drawn

Floats = npt.NDArray[np.float64]

# Sensitive nodes are looked for among this many of the worst; each costs one quantisation and one pass over validation.
MOST_KEPT = 8
# Validation images on which attempts are compared; all of them decide whether a chosen one passes.
PROBE = 256


@dataclass(frozen=True, slots=True)
class Kind:
    """One name of `--variants`: its precision, who it is for (`()` is everybody), and the scheme of an INT8 one."""

    precision: str
    providers: tuple[str, ...] = ()
    scheme: str = ""


KINDS = {
    "fp32": Kind("fp32"),
    "fp16": Kind("fp16"),
    "int8": Kind("int8", scheme="u8s8"),
    "int8-no-vnni": Kind("int8", scheme="u8s7"),
    "int8-tensorrt": Kind("int8", ("tensorrt",), "s8s8"),
    "int8-openvino": Kind("int8", ("openvino",), "nncf"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a bundle, in the runtime's eyes: what it takes, how its logits become a probability, and its head.

    An ensemble whose members share an input size is one part, with a temperature of 1; of other ensembles each member is one.
    """

    network: Any
    size: int
    temperature: float
    images: dict[Any, Images]
    head: str = ""


@dataclass
class Variant:
    """A variant's files, in the order of the parts, and how they were made."""

    name: str
    kind: Kind
    files: list[Path]
    quantisation: dict[str, Any] | None = None

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    def describe(self) -> dict[str, Any]:
        """Its entry of the manifest, without the figures."""
        entry: dict[str, Any] = {"precision": self.kind.precision, "quantisation": self.quantisation}
        files = [_describe(file) for file in self.files]
        entry |= files[0] if len(files) == 1 else {"members": files}
        return entry | ({"providers": list(self.kind.providers)} if self.kind.providers else {})


def parts(members: Sequence[Member]) -> list[Part]:
    """What the bundle's files are: one, unless members of an ensemble take different sizes."""
    if len(members) > 1 and len({member.size for member in members}) == 1:
        ensemble = graph.Ensemble([member.network for member in members], [member.temperature for member in members])
        return [Part(ensemble.eval(), members[0].size, 1.0, dict(members[0].images))]
    head = members[0].head if len(members) == 1 else ""  # novelty is of one network's embedding
    return [Part(member.network, member.size, member.temperature, dict(member.images), head) for member in members]


def providers(kind: Kind) -> list[str]:
    """Who of those that are to run a variant can run it here, `cpu` first; `cpu` for a file whose provider needs another machine."""
    meant = kind.providers or backends.engines()
    here = [name for name in meant if name in backends.engines() and backends.availability(name).available]
    return sorted(here, key=lambda name: name != "cpu") or ["cpu"]


def answers(variant: Variant, made: Sequence[Part], name: str, provider: str = "") -> Floats:
    """p(malignant) of a variant for one part of the split, N, through the runtime's own backend: the first of `providers` if none is named."""
    provider = provider or providers(variant.kind)[0]
    each = [
        probabilities(gate.answers(file.read_bytes(), part.images[name], provider)[:, :2], part.temperature)
        for file, part in zip(variant.files, made, strict=True)
    ]
    return ensemble(each)


def floats(made: Sequence[Part], folder: Path, name: str) -> Variant:
    """`fp32` or `fp16`."""
    files = [folder / _file(name, index, made) for index in range(len(made))]
    for part, file in zip(made, files, strict=True):
        graph.write(part.network, part.size, file, half=name == "fp16", head=part.head)
    return Variant(name, KINDS[name], files)


def int8(
    name: str,
    fp32: Variant,
    made: Sequence[Part],
    folder: Path,
    seed: int,
    method: str,
    passes: Callable[[Variant], bool],
    say: Callable[[str], None],
) -> Variant:
    """An INT8 variant: the best calibration method, then as few sensitive nodes in float32 as the gate asks for.

    Both are chosen on the validation patients; the test patients only judge what came out.

    Args:
        name: of `KINDS`.
        fp32: the float variant, which is quantised.
        made: the bundle's parts.
        folder: for the files.
        seed: of the calibration set.
        method: one of `quantise.METHODS`, or `auto` for the one that moves validation probabilities least.
        passes: the gate on validation.
        say: tells a person what is going on.
    """
    if KINDS[name].scheme == "nncf":
        return _nncf(name, fp32, made, folder, seed)
    prepared = [quantise.prepare(file, folder, f"{index}") for index, file in enumerate(fp32.files)]
    samples = [quantise.calibration_set(part.images["train"], part.images["test"], seed) for part in made]
    probe = [Part(part.network, part.size, part.temperature, {"probe": drawn(part.images["validation"], PROBE, seed)}) for part in made]
    reference = answers(fp32, probe, "probe")

    def attempt(how: str, keep: Sequence[str]) -> Variant:
        files = [folder / _file(name, index, made) for index in range(len(made))]
        quantisation = {}
        for index, file in enumerate(files):
            own = [node.partition(":")[2] for node in keep if node.startswith(f"{index}:")]
            quantisation = quantise.write(prepared[index], samples[index], file, method=how, scheme=KINDS[name].scheme, keep=own)
        return Variant(name, KINDS[name], files, quantisation | {"float_nodes": list(keep)})

    def loss(variant: Variant) -> float:
        return float(np.abs(answers(variant, probe, "probe") - reference).mean())

    methods = list(quantise.METHODS) if method == "auto" else [method]
    losses = {how: loss(attempt(how, ())) for how in methods}
    best = min(losses, key=lambda how: losses[how])
    say(f"{name}: calibrated by {best}; mean |dp| on validation: " + ", ".join(f"{how} {value:.4f}" for how, value in losses.items()))
    variant = attempt(best, ())
    if not passes(variant):
        nodes = [f"{index}:{node}" for index, file in enumerate(prepared) for node in quantise.convolutions(file)]
        ranked = quantise.sensitive(nodes, lambda keep: loss(attempt(best, keep)), say)[:MOST_KEPT]
        for count in range(1, len(ranked) + 1):
            variant = attempt(best, ranked[:count])
            if passes(variant):
                say(f"{name}: passes on validation with {', '.join(ranked[:count])} in float32")
                break
    variant.quantisation = (variant.quantisation or {}) | {"mean_delta_p_on_validation": losses}
    return variant


def _nncf(name: str, fp32: Variant, made: Sequence[Part], folder: Path, seed: int) -> Variant:
    availability = backends.availability("openvino")
    if not availability.available:
        raise click.ClickException(f"--variants {name}: {availability.reason}, and it is judged there; fix: {availability.fix}")
    files, quantisation = [], {}
    for index, (file, part) in enumerate(zip(fp32.files, made, strict=True)):
        files.append(folder / _file(name, index, made))
        quantisation = quantise.write_nncf(file, quantise.calibration_set(part.images["train"], part.images["test"], seed), files[-1])
    return Variant(name, KINDS[name], files, quantisation)


def _file(name: str, index: int, made: Sequence[Part]) -> str:
    return f"model.{name}.onnx" if len(made) == 1 else f"model.{name}.{index + 1}.onnx"


def _describe(file: Path) -> dict[str, Any]:
    model = onnx.load(file)
    return {
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "bytes": file.stat().st_size,
        "opset": next(entry.version for entry in model.opset_import if entry.domain == ""),
        "ir_version": model.ir_version,
    }
