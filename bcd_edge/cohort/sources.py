"""Where a cohort's pictures come from: a folder of results, an archive's data set, or files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bcd_edge import pictures
from bcd_edge.archive import stores
from bcd_edge.archive.destination import MANIFEST, Destination
from bcd_edge.errors import InputError, UsageError
from bcd_edge.inputs import Inputs
from bcd_edge.pictures import DecodedImage
from bcd_edge.readers import raster
from bcd_edge.results import journal
from bcd_edge.results import pictures as answered
from bcd_edge.results.patients import match


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture of the cohort.

    Attributes:
        picture: its name.
        decode: reads and decodes it; raises `InputError`.
        patient: whose it is, where that is known.
        slide: which slide of the patient.
        um_per_pixel: as answered.
        p_malignant: as answered; None where it was not answered yet.
        novelty: as answered.
        bundle: name of the bundle that answered.
    """

    picture: str
    decode: Callable[[], DecodedImage]
    patient: str | None
    slide: str | None
    um_per_pixel: float | None = None
    p_malignant: float | None = None
    novelty: float | None = None
    bundle: str | None = None


@contextmanager
def entries(source: str, pattern: re.Pattern[str] | None, inbox: Path | None = None) -> Iterator[Iterator[Entry]]:
    """The pictures of a source, those of failed answers and whole slides left out; only while the context is open.

    Args:
        source: a folder of results, the folder of an archive, or a file, folder or glob of pictures.
        pattern: where the patient stands in a name, for pictures whose answers do not tell it.
        inbox: where a watcher's pictures lie now.

    Raises:
        UsageError: there is nothing, or a folder cannot be read.
    """
    if (Path(source) / journal.NAME).is_file():
        with journal.reading(Path(source) / journal.NAME) as db:
            yield _with_patients(_of_results(db, Path(source), inbox or answered.watched_inbox(Path(source))), pattern)
    elif (Path(source) / MANIFEST).is_file():
        yield _with_patients(_of_archive(source), pattern)
    elif os.path.lexists(source) or any(mark in source for mark in "*?["):
        yield _with_patients(_of_files(source), pattern)
    else:
        raise UsageError(f"{source} does not exist; give a folder of results, an archive, features.parquet of an earlier report, or pictures.")


def is_pseudonymised(source: str) -> bool:
    """Whether a source is a folder of results that shows hashes instead of names."""
    if not (Path(source) / journal.NAME).is_file():
        return False
    with journal.reading(Path(source) / journal.NAME) as db:
        row = db.execute("SELECT value FROM meta WHERE name = 'pseudonymise'").fetchone()
    return bool(row and row["value"])


def _with_patients(found: Iterator[Entry], pattern: re.Pattern[str] | None) -> Iterator[Entry]:
    for entry in found:
        if entry.patient is None:
            patient, slide = match(pattern, entry.picture.replace(os.sep, "/"))
            yield replace(entry, patient=patient, slide=slide)
        else:
            yield entry


def _answer(record: dict[str, Any]) -> dict[str, Any]:
    names = ("um_per_pixel", "p_malignant", "novelty")
    return {name: record.get(name) for name in names} | {"bundle": record["execution"]["bundle"]}


def _of_results(db: Any, root: Path, inbox: Path | None) -> Iterator[Entry]:
    """Each content once, by the bundle that answered last, under a name that tells the patient if there is one."""
    rows = db.execute(
        """SELECT images.sha256, record, path, names.patient, names.slide, MAX(images.ended_at || (names.patient IS NOT NULL))
           FROM images JOIN names USING (sha256, bundle_sha256)
           WHERE state = 'done' GROUP BY images.sha256 ORDER BY path"""
    )
    for row in rows.fetchall():
        record = json.loads(row["record"])
        if record.get("kind", "image") == "image":
            # found here, because a connection belongs to one thread and pictures are read in others
            decode = partial(_decode, tuple(answered.places(db, root, inbox, row["sha256"])), row["sha256"])
            yield Entry(os.fsdecode(row["path"]), decode, row["patient"], row["slide"], **_answer(record))


def _decode(places: Sequence[Path], sha256: str) -> DecodedImage:
    """The first file that has this content."""
    for place in places:
        if place.is_file():
            with _nameless(place):
                data = raster.read(place)
            if hashlib.sha256(data).hexdigest() == sha256:
                return pictures.decode(data)
    raise InputError("The picture was moved or deleted after it was answered; say where the inbox is with --inbox.")


def _of_archive(source: str) -> Iterator[Entry]:
    names = ["source", "status", "kind", "sha256", "um_per_pixel", "p_malignant", "novelty", "execution", "intake"]
    seen = set()
    for batch in Destination(source).folder.dataset("records").to_batches(columns=names):
        for row in batch.to_pylist():
            if row["status"] != "ok" or row["kind"] != "image" or row["sha256"] in seen:
                continue
            seen.add(row["sha256"])
            name, whose = row["source"], row["intake"]
            yield Entry(name, partial(_fetch, name), whose["patient"], whose["slide"], **_answer(row))


def _fetch(name: str) -> DecodedImage:
    with _nameless(name):
        return pictures.decode(stores.store_of(name).read(name) if stores.is_url(name) else Path(name))


@contextmanager
def _nameless(name: str | Path) -> Iterator[None]:
    """Errors without the file's name: it may tell the patient, and equal ones are counted together."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(name), "the file")) from None


def _of_files(source: str) -> Iterator[Entry]:
    for name, given in Inputs([source]):
        if isinstance(given, InputError):
            raise UsageError(str(given))
        path = os.path.relpath(name, source) if os.path.isdir(source) else name
        yield Entry(path, partial(_decode_given, name, given), None, None)


def _decode_given(name: str, given: Path | bytes) -> DecodedImage:
    with _nameless(name):
        return pictures.decode(given)
