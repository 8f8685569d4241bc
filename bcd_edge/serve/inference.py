"""The Open Inference Protocol, version 2, of KServe and Triton, for clients that have pixels: uint8 in, probabilities and decisions out.

https://github.com/kserve/open-inference-protocol, with the binary tensor extension of Triton. A model is a bundle by its name
without the version. Its input IMAGE is uint8 RGB, N x H x W x 3, of any size, resized as a file's pixels are; what it answers is not
committed to the results, because it has no file: POST /api/v1/images does that.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bcd_edge import __version__
from bcd_edge.serve import blinding
from bcd_edge.serve.auth import requires
from bcd_edge.serve.engine import Job

EVERYONE: Final = ("submitter", "reviewer", "admin")
HEADER: Final = "inference-header-content-length"
INPUT: Final = "IMAGE"
# Pictures of one request, and pixels of one side.
MAX_IMAGES: Final = 64
MAX_SIDE: Final = 16384
OUTPUTS: Final = {"P_MALIGNANT": "FP64", "NOVELTY": "FP64", "LABEL": "BYTES", "DECISION": "BYTES"}


@requires()
async def live(request: Request) -> Response:
    """Whether the process answers."""
    return JSONResponse({"live": True})


@requires()
async def ready(request: Request) -> Response:
    """Whether pictures get answers."""
    is_ready = request.app.state.engine.is_ready
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


@requires(*EVERYONE)
async def server(request: Request) -> Response:
    """About the server."""
    return JSONResponse({"name": "bcd-edge", "version": __version__, "extensions": ["binary_tensor_data"]})


@requires(*EVERYONE)
async def model(request: Request) -> Response:
    """About a model."""
    name = _model(request)
    outputs = [{"name": output, "datatype": kind, "shape": [-1]} for output, kind in OUTPUTS.items()]
    image = {"name": INPUT, "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
    return JSONResponse({"name": name, "versions": [_version(request)], "platform": "bcd-edge", "inputs": [image], "outputs": outputs})


@requires(*EVERYONE)
async def model_ready(request: Request) -> Response:
    """Whether a model answers."""
    name, is_ready = _model(request), request.app.state.engine.is_ready
    return JSONResponse({"name": name, "ready": is_ready}, 200 if is_ready else 503)


@requires(*EVERYONE)
async def infer(request: Request) -> Response:
    """Classifies the pixels in the request."""
    name = _model(request)
    blinding.check_machine(request)
    head, binary = _parts(await request.body(), request.headers.get(HEADER))
    images, wanted = _images(head, binary), _wanted(head)
    jobs = [Job("pixels", image, request.state.person.name, "") for image in images]
    for job in jobs:
        request.app.state.engine.submit(job)
    records = await asyncio.gather(*(asyncio.shield(asyncio.wrap_future(job.answer)) for job in jobs))
    if failed := next((record["error"] for record in records if record["status"] == "failed"), None):
        raise _wrong(f"{failed[:1].lower()}{failed[1:].rstrip('.')}")
    given = {"model_name": name, "model_version": _version(request)} | ({"id": head["id"]} if isinstance(head.get("id"), str) else {})
    return _response(given, {output: _column(records, output) for output in wanted}, wanted)


def _model(request: Request) -> str:
    """The name in the path, if it is that of the bundle that runs.

    Raises:
        HTTPException: 404 it is another.
    """
    name: str = request.app.state.engine.classifier.bundle.name.split()[0]
    if request.path_params["model"] != name or request.path_params.get("version", _version(request)) != _version(request):
        raise HTTPException(404, f"There is no such model or version; the model here is {name}, version {_version(request)}.")
    return name


def _version(request: Request) -> str:
    return str(([*request.app.state.engine.classifier.bundle.name.split(), "1"])[1])


def _parts(body: bytes, length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON of a request, and the binary data behind it."""
    size = len(body) if length is None else int(length) if length.isascii() and length.isdecimal() and len(length) < 12 else -1
    if not 0 <= size <= len(body):
        raise _wrong(f"{HEADER} {length} is no length within the body")
    try:
        head = json.loads(body[:size])
    except (ValueError, RecursionError):
        raise _wrong("the request is not JSON") from None
    if not isinstance(head, dict):
        raise _wrong("the request is no JSON object")
    return head, body[size:]


