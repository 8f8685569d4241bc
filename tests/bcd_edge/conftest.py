"""Pictures made once, and damaged copies of the embedded bundle."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from bcd_edge import bundle
from bcd_edge.classifier import Classifier
from bcd_edge.options import RunOptions
from bcd_edge.synthetic import tissue

# A busy machine makes no example wrong.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is compiled and tuned stays out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("BCD_EDGE_CACHE", str(folder))
        yield folder


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    return tissue(5, height=90, width=120, glands=1, scattered=30)


@pytest.fixture(scope="session")
def png(picture: np.ndarray) -> bytes:
    return encode(Image.fromarray(picture), "PNG")


@pytest.fixture(scope="session")
def dicom() -> Callable[..., bytes]:
    """Makes DICOM files; skips what uses it where pydicom is missing."""
    pytest.importorskip("pydicom")
    return dicom_file


def dicom_file(
    samples: np.ndarray,
    stream: bytes | None = None,
    *,
    syntax: str = "1.2.840.10008.1.2.1",
    fragments: int = 1,
    table: bytes = b"",
    **other: Any,
) -> bytes:
    """A VL Microscopic Image of uint8 or uint16 samples, H x W or H x W x 3, stored plainly unless there is a compressed stream for them.

    Args:
        samples: what Rows, Columns, samples and bits describe.
        stream: the value of Pixel Data, or the only frame if the transfer syntax is a compressed one.
        syntax: UID of the transfer syntax.
        fragments: how many the frame is cut into.
        table: the Basic Offset Table.
        other: attributes by keyword, instead of the usual ones; None leaves one out.
    """
    from pydicom.dataset import Dataset, FileMetaDataset

    is_big = syntax == "1.2.840.10008.1.2.2"
    is_plain = is_big or syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
    uid = f"2.25.{int.from_bytes(hashlib.sha256(samples.tobytes() + repr(other).encode()).digest()[:15], 'big')}"
    dataset, bits = Dataset(), 8 * samples.itemsize
    usual = {
        **{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.2", "SOPInstanceUID": uid, "StudyInstanceUID": f"{uid[:50]}.1"},
        **{"SeriesInstanceUID": f"{uid[:50]}.2", "PatientID": "P7", "PatientName": "Rao^Asha", "Modality": "GM", "StudyID": "", "StudyDate": ""},
        **{"Rows": samples.shape[0], "Columns": samples.shape[1], "SamplesPerPixel": 1 if samples.ndim == 2 else 3, "InstanceNumber": 1},
        **{"PhotometricInterpretation": "MONOCHROME2" if samples.ndim == 2 else "RGB", "PixelRepresentation": 0, "SeriesNumber": 1},
        **{"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PlanarConfiguration": 0 if samples.ndim == 3 else None},
        **{"StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": "", "PatientBirthDate": "", "PatientSex": "", "PixelData": b""},
    } | other
    for name, value in usual.items():
        if value is not None:
            setattr(dataset, name, value)
    if usual["PixelData"] is not None:
        value = stream if stream is not None else _plain(samples, planar=usual["PlanarConfiguration"] == 1, is_big=is_big)
        dataset.PixelData = value + bytes(len(value) % 2) if is_plain else _encapsulated(value, fragments, table)
        dataset["PixelData"].VR = "OW" if bits == 16 and is_plain else "OB"
        dataset["PixelData"].is_undefined_length = not is_plain
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=not is_big)
    return buffer.getvalue()


def _plain(samples: np.ndarray, *, planar: bool, is_big: bool) -> bytes:
    stored = samples.transpose(2, 0, 1) if planar else samples
    return bytes(stored.astype(f"{'>' if is_big else '<'}u{samples.itemsize}").tobytes())


def _encapsulated(frame: bytes, fragments: int, table: bytes) -> bytes:
    size = -(-len(frame) // fragments // 2) * 2
    parts = [table, *(frame[start : start + size] for start in range(0, len(frame), size))]
    items = (b"\xfe\xff\x00\xe0" + (len(part) + len(part) % 2).to_bytes(4, "little") + part + bytes(len(part) % 2) for part in parts)
    return b"".join(items)  # pydicom adds the delimiter


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier.load(options=RunOptions(provider="cpu"))


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the embedded bundle, without its golden images, whose manifest went through a function."""

    def change(edit: Callable[[dict[str, Any]], None] = lambda manifest: None) -> Path:
        copy = tmp_path / "bundle"
        shutil.copytree(bundle.embedded(), copy, ignore=shutil.ignore_patterns("golden-*.png"))
        manifest = json.loads((copy / "manifest.json").read_text())
        del manifest["golden"]
        edit(manifest)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        return copy

    return change


@pytest.fixture
def golden(changed: Callable[..., Path], classifier: Classifier) -> Callable[..., Path]:
    """A copy of the embedded bundle with two golden images, answered here, whose manifest then went through a function."""

    def change(edit: Callable[[dict[str, Any]], None] = lambda manifest: None) -> Path:
        folder = changed()
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["golden"] = []
        for seed in (1, 2):
            data = encode(Image.fromarray(tissue(seed, height=90, width=120)), "PNG")
            (folder / f"golden-{seed}.png").write_bytes(data)
            p = classifier.classify(data).p_malignant
            entry = {"file": f"golden-{seed}.png", "sha256": hashlib.sha256(data).hexdigest(), "p_malignant": p}
            manifest["golden"].append(entry | {"variants": {variant["file"]: p for variant in manifest["variants"]}})
        edit(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return change


@pytest.fixture
def ensemble(changed: Callable[..., Path]) -> Callable[..., Path]:
    """A bundle of schema 2: the embedded model twice, at temperatures 1 and 3, whose manifest then went through a function."""

    def change(edit: Callable[[dict[str, Any]], None] = lambda manifest: None) -> Path:
        def join(manifest: dict[str, Any]) -> None:
            taken = manifest["input"]
            del manifest["novelty"]
            manifest.update(schema=2, members=[{"name": f"t{t}", "input": dict(taken), "temperature": t} for t in (1, 3)])
            manifest["output"]["temperature"] = 1
            for variant in manifest["variants"]:
                file = {key: variant.pop(key) for key in ("file", "sha256", "bytes", "opset", "ir_version")}
                variant["members"] = [file, dict(file)]
            edit(manifest)

        return changed(join)

    return change
