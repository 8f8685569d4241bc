"""Assembles a bundle from finished runs: export, judge, and only then write."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import numpy.typing as npt

from bcd_edge import backends
from bcd_edge import bundle as reading
from bcd_edge.bundle import Input
from bcd_edge.decision import DecisionRule
from bcd_edge.errors import BundleError
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue
from export import card, gate, novelty, report
from export import members as runs_of
from export import previous as replaced
from export import variants as making
from export.manifest import Statement, manifest
from export.members import Member
from export.previous import Previous
from export.variants import Part, Variant
from train.data.images import Images
from train.evaluation.scores import brief, score_strata
from train.provenance import revision

Floats = npt.NDArray[np.float64]

MAX_DELTA_P_FP32 = 1e-4  # what a float32 graph may differ in any probability: it computes the same thing
GOLDEN = (  # what is drawn for `bcd-edge bundle selftest`: different tissue, and sizes that shrink and grow
    {"seed": 11, "height": 230, "width": 350, "glands": 4, "scattered": 120},
    {"seed": 12, "height": 200, "width": 200, "glands": 0, "scattered": 500, "irregular": 0.6},
    {"seed": 13, "height": 50, "width": 50, "glands": 0, "scattered": 30},
    {"seed": 14, "height": 120, "width": 180, "glands": 2, "scattered": 90, "irregular": 0.8},
)


@dataclass(frozen=True, slots=True)
class ExportContext:
    """What every step of an export needs to know."""

    members: list[Member]
    parts: list[Part]
    rule: DecisionRule
    bounds: Mapping[str, float]
    statement: Statement
    out: Path
    previous: Previous | None
    reference: Floats  # PyTorch's probabilities of the test images, N: minutes on a small machine, so once

    @property
    def test(self) -> Images:
        """The test images, at the first member's size."""
        return self.members[0].images["test"]

    @property
    def report(self) -> Path:
        """The folder of the report, which is kept whatever the verdict."""
        return self.out.with_name(f"{self.out.name}-report")


def build(
    runs: Sequence[Path],
    out: Path,
    data: Sequence[str],
    wanted: Sequence[str],
    statement: Statement,
    *,
    bounds: Mapping[str, float],
    allow_refused: bool = False,
    method: str = "auto",
    seconds: float = 2.0,
    previous: Path | None = None,
    previous_split: Path | None = None,
) -> None:
    """Makes the wanted variants, judges each beside PyTorch on the test patients, and writes those that passed.

    `OUT-report/` receives `export.json` and `export.html` whatever the verdict; `out` is written whole or not at all.

    Args:
        runs: one, or the members of an ensemble.
        out: the new bundle's folder.
        data: where the images lie now; where they lay for training if empty.
        wanted: names of `export.variants.KINDS`, the bundle's default first.
        statement: what the exporter says about the bundle.
        bounds: what each metric may lose, as `export.gate.BOUNDS`.
        allow_refused: carry a refused variant all the same; the manifest and the runtime say so.
        method: of INT8's calibration, or `auto`.
        seconds: to measure each variant's latency on each provider; 0 does not.
        previous: the bundle that this one is to replace; both are compared on test patients that neither has learned from.
        previous_split: the split of that bundle's run, where it held out other people.

    Raises:
        click.ClickException: a run is unfinished or leaky, its data are not those it was trained on, or `out` exists.
        BundleError: a variant was refused; those that passed are written.
    """
    if out.exists():
        raise click.ClickException(f"{out} exists; a bundle is never changed in place, so give another --out or remove it.")
    members = runs_of.load(runs, data)
    fingerprint, test = members[0].meta["split"]["fingerprint"], members[0].images["test"]
    before = replaced.load(previous, previous_split, fingerprint, test) if previous else None
    context = ExportContext(members, making.parts(members), runs_of.decision(members), bounds, statement, out, before, runs_of.mean(members, "test"))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = _make(context, wanted, Path(folder), method)
        latency = _latency(made, context.parts, seconds)
        entries = {name: variant.describe() | _judged(context, variant) | {"latency": latency.get(name, {})} for name, variant in made.items()}
        carried = [name for name in wanted if allow_refused or not entries[name]["gate"]["refused"]]
        content = _content(context, [_row(made[name]) | _figures(entries[name]) | {"carried": name in carried} for name in made])
        context.report.mkdir(exist_ok=True)
        report.write(context.report, content)
        if carried:
            _write(context, Path(folder) / "bundle", [made[name] for name in carried], entries)
    refused = [name for name in wanted if name not in carried]
    report.table(content, None if refused else out)
    if refused:
        written = f"{out} was written with {', '.join(carried)} only" if carried else f"{out} was not written"
        raise BundleError(f"Refused: {', '.join(refused)}, for the reasons above and in {context.report / 'export.html'}. {written}.")


