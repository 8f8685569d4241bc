"""A cytology run to a bundle of kind `tabular`: an ONNX file of dense layers, its manifest, and a comparison with the reference."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bcd_edge import bundle
from bcd_edge.system.atomic import atomic_write

OPSET: Final = 17
IR_VERSION: Final = 8
FILE: Final = "model.fp32.onnx"
# The golden rows may differ by so much from scikit-learn's answers in float64.
TOLERANCE: Final = 1e-4
LIMITS: Final = (
    "One hospital, 1989 to 1991, graded by one reader: grades of other readers were never tested.",
    "The grades are a reader's work: without somebody who grades in the same way there is nothing to classify.",
    "Its review band was chosen on the rows that its figures are from, though by models that had not learned from them.",
)


def build(run: Path, out: Path, name: str, version: str) -> None:
    """Writes the bundle of a run of `python -m train cytology`.

    Raises:
        click.ClickException: the run is not complete, its model is not made of dense layers, or ONNX Runtime answers otherwise than it.
    """
    model = _read(run)
    graph = to_onnx(model)
    manifest = _manifest(model, graph, name, version)
    bundle.check(manifest, str(out))
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / FILE, graph)
    atomic_write(out / bundle.MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n")
    difference = _difference(out, manifest)
    if difference > TOLERANCE:
        raise click.ClickException(
            f"{out} answers differently from the run by {difference:.1e} at most, above {TOLERANCE:g}; train and export again."
        )
    click.echo(f"Wrote {out}: {model['model']}, {len(graph)} bytes of ONNX, golden rows within {difference:.0e}.")
    click.echo(f"Next: bcd-edge cytology TABLE.csv --tabular-bundle {out}")


def to_onnx(model: dict[str, Any]) -> bytes:
    """The ONNX file: `features`, float32 N x F, are standardised and pass the layers; `logits`, float32 N x 2, are 0 and the log odds."""
    mean, scale = (np.array([feature[key] for feature in model["features"]], np.float32) for key in ("impute", "scale"))
    constants: dict[str, Any] = {"mean": mean, "scale": scale}
    nodes = [helper.make_node("Sub", ["features", "mean"], ["centred"]), helper.make_node("Div", ["centred", "scale"], ["hidden0"])]
    last = len(model["layers"]) - 1
    for number, (weights, bias) in enumerate(model["layers"]):
        w, b = np.array(weights, np.float32), np.array(bias, np.float32)
        if number == last:  # benign's logit is 0
            w, b = np.column_stack([np.zeros(len(w), np.float32), w]), np.concatenate([np.zeros(1, np.float32), b])
        constants |= {f"weights{number}": w, f"bias{number}": b}
        sum_name = "logits" if number == last else f"sum{number}"
        nodes.append(helper.make_node("Gemm", [f"hidden{number}", f"weights{number}", f"bias{number}"], [sum_name]))
        nodes += [] if number == last else [helper.make_node("Relu", [sum_name], [f"hidden{number + 1}"])]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", size]) for end, size in (("features", len(mean)), ("logits", 2))]
    tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    proto = helper.make_model(helper.make_graph(nodes, "cytology", ends[:1], ends[1:], tensors), opset_imports=[helper.make_opsetid("", OPSET)])
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def _read(run: Path) -> dict[str, Any]:
    try:
        model: dict[str, Any] = json.loads((run / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{run} has no readable model.json ({error}); run: python -m train cytology --out {run}") from None
    if not model["layers"]:
        raise click.ClickException(f"{run} chose {model['model']}, which has no dense layers, so it cannot be exported; train with another --seed.")
    return model


def _manifest(model: dict[str, Any], graph: bytes, name: str, version: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "kind": "tabular",
        "name": name,
        "version": version,
        "description": f"Graded cells of fine-needle aspirates of breast masses, original Wisconsin set; {model['model']}.",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "classes": ["benign", "malignant"],
        "features": model["features"],
        "output": {"name": "logits", "temperature": model["temperature"]},
        "decision": model["decision"],
        "variants": [{"precision": "fp32", "file": FILE, "sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph), "opset": OPSET}],
        "golden_rows": model["golden"],
        "reference": model["reference"],
        "training": {"rows": model["rows"], "groups": model["groups"], "model": model["model"], "chosen": model["chosen"]},
        "licence": "Weights: as the project. Data: Breast Cancer Wisconsin (Original), W. H. Wolberg, UCI Machine Learning Repository, CC BY 4.0.",
        "intended_use": "Research and teaching. Not for diagnosis.",
        "limits": list(LIMITS),
    }


def _difference(out: Path, manifest: dict[str, Any]) -> float:
    """Largest difference of the golden rows' probabilities, by the runtime, from the reference."""
    from bcd_edge.cytology.classifier import TableClassifier

    rows = manifest["golden_rows"]
    p = TableClassifier.load(str(out)).probabilities(np.array([row["values"] for row in rows]))
    return float(np.abs(p - [row["p_malignant"] for row in rows]).max())
