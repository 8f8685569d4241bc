"""Labels come home: what readers agreed on, as a folder that `python -m train fit --data` reads.

The pictures are copied, each checked against its hash: the folder is taken to another computer to train on, inboxes are emptied,
and a link would let a later change of the file change a label's picture.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final

from bcd_edge import holdout
from bcd_edge.bundle import Bundle
from bcd_edge.errors import InputError, UsageError
from bcd_edge.holdout import PARTS, Part
from bcd_edge.labels import LABELS_FILE
from bcd_edge.readers import raster
from bcd_edge.results import pictures
from bcd_edge.results.consensus import LABELS, outcomes
from bcd_edge.results.folder import Results
from bcd_edge.results.pseudonyms import naming
from bcd_edge.results.summary import count

SPLIT: Final = "split.json"
COLUMNS: Final = ("file", "label", "patient", "slide", "source", "part", "reason", "sha256", "um_per_pixel")
# As `train` splits patients: a quarter to test, a fifth of the others to validation.
SHARES: Final[Mapping[Part, float]] = {"train": 0.6, "validation": 0.15, "test": 0.25}
# In the journal: in which part each patient of this folder is, for good, and by exported split whom a bundle trained with it learned from.
PARTS_SETTING, SPLITS_SETTING = "label_parts", "label_splits"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        labels: pictures by label.
        patients: people by part.
        tested: names of patients who were test patients of the split that was given.
        left_out: pictures that have an opinion and no label here, by reason.
        source: the collection's name.
    """

    labels: dict[str, int]
    patients: dict[Part, int]
    tested: list[str]
    left_out: dict[str, int]
    source: str


@dataclass(slots=True)
class _Row:
    sha256: str
    label: str
    patient: str
    slide: str
    name: str
    reason: str
    um_per_pixel: float | None
    part: Part = field(default="train")


