"""The page: numbers in words, and what is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bcd_edge.results import summary
from bcd_edge.results.folder import Results


def page(results: Results, skipped: dict[str, int] | None = None) -> str:
    return summary.page(results.journal.connection, results.display_name, state="stopped", time=results.clock.text(), skipped=skipped or {})


def test_one_image_is_not_images_and_no_slide_is_not_zero_slides(results: Results, record: Callable[..., Any]) -> None:
    results.commit("P1/a.png", record("P1/a.png", 1), patient="P1")
    text = page(results)
    assert "1 image classified" in text
    row = text[text.index("<h2>Patients") :].split("<tbody>")[1].split("</tr>")[0]
    assert row.count("<td class=n></td>") == 1
    results.commit("P1/b.png", record("P1/b.png", 2), patient="P1", slide="S1")
    assert "2 images classified" in page(results)


def test_shared_images_are_on_the_page(results: Results, record: Callable[..., Any]) -> None:
    for patient in ("P1", "P2"):
        results.commit(f"{patient}/a.png", record(f"{patient}/a.png"), patient=patient)
    assert "The same image under several patients" in page(results)
    assert "P1, P2" in page(results)


def test_what_is_printed_has_no_scroll_bar_and_wraps(results: Results) -> None:
    css = page(results).split("@media print {")[1].split("</style>")[0]
    assert "overflow: visible" in css
    assert "th { white-space: normal; }" in css
    assert "overflow-wrap" not in css  # only columns of names and sentences break anywhere, as on the screen
    assert "table-header-group" in css


@pytest.mark.parametrize(
    ("skipped", "sentence"),
    [
        ({}, ""),
        ({".svs": 1}, "1 file in the inbox is not taken, by name or content: 1 .svs."),
        ({".txt": 1, ".svs": 1200, "": 3}, "1,204 files in the inbox are not taken, by name or content: 1,200 .svs, 3 without a suffix, 1 .txt."),
    ],
)
def test_files_that_are_not_taken_are_counted_by_suffix(results: Results, skipped: dict[str, int], sentence: str) -> None:
    assert summary.skipped_files(skipped) == sentence
    assert sentence in page(results, skipped)
