"""What image collections hold, and whether a person or a picture would be on two sides of a split: before any training.

Leakage is what makes a score too good, so it is looked for in the pixels and not in the names alone: two files are
duplicates when their decoded pixels are the same, whatever they are called and however they are packed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track

from bcd_edge.errors import InputError, OutputError
from bcd_edge.readers import raster
from train.data import audit_report
from train.data import split as splits
from train.data.sources import Item, adapter, ignored, names, one_class, parse_labels, read, resolve, unique

NOWHERE = "in no part"


@dataclass(frozen=True, slots=True)
class Seen:
    """An item after one look at it: `size` as width and height in pixels, SHA-256 of its file and pixels, or what is wrong.

    Of a file that cannot be decoded `pixels` and `size` are empty and `error` is the sentence.
    """

    item: Item
    file: str
    pixels: str = ""
    size: tuple[int, int] = (0, 0)
    error: str = ""


def audit(
    specifications: Sequence[str],
    *,
    seed: int,
    split: str,
    split_file: Path | None,
    console: Console,
    json_path: Path | None = None,
    labels: Sequence[str] = (),
) -> bool:
    """Prints what the collections hold and what crosses the split; optionally writes the findings as JSON.

    Args:
        specifications: as `train.data.sources.read` takes them.
        seed: of the split.
        split: `patient` or `image`; not looked at if there is a `split_file`.
        split_file: a split that a run wrote.
        console: where the report goes; progress goes to stderr.
        json_path: where the findings go.
        labels: as `train.data.sources.parse_labels` takes them.

    Returns:
        True if no duplicate and no patient is on two sides, and every source has both classes.

    Raises:
        click.ClickException: a path or split file cannot be read, or the split file names none of these images.
        OutputError: the JSON cannot be written.
    """
    items, left_out, hidden = _read(specifications, labels)
    seen = look(items)
    twice = same_pixels(seen)
    findings: dict[str, Any] = {
        "sources": {
            source: describe(source, [image for image in seen if image.item.source == source], twice)
            | {"left_out": left_out[source], "ignored": hidden[source]}
            for source in sorted({item.source for item in items})
        },
        "split": crossings(seen, twice, str(split_file) if split_file else split, seed),
    }
    findings["one_class"] = one_class(items)
    findings["clean"] = not (findings["one_class"] or findings["split"].get("duplicates") or findings["split"].get("patients"))
    findings["strangers"] = sum(map(_is_own_patient, items))
    findings["verdict"] = _verdict(findings)
    if json_path:
        try:
            json_path.write_text(json.dumps(findings, indent=1), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{json_path} could not be written ({error.strerror}); name a place that can.") from None
    audit_report.show(findings, console)
    return bool(findings["clean"])


def _is_own_patient(item: Item) -> bool:
    """Whether an image counts as a patient of its own, as sources name one of whom nothing is known."""
    name = PurePosixPath(item.name)
    return item.patient in (str(name.with_suffix("")), f"{'malignant' if item.malignant else 'benign'}/{name.stem}")


def look(items: Sequence[Item]) -> list[Seen]:
    """Decodes every item once, in threads: OpenCV and hashlib give the lock away."""

    def examine(item: Item) -> Seen:
        try:
            image = raster.decode(item.data)
        except InputError as error:
            return Seen(item, item.sha256, error=str(error))
        # with the shape, since a 2 x 3 and a 3 x 2 picture of one colour have the same bytes
        pixels = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()
        return Seen(item, item.sha256, pixels, (image.shape[1], image.shape[0]))

    pool = ThreadPoolExecutor()
    try:
        progress = Console(file=sys.stderr)
        return list(track(pool.map(examine, items), f"looking at {len(items):,} images", len(items), transient=True, console=progress))
    finally:
        pool.shutdown(cancel_futures=True)


def same_pixels(seen: Sequence[Seen]) -> list[list[Seen]]:
    """The sets of two and more images with equal pixels; one file given twice under the same name is no duplicate."""
    sets: dict[str, dict[tuple[str, str, bool], Seen]] = defaultdict(dict)
    for image in seen:
        if image.pixels:
            sets[image.pixels][image.item.source, image.item.name, image.item.malignant] = image
    return [list(members.values()) for members in sets.values() if len(members) > 1]


def describe(source: str, seen: Sequence[Seen], twice: Sequence[Sequence[Seen]]) -> dict[str, Any]:
    """Counts and peculiarities of one source, ready for JSON."""
    images: dict[str, list[Item]] = defaultdict(list)
    for image in seen:
        images[image.item.patient].append(image.item)
    counts = sorted(map(len, images.values()))
    magnifications: dict[str, list[Item]] = defaultdict(list)
    sizes: dict[str, list[Item]] = defaultdict(list)
    for image in seen:
        magnifications[image.item.magnification].append(image.item)
        if image.pixels:
            sizes[f"{image.size[0]} x {image.size[1]}"].append(image.item)
    own = [members for members in twice if any(member.item.source == source for member in members)]
    labels = {patient: {item.malignant for item in some} for patient, some in images.items()}
    return {
        "note": adapter(source).NOTE,
        "images": len(seen),
        "patients": len(images),
        "images_a_patient": {"min": counts[0], "median": float(np.median(counts)), "max": counts[-1]},
        "classes": {
            name: {
                "images": sum(image.item.malignant == side for image in seen),
                "patients": sum(side in both for both in labels.values()),
            }
            for name, side in (("benign", False), ("malignant", True))
        },
        "subtypes": dict(Counter(image.item.subtype for image in seen if image.item.subtype).most_common()),
        "magnifications": {name: _by_class(magnifications[name]) for name in sorted(magnifications, key=_by_number) if name},
        "sizes": {name: _by_class(some) for name, some in sorted(sizes.items(), key=lambda entry: -len(entry[1]))},
        "unreadable": [{"name": image.item.name, "error": image.error} for image in seen if image.error],
        "duplicates": [_names(members) for members in own],
        "duplicates_across_patients": [_names(members) for members in own if len({member.item.group for member in members}) > 1],
        "contradictory": [_names(members) for members in own if len({member.item.malignant for member in members}) > 1],
        "patients_with_both_classes": sorted(patient for patient, both in labels.items() if len(both) > 1),
    }


def crossings(seen: Sequence[Seen], twice: Sequence[Sequence[Seen]], how: str, seed: int) -> dict[str, Any]:
    """Who and what is on two sides of a split by `patient`, by `image`, or of the file `how`, ready for JSON.

    Raises:
        click.ClickException: `how` is a file that holds no split, or one that names none of these images.
    """
    from_file = how not in ("patient", "image")
    try:
        split = splits.make(unique(image.item for image in seen), how, seed)
    except click.ClickException as error:
        if from_file:
            raise
        return {"name": f"by {how}, seed {seed}", "note": f"these images cannot be split; {error.message}"}
    name = f"in {how}, by {split.unit}" if from_file else f"by {how}, seed {seed}"

    def part(image: Seen) -> str:
        return split.parts.get(image.item.group if split.unit == "patient" else image.file, NOWHERE)

    if all(part(image) == NOWHERE for image in seen):
        raise click.ClickException(f"--split {how}: it names none of these images or patients; give the split of a run on these.")

    def sides(some: Sequence[Seen]) -> list[str]:
        return [name for name in splits.PARTS if any(part(image) == name for image in some)]

    people: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    collection = _collections(seen, twice)
    for image in seen:
        people[collection[image.item.source], image.item.patient].append(image)
    return {
        "name": name,
        "unit": split.unit,
        "fingerprint": split.fingerprint,
        "parts": _parts(seen, part),
        "duplicates": [{"images": _names(members), "parts": sides(members)} for members in twice if len(sides(members)) > 1],
        "patients": [
            {"patient": patient, "sources": sorted({image.item.source for image in some}), "images": len(some), "parts": sides(some)}
            for (_, patient), some in people.items()
            if len(sides(some)) > 1
        ],
    }


def _read(specifications: Sequence[str], labels: Sequence[str]) -> tuple[list[Item], Counter[str], dict[str, Counter[str]]]:
    """All items; per source, how many images its adapter gives no label, and how many are in ignored folders, by folder name."""
    items: list[Item] = []
    left_out: Counter[str] = Counter()
    hidden: dict[str, Counter[str]] = defaultdict(Counter)
    for specification in dict.fromkeys(specifications):
        labelled, path = read(specification, parse_labels(labels)), resolve(specification)[1]
        items += labelled
        left_out[labelled[0].source] += max(0, len(names(path)) - len(labelled))
        hidden[labelled[0].source] += ignored(path)
    return items, left_out, hidden


def _parts(seen: Sequence[Seen], part: Callable[[Seen], str]) -> dict[str, dict[str, dict[str, int]]]:
    """Source to part to how many patients and images of each class are there."""
    placed: dict[str, dict[str, list[Item]]] = {source: {} for source in sorted({image.item.source for image in seen})}
    for name in (*splits.PARTS, NOWHERE):
        for image in seen:
            if part(image) == name:
                placed[image.item.source].setdefault(name, []).append(image.item)
    return {
        source: {name: {"patients": len({item.patient for item in some}), **_by_class(some)} for name, some in places.items()}
        for source, places in placed.items()
    }


def _by_class(items: Sequence[Item]) -> dict[str, int]:
    malignant = sum(item.malignant for item in items)
    return {"benign": len(items) - malignant, "malignant": malignant}


def _collections(seen: Sequence[Seen], twice: Sequence[Sequence[Seen]]) -> dict[str, str]:
    """Source to the collection it is of: two sources are of one if an image is in both under the same patient.

    Numbers alone do not tell, since BreaKHis and IDC both count their patients with five digits.
    """
    collection = {image.item.source: image.item.source for image in seen}
    for members in twice:
        sources: dict[str, set[str]] = defaultdict(set)
        for image in members:
            sources[image.item.patient].add(image.item.source)
        for same in sources.values():
            old = {collection[source] for source in same}
            collection = {source: min(old) if name in old else name for source, name in collection.items()}
    return collection


def _names(members: Sequence[Seen]) -> list[str]:
    return [f"{image.item.source} {image.item.name}" for image in members]


def _by_number(magnification: str) -> tuple[int, str]:
    digits = magnification.rstrip("X")
    return (int(digits) if digits.isdecimal() else 0, magnification)


def _verdict(findings: dict[str, Any]) -> str:
    split = findings["split"]
    if findings["one_class"]:
        listed = " and ".join(f"all images of {source} are {label}" for source, label in findings["one_class"].items())
        return f"ONE CLASS: {listed}; a network could tell the collection and not the disease. Add images of the other class."
    if "note" in split:
        return f"No split to check: {split['note']}"
    if findings["clean"] and findings["strangers"]:
        return (
            f"Whether a patient crosses cannot be told: {findings['strangers']:,} images say of no patient, and each counts as one of its own. "
            "Put each patient's images into a folder of its own below the class folder, or use a manifest."
        )
    if findings["clean"]:
        return f"Nothing crosses: no image and no patient is on two sides of the split {split['name']}."
    counts = {"patient": len(split["patients"]), "image": len(split["duplicates"])}
    crossing = " and ".join(f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items() if count)
    return f"LEAKAGE: {crossing} on two sides of the split {split['name']}; its scores are too good."
