"""`python -m export dequantise`: an FP32 bundle with the weights of an INT8 one, to compare speed and engines with.

It isn't the trained network: the weights keep what rounding to eight bits made of them; only the activations are no
longer rounded.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from bcd_edge import bundle as reading
from bcd_edge.decision import ensemble, probabilities
from bcd_edge.readers import raster
from export import card, gate
from export.members import divided
from train.data.images import Images
from train.evaluation.scores import brief, score_strata

Floats = npt.NDArray[np.float64]

SUFFIX = "fp32-from-int8"


def dequantise(path: Path | None, out: Path, data: Sequence[str], split: Path | None) -> None:
    """Writes the FP32 bundle whole or not at all, and prints how its answers differ from those of the INT8 file.

    Args:
        path: the INT8 bundle; the embedded one if not given.
        out: the new bundle's folder.
        data: the images of the run, as for training: compares test patients as the gate does; golden images only if empty.
        split: the run's split file.

    Raises:
        click.ClickException: `out` exists, or the bundle has the trained FP32 file.
        BundleError: the bundle has no INT8 file for every provider, or is damaged.
    """
    opened = reading.open(path)
    if out.exists():
        raise click.ClickException(f"{out} exists; a bundle is never changed in place, so give another --out or remove it.")
    if "fp32" in opened.precisions:
        raise click.ClickException(f"{opened.name} contains the trained FP32 file already; use it with --precision fp32.")
    variant, contents = opened.model("int8", "cpu")
    graphs = [float_graph(content) for content in contents]
    measured = _compare(opened, contents, graphs, data, split)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        _write(Path(folder) / "bundle", opened, variant, graphs, measured)
        (Path(folder) / "bundle").rename(out)
    _print(opened, measured)
    click.echo(f"Wrote {out}. Next: bcd-edge benchmark --bundle {out} --beside pytorch --scenario singlestream")


def float_graph(content: bytes) -> bytes:
    """A graph in QDQ form with its weights in float32 and its activations unquantised.

    ONNX Runtime's quantiser removes a Relu where the quantised range begins at zero and so does its work; it comes back.
    The pixels, in QDQ form the first quantised activation, are cast and divided by 255 as in a float graph.
    """
    model = onnx.load_from_string(content)
    graph = model.graph
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            graph.initializer.append(numpy_helper.from_array(_dequantised(node, constants), node.output[0]))
        elif node.op_type == "DequantizeLinear":
            nodes += _float_activation(node, makers.get(node.input[0]), makers, constants)
        elif node.op_type != "QuantizeLinear":
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array(255, np.float32), "pixel_range"))
    needed = {name for node in nodes for name in node.input}
    for initializer in [entry for entry in graph.initializer if entry.name not in needed]:
        graph.initializer.remove(initializer)
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _dequantised(node: NodeProto, constants: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """The float32 values of a quantised constant, with one scale or one per channel of `axis`."""
    quantised, scale, *zero_point = (constants[name] for name in node.input)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    shape = [-1 if place == axis % max(1, quantised.ndim) else 1 for place in range(quantised.ndim)] if scale.ndim else []
    offset = zero_point[0].reshape(shape).astype(np.int32) if zero_point else 0
    return np.asarray((quantised.astype(np.int32) - offset) * scale.reshape(shape), np.float32)


def _float_activation(
    node: NodeProto, quantise: NodeProto | None, makers: dict[str, NodeProto], constants: dict[str, npt.NDArray[Any]]
) -> list[NodeProto]:
    """What stands for a dequantised activation: the pixels as floats, a Relu that quantising removed, or the value as it was."""
    (output,) = node.output
    if quantise is None or quantise.op_type != "QuantizeLinear":
        cast = helper.make_node("Cast", [node.input[0]], [f"{output}_cast"], to=TensorProto.FLOAT)
        return [cast, helper.make_node("Div", [f"{output}_cast", "pixel_range"], [output])]
    zero_point = constants[node.input[2]]
    starts_at_zero = zero_point == np.iinfo(zero_point.dtype).min
    before = makers.get(quantise.input[0])
    is_relu = before is not None and before.op_type == "Relu"
    return [helper.make_node("Relu" if starts_at_zero and not is_relu else "Identity", [quantise.input[0]], [output])]


def _answers(opened: reading.Bundle, contents: Sequence[bytes], images: Sequence[Images]) -> Floats:
    """Calibrated probabilities, N, of a bundle's networks on ONNX Runtime, on the images at each member's size."""
    members = zip(opened.members, contents, images, strict=True)
    return ensemble([probabilities(gate.answers(content, pixels)[:, :2], member.temperature) for member, content, pixels in members])


def _compare(opened: reading.Bundle, before: Sequence[bytes], after: Sequence[bytes], data: Sequence[str], split: Path | None) -> dict[str, Any]:
    """`golden`: FP32's probabilities of the golden images; `judged` and `test` of the test patients where there are data."""
    golden = [_golden(opened, member.input) for member in opened.members] if opened.golden() else []
    measured: dict[str, Any] = {
        "golden": _answers(opened, after, golden) if golden else np.zeros(0),
        "golden_int8": _answers(opened, before, golden) if golden else np.zeros(0),
    }
    if not data:
        return measured
    training = opened.manifest["training"]
    how = str(split or training["settings"].get("split", "patient"))
    test = [
        divided(data, training["settings"] | {"size": member.input.height}, how, training["split"]["fingerprint"])["test"]
        for member in opened.members
    ]
    p, p_int8 = _answers(opened, after, test), _answers(opened, before, test)
    judged = gate.judge("fp32", p, p_int8, test[0], opened.decision, gate.BOUNDS)
    return measured | {"judged": judged, "test": brief(score_strata(test[0], p, opened.decision))}


