"""A picture of another field of view than the training pictures' needs review, in the record of every way to give its scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bcd_edge import bundle
from bcd_edge.classifier import Classifier
from bcd_edge.cli import main
from bcd_edge.cli._options import take_triage
from bcd_edge.errors import UsageError
from bcd_edge.options import RunOptions
from bcd_edge.pictures import DecodedImage
from bcd_edge.synthetic import tissue
from bcd_edge.triage.scale import Scale, compile_pattern, um_at

PIXELS = np.full((460, 700, 3), 200, np.uint8)


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0.01, 50))
def test_exactly_the_fields_within_the_limits_pass(height: int, width: int, um_per_pixel: float) -> None:
    side = (height * width) ** 0.5 * um_per_pixel
    reasons = Scale(19, 350).reasons(height, width, um_per_pixel)
    assert bool(reasons) != (19 <= side <= 350)
    assert Scale(19, 350).reasons(width, height, um_per_pixel) == reasons


@pytest.mark.parametrize(("um_per_pixel", "passes"), [(1.625, True), (0.1625, True), (4.0, False), (0.05, False)])
def test_the_embedded_bundle_knows_the_scales_of_its_collections(um_per_pixel: float, passes: bool) -> None:
    scale = bundle.open(None).scale
    assert scale is not None
    assert bool(scale.reasons(460, 700, um_per_pixel)) != passes


def test_the_scale_is_in_the_record_and_a_picture_tells_its_own_first() -> None:
    with Classifier.load(None, RunOptions(provider="null"), measures_quality=False, um_per_pixel=5.0) as classifier:
        record = classifier.classify(PIXELS)
        own = classifier.classify(DecodedImage(PIXELS, "ab" * 32, 0.0, um_per_pixel=0.49))
    assert (record.um_per_pixel, record.decision, own.um_per_pixel) == (5.0, "review", 0.49)
    assert record.reasons[0].startswith("scale: the field is 2837 µm wide and the model was trained on 62 to 1153 µm")
    assert not [reason for reason in own.reasons if reason.startswith("scale")]
    with Classifier.load(None, RunOptions(provider="null"), measures_quality=False) as classifier:
        assert classifier.classify(PIXELS).um_per_pixel is None


@pytest.mark.parametrize(
    ("pattern", "name", "width", "um"),
    [
        ("breakhis", "inbox/SOB_B_A-14-22549AB-100-001.png", 700, 0.65),
        ("breakhis", "SOB_M_DC-14-14926-400-002.jpg", 350, 0.325),
        ("breakhis", "a-100-001.png", 700, None),
        (r"_(?P<magnification>\d+)[xX]", "x/y_40X.png", 64, 0.25),
        (r"^(?P<magnification>\d+)x/", "20x/y.png", 64, 0.5),
        (r"(?P<um_per_pixel>\d+\.\d+)um", "a 0.2528um.png", 64, 0.2528),
        (r"(?P<um_per_pixel>\d+\.\d+)um", "a.png", 64, None),
    ],
)
def test_the_scale_in_a_name(pattern: str, name: str, width: int, um: float | None) -> None:
    assert compile_pattern(pattern).um_per_pixel(name, width) == um


@given(st.integers(1, 99))
def test_a_power_is_a_scale_and_each_way_of_writing_it_the_same(power: int) -> None:
    assert um_at(f"{power}x") == um_at(f" {power} X") == um_at(str(power)) == pytest.approx(10 / power, abs=1e-4)


@pytest.mark.parametrize("power", ["400x", "100X", "0x", "-4", "x200", "", "1e1", "nan"])
def test_what_is_no_objectives_power_is_refused(power: str) -> None:
    with pytest.raises(UsageError, match="no slide scanner's objective"):
        um_at(power)


def records(tmp_path: Path, *options: str, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    """What `predict` says of pictures whose file tells the scale, whose name does, whose name is wrong, and that tell nothing."""
    pixels = Image.fromarray(tissue(3, height=46, width=70, glands=1, scattered=20))
    pixels.save(tmp_path / "file 0.4um.png", dpi=(101_600, 101_600))
    for name in ("name 0.4um.png", "wrong 9.9um.png", "none.png"):
        pixels.save(tmp_path / name)
    done = CliRunner().invoke(main, ["predict", str(tmp_path), "--provider", "null", "--format", "jsonl", *options])
    assert done.exit_code == exit_code, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(row["source"]).name.split()[0].removesuffix(".png"): row for row in rows}


def test_the_file_comes_before_its_name_and_the_name_before_what_was_given_for_all(tmp_path: Path) -> None:
    rows = records(tmp_path, "--scale-from-name", r"(?P<um_per_pixel>[0-9.]+)um", "--magnification", "20x", exit_code=1)
    assert {name: row["um_per_pixel"] for name, row in rows.items()} == {"file": 0.25, "name": 0.4, "none": 0.5, "wrong": None}
    assert rows["wrong"]["error"].startswith("The scale in its name cannot be used: '9.9' µm is no microscope's pixel")
    assert len(rows["wrong"]["sha256"]) == 64


def test_without_options_only_a_file_tells_its_scale(tmp_path: Path) -> None:
    assert {name: row["um_per_pixel"] for name, row in records(tmp_path).items()} == {"file": 0.25, "name": None, "none": None, "wrong": None}


def test_the_table_says_what_is_not_known(tmp_path: Path) -> None:
    records(tmp_path)
    lines = CliRunner().invoke(main, ["predict", str(tmp_path), "--provider", "null", "--quiet"]).stdout.splitlines()
    assert "µm/pixel" in lines[0]
    assert [" 0.25 " in line for line in lines[1:5]] == [True, False, False, False]
    assert ["not known" in line for line in lines[1:5]] == [False, True, True, True]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--um-per-pixel", "0"], "--um-per-pixel"),
        (["--magnification", "400x"], "'400x' is no slide scanner's objective; write 40x, not 400x with the eyepiece"),
        (["--magnification", "40x", "--um-per-pixel", "0.5"], "--magnification and --um-per-pixel are both given"),
        (["--scale-from-name", "("], "is not a regular expression"),
        (["--scale-from-name", r"(\d+)x"], "needs one group for the scale"),
        (["--scale-from-name", r"(?P<magnification>\d+)x(?P<um_per_pixel>\d+)"], "needs one group for the scale"),
    ],
)
@pytest.mark.parametrize("command", [["predict", "x.png"], ["watch", ".", "--out", "x", "--once"], ["explain", "x.png"]])
def test_wrong_scales_are_usage_errors(command: list[str], options: list[str], sentence: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*command, *options])
    assert done.exit_code == 2
    assert sentence in done.output


def test_predict_watch_serve_and_explain_give_the_model_the_same_scale() -> None:
    options = ["--scale-from-name", "breakhis", "--magnification", "40x"]
    expected = {"um_per_pixel": 0.25, "scale_from_name": compile_pattern("breakhis")}
    for command in ("predict", "watch", "serve", "explain"):
        parser = main.get_command(click.Context(main), command)
        assert parser
        context = parser.make_context(command, ["x", *(["--out", "y"] if command == "watch" else []), *options])
        taken = take_triage(dict(context.params))
        assert {name: taken[name] for name in expected} == expected, command
