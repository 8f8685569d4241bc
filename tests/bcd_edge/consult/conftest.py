"""A folder of results with a patient whose name and pictures try everything."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from bcd_edge.classifier import Classifier
from bcd_edge.consult import package
from bcd_edge.options import RunOptions
from bcd_edge.results import users
from bcd_edge.results.folder import Results
from bcd_edge.results.records import result_path
from bcd_edge.synthetic import tissue

PATIENT = "Jane <script>alert(1)</script> Doe"
NAMES = (f"{PATIENT}/first.jpg", f'{PATIENT}/second"><img src=x onerror=alert(2)>.jpg')
CAMERA = "Camera of Jane Doe"


def jpeg(seed: int) -> bytes:
    """With a name and a place in its metadata."""
    exif = Image.Exif()
    exif[0x010F], exif[0x9C9B] = CAMERA, CAMERA.encode("utf-16-le")
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    buffer = io.BytesIO()
    Image.fromarray(tissue(seed, height=92, width=140)).save(buffer, "JPEG", quality=95, exif=exif, comment=CAMERA.encode())
    return buffer.getvalue()


@pytest.fixture(scope="session")
def classifier() -> Any:
    with Classifier.load(options=RunOptions(provider="null")) as loaded:
        yield loaded


@pytest.fixture
def folder(tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two pictures of one patient in an inbox; the first has a drawn overlay, with her name in its legend."""
    monkeypatch.setitem(users.SCRYPT, "n", 2**4)
    root, inbox = tmp_path / "results", tmp_path / "inbox"
    with Results.open(root) as results:
        results.use(classifier.bundle, classifier.rule)
        for seed, name in enumerate(NAMES):
            data = jpeg(seed)
            path = inbox / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            record = classifier.classify(data, name=name)
            results.commit(name, record, patient=PATIENT)
        (root / "heartbeat.json").write_text(json.dumps({"inbox": str(inbox)}))
        drawn = np.full((315 + 80, 480, 3), 200, np.uint8)
        drawn[315:] = (0, 0, 255)  # the legend
        first = package.find(results.journal.connection, NAMES[0])[0]
        stem = result_path(first, classifier.bundle.sha256).removesuffix(".json")
        cv2.imwrite(str(root / f"{stem}.overlay.png"), drawn)
        yield results


def built(folder: Results, **more: Any) -> package.Package:
    db = folder.journal.connection
    return package.build(db, folder.root, package.find(db, PATIENT), recipient="Dr Far", **more)


def box(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    return json.loads(re.search(r'id="case">(.*?)</script>', page)[1])


def opinion_of(page: str, *, reader: str = "Dr Far", uid: str = "ab" * 16, **changes: Any) -> dict[str, Any]:
    """What the page saves."""
    case = box(page)
    pictures = json.loads(case["package"])["pictures"]
    decisions = [{"sha256": picture["sha256"], "decision": "malignant", "comment": "large nuclei", "blinded": True} for picture in pictures]
    given = {"uid": uid, "reader": reader, "place": "Town", "decided_at": "2026-03-01T08:00:00.000Z", "decisions": decisions} | changes
    text = json.dumps(given)
    return {"package": case["package"], "seal": case["seal"], "opinion": text, "signature": package.signature(case["key"], text)}