def _make(context: ExportContext, wanted: Sequence[str], folder: Path, method: str) -> dict[str, Variant]:
    """Every wanted variant by name, and fp32 first, which the INT8 ones are made from."""
    fp32 = making.floats(context.parts, folder, "fp32")
    made = {"fp32": fp32}
    reference, validation = runs_of.mean(context.members, "validation"), context.members[0].images["validation"]

    def passes(variant: Variant) -> bool:
        judged = gate.judge(variant.name, making.answers(variant, context.parts, "validation"), reference, validation, context.rule, context.bounds)
        return not judged["refused"] or not judged["difference"]  # too few validation patients to search by: the test decides

    for name in wanted:
        if name == "fp16":
            made[name] = making.floats(context.parts, folder, name)
        elif name != "fp32":
            seed = context.members[0].meta["settings"]["seed"]
            made[name] = making.int8(name, fp32, context.parts, folder, seed, method, passes, click.echo)
    return made


def _judged(context: ExportContext, variant: Variant) -> dict[str, Any]:
    """The gate's verdict on a variant, and its own figures.

    Every provider that can run it here is judged, because one engine's bug is another's exact sum: the figures are
    those of the first, the verdict is that of all.
    """
    limit = MAX_DELTA_P_FP32 if variant.name == "fp32" else None
    reference = context.reference
    first, *others = making.providers(variant.kind)
    p = making.answers(variant, context.parts, "test", first)
    judged = gate.judge(variant.name, p, reference, context.test, context.rule, context.bounds, max_delta_p=limit)
    judged["provider"], judged["others"] = first, {}
    for provider in others:
        name = f"{variant.name} on {provider}"
        also = gate.judge(
            name, making.answers(variant, context.parts, "test", provider), reference, context.test, context.rule, context.bounds, max_delta_p=limit
        )
        judged["others"][provider] = {key: also[key] for key in ("max_delta_p", "mean_delta_p", "difference", "refused")} | {
            "flips": len(also["flips"])
        }
        judged["refused"] += also["refused"]
    return {"gate": judged, "test": brief(score_strata(context.test, p, context.rule))}


