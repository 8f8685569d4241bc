"""Is a bundle still good where it runs? Accuracy on reviewed pictures, weeks beside the bundle's own figures, and what changed."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from bcd_edge.bundle import Bundle
from bcd_edge.errors import UsageError
from bcd_edge.estimates import FEWEST_GROUPS, Bools, Estimate, Floats, Indices
from bcd_edge.results import accuracy, drift, worklist
from bcd_edge.results.consensus import LABELS, outcomes
from bcd_edge.results.labels import learned_from
from bcd_edge.results.summary import count

QUALITY: Final = ("focus", "exposure", "contrast", "tissue", "stain")
MEASURES: Final = ("p_malignant", "novelty", *QUALITY)


@dataclass(frozen=True, slots=True)
class Stratum:
    """Answers of one kind: `pictures`, of which `sampled` were to be reviewed, `labelled` have a label, `malignant` of these are so."""

    name: str
    pictures: int
    sampled: int
    labelled: int
    malignant: int


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure here, None if it cannot be told, and on the test patients of each collection the bundle was tested on, if it has it."""

    name: str
    here: Estimate | None
    reference: dict[str, float]


@dataclass(frozen=True, slots=True)
class Week:
    """Shares and mean probability of the pictures answered in the week from `monday`."""

    monday: str
    pictures: int
    patients: int
    review: Estimate
    novel: Estimate | None
    poor_quality: Estimate | None
    p_malignant: Estimate


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the pictures: what changed, when about, when that was certain, and medians over patients before and after."""

    measure: str
    at: str
    alarm_at: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Report:
    """What `monitor` found.

    Attributes:
        bundle: name of the bundle whose answers these are.
        bundle_sha256: of its manifest.
        pictures: answered contents.
        patients: people; a picture without a patient counts as one.
        audit_share: share of benign answers that is reviewed at random, 0..1.
        strata: what was answered, reviewed and found.
        figures: accuracy, calibration and shares.
        weeks: the earliest first.
        changes: the earliest first.
        drift: how near the test is to an alarm, from 0; an alarm at 1.
        patients_per_false_alarm: of the test, at least, on average.
        notes: sentences that a reader of the figures must know.
    """

    bundle: str
    bundle_sha256: str
    pictures: int
    patients: int
    audit_share: float
    strata: list[Stratum]
    figures: list[Figure]
    weeks: list[Week]
    changes: list[Change]
    drift: float
    patients_per_false_alarm: int
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Columns of N, in the order of time; `names` are those of patients, to which `patients` are indices."""

    names: list[str]
    sha256: list[str]
    ended: list[datetime]
    patients: Indices
    answers: list[str]
    sampled: Bools
    poor_quality: Floats
    measures: dict[str, Floats]

    def without(self, patients: frozenset[str]) -> Bools:
        """Whether each is of another patient than these."""
        others = np.array([name.strip() not in patients for name in self.names], bool)
        return others[self.patients]


def monitor(db: sqlite3.Connection, bundle: Bundle | None = None) -> Report:
    """Looks at everything that one bundle answered in a folder.

    Args:
        db: the journal.
        bundle: whose answers, with its own figures; the bundle used last, without figures, if not given.

    Raises:
        UsageError: there are no answers of it, or the journal has no worklist yet.
    """
    used = _used(db, bundle)
    pictures = _read(db, used["sha256"])
    if not pictures.sha256:
        raise UsageError(f"There is no answer of {used['name']} in this folder; give the bundle that answered: --bundle DIR.")
    labels = outcomes(db)
    learned = learned_from(db, bundle)
    answered = _answered(pictures, labels, used["threshold"], learned)
    strata = _strata(answered)
    figures = accuracy.estimate(answered)
    shares = _shares(pictures)
    reference = _reference(db, bundle)
    changes, level = _changes(pictures)
    return Report(
        used["name"],
        used["sha256"],
        len(pictures.sha256),
        int(pictures.patients.max()) + 1,
        worklist.audit_share(db),
        strata,
        [Figure(name, here, reference.get(name, {})) for name, here in {**figures, **shares}.items()],
        _weeks(pictures),
        changes,
        level,
        drift.EVERY,
        _notes(pictures, labels, strata, figures, bundle, reference, learned),
    )


def _used(db: sqlite3.Connection, bundle: Bundle | None) -> sqlite3.Row:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'cases'").fetchone():
        raise UsageError("This folder was written by an earlier bcd-edge; start bcd-edge watch or bcd-edge serve on it once.")
    row: sqlite3.Row | None = db.execute(
        "SELECT sha256, name, threshold FROM bundles WHERE sha256 = COALESCE(?, sha256) ORDER BY used_at DESC LIMIT 1",
        (bundle.sha256 if bundle else None,),
    ).fetchone()
    if row is None:
        known = ", ".join(name for (name,) in db.execute("SELECT name FROM bundles ORDER BY used_at DESC")) or "none"
        raise UsageError(f"{bundle.name if bundle else 'No bundle'} has not answered in this folder; these have: {known}.")
    return row


