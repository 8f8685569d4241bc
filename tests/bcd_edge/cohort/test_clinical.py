from __future__ import annotations

from pathlib import Path

import pytest

from bcd_edge.cohort.clinical import outcomes, parse_columns, read
from bcd_edge.errors import UsageError


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_kinds_are_recognised(tmp_path: Path) -> None:
    lines = [f"P{n},{('no', 'yes')[n % 2]},{n % 4},{n / 3},{'abc'[n % 3]},1,word {n},{n + 1},{('alive', 'dead')[n % 2]}" for n in range(30)]
    clinical = read(table(tmp_path, "\n".join(["patient,er,grade,age,type,same,comment,months,state", *lines, ""])))
    found, notes = outcomes(clinical, {}, "months", "state")
    assert [(outcome.title, outcome.kind) for outcome in found] == [
        ("state by months", "time"),
        ("er: yes against no", "binary"),
        ("grade", "ordinal"),
        ("age", "continuous"),
        ("type: a against the rest", "binary"),
        ("type: b against the rest", "binary"),
        ("type: c against the rest", "binary"),
    ]
    assert found[0].events["P1"]
    assert not found[0].events["P0"]
    assert ["it has one value" in notes[0], "30 different texts" in notes[1]] == [True, True]


def test_columns_are_told(tmp_path: Path) -> None:
    path = table(tmp_path, "id;size;her2\n1;low;neg\n2;high;pos\n3;mid;NA\n4;low;weak\n")
    told = parse_columns([("size", "ordinal:low,mid,high"), ("her2", "binary:pos")])
    found, _ = outcomes(read(path, "id"), told)
    assert (found[0].values, found[0].levels) == ({"1": 0, "2": 2, "3": 1, "4": 0}, ("low", "mid", "high"))
    assert (found[1].values, found[1].title) == ({"1": 0, "2": 1, "4": 0}, "her2: pos against the rest")
    assert outcomes(read(path, "id"), parse_columns([("size", "ignore"), ("her2", "ignore")]))[0] == []


def test_rows_of_one_patient_that_disagree_are_left_out_and_said(tmp_path: Path) -> None:
    clinical = read(table(tmp_path, "patient,grade\nA,1\nA,1\nB,2\nB,3\n"))
    assert clinical.columns["grade"] == {"A": "1", "B": None}
    assert clinical.notes == ("grade: patients whose rows have different values are left out of it, 1 in all.",)


@pytest.mark.parametrize(
    ("text", "told", "time", "message"),
    [
        ("name,x\nA,1\n", {}, None, "no column 'patient'"),
        ("", {}, None, "no column 'patient' (it is empty)"),
        ("patient,x\n", {}, None, "no row with a patient"),
        ("patient,x,x\nA,1,2\n", {}, None, "two columns 'x'; rename one"),
        ("patient,x\nA,1\n", {"y": ("binary", ())}, None, "no column 'y'; it has x"),
        ("patient,x\nA,1\nB,2\nC,3\n", {"x": ("binary", ())}, None, "--column x=binary:VALUE"),
        ("patient,x\nA,low\nB,high\n", {"x": ("ordinal", ())}, None, "as in --column x=ordinal:low,high"),
        ("patient,x\nA,low\nB,high\n", {"x": ("continuous", ())}, None, "'low', which is no number"),
        ("patient,t,e\nA,-3,1\n", {}, "t", "a time is a number above 0"),
        ("patient,t,e\nA,3,maybe\n", {}, "t", "write 1 where the event was observed"),
    ],
)
def test_errors_say_what_to_do(tmp_path: Path, text: str, told: dict[str, tuple[str, tuple[str, ...]]], time: str | None, message: str) -> None:
    with pytest.raises(UsageError) as error:
        outcomes(read(table(tmp_path, text)), told, time, "e" if time else None)
    assert message in str(error.value)


def test_a_table_in_another_encoding_and_cells_with_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("patient,größe\nA,1\n".encode("latin-1"))
    with pytest.raises(UsageError, match="save it as CSV in UTF-8"):
        read(path)
    path.write_bytes(b'patient,note\r\nA,"two\r\nlines"\r\nB,one\r\n')
    assert read(path).columns["note"] == {"A": "two\nlines", "B": "one"}


def test_a_kind_that_there_is_not_and_half_a_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'nominal' is no kind of column; give one of binary"):
        parse_columns([("x", "nominal")])
    with pytest.raises(UsageError, match="give --time and --event"):
        outcomes(read(table(tmp_path, "patient,t\nA,1\n")), {}, "t")
