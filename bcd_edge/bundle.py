"""The bundle: a folder or .zip with `manifest.json` and its model files, the only thing that crosses from training."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema

from bcd_edge.decision import DecisionRule
from bcd_edge.errors import BundleError
from bcd_edge.triage.novelty import Novelty
from bcd_edge.triage.scale import Scale

MANIFEST = "manifest.json"
CARD = "MODEL_CARD.md"
# The embedded bundle and the schema of each kind.
EMBEDDED = {"image": "resnet50-breast", "tabular": "cytology-wisconsin"}
SCHEMAS = {"image": "manifest.schema.json", "tabular": "tabular.schema.json"}


@dataclass(frozen=True, slots=True)
class Input:
    """The network input: uint8 RGB, N x `height` x `width` x 3."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Member:
    """One network of a bundle, with its input and the temperature that calibrates its output."""

    name: str
    input: Input
    temperature: float


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
        """The input of the first member, if the bundle is an ensemble of several files."""
        return Input(self.manifest["input"]["height"], self.manifest["input"]["width"])

    @property
    def temperature(self) -> float:
        """1 for an ensemble of several files, whose members have their own."""
        return float(self.manifest["output"]["temperature"])

    @property
    def members(self) -> list[Member]:
        """The networks whose probabilities are averaged; a single one, unless the bundle is an ensemble of several files."""
        return [
            Member(entry["name"], Input(entry["input"]["height"], entry["input"]["width"]), float(entry["temperature"]))
            for entry in self.manifest.get("members", [])
        ] or [Member(self.manifest["name"], self.input, self.temperature)]

    @property
    def decision(self) -> DecisionRule:
        rule = self.manifest["decision"]
        return DecisionRule(float(rule["threshold"]), float(rule["review_low"]), float(rule["review_high"]), rule["chosen"])

    @property
    def precisions(self) -> list[str]:
        return [variant["precision"] for variant in self.manifest["variants"]]

    def variants(self, provider: str | None = None) -> list[dict[str, Any]]:
        """The manifest's variants, in its order; with a provider, those that it can run."""
        entries: list[dict[str, Any]] = self.manifest["variants"]
        return [variant for variant in entries if provider is None or provider in variant.get("providers", [provider])]

    def variant(self, precision: str | None = None, provider: str | None = None) -> dict[str, Any]:
        """The variant to run; one that names the provider takes precedence over one for every provider.

        Args:
            precision: `fp32`, `fp16` or `int8`; that of the first variant for the provider if not given.
            provider: the provider that will run it; any if not given.

        Raises:
            BundleError: there is no such variant.
        """
        fitting = self.variants(provider)
        chosen = precision or (fitting[0]["precision"] if fitting else "")
        fitting = [variant for variant in fitting if variant["precision"] == chosen]
        if not fitting:
            requested = f"{chosen} variant".strip() + (f" for the provider {provider}" if provider else "")
            raise BundleError(f"{self.path} has no {requested}; it has {', '.join(map(_described, self.variants()))}.")
        return max(fitting, key=lambda variant: provider in variant.get("providers", ()))

    def model(self, precision: str | None = None, provider: str | None = None) -> tuple[dict[str, Any], list[bytes]]:
        """The variant to run, see `variant`, and the verified content of its model files, one for each of `members`.

        The hashed bytes are the bytes that a backend loads, so nothing can change in between.

        Raises:
            BundleError: there is no such variant, a file is missing, or its content does not match the manifest.
        """
        variant = self.variant(precision, provider)
        return variant, [self.content(entry) for entry in files(variant)]

    def content(self, entry: dict[str, Any]) -> bytes:
        """The content of a file in the manifest.

        Args:
            entry: with the `file` and its `sha256`.

        Raises:
            BundleError: a missing file, or content that is not what the manifest says.
        """
        return _verified(self.path, entry)

    @property
    def embedding_size(self) -> int:
        """Numbers in the embedding that the model gives beside the logits; 0 if it gives none."""
        return int(self.manifest["output"].get("embedding", {}).get("size", 0))

    @property
    def scale(self) -> Scale | None:
        """The fields of view that it was trained on; None in a bundle that does not know them."""
        entry = self.manifest.get("scale")
        return Scale(float(entry["low_um"]), float(entry["high_um"])) if entry else None

    def novelty(self) -> Novelty | None:
        """The verified statistics of the training pictures; None in a bundle without them.

        Raises:
            BundleError: a missing file, or content that is not what the manifest says.
        """
        entry = self.manifest.get("novelty")
        return Novelty.read(self.content(entry), float(entry["threshold"])) if entry else None

    def golden(self) -> list[tuple[dict[str, Any], bytes]]:
        """The manifest entries and verified bytes (PNG) of the golden images, with the exporter's probabilities; may be empty.

        Raises:
            BundleError: a file is missing, or its content does not match the manifest.
        """
        return [(entry, self.content(entry)) for entry in self.manifest.get("golden", [])]


