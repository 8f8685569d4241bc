from __future__ import annotations

from pathlib import Path

import pytest

from bcd_edge.cytology.table import Feature, Row, read
from bcd_edge.errors import InputError, UsageError

FEATURES = [Feature("clump_thickness", "grade", 1, 10, 4.4, 2.8, [1, 10]), Feature("mitoses", "grade", 1, 10, 1.6, 1.7, [1, 10])]


def rows(tmp_path: Path, text: str | bytes) -> list[Row]:
    table = tmp_path / "table.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read(str(table), FEATURES))


@pytest.mark.parametrize(
    "text",
    [
        "clump_thickness,mitoses\n5,1\n",
        "id;Mitoses;Clump Thickness\n7;1;5\n",
        "\ufeffclump-thickness\tmitoses\r\n\r\n5\t1\r\n",
        "Thickness of Clump,Clump of Thickness,Mitoses\n7,5,1\n",
    ],
)
def test_columns_are_found_by_name(tmp_path: Path, text: str) -> None:
    (row,) = rows(tmp_path, text)
    assert row.values(FEATURES) == ([5, 1], ())
    assert row.source.rpartition(":")[2] in ("2", "2 id 7", "3")


def test_the_row_is_named_by_its_id(tmp_path: Path) -> None:
    sources = [row.source for row in rows(tmp_path, "ID,clump_thickness,mitoses\nB7,5,1\n,5,1\n")]
    assert [source.rpartition(":")[2] for source in sources] == ["2 id B7", "3"]


@pytest.mark.parametrize("line", ["Smith, Anna,5,1,2", "B1,4,5,1,2", "B1,5"])
def test_a_row_with_another_number_of_cells_than_the_header_is_not_shifted(tmp_path: Path, line: str) -> None:
    (row,) = rows(tmp_path, f"id,clump_thickness,mitoses,class\n{line}\n")
    with pytest.raises(InputError, match=r"The row has \d cells and the header 4; put text with a comma into quotes"):
        row.values(FEATURES)


def test_the_line_is_that_of_the_file(tmp_path: Path) -> None:
    assert [row.source.rpartition(":")[2] for row in rows(tmp_path, "clump_thickness,mitoses\n1,1\n\n2,2\n")] == ["2", "4"]


@pytest.mark.parametrize("empty", ["", " ", "?", "NA", "nan"])
def test_what_is_missing_is_named(empty: str) -> None:
    values, (reason,) = Row("t:2", {"clump_thickness": "3", "mitoses": empty}).values(FEATURES)
    assert values == [3, 1.6]
    assert "mitoses is missing" in reason


@pytest.mark.parametrize(("cell", "used"), [("0", 1), ("11", 10), ("1e9", 10), ("-3", 1)])
def test_what_is_out_of_range_is_named(cell: str, used: float) -> None:
    values, (reason,) = Row("t:2", {"clump_thickness": cell, "mitoses": "1"}).values(FEATURES)
    assert values == [used, 1]
    assert "clump_thickness is" in reason
    assert "outside 1 to 10" in reason


@pytest.mark.parametrize(
    ("cells", "message"), [(("five", "1"), "'five', which is no number"), (("inf", "1"), "no number"), (("", "?"), "none of the 2")]
)
def test_a_row_that_cannot_be_read(cells: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Row("t:2", dict(zip(("clump_thickness", "mitoses"), cells, strict=True))).values(FEATURES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clump_thickness\n5\n", "no column mitoses; its first line, now 'clump_thickness', must name clump_thickness, mitoses"),
        ("", "no column clump_thickness, mitoses"),
        ("clump_thickness,mitoses,Mitoses\n", "column mitoses 2 times"),
        ("clump_thickness|mitoses\n5|1\n", "now 'clump_thickness|mitoses', must name .* with commas, semicolons or tabs"),
        ("clump_thickness,mitoses\n\n", "has no rows below its header"),
        (b"clump_thickness,mitoses\n\xff\xfe,1\n", "not UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rows(tmp_path, text)
    with pytest.raises(UsageError, match="cannot be read"):
        list(read(str(tmp_path / "absent.csv"), FEATURES))