def _read(db: sqlite3.Connection, bundle_sha256: str) -> _Pictures:
    cursor = db.execute(
        """SELECT sha256, ended_at, COALESCE(cases.patient, sha256), images.decision, images.decision != 'benign' OR draw < share.value, record
           FROM images JOIN cases USING (sha256) JOIN meta AS share ON share.name = 'audit_share'
           WHERE images.bundle_sha256 = ? AND state = 'done' AND json_extract(record, '$.kind') IS NOT 'slide'""",
        (bundle_sha256,),
    )
    rows = [(*tuple(row)[:5], _numbers(json.loads(row[5]))) for row in cursor]  # a record is a kilobyte, and there may be a hundred thousand
    rows.sort(key=lambda row: datetime.fromisoformat(row[1]))
    index = {name: number for number, name in enumerate(dict.fromkeys(row[2] for row in rows))}  # in the order in which they came
    numbers = np.array([row[5] for row in rows], np.float64).reshape(-1, len(MEASURES) + 1)  # None becomes NaN
    return _Pictures(
        list(index),
        [row[0] for row in rows],
        [datetime.fromisoformat(row[1]).astimezone() for row in rows],
        np.array([index[row[2]] for row in rows], np.intp),
        [row[3] for row in rows],
        np.array([bool(row[4]) for row in rows], bool),
        numbers[:, -1],
        dict(zip(MEASURES, numbers.T, strict=False)),
    )


def _numbers(record: dict[str, Any]) -> tuple[float | None, ...]:
    """`MEASURES`, and whether the quality is poor."""
    quality = record.get("quality") or {}
    poor = bool(quality["reasons"]) if quality else None
    return (record["p_malignant"], record.get("novelty"), *(quality.get(name) for name in QUALITY), poor)


def _answered(pictures: _Pictures, labels: dict[str, Any], threshold: float, learned: frozenset[str]) -> accuracy.Answered:
    """Without the patients that the bundle learned from, who would flatter it."""
    p = pictures.measures["p_malignant"]
    strata = np.array(
        [{"benign": 0, "malignant": 3}.get(answer, 2 if value >= threshold else 1) for answer, value in zip(pictures.answers, p, strict=True)]
    )
    words = [labels.get(sha256) for sha256 in pictures.sha256]
    labelled = pictures.sampled & np.array([word in LABELS for word in words])
    malignant = labelled & np.array([word == "malignant" for word in words])
    kept = pictures.without(learned)
    return accuracy.Answered(pictures.patients[kept], strata[kept], p[kept], labelled[kept], malignant[kept], pictures.sampled[kept])


def _strata(answered: accuracy.Answered) -> list[Stratum]:
    def count(chosen: Bools) -> list[int]:
        return [int(number) for number in np.bincount(answered.strata[chosen], minlength=len(accuracy.STRATA))]

    columns = [count(np.ones(len(answered.strata), bool)), count(answered.sampled), count(answered.labelled), count(answered.malignant)]
    return [Stratum(*row) for row in zip(accuracy.STRATA, *columns, strict=True)]


def _shares(pictures: _Pictures) -> dict[str, Estimate | None]:
    """Over all pictures, with or without a label."""
    columns = {
        "review": np.array([answer == "review" for answer in pictures.answers]),
        "novel": _novel(pictures),
        "poor_quality": pictures.poor_quality,
    }
    return {name: _mean(column, pictures.patients) for name, column in (columns | {"p_malignant": pictures.measures["p_malignant"]}).items()}


def _novel(pictures: _Pictures) -> Floats:
    novelty = pictures.measures["novelty"]
    return np.where(np.isnan(novelty), np.nan, novelty > 1)


def _mean(values: Floats, patients: Indices) -> Estimate | None:
    """Over the pictures that have the value; None if none has."""
    present = ~np.isnan(values)
    return accuracy.means(values[present][:, None], patients[present])[0] if present.any() else None


def _weeks(pictures: _Pictures) -> list[Week]:
    mondays = np.array([(at.date() - timedelta(days=at.weekday())).isoformat() for at in pictures.ended])
    return [_week(str(monday), np.flatnonzero(mondays == monday), pictures) for monday in np.unique(mondays)]


def _week(monday: str, own: Indices, pictures: _Pictures) -> Week:
    patients = pictures.patients[own]
    review = np.array([pictures.answers[index] == "review" for index in own])
    (review_mean, p_mean) = accuracy.means(np.column_stack([review, pictures.measures["p_malignant"][own]]), patients)
    novel, poor = (_mean(column[own], patients) for column in (_novel(pictures), pictures.poor_quality))
    return Week(monday, len(own), len(np.unique(patients)), review_mean, novel, poor, p_mean)


