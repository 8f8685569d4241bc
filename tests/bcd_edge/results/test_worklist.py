"""The worklist: what is on it, in which order, whatever has happened in whichever order."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.errors import UsageError
from bcd_edge.records import Record
from bcd_edge.results import patients, reviews, schema, worklist
from bcd_edge.results.folder import Results
from bcd_edge.results.journal import NAME, connect
from bcd_edge.results.worklist import Filter, cases

RULE = (0.4, 0.2, 0.7)  # threshold and review band of the bundle in these tests


@pytest.fixture
def make(record: Callable[..., Record]) -> Callable[..., Record]:
    """A record with this probability and novelty."""

    def build(seed: int, p: float, novelty: float | None = 0.5) -> Record:
        decision = "benign" if p < RULE[1] else "malignant" if p >= RULE[2] else "review"
        if novelty and novelty > 1:
            decision = "review"
        return replace(record(f"{seed}.png", seed), p_malignant=p, novelty=novelty, decision=decision)

    return build


@pytest.fixture
def folder(results: Results) -> Results:
    results.journal.connection.execute("UPDATE bundles SET threshold = ?, review_low = ?, review_high = ?", RULE)
    worklist.change_audit_share(results.journal, 0)
    return results


def paths(results: Results, chosen: Filter | None = None) -> list[str]:
    return [case.path for case in cases(results.journal.connection, chosen or Filter())]


def test_the_uncertain_and_the_novel_come_first_and_patients_together(folder: Results, make: Callable[..., Record]) -> None:
    for name, p, novelty, patient in [
        ("low", 0.21, 0.9, None),
        ("b-sure", 0.69, 0.2, "B"),
        ("near", 0.41, None, None),
        ("novel", 0.05, 1.9, None),
        ("b-novel", 0.35, 1.5, "B"),
        ("confident", 0.01, 0.1, "B"),
    ]:
        folder.commit(name, make(len(name) * 31, p, novelty), patient=patient)
    assert paths(folder) == ["b-novel", "b-sure", "novel", "near", "low"]


def test_reviewing_takes_a_case_off_and_leads_on_within_the_patient(folder: Results, make: Callable[..., Record]) -> None:
    for seed, (p, patient) in enumerate([(0.4, "A"), (0.25, "A"), (0.38, None)]):
        folder.commit(f"{seed}.png", make(seed, p), patient=patient)
    db = folder.journal.connection
    first = cases(db, Filter())[0]
    reviews.add(folder, first.sha256, "benign", reader="A")
    following = worklist.following(db, first.sha256, Filter())
    assert following is not None
    assert (following.path, following.patient) == ("1.png", "A")
    reviews.add(folder, following.sha256, "benign", reader="A")
    last = worklist.following(db, following.sha256, Filter())
    assert last is not None
    assert last.path == "2.png"
    reviews.add(folder, last.sha256, "benign", reader="A")
    assert worklist.following(db, last.sha256, Filter()) is None


def test_malignant_answers_are_to_be_reviewed_however_sure(folder: Results, make: Callable[..., Record]) -> None:
    for seed, p in enumerate((0.99, 0.4, 0.01)):
        folder.commit(f"{p}.png", make(seed, p))
    assert paths(folder) == ["0.4.png", "0.99.png"]
    assert [case.reason for case in cases(folder.journal.connection, Filter())] == ["review", "malignant"]


def test_a_blinded_filter_by_answer_leaves_out_only_what_the_reader_has_decided(folder: Results, make: Callable[..., Record]) -> None:
    first, _ = (folder.commit(f"{seed}.png", make(seed, 0.4)).answer.sha256 for seed in range(2))
    blinded = Filter("all", decision="malignant", reader="A", is_blinded=True)
    entry = reviews.add(folder, first, "benign", reader="A")
    assert paths(folder, blinded) == ["1.png"]
    reviews.undo(folder, entry.id, reader="A")
    assert sorted(paths(folder, blinded)) == ["0.png", "1.png"]


def test_an_audit_share_of_the_confident_is_on_it_and_a_larger_one_holds_a_smaller_one(folder: Results, make: Callable[..., Record]) -> None:
    for seed in range(200):
        folder.commit(f"{seed}.png", make(seed, 0.01))
    before: set[str] = set()
    for share, least, most in ((0.05, 1, 30), (0.3, 30, 95), (1, 200, 200)):
        worklist.change_audit_share(folder.journal, share)
        assert worklist.audit_share(folder.journal.connection) == share
        drawn = {case.path for case in cases(folder.journal.connection, Filter(), limit=500)}
        assert least <= len(drawn) <= most  # of a binomial, once in a million outside
        assert before <= drawn
        before = drawn
    (case, *_) = cases(folder.journal.connection, Filter())
    assert reviews.add(folder, case.sha256, "benign", reader="A").audit is True
    with pytest.raises(UsageError, match="not a share"):
        worklist.change_audit_share(folder.journal, 5)


def test_a_second_reader_gets_what_another_has_reviewed(folder: Results, make: Callable[..., Record]) -> None:
    for seed in range(3):
        folder.commit(f"{seed}.png", make(seed, 0.4))
    for case, decision in zip(cases(folder.journal.connection, Filter()), ("benign", "malignant", "unusable"), strict=True):
        reviews.add(folder, case.sha256, decision, reader="A")
    assert paths(folder, Filter("second", reader="A")) == []
    for case in cases(folder.journal.connection, Filter("second", reader="B")):
        reviews.add(folder, case.sha256, "benign", reader="B")
    assert worklist.counts(folder.journal.connection, "C") == {"open": 0, "second": 0, "disagreement": 2, "reviewed": 3, "all": 3}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (Filter("all", text="WARD_1/"), ["ward_1/50%.png"]),
        (Filter("all", text="%"), ["ward_1/50%.png"]),
        (Filter("all", text="rao"), ["x/1.png"]),
        (Filter("all", text="' OR 1 --"), []),
        (Filter("open", patient="Rao"), ["x/1.png"]),
        (Filter("all", decision="benign"), ["ward-1/0.png"]),
    ],
)
def test_filters_and_search(folder: Results, make: Callable[..., Record], chosen: Filter, expected: list[str]) -> None:
    for seed, (path, p, patient) in enumerate([("ward-1/0.png", 0.1, None), ("x/1.png", 0.4, "Rao"), ("ward_1/50%.png", 0.9, None)]):
        folder.commit(path, make(seed, p), patient=patient)
    assert paths(folder, chosen) == expected
    assert worklist.count(folder.journal.connection, chosen) == len(expected)


def test_a_page_says_how_many_there_are_in_all(folder: Results, make: Callable[..., Record]) -> None:
    for seed in range(5):
        folder.commit(f"{seed}.png", make(seed, 0.4))
    db = folder.journal.connection
    for limit, offset, length in ((5, 0, 5), (2, 0, 2), (2, 4, 1), (9, 0, 5), (2, 9, 0)):
        listed, total = worklist.page(db, Filter("all"), limit=limit, offset=offset)
        assert (len(listed), total) == (length, 5)
    assert worklist.page(db, Filter("all", text="none"), limit=5) == ([], 0)


def test_it_is_found_by_the_beginning_of_its_hash(folder: Results, make: Callable[..., Record]) -> None:
    sha256 = folder.commit("a.png", make(1, 0.4)).answer.sha256
    assert paths(folder, Filter("all", text=sha256[:10])) == ["a.png"]


def open_by_definition(db: sqlite3.Connection) -> dict[str, list[str]]:
    """What is open, by patient or content, computed anew from answers, names and reviews."""
    groups: dict[str, list[str]] = {}
    share = worklist.audit_share(db)
    for sha256, draw in db.execute("SELECT sha256, draw FROM cases"):
        answer = db.execute("SELECT decision FROM images WHERE sha256 = ? AND state = 'done' ORDER BY rowid DESC", (sha256,)).fetchone()
        named = db.execute("SELECT patient FROM names WHERE sha256 = ? AND patient IS NOT NULL ORDER BY rowid", (sha256,)).fetchone()
        if (answer[0] != "benign" or draw < share) and not reviews.opinions(reviews.of_case(db, sha256)):
            groups.setdefault(named[0] if named else sha256, []).append(sha256)
    return groups


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_it_is_by_definition_after_anything(folder: Results, make: Callable[..., Record], seed: int) -> None:
    generator, db = random.Random(seed), folder.journal.connection

    def commit() -> None:
        content = generator.randrange(12)
        record = make(content, generator.random(), generator.choice([None, 0.3, 1.2]))
        bundle = generator.choice([record.execution.bundle_sha256, "b" * 64])
        record = replace(record, execution=replace(record.execution, bundle_sha256=bundle))
        folder.commit(f"P{generator.randrange(4)}/{generator.randrange(20)}.png", record, patient=generator.choice([None, "P1", "P2"]))

    def review() -> None:
        sha256 = db.execute("SELECT sha256 FROM cases ORDER BY draw LIMIT 1 OFFSET ?", (generator.randrange(3),)).fetchone()
        if sha256:
            reviews.add(folder, sha256[0], generator.choice(reviews.DECISIONS), reader=generator.choice("AB"))

    def undo() -> None:
        left = [review for case in cases(db, Filter("reviewed")) for review in reviews.opinions(reviews.of_case(db, case.sha256))]
        if left:
            chosen = generator.choice(left)
            reviews.undo(folder, chosen.id, reader=chosen.reader)

    def share() -> None:
        worklist.change_audit_share(folder.journal, generator.choice([0, 0.05, 0.5, 1]))

    def recount() -> None:
        patients.recount(folder, re.compile(generator.choice([r"^(?P<patient>P1)/", r"^(?P<patient>P\d)/"])))

    for _ in range(60):
        generator.choices((commit, review, undo, share, recount), (12, 6, 3, 1, 1))[0]()
        expected, listed = open_by_definition(db), cases(db, Filter(), limit=100)
        assert sorted(case.sha256 for case in listed) == sorted(sha256 for group in expected.values() for sha256 in group)
        order = [case.patient or case.sha256 for case in listed]
        assert list(dict.fromkeys(order)) == [key for index, key in enumerate(order) if not index or order[index - 1] != key], "together"
        assert {row[0]: row[1] for row in db.execute("SELECT group_key, open FROM case_groups")} == {
            key: len(group) for key, group in expected.items()
        }


def test_a_folder_of_an_earlier_version_gets_its_worklist(
    tmp_path: Path, make: Callable[..., Record], classifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        earlier.setattr(schema, "VERSION", schema.FIRST)
        with Results.open(tmp_path / "results") as old:
            old.use(classifier.bundle, classifier.rule)
            for seed, p in enumerate((0.4, 0.1)):
                old.commit(f"P/{seed}.png", make(seed, p), patient="P")
    with closing(connect(tmp_path / "results" / NAME)) as db:
        worklist_cases = cases(db, Filter("all"))
        assert sorted((case.path, case.patient, case.decision) for case in worklist_cases) == [("P/0.png", "P", "review"), ("P/1.png", "P", "benign")]
        assert open_by_definition(db).keys() == {"P"}
        assert [case.path for case in cases(db, Filter(decision="review"))] == ["P/0.png"]


def test_pages_are_read_from_indices(folder: Results) -> None:
    """At 100,000 results nothing is sorted or read as a whole for a page."""
    db = folder.journal.connection
    queries: list[str] = []
    db.set_trace_callback(queries.append)
    for state in worklist.STATES:
        cases(db, Filter(state, reader="A"))
    db.set_trace_callback(None)
    for query in queries:
        plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}"))
        assert "TEMP B-TREE" not in plan, query
        assert "USING INDEX" in plan, query