def files(variant: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifest entries (file, sha256, bytes, ...) of a variant's model files, in the order of the members."""
    entries: list[dict[str, Any]] = variant.get("members", [variant])
    return entries


def embedded(kind: str = "image") -> Path:
    """The folder of the bundle of a kind in the package."""
    return Path(str(resources.files("bcd_edge"))) / "models" / EMBEDDED[kind]


def open(path: str | Path | None = None, *, kind: str | None = "image") -> Bundle:
    """Opens a bundle and checks its manifest.

    Args:
        path: a folder, or a .zip of its files; the embedded bundle if not given.
        kind: `image` for pictures, `tabular` for rows of a table, None for either.

    Raises:
        BundleError: it cannot be used; with the file and the fix.
    """
    source = Path(path) if path is not None else embedded(kind or "image")
    if not source.exists():
        raise BundleError(f"The bundle {source} does not exist; give a folder or .zip that `python -m export bundle` wrote.")
    if source.suffix == ".onnx":
        raise BundleError(f"{source} is a model without its manifest; give the bundle's folder, which contains both: {source.parent}")
    raw = _read(source, MANIFEST)
    try:
        manifest = json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{source}: {MANIFEST} is not JSON ({error}); copy the bundle again.") from None
    check(manifest, str(source))
    if (actual := manifest.get("kind", "image")) != (kind or actual):
        advice = "tables are classified by bcd-edge cytology" if actual == "tabular" else "pictures are classified by bcd-edge predict"
        raise BundleError(f"{source} is a bundle of kind {actual}, and one of kind {kind} is needed; {advice}.")
    return Bundle(source, manifest, hashlib.sha256(raw).hexdigest())


def check(manifest: Any, where: str) -> None:
    """Checks a manifest against the schema of its kind; used for reading and for writing.

    Args:
        manifest: the parsed manifest.
        where: the bundle's path, for messages.

    Raises:
        BundleError: with the first error.
    """
    number = manifest.get("schema") if isinstance(manifest, dict) else None
    if number not in (1, 2, 3):
        raise BundleError(
            f"{where}: {MANIFEST} has schema {number!r} and this program reads 1 to 3; use the bcd-edge version that the bundle was made for."
        )
    schema = SCHEMAS["tabular" if manifest.get("kind") == "tabular" else "image"]
    error = jsonschema.exceptions.best_match(_validator(schema).iter_errors(manifest))
    if error:
        place = "/".join(str(step) for step in error.absolute_path) or "the top"
        reason = f"schema {number} has no such key" if error.validator == "not" else error.message[:200]
        raise BundleError(f"{where}: {MANIFEST} is refused at {place}: {reason}; export the bundle again.")
    contradiction = _contradiction(manifest)
    if contradiction:
        raise BundleError(f"{where}: {MANIFEST} is refused at {contradiction}; export the bundle again.")


def verify(opened: Bundle) -> tuple[list[str], list[str]]:
    """Reads every file in the manifest; returns a sentence for each that is missing or does not match, and the names of
    other files, which are never loaded.
    """
    entries = [entry for variant in opened.variants() for entry in files(variant)] + opened.manifest.get("golden", [])
    entries += [opened.manifest["novelty"]] if "novelty" in opened.manifest else []
    problems = []
    for entry in entries:
        try:
            _verified(opened.path, entry)
        except BundleError as error:
            problems.append(str(error))
    return problems, sorted(set(_names(opened.path)) - {entry["file"] for entry in entries} - {MANIFEST, CARD})


def _contradiction(manifest: dict[str, Any]) -> str | None:
    """Place and description of the first contradiction in a manifest that conforms to the schema; None if there is none."""
    rule = manifest["decision"]
    if not rule["review_low"] <= rule["threshold"] <= rule["review_high"]:
        return "decision: the threshold lies outside the review band"
    if ("novelty" in manifest) != (manifest["schema"] == 3):
        return "novelty: schema 3 has it and the others do not"
    members = len(manifest.get("members", [1]))
    if "members" in manifest and manifest["members"][0]["input"] != manifest["input"]:
        return "input: it differs from the first member's"
    for place, variant in enumerate(manifest["variants"]):
        if len(files(variant)) != members:
            return f"variants/{place}/members: {len(files(variant))} files for {members} members"
        for number, image in enumerate(manifest.get("golden", [])):
            if files(variant)[0]["file"] not in image["variants"]:
                return f"golden/{number}/variants: nothing was measured for {files(variant)[0]['file']}"
    return None


def _described(variant: dict[str, Any]) -> str:
    return str(variant["precision"]) + (f" (for {', '.join(variant['providers'])})" if "providers" in variant else "")


@cache
def _validator(file: str) -> jsonschema.protocols.Validator:
    schema = json.loads(resources.files("bcd_edge").joinpath(file).read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def _refuse(constant: str) -> None:
    """Refuses NaN and Infinity, which Python reads though they are not JSON: comparisons with a NaN threshold are always false."""
    raise ValueError(f"{constant} is not a number")


def _verified(bundle: Path, entry: dict[str, Any]) -> bytes:
    """The content of a file in the manifest, after checking its hash."""
    content = _read(bundle, entry["file"])
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise BundleError(
            f"{bundle}: {entry['file']} is not the file that the manifest describes (wrong SHA-256), "
            "so it is damaged or was replaced; copy the bundle again."
        )
    return content


def _names(bundle: Path) -> list[str]:
    """The relative paths of all files in a bundle."""
    if bundle.is_dir():
        return [file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if not file.is_dir()]
    with zipfile.ZipFile(bundle) as archive:
        return [name for name in archive.namelist() if not name.endswith("/")]


def _one_level_down(bundle: Path, name: str) -> Iterator[Path]:
    """Folders directly below a bundle that contain the file, because it was packed or given one level too high."""
    if bundle.is_dir():
        yield from (path.parent for path in bundle.glob(f"*/{name}"))
    else:
        yield from (path.parent for other in _names(bundle) if (path := Path(other)).name == name and len(path.parts) == 2)


def _read(bundle: Path, name: str) -> bytes:
    """The content of a file in a bundle. The schema permits only plain names, but a link could still lead elsewhere."""
    try:
        if bundle.is_dir():
            file = bundle / name
            if file.resolve().parent != bundle.resolve():
                raise BundleError(f"{bundle}: {name} is a link that leaves the bundle's folder; put the file itself there.")
            return file.read_bytes()
        with zipfile.ZipFile(bundle) as archive:
            return archive.read(name)
    except (KeyError, FileNotFoundError):
        below = sorted(path.name for path in _one_level_down(bundle, name))
        advice = f"it is in the folder {below[0]}: give that folder, or a .zip of its content" if below else "copy the bundle again, whole"
        raise BundleError(f"{bundle}: {name} is missing at its top; {advice}.") from None
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError) as error:
        raise BundleError(f"{bundle}: {name} could not be read ({error}); copy the bundle again.") from None