def export(
    results: Results,
    out: Path,
    *,
    inbox: Path | None = None,
    source: str = "",
    split: Path | None = None,
    bundle: Bundle | None = None,
    pseudonymise: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Writes `labels.csv`, `split.json` and the pictures, all or nothing.

    A patient stays in one part for good: in that of the split that is given, else in that of an earlier export of this folder;
    who is new is put where the class has too few, a quarter of it to test.

    Args:
        results: the folder.
        out: the new folder.
        inbox: where a watcher took the pictures from.
        source: name of the collection; one that is this folder's own if not given.
        split: of the run whose people must not change sides, as the running bundle's.
        bundle: the running bundle; if it was trained on this collection, its split must be known.
        pseudonymise: whether patients are hashes.
        overwrite: replace the export that is there.

    Raises:
        UsageError: nothing has a label, the folder exists, or the split does not fit.
        OSError: it could not be written; what was there before still is.
    """
    if out.exists() and not (overwrite and ((out / LABELS_FILE).is_file() or not any(out.iterdir()))):
        hint = "only a folder of exported labels is replaced; give another --out." if overwrite else "give another --out, or --overwrite."
        raise UsageError(f"{out} exists; {hint}")
    rows, left_out = _labelled(results)
    db = results.journal.connection
    display_name = naming(db, pseudonymise=pseudonymise or results.journal.setting("pseudonymise"))
    source = source or _own_source(db)
    given = _given(split)
    groups = {row.patient: f"{source}/{display_name(row.patient).strip()}" for row in rows}
    _check_provenance(db, bundle, source, given)
    with _staging(out) as staging:
        folder = staging / "labels"
        rows = _copied(results, rows, folder, inbox, left_out)
        if not rows:
            raise UsageError(_nothing(results.root, left_out))
        # by name, too: a split of before the names were replaced by hashes
        known = {patient: given[key] for patient, group in groups.items() for key in (f"{source}/{patient}", group) if key in given}
        with results.journal.transaction(flushed=True):  # before the folder is there: what is trained on must be remembered
            parts = _assigned(results, rows, known)
            whole = given | {groups[row.patient]: parts[row.patient] for row in rows}
            learned = sorted({row.patient for row in rows if parts[row.patient] != "test"})
            _remember(results, SPLITS_SETTING, {**_recall(db, SPLITS_SETTING), holdout.fingerprint(whole): learned})
        for row in rows:
            row.part = parts[row.patient]
        (folder / SPLIT).write_text(holdout.text("patient", whole), encoding="utf-8")
        (folder / LABELS_FILE).write_text(_table(rows, source, groups), encoding="utf-8")
        _replace(folder, out, staging / "before")
    people = {row.patient: row.part for row in rows}
    return Exported(
        {label: sum(row.label == label for row in rows) for label in LABELS},
        {part: sum(own == part for own in people.values()) for part in PARTS},
        sorted(display_name(patient) for patient in people if known.get(patient) == "test"),
        dict(left_out),
        source,
    )


def learned_from(db: sqlite3.Connection, bundle: Bundle | None) -> frozenset[str]:
    """The patients of this folder whose labels a bundle was trained or calibrated with, by the split that it was trained with."""
    if bundle is None:
        return frozenset()
    known = _recall(db, SPLITS_SETTING).get(bundle.manifest["training"]["split"]["fingerprint"])
    if known is None and _learned(bundle, _own_source(db)):  # beside other collections, which have made it another split
        known = [patient for patient, part in _recall(db, PARTS_SETTING).items() if part != "test"]
    return frozenset(known or ())


def _labelled(results: Results) -> tuple[list[_Row], Counter[str]]:
    """The contents with a label and one patient, and how many others have an opinion, by reason."""
    db = results.journal.connection
    columns = """sha256, patient, COALESCE(slide, '') AS slide, path, COALESCE(reason, '') AS reason,
                 (SELECT COUNT(DISTINCT patient) FROM names WHERE names.sha256 = cases.sha256) AS patients,
                 (SELECT json_extract(record, '$.um_per_pixel') FROM images
                  WHERE images.sha256 = cases.sha256 AND images.bundle_sha256 = cases.bundle_sha256) AS um_per_pixel,
                 (SELECT json_extract(record, '$.kind') FROM images
                  WHERE images.sha256 = cases.sha256 AND images.bundle_sha256 = cases.bundle_sha256) AS kind"""
    about = {row["sha256"]: row for row in db.execute(f"SELECT {columns} FROM cases WHERE opinions > 0")}
    rows, left_out = [], Counter[str]()
    for sha256, word in sorted(outcomes(db).items()):
        patient = (about[sha256]["patient"] or "").strip()
        if word not in LABELS:
            left_out[word] += 1
        elif about[sha256]["kind"] == "slide":
            left_out["whole slides"] += 1
        elif not patient:
            left_out["without a patient"] += 1
        elif about[sha256]["patients"] > 1:
            left_out["under several patients"] += 1
        else:
            row = about[sha256]
            rows.append(_Row(sha256, word, patient, row["slide"], os.fsdecode(row["path"]), row["reason"], row["um_per_pixel"]))
    return rows, left_out


def _copied(results: Results, rows: list[_Row], folder: Path, inbox: Path | None, left_out: Counter[str]) -> list[_Row]:
    """Writes the pictures, and returns the rows whose picture was found."""
    (folder / "images").mkdir(parents=True)
    kept = []
    for row in rows:
        try:
            data = pictures.read(results.journal.connection, results.root, inbox, row.sha256)
        except InputError:
            left_out["no longer there"] += 1
            continue
        (folder / _file(row)).write_bytes(data)
        kept.append(row)
    return kept


def _file(row: _Row) -> str:
    """Named by content: a file name of a clinic may be a person's name."""
    suffix = PurePath(row.name).suffix.lower()
    return f"images/{row.sha256}{suffix if suffix in raster.suffixes() else ''}"


def _given(split: Path | None) -> dict[str, Part]:
    try:
        unit, parts = holdout.read(split) if split else ("patient", {})
    except ValueError as error:
        raise UsageError(f"--split {split}: {error}") from None
    if unit != "patient":
        raise UsageError(f"--split {split} is by image, so patients are on both sides; give the split of a run that was split by patient.")
    return parts


def _check_provenance(db: sqlite3.Connection, bundle: Bundle | None, source: str, given: Mapping[str, Part]) -> None:
    """The running bundle's test patients must not become training patients because nobody said who they are.

    Those of this folder's own collection are where this folder put them.
    """
    if bundle is None or source == _own_source(db) or not _learned(bundle, source):
        return
    known = {holdout.fingerprint(given), *_recall(db, SPLITS_SETTING)}
    if bundle.manifest["training"]["split"]["fingerprint"] not in known:
        raise UsageError(
            f"{bundle.name} was trained on {source} with another split than is known here, so its test patients could become training patients; "
            "give the split.json of its run: --split FILE."
        )


def _learned(bundle: Bundle, source: str) -> bool:
    """Whether a collection is among those that a bundle was trained on."""
    return any(source in counts for counts in bundle.manifest["training"]["split"]["parts"].values())


def _assigned(results: Results, rows: list[_Row], given: Mapping[str, Part]) -> dict[str, Part]:
    """The part of every patient; those who are new, in an order that nobody chose, go where their class lacks most.

    Raises:
        UsageError: the split that was given and an earlier export put somebody in different parts.
    """
    earlier: dict[str, Part] = _recall(results.journal.connection, PARTS_SETTING)
    if moved := sorted(patient for patient in given.keys() & earlier.keys() if given[patient] != earlier[patient]):
        raise UsageError(
            f"--split has {count(len(moved), 'patient')} in another part than an earlier export of this folder, such as {moved[0]}; "
            "give the split.json that the earlier labels were trained with, or none."
        )
    parts: dict[str, Part] = {**earlier, **given}
    secret = _secret(results.journal.connection)
    shares = {patient: [row.label == "malignant" for row in rows if row.patient == patient] for patient in {row.patient for row in rows}}
    for malignant in (False, True):
        people = [patient for patient, own in shares.items() if (2 * sum(own) > len(own)) == malignant]
        counts = Counter(parts[patient] for patient in people if patient in parts)
        for patient in sorted(people, key=lambda name: hashlib.blake2b(name.encode(errors="surrogateescape"), key=secret).digest()):
            if patient not in parts:
                total = sum(counts.values()) + 1
                parts[patient] = max(PARTS, key=lambda part: SHARES[part] * total - counts[part])
                counts[parts[patient]] += 1
    _remember(results, PARTS_SETTING, parts)
    return parts


def _table(rows: list[_Row], source: str, groups: Mapping[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        patient = groups[row.patient].partition("/")[2]
        writer.writerow((_file(row), row.label, patient, row.slide, source, row.part, row.reason, row.sha256, row.um_per_pixel))
    return text.getvalue()


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder beside `out`; its name is always the same, so that the next export removes what a killed one left there."""
    staging = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(folder: Path, out: Path, before: Path) -> None:
    """Renames into place; an earlier export is out of the way only between two renames, and put back if the second fails."""
    if not out.exists():
        folder.rename(out)
        return
    out.rename(before)
    try:
        folder.rename(out)
    except OSError:
        before.rename(out)
        raise
    shutil.rmtree(before)


def _nothing(root: Path, left_out: Counter[str]) -> str:
    if left_out["without a patient"]:
        fix = f"name the patients first: bcd-edge watch recount {root} --patients PATTERN"
    elif left_out["no longer there"]:
        fix = "give the folder that the pictures are in: --inbox DIR"
    else:
        fix = "review some first: bcd-edge serve"
    why = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items()) or "nothing was reviewed"
    return f"No picture in {root} has a label to export ({why}); {fix}."


def _own_source(db: sqlite3.Connection) -> str:
    return f"clinic-{hashlib.blake2b(b'source', key=_secret(db), digest_size=4).hexdigest()}"


def _secret(db: sqlite3.Connection) -> bytes:
    value: bytes = db.execute("SELECT value FROM meta WHERE name = 'pseudonym_key'").fetchone()[0]
    return value


def _recall(db: sqlite3.Connection, name: str) -> dict[str, Any]:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return json.loads(row[0]) if row else {}


def _remember(results: Results, name: str, value: object) -> None:
    results.journal.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))
