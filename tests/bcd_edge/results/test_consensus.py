"""Which label readers give a picture together, by the rules of the module's docstring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bcd_edge.results import reviews, worklist
from bcd_edge.results.consensus import outcomes
from bcd_edge.results.folder import Results


@pytest.mark.parametrize(
    ("opinions", "sign_out", "expected"),
    [
        (["benign"], None, "benign"),
        (["malignant", "malignant"], None, "malignant"),
        (["cannot tell"], None, "cannot tell"),
        (["cannot tell", "malignant"], None, "malignant"),
        (["unusable"], None, "unusable"),
        (["unusable", "cannot tell"], None, "unusable"),
        (["unusable", "benign"], None, "disagreement"),
        (["benign", "malignant"], None, "disagreement"),
        (["benign", "malignant"], ("A", "benign"), "benign"),
        (["benign", "malignant"], ("C", "benign"), "benign"),
        (["benign", "malignant"], ("C", "malignant"), "disagreement"),
        (["benign", "malignant"], ("A", "malignant"), "benign"),
        (["benign", "malignant"], ("B", "malignant"), "malignant"),
        (["benign", "malignant"], ("A", "cannot tell"), "disagreement"),
        (["unusable", "malignant"], ("B", "malignant"), "malignant"),
        (["unusable", "malignant"], ("B", "benign"), "disagreement"),
        (["malignant"], ("A", "benign"), "disagreement"),
        (["benign"], ("A", "malignant"), "benign"),
        (["cannot tell"], ("A", "malignant"), "cannot tell"),
    ],
)
def test_the_outcome(results: Results, record: Callable[..., Any], opinions: list[str], sign_out: tuple[str, str] | None, expected: str) -> None:
    sha256 = results.commit("a.png", record("a.png"), patient="P").answer.sha256
    for reader, decision in zip("AB", opinions, strict=False):
        reviews.add(results, sha256, decision, reader=reader)
    if sign_out:
        reviews.sign_out(results, "P", sign_out[1], reader=sign_out[0], confirmed=True)
    assert outcomes(results.journal.connection) == {sha256: expected}


def test_a_sign_out_that_is_no_longer_current_settles_nothing(results: Results, record: Callable[..., Any]) -> None:
    worklist.change_audit_share(results.journal, 0)
    sha256 = results.commit("a.png", record("a.png"), patient="P").answer.sha256
    for reader, decision in [("A", "benign"), ("B", "malignant")]:
        reviews.add(results, sha256, decision, reader=reader)
    reviews.sign_out(results, "P", "benign", reader="A", confirmed=True)
    results.commit("b.png", record("b.png", 1), patient="P")
    assert outcomes(results.journal.connection) == {sha256: "disagreement"}


def test_what_was_undone_is_no_opinion(results: Results, record: Callable[..., Any]) -> None:
    sha256 = results.commit("a.png", record("a.png")).answer.sha256
    review = reviews.add(results, sha256, "benign", reader="A")
    reviews.undo(results, review.id, reader="A")
    assert outcomes(results.journal.connection) == {}
