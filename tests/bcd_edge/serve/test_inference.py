"""The Open Inference Protocol, by Triton's own client and by hand."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from bcd_edge.classifier import Classifier
from bcd_edge.results.journal import NAME, reading
from bcd_edge.synthetic import tissue

from .conftest import NULL, Process, Server

triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
MODEL = "resnet50-breast"
IMAGES = np.stack([tissue(seed, height=64, width=80) for seed in range(3)])


@pytest.fixture
def client(process: Process) -> Any:
    with triton.InferenceServerClient(urlsplit(process.url).netloc) as client:
        yield client


def test_tritons_client_gets_what_the_classifier_says(client: Any, process: Process) -> None:
    def headers() -> dict[str, str]:  # anew each time, because the client adds to what it is given
        return {"Authorization": f"Bearer {process.tokens['submitter']}"}

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL, headers=headers())
    metadata = client.get_model_metadata(MODEL, headers=headers())
    assert metadata["inputs"] == [{"name": "IMAGE", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert client.get_server_metadata(headers=headers())["extensions"] == ["binary_tensor_data"]
    with Classifier.load(options=NULL) as classifier:
        expected = [classifier.classify(image) for image in IMAGES]
    for binary in (True, False):
        given = triton.InferInput("IMAGE", list(IMAGES.shape), "UINT8")
        given.set_data_from_numpy(IMAGES, binary_data=binary)
        wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("DECISION", "P_MALIGNANT", "LABEL", "NOVELTY")]
        answer = client.infer(MODEL, [given], outputs=wanted, request_id="7", headers=headers())
        assert answer.get_response()["id"] == "7"
        assert answer.as_numpy("P_MALIGNANT").tolist() == [record.p_malignant for record in expected]
        decisions = [value.decode() if isinstance(value, bytes) else value for value in answer.as_numpy("DECISION")]
        assert decisions == [record.decision for record in expected]
    with pytest.raises(triton.InferenceServerException, match="no such model"):
        client.infer("another", [given], headers=headers())
    with reading(process.root / NAME) as db:
        assert db.execute("SELECT COUNT(*) FROM images").fetchone()[0] == 0, "pixels are no file"


def tensor(**changed: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "IMAGE", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": list(range(12))} | changed]}


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ({}, "exactly one input"),
        ([], "no JSON object"),
        (tensor(name="X"), "exactly one input"),
        (tensor(datatype="FP32"), "must be UINT8"),
        (tensor(shape=[1, 2, 2, 4]), "must be UINT8"),
        (tensor(shape=[1, 10**9, 10**9, 3]), "must be UINT8"),
        (tensor(shape=[True, 2, 2, 3]), "must be UINT8"),
        (tensor(data=[1, 2]), "2 values where its shape says 12"),
        (tensor(data=[-1] * 12), "from 0 to 255"),
        (tensor(data=[0.5] * 12), "from 0 to 255"),
        (tensor(data=[[1], [2, 3]]), "different lengths"),
        (tensor(data="text"), "from 0 to 255"),
        (tensor(parameters={"binary_data_size": 10**12}, data=None), "0 values"),
        (tensor() | {"outputs": [{"name": "X"}]}, "outputs must be"),
        (tensor(data=[7] * 12), "one colour only"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_a_sentence(server: Server, body: Any, match: str) -> None:
    answer = server.post(f"/v2/models/{MODEL}/infer", "submitter", json=body)
    assert answer.status_code == 400
    assert match in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "999999999999999"])
def test_a_length_beyond_the_body_is_refused(server: Server, length: str) -> None:
    answer = server.post(f"/v2/models/{MODEL}/infer", "submitter", content=b"{}", headers={"inference-header-content-length": length})
    assert answer.status_code == 400
