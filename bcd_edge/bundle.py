"""The bundle: a folder or .zip with `manifest.json` and the model files it names, the only thing training hands over."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema

from bcd_edge.errors import BundleError

MANIFEST = "manifest.json"
EMBEDDED = "resnet50-breast"


@dataclass(frozen=True, slots=True)
class Input:
    """What the network takes: uint8 RGB, N x `height` x `width` x 3."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Probabilities, 0..1: called malignant from `threshold`; a person looks from `review_low` up to `review_high`."""

    threshold: float
    review_low: float
    review_high: float


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened and checked manifest. Model files are read, and their hash checked, by `model`."""

    path: Path
    manifest: dict[str, Any]
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.manifest['name']} {self.manifest['version']}"

    @property
    def input(self) -> Input:
        return Input(self.manifest["input"]["height"], self.manifest["input"]["width"])

    @property
    def temperature(self) -> float:
        return float(self.manifest["output"]["temperature"])

    @property
    def decision(self) -> Decision:
        return Decision(*(float(self.manifest["decision"][name]) for name in Decision.__slots__))

    @property
    def precisions(self) -> list[str]:
        return [variant["precision"] for variant in self.manifest["variants"]]

    def model(self, precision: str | None = None) -> tuple[str, bytes]:
        """The precision and the verified content of one model file.

        The bytes that were hashed are the bytes that a backend loads, so nothing can change in between, and weights
        outside the file cannot be referred to.

        Args:
            precision: `fp32`, `fp16` or `int8`; the manifest's first variant if not given.

        Raises:
            BundleError: no such variant, a missing file, or content that is not what the manifest says.
        """
        variants = {variant["precision"]: variant for variant in reversed(self.manifest["variants"])}
        wanted = precision or self.precisions[0]
        if wanted not in variants:
            raise BundleError(f"{self.path} has no {wanted} variant; it has {', '.join(self.precisions)}.")
        variant = variants[wanted]
        content = _read(self.path, variant["file"])
        if hashlib.sha256(content).hexdigest() != variant["sha256"]:
            raise BundleError(
                f"{self.path}: {variant['file']} is not the file that the manifest describes (wrong SHA-256), "
                "so it is damaged or was replaced; copy the bundle again."
            )
        return wanted, content


def embedded() -> Path:
    """The folder of the bundle that comes with the package."""
    return Path(str(resources.files("bcd_edge"))) / "models" / EMBEDDED


def open(path: str | Path | None = None) -> Bundle:
    """Opens a bundle and checks its manifest.

    Args:
        path: a folder, or a .zip of its files; the embedded bundle if not given.

    Raises:
        BundleError: naming the file and the cure.
    """
    where = Path(path) if path is not None else embedded()
    if not where.exists():
        raise BundleError(f"The bundle {where} does not exist; give a folder or .zip that `python -m export bundle` wrote.")
    raw = _read(where, MANIFEST)
    try:
        manifest = json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: {MANIFEST} is not JSON ({error}); copy the bundle again.") from None
    check(manifest, str(where))
    return Bundle(where, manifest, hashlib.sha256(raw).hexdigest())


def check(manifest: Any, where: str) -> None:
    """Checks a manifest against `manifest.schema.json`, on the writing and on the reading side.

    Raises:
        BundleError: the first thing that is wrong.
    """
    number = manifest.get("schema") if isinstance(manifest, dict) else None
    if number != 1:
        raise BundleError(
            f"{where}: {MANIFEST} has schema {number!r} and this program reads schema 1; use the bcd-edge version that the bundle was made for."
        )
    error = jsonschema.exceptions.best_match(_validator().iter_errors(manifest))
    if error:
        place = "/".join(str(step) for step in error.absolute_path) or "the top"
        raise BundleError(f"{where}: {MANIFEST} is refused at {place}: {error.message[:200]}; export the bundle again.")
    rule = manifest["decision"]
    if not rule["review_low"] <= rule["threshold"] <= rule["review_high"]:
        raise BundleError(f"{where}: {MANIFEST} is refused at decision: the threshold lies outside the review band; export the bundle again.")


@cache
def _validator() -> jsonschema.protocols.Validator:
    schema = json.loads(resources.files("bcd_edge").joinpath("manifest.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def _refuse(constant: str) -> None:
    """NaN and Infinity are no JSON, though Python reads them; no comparison with a NaN threshold would hold."""
    raise ValueError(f"{constant} is no number")


def _read(bundle: Path, name: str) -> bytes:
    """One file of a bundle; the name was checked to be a plain one, but a link could still lead elsewhere."""
    try:
        if bundle.is_dir():
            file = bundle / name
            if file.resolve().parent != bundle.resolve():
                raise BundleError(f"{bundle}: {name} is a link that leaves the bundle's folder; put the file itself there.")
            return file.read_bytes()
        with zipfile.ZipFile(bundle) as archive:
            return archive.read(name)
    except (KeyError, FileNotFoundError):
        raise BundleError(f"{bundle}: {name} is missing; copy the bundle again, whole.") from None
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError) as error:
        raise BundleError(f"{bundle}: {name} could not be read ({error}); copy the bundle again.") from None
