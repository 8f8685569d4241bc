"""Reviews and sign-outs: added, never changed, once each, also beside a watcher and through kill -9."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bcd_edge.errors import UsageError
from bcd_edge.results import reviews, worklist
from bcd_edge.results.agreement import agreement, cohens_kappa
from bcd_edge.results.folder import Results
from bcd_edge.results.journal import NAME, reading

from .conftest import checked


@pytest.fixture
def sha256(results: Results, record: Callable[..., Any]) -> str:
    return results.commit("ward/a.png", record("ward/a.png"), patient="P7").answer.sha256


def test_a_review_says_who_decided_what_and_what_was_shown(results: Results, sha256: str) -> None:
    review = reviews.add(results, sha256, "malignant", reader="Dr Rao", comment="mitoses", blinded=True)
    (entry,) = reviews.of_case(results.journal.connection, sha256)
    assert entry == review
    case = worklist.case(results.journal.connection, sha256)
    assert case is not None
    assert (review.path, review.patient, review.reader, review.comment) == ("ward/a.png", "P7", "Dr Rao", "mitoses")
    assert (review.answer, review.p_malignant, review.bundle_sha256, review.blinded) == (
        case.decision,
        case.p_malignant,
        case.bundle_sha256,
        True,
    )
    assert (case.open, case.opinions, case.first) == (False, 1, "malignant")


def test_the_latest_opinion_of_a_reader_holds_and_undoing_it_opens_the_case_again(results: Results, sha256: str) -> None:
    first = reviews.add(results, sha256, "benign", reader="A")
    again = reviews.add(results, sha256, "malignant", reader="A")
    other = reviews.add(results, sha256, "benign", reader="B")
    assert [first.reading, again.reading, other.reading] == [1, 1, 2]
    db = results.journal.connection
    assert [review.decision for review in reviews.opinions(reviews.of_case(db, sha256))] == ["malignant", "benign"]
    assert worklist.count(db, worklist.Filter("disagreement")) == 1
    reviews.undo(results, again.id, reader="A")
    assert [review.id for review in reviews.opinions(reviews.of_case(db, sha256))] == [first.id, other.id]
    reviews.undo(results, first.id, reader="A")
    reviews.undo(results, other.id, reader="B")
    case = worklist.case(db, sha256)
    assert case is not None
    assert (case.open, case.opinions, case.first, case.second) == (True, 0, None, None)
    assert [entry.decision for entry in reviews.listed(db)] == ["benign", "malignant", "benign", "undo", "undo", "undo"]


@pytest.mark.parametrize("change", ["UPDATE reviews SET decision = 'benign'", "DELETE FROM reviews"])
def test_what_was_filed_cannot_be_changed(results: Results, sha256: str, change: str) -> None:
    reviews.add(results, sha256, "malignant", reader="A")
    with pytest.raises(sqlite3.IntegrityError, match="added, never"):
        results.journal.connection.execute(change)


def test_a_repeated_request_is_filed_once(results: Results, sha256: str) -> None:
    entries = [reviews.add(results, sha256, "malignant", reader="A", uid="u") for _ in range(2)]
    undone = [reviews.undo(results, entries[0].id, reader="A", uid="v") for _ in range(2)]
    assert entries[0] == entries[1]
    assert undone[0] == undone[1]
    assert len(reviews.of_case(results.journal.connection, sha256)) == 2


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"decision": "perhaps"}, "give one of benign, malignant"),
        ({"reader": "  "}, "empty or too long"),
        ({"comment": "x" * 5000}, "shorten it"),
        ({"sha256": "0" * 64}, "no answer to review"),
        ({"bundle_sha256": "another"}, "no answer to review"),
        ({"source": "rumour"}, "give one of local"),
    ],
)
def test_what_cannot_be_filed_is_said(results: Results, sha256: str, arguments: dict[str, str], match: str) -> None:
    given = {"sha256": sha256, "decision": "benign", "reader": "A"} | arguments
    with pytest.raises(UsageError, match=match):
        reviews.add(results, **given)  # type: ignore[arg-type]  # a dictionary of texts
    assert reviews.of_case(results.journal.connection, sha256) == []


def test_only_ones_own_opinion_can_be_undone_and_only_once(results: Results, sha256: str) -> None:
    review = reviews.add(results, sha256, "benign", reader="A")
    with pytest.raises(UsageError, match="only its reader"):
        reviews.undo(results, review.id, reader="B")
    undone = reviews.undo(results, review.id, reader="A")
    for review_id, match in ((review.id, "undone before"), (undone.id, "no opinion"), (99, "no opinion")):
        with pytest.raises(UsageError, match=match):
            reviews.undo(results, review_id, reader="A")


def test_a_patient_is_signed_out_when_nothing_is_open_and_until_something_comes(results: Results, record: Callable[..., Any], sha256: str) -> None:
    db = results.journal.connection
    with pytest.raises(UsageError, match="review 1 of 1 first"):
        reviews.sign_out(results, "P7", "benign", reader="A")
    with pytest.raises(UsageError, match="no patient"):
        reviews.sign_out(results, "P8", "benign", reader="A")
    reviews.add(results, sha256, "benign", reader="A")
    assert reviews.sign_out(results, "P7", "benign", reader="A", uid="s") == reviews.sign_out(results, "P7", "benign", reader="A", uid="s")
    assert [entry.is_current for entry in reviews.sign_outs(db, "P7")] == [True]
    reviews.add(results, sha256, "malignant", reader="B")
    assert [entry.is_current for entry in reviews.sign_outs(db, "P7")] == [False]
    with pytest.raises(reviews.ContradictionError, match=r"disagree on 1 picture\. .*confirmed"):
        reviews.sign_out(results, "P7", "malignant", reader="B")
    reviews.sign_out(results, "P7", "malignant", reader="B", confirmed=True)
    assert [entry.is_current for entry in reviews.sign_outs(db, "P7")] == [False, True]
    results.commit("ward/b.png", record("ward/b.png", 2), patient="P7")
    assert [entry.is_current for entry in reviews.sign_outs(db, "P7")] == [False, False]


def test_a_third_opinion_counts(results: Results, sha256: str) -> None:
    db = results.journal.connection
    entries = [reviews.add(results, sha256, decision, reader=reader) for reader, decision in (("A", "benign"), ("B", "benign"), ("C", "malignant"))]
    assert worklist.count(db, worklist.Filter("disagreement")) == 1
    assert [review.decision for review in reviews.of_cases(db, [sha256])[sha256]] == ["benign", "benign", "malignant"]
    reviews.undo(results, entries[-1].id, reader="C")
    assert worklist.count(db, worklist.Filter("disagreement")) == 0


def test_a_picture_of_two_patients_belongs_to_each(results: Results, record: Callable[..., Any], sha256: str) -> None:
    db = results.journal.connection
    results.commit("other/a.png", record("other/a.png"), patient="P9")
    for patient in ("P7", "P9"):
        assert [case.sha256 for case in worklist.cases(db, worklist.Filter("all", patient=patient))] == [sha256]
        with pytest.raises(UsageError, match="review 1 of 1 first"):
            reviews.sign_out(results, patient, "benign", reader="A")
    assert worklist.latest_patients(db, limit=9) == {"P9": (1, 1), "P7": (1, 1)}
    assert worklist.other_patients(db, "P9") == {sha256: ["P7"]}


@pytest.mark.parametrize(
    ("opinion", "decision", "contradiction"),
    [
        ("malignant", "benign", "has the answer or an opinion malignant"),
        ("malignant", "unusable", "has the answer or an opinion malignant"),
        ("benign", "malignant", "The only picture has neither"),
    ],
)
def test_what_contradicts_a_sign_out_is_to_be_confirmed(results: Results, sha256: str, opinion: str, decision: str, contradiction: str) -> None:
    reviews.add(results, sha256, opinion, reader="A")
    with pytest.raises(reviews.ContradictionError, match=contradiction):
        reviews.sign_out(results, "P7", decision, reader="A")
    assert reviews.sign_outs(results.journal.connection, "P7") == []
    assert reviews.sign_out(results, "P7", decision, reader="A", confirmed=True).decision == decision


def test_kappa_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    generator = random.Random(3)
    for size in (2, 10, 100):
        first, second = (generator.choices(reviews.DECISIONS, (5, 3, 1, 1), k=size) for _ in range(2))
        pairs: dict[tuple[str, str], int] = {}
        for pair in zip(first, second, strict=True):
            pairs[pair] = pairs.get(pair, 0) + 1
        assert cohens_kappa(pairs) == pytest.approx(cohen_kappa_score(first, second))
    assert cohens_kappa({}) is cohens_kappa({("benign", "benign"): 4}) is None


def test_agreement_counts_each_picture_once(results: Results, record: Callable[..., Any]) -> None:
    for index, pair in enumerate([("benign", "benign"), ("benign", "malignant"), ("malignant", "malignant")]):
        sha256 = results.commit(f"{index}.png", record(f"{index}.png", index)).answer.sha256
        for reader, decision in zip("AB", pair, strict=True):
            reviews.add(results, sha256, decision, reader=reader)
    agreed = agreement(results.journal.connection)
    assert (agreed.cases, agreed.agreed, agreed.kappa) == (3, 2, pytest.approx(0.4))


# Reviews whatever is open, and says what was acknowledged.
REVIEWER = """
import sys, time
from pathlib import Path
from bcd_edge.results import reviews, worklist
from bcd_edge.results.folder import Results
with Results.open(Path(sys.argv[1])) as results:
    while True:
        for case in worklist.cases(results.journal.connection, worklist.Filter(), limit=2):
            print(reviews.add(results, case.sha256, "benign", reader=sys.argv[2]).uid, flush=True)
        time.sleep(0.02)