def _changes(pictures: _Pictures) -> tuple[list[Change], float]:
    """The drift test, with the mean over each patient's pictures, in the order in which patients came."""
    measures = {name: _by_patient(column, pictures.patients) for name, column in pictures.measures.items()}
    _, first = np.unique(pictures.patients, return_index=True)
    at = [pictures.ended[index].isoformat(timespec="seconds") for index in first]
    changes, level = drift.changes(measures)
    return [Change(change.measure, at[change.patient], at[change.alarm], change.before, change.after) for change in changes], level


def _by_patient(values: Floats, patients: Indices) -> Floats:
    present = ~np.isnan(values)
    people = int(patients.max()) + 1
    counts, sums = (np.bincount(patients[present], weights, people) for weights in (None, values[present]))
    mean: Floats = np.divide(sums, counts, out=np.full(people, np.nan), where=counts > 0)
    return mean


def _reference(db: sqlite3.Connection, bundle: Bundle | None) -> dict[str, dict[str, float]]:
    """The bundle's own figures on its test patients, by figure and collection, of the precision that ran last."""
    if bundle is None:
        return {}
    record = db.execute(
        "SELECT record FROM images WHERE bundle_sha256 = ? AND state = 'done' ORDER BY ended_at DESC LIMIT 1", (bundle.sha256,)
    ).fetchone()
    tested = bundle.variant(json.loads(record[0])["execution"]["precision"])["test"]
    collections = {name: scores for name, scores in tested.items() if "/" not in name}  # the others are one magnification each
    reference = {
        figure: {name: float(scores["metrics"][figure]["value"]) for name, scores in collections.items()}
        for figure in ("sensitivity", "specificity", "brier", "ece")
    }
    reference["miss_rate"] = {name: scores["malignant_called_benign"] / scores["malignant"] for name, scores in collections.items()}
    reference["review"] = {name: scores["review"] / scores["images"] for name, scores in collections.items()}
    reference["p_malignant"] = {name: scores["p_malignant"] for name, scores in collections.items() if "p_malignant" in scores}
    return reference


def _notes(
    pictures: _Pictures,
    labels: dict[str, Any],
    strata: list[Stratum],
    figures: dict[str, Estimate | None],
    bundle: Bundle | None,
    reference: dict[str, dict[str, float]],
    learned: frozenset[str],
) -> list[str]:
    notes = []
    if taught := sum(name.strip() in learned for name in pictures.names):
        notes.append(f"Not in these figures of accuracy: {count(taught, 'patient')} from whose labels the bundle learned.")
    if missing := [stratum.name for stratum in strata if stratum.pictures and not stratum.labelled]:
        notes.append(f"Sensitivity, specificity, miss rate and calibration cannot be told: no answer of these has a label yet: {'; '.join(missing)}.")
    elif figures["sensitivity"] is None:
        notes.append("Sensitivity, specificity, miss rate and calibration cannot be told: all labels are of one class.")
    elif figures["sensitivity"].low is None:
        notes.append(f"Accuracy has no intervals: fewer than {FEWEST_GROUPS} patients have a label that is benign, or one that is malignant.")
    sampled, labelled = sum(stratum.sampled for stratum in strata), sum(stratum.labelled for stratum in strata)
    words = [labels.get(sha256, "not reviewed") for sha256 in pictures.sha256]
    kept = zip(words, pictures.sampled.tolist(), pictures.without(learned), strict=True)
    counts = Counter((word, chosen) for word, chosen, own in kept if own)
    if labelled < sampled:
        without = ", ".join(f"{number:,} {word}" for (word, chosen), number in counts.most_common() if chosen and word not in LABELS)
        notes.append(
            f"With a label: {labelled:,} of {count(sampled, 'picture')} to be reviewed ({without}); the figures take the others to be like them."
        )
    if besides := sum(number for (word, chosen), number in counts.items() if not chosen and word != "not reviewed"):
        notes.append(
            f"Not in these figures: {count(besides, 'confident answer')} reviewed without being drawn for the audit, which is no random sample."
        )
    return [*notes, *_of_bundle(bundle, reference)]


def _of_bundle(bundle: Bundle | None, reference: dict[str, dict[str, float]]) -> list[str]:
    """What the bundle says of itself, and what it does not."""
    if bundle is None:
        return ["The bundle's own figures are unknown, because it was not given: --bundle DIR."]
    lacking = ["observed to expected", "quality", *(["mean probability"] if not reference["p_malignant"] else [])]
    novelty = bundle.manifest.get("novelty")
    chosen = f" A picture is novel above the bundle's threshold: {novelty['chosen']}." if novelty else " It does not tell novelty."
    return [f"The bundle has no figures of its own for {', '.join(lacking)}.{chosen}"]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) and not np.isnan(value) else None if isinstance(value, float) else value