def _latency(made: Mapping[str, Variant], parts: Sequence[Part], seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Per variant and provider here: the median and 90th percentile for one image, members one after the other."""
    if not seconds:
        return {}
    models = {}
    for variant in made.values():
        for provider in backends.engines():
            if not variant.kind.providers or provider in variant.kind.providers:
                for index, (file, part) in enumerate(zip(variant.files, parts, strict=True)):
                    models[f"{variant.name} {index}", provider] = (file.read_bytes(), part.size)
    latencies: dict[str, dict[str, dict[str, float]]] = {}
    for (key, provider), times in gate.latencies(models, seconds).items():
        total = latencies.setdefault(key.partition(" ")[0], {}).setdefault(provider, {"p50_ms": 0.0, "p90_ms": 0.0, "runs": times["runs"]})
        for name in ("p50_ms", "p90_ms"):
            total[name] += times[name]
    return latencies


def _row(variant: Variant) -> dict[str, Any]:
    row = {"precision": variant.name, "file": ", ".join(file.name for file in variant.files), "bytes": variant.bytes}
    return row | {"quantisation": variant.quantisation} | ({"providers": list(variant.kind.providers)} if variant.kind.providers else {})


def _figures(entry: dict[str, Any]) -> dict[str, Any]:
    return {"gate": entry["gate"], "latency": entry["latency"]}


def _content(context: ExportContext, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `export.report` shows."""
    versions = context.members[0].meta["versions"]
    kind = "the checkpoint" if len(context.members) == 1 else f"the mean of {', '.join(member.name for member in context.members)}"
    return {
        "name": context.statement.name,
        "version": context.statement.version,
        "reference": f"{kind} in PyTorch {versions['torch']}, float32",
        "bounds": dict(context.bounds),
        "decision": asdict(context.rule),
        "variants": rows,
        "versions": versions,
        "revision": revision(),
    }


def _write(context: ExportContext, staging: Path, carried: Sequence[Variant], entries: Mapping[str, dict[str, Any]]) -> None:
    """Writes beside, then renames: a full disk leaves no half bundle."""
    staging.mkdir()
    golden = _golden(staging, context, carried)
    reference = context.members[0].meta["test"] if len(context.members) == 1 else score_strata(context.test, context.reference, context.rule)
    names = [variant.name for variant in carried]
    content = manifest(
        context.members,
        context.parts,
        context.rule,
        brief(reference),
        [entries[name] for name in names],
        {name: entry for name, entry in entries.items() if name not in names},
        golden,
        context.statement,
    )
    if context.parts[0].head:
        statistics, content["novelty"] = novelty.measure(carried[0], context.parts[0], context.members[0].meta["settings"]["seed"])
        (staging / novelty.FILE).write_bytes(statistics)
    for entry in (*content["variants"], *content["compared"].values()):
        entry["gate"] = entry["gate"] | {"flips": len(entry["gate"]["flips"])}  # the report lists them
    if context.previous:
        p = making.answers(carried[0], context.parts, "test")
        resized = runs_of.resized(context.members[0], context.previous.bundle.input.height)
        content["previous"] = replaced.beside(context.previous, carried[0].name, p, context.test, resized, context.rule)
    reading.check(content, str(context.out))
    for variant in carried:
        for file in variant.files:
            shutil.copy(file, staging)
    (staging / reading.MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (staging / "MODEL_CARD.md").write_text(card.text(content), encoding="utf-8")
    staging.chmod(0o755)
    staging.rename(context.out)


def _golden(staging: Path, context: ExportContext, carried: Sequence[Variant]) -> list[dict[str, Any]]:
    """Draws the golden inputs as PNG files and notes what the reference and each variant say of them."""
    pictures = [tissue(**settings) for settings in GOLDEN]  # type: ignore[arg-type]
    entries: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, 1):
        content = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
        (staging / f"golden-{number}.png").write_bytes(content)
        entries.append({"file": f"golden-{number}.png", "sha256": hashlib.sha256(content).hexdigest()})
    drawn = [_as_images(pictures, part.size) for part in context.parts]
    own = [Member(member.run, member.meta, member.network, {"test": _as_images(pictures, member.size)}) for member in context.members]
    reference = runs_of.mean(own, "test")
    for entry, p in zip(entries, reference, strict=True):
        entry |= {"p_malignant": float(p), "variants": {}}
    fed = [replace(part, images={"golden": images}) for part, images in zip(context.parts, drawn, strict=True)]
    for variant in carried:
        for entry, p in zip(entries, making.answers(variant, fed, "golden"), strict=True):
            entry["variants"][variant.files[0].name] = float(p)
    return entries


def _as_images(pictures: Sequence[npt.NDArray[np.uint8]], size: int) -> Images:
    pixels = np.stack([raster.resize(picture, Input(size, size)) for picture in pictures])
    names = np.array([str(index) for index in range(len(pictures))])
    return Images(pixels, np.zeros(len(pictures), bool), names, names, names, names)