"""
IMAGES = 24


def test_reviews_beside_a_watcher_survive_kill_9_and_are_there_once(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    root = tmp_path / "results"
    for index in range(IMAGES):
        cv2.imwrite(str(tmp_path / "inbox" / f"{index}.png"), np.random.default_rng(index).integers(0, 256, (12, 12, 3), np.uint8))
    Results.open(root).close()
    options = ("--provider", "null", "--provider-option", "delay=20ms", "--stable-for", "50ms", "--scan", "200ms", "--min-free", "0", "--quiet")
    watch = [sys.executable, "-m", "bcd_edge", "watch", str(tmp_path / "inbox"), "--out", str(root), *options, "--once"]
    acknowledged: list[str] = []
    for kill_after in (1, 7, IMAGES // 2):
        with (
            subprocess.Popen(watch) as watcher,
            subprocess.Popen([sys.executable, "-c", REVIEWER, str(root), "A"], stdout=subprocess.PIPE, text=True) as reviewer,
        ):
            assert reviewer.stdout
            while len(acknowledged) < kill_after:
                acknowledged.append(reviewer.stdout.readline().strip())
            for process in (watcher, reviewer):
                process.send_signal(signal.SIGKILL)
            acknowledged += reviewer.stdout.read().split()
    with reading(root / NAME) as db:
        uids = [review.uid for review in reviews.listed(db)]
        assert len(uids) == len({review.sha256 for review in reviews.listed(db)})
        assert set(acknowledged) <= set(uids)
        assert worklist.count(db, worklist.Filter("open")) == worklist.count(db, worklist.Filter("all")) - len(uids)
    with Results.open(root):
        pass
    assert checked(root).problems == ()