def _golden(opened: reading.Bundle, size: reading.Input) -> Images:
    pictures = [cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) for _, content in opened.golden()]
    pixels = np.stack([raster.resize(np.asarray(picture, np.uint8)[..., ::-1], size) for picture in pictures])
    names = np.array([entry["file"] for entry, _ in opened.golden()])
    return Images(pixels, np.zeros(len(pictures), bool), names, names, names, names)


def _write(staging: Path, opened: reading.Bundle, variant: dict[str, Any], graphs: Sequence[bytes], measured: dict[str, Any]) -> None:
    """The files of the new bundle: graphs, what it shares with the INT8 one, manifest and card."""
    staging.mkdir()
    models = []
    for entry, content in zip(reading.files(variant), graphs, strict=True):
        name = entry["file"].replace("int8", "fp32") if "int8" in entry["file"] else f"fp32-{entry['file']}"
        (staging / name).write_bytes(content)
        facts = {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        models.append(facts | {key: entry[key] for key in ("opset", "ir_version")})
    for entry, content in opened.golden():
        (staging / entry["file"]).write_bytes(content)
    content = _manifest(opened, variant, models, measured)
    if "novelty" in content:
        (staging / content["novelty"]["file"]).write_bytes(opened.content(content["novelty"]))
    reading.check(content, str(staging))
    (staging / reading.MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (staging / reading.CARD).write_text(_card(opened, content), encoding="utf-8")
    staging.chmod(0o755)


def _manifest(opened: reading.Bundle, variant: dict[str, Any], models: list[dict[str, Any]], measured: dict[str, Any]) -> dict[str, Any]:
    """The INT8 bundle's manifest, without the figures that were measured with INT8."""
    content = {key: value for key, value in opened.manifest.items() if key not in ("compared", "previous")}
    origin = (
        f"Its weights are those of the INT8 model of {opened.name} as float32 numbers, and its activations are not quantised. "
        "It is not the FP32 network that was trained, and is meant for comparing speed and engines."
    )
    entry = {"precision": "fp32", "quantisation": None} | (models[0] if "members" not in variant else {"members": models})
    content |= {
        "name": f"{content['name']}-{SUFFIX}",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "description": f"{origin} {content.get('description', '')}".strip(),
        "limits": [origin, *content["limits"]],
        "variants": [entry | ({"test": measured["test"]} if "test" in measured else {})],
        "derived_from": {
            "name": opened.manifest["name"],
            "version": opened.manifest["version"],
            "manifest_sha256": opened.sha256,
            "files": [file["file"] for file in reading.files(variant)],
            "how": origin,
        },
    }
    if "judged" in measured:
        content["derived_from"]["difference"] = measured["judged"] | {"flips": len(measured["judged"]["flips"])}
    content["golden"] = [
        golden | {"variants": {models[0]["file"]: float(p)}} for golden, p in zip(content.get("golden", []), measured["golden"], strict=True)
    ]
    return content


def _card(opened: reading.Bundle, content: dict[str, Any]) -> str:
    """What this bundle is, above the card of the bundle whose weights it has."""
    original = card.text(opened.manifest).replace("\n## ", "\n### ").replace("# Model card", "## Model card", 1)
    title = f"# Model card: {content['name']} {content['version']}"
    rest = f"Below is the card of {opened.name}. Its figures were measured with the INT8 model."
    return "\n\n".join([title, content["derived_from"]["how"], rest, original])


def _print(opened: reading.Bundle, measured: dict[str, Any]) -> None:
    """How the FP32 answers differ from INT8's."""
    console = Console(markup=False, highlight=False)
    p, p_int8 = measured["golden"], measured["golden_int8"]
    changed = int((opened.decision.decide(p) != opened.decision.decide(p_int8)).sum())
    console.print(
        f"{opened.name}, FP32 with INT8's weights minus INT8: on the {len(p)} golden images p differs by {np.abs(p - p_int8).max(initial=0):.3f} "
        f"at most and {changed} decisions change."
    )
    if "judged" not in measured:
        console.print("With --data (and --split) it is compared on the test patients, with intervals.")
        return
    judged = measured["judged"]
    table = Table("metric", "difference", "95 % interval", "the gate's bound", box=None, header_style="bold", pad_edge=False)
    for metric, difference in judged["difference"].items():
        interval = f"[{difference['low']:+.4f}, {difference['high']:+.4f}]"
        table.add_row(gate.NAMES.get(metric, metric), f"{difference['value']:+.4f}", interval, f"{gate.BOUNDS[metric]:g}")
    console.print(f"\nOn {judged['images']} test images of {judged['patients']} patients p differs by {judged['max_delta_p']:.3f} at most,")
    console.print(f"{judged['mean_delta_p']:.4f} in the mean; {len(judged['flips'])} decisions or labels change.")
    console.print(table)