def _images(head: dict[str, Any], binary: bytes) -> npt.NDArray[np.uint8]:
    """Uint8, N x H x W x 3."""
    inputs = head.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict) or inputs[0].get("name") != INPUT:
        raise _wrong(f"it needs exactly one input, {INPUT}")
    (tensor,) = inputs
    shape = tensor.get("shape")
    if tensor.get("datatype") != "UINT8" or not _is_shape(shape):
        raise _wrong(f"{INPUT} must be UINT8 of shape [1 to {MAX_IMAGES}, height, width, 3], with at most {MAX_SIDE} pixels a side")
    parameters = tensor.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    values = np.frombuffer(binary, np.uint8) if size is not None else _numbers(tensor.get("data"))
    if values.size != math.prod(shape) or (size is not None and size != values.size):
        raise _wrong(f"{INPUT} has {values.size} values where its shape says {math.prod(shape)}")
    images: npt.NDArray[np.uint8] = values.reshape(shape)
    return images


def _is_shape(shape: Any) -> bool:
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in shape):
        return False
    return bool(shape[0] <= MAX_IMAGES and shape[3] == 3)


def _numbers(data: Any) -> npt.NDArray[np.uint8]:
    """Numbers in a list, or in lists of lists."""
    try:
        values = np.array(data).ravel()
    except ValueError:
        raise _wrong(f"the data of {INPUT} are lists of different lengths") from None
    if values.dtype.kind not in "iu" or values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise _wrong(f"the data of {INPUT} must be whole numbers from 0 to 255")
    return values.astype(np.uint8)


def _wanted(head: dict[str, Any]) -> dict[str, bool]:
    """Names of the outputs, and whether each is to be binary."""
    everywhere = head.get("parameters")
    is_binary = isinstance(everywhere, dict) and everywhere.get("binary_data_output") is True
    outputs = head.get("outputs")
    if outputs is None:
        return dict.fromkeys(OUTPUTS, is_binary)
    if not isinstance(outputs, list) or not all(isinstance(output, dict) and output.get("name") in OUTPUTS for output in outputs):
        raise _wrong(f"outputs must be some of {', '.join(OUTPUTS)}")
    own = {output["name"]: output.get("parameters") for output in outputs}
    return {name: bool(parameters.get("binary_data", is_binary)) if isinstance(parameters, dict) else is_binary for name, parameters in own.items()}


def _column(records: list[dict[str, Any]], output: str) -> list[Any]:
    values = [record[output.lower()] for record in records]
    return [math.nan if value is None else value for value in values] if output == "NOVELTY" else values


def _response(given: dict[str, Any], columns: dict[str, list[Any]], wanted: dict[str, bool]) -> Response:
    outputs, tail = [], b""
    for name, values in columns.items():
        output: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(values)]}
        if wanted[name]:
            encoded = _encoded(values)
            output["parameters"] = {"binary_data_size": len(encoded)}
            tail += encoded
        else:
            output["data"] = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
        outputs.append(output)
    head = json.dumps(given | {"outputs": outputs}).encode()
    if not tail:
        return Response(head, media_type="application/json")
    return Response(head + tail, media_type="application/octet-stream", headers={HEADER: str(len(head))})


def _encoded(values: list[Any]) -> bytes:
    """Little-endian; texts with their length before them."""
    if isinstance(values[0], str):
        return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in values)
    return np.array(values, "<f8").tobytes()


def _wrong(reason: str) -> HTTPException:
    return HTTPException(400, f"The request cannot be answered: {reason}.")


def routes() -> list[Route]:
    """Everything below /v2."""
    models = [
        Route(f"/v2/models/{{model}}{version}{path}", handler, methods=[method])
        for version in ("", "/versions/{version}")
        for path, handler, method in (("", model, "GET"), ("/ready", model_ready, "GET"), ("/infer", infer, "POST"))
    ]
    return [Route("/v2", server), Route("/v2/health/live", live), Route("/v2/health/ready", ready), *models]
