"""What changed between two archives, and what a sample says of the whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from bcd_edge.archive import rows as row_files
from bcd_edge.archive.compare import compare
from bcd_edge.archive.sample import mean_of
from bcd_edge.archive.settings import Answers
from bcd_edge.archive.verify import verify
from bcd_edge.cli import main
from bcd_edge.errors import InputError, UsageError
from bcd_edge.results.patients import compile_pattern
from tests.bcd_edge.archive.conftest import WORK, run


@pytest.fixture
def two(tmp_path: Path, collection: Path) -> tuple[Path, Path]:
    """Two archives, of which the second has one more malignant answer, 0.25 higher, and one input the less."""
    old, new = tmp_path / "old", tmp_path / "new"
    run(old, collection, shard_size=100)
    (collection / "P1/00.png").unlink()
    run(new, collection, shard_size=100)
    shard = new / "records/part=0000/shard-000000.parquet"
    table = pq.read_table(shard, partitioning=None).to_pylist()
    changed = next(row for row in table if row["source"].endswith("P2/below/02.png"))
    changed.update(decision="malignant", p_malignant=changed["p_malignant"] + 0.25)
    shard.write_bytes(row_files.to_bytes(row_files.table_of(table, [], None), {"counts": "{}"}))
    return old, new


def test_the_changed_answers_are_found(two: tuple[Path, Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["archive", "compare", *map(str, two), "--out", str(tmp_path / "changes")])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("resnet50-breast 3, twice with the same settings\n24 compared, 1 with another decision, 1 only in the first, ")
    assert "decision changed: 4.17 % (0 % to 12.5 %)" in result.output
    assert "benign to malignant: none (at most 14.2 %: exact bound for none in 24 images)" in result.output
    assert "-0.0" not in result.output
    assert "No patient is known" in result.output
    (change,) = pq.read_table(tmp_path / "changes/changes.parquet").to_pylist()
    assert (change["old_decision"], change["new_decision"]) == ("review", "malignant")
    assert change["difference"] == pytest.approx(0.25, abs=1e-4)
    figures = json.loads((tmp_path / "changes/comparison.json").read_text())["figures"]
    assert figures["decision changed"]["value"] == pytest.approx(1 / 24, rel=1e-4)
    assert figures["benign to malignant"]["high"] == pytest.approx(1 - 0.025 ** (1 / 24), rel=1e-4), "never seen is not impossible"
    assert "P2/below/02.png" in (tmp_path / "changes/comparison.html").read_text()


def test_the_title_says_what_differs(two: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = tmp_path / "new/manifest.json"
    plain = json.loads(manifest.read_text())
    plain["settings"]["threshold"] = 0.4
    ran = next(key for key in plain["counts"] if key.startswith("ran: "))
    plain["counts"]["ran: openvino int8 on CPU"] = plain["counts"].pop(ran)
    manifest.write_text(json.dumps(plain))
    expected = f"resnet50-breast 3: without --threshold → with --threshold 0.4, {ran.removeprefix('ran: ')} → openvino int8 on CPU"
    assert compare(*two).title == expected
    plain["bundle"] = {"name": "other 4", "sha256": "0"}
    manifest.write_text(json.dumps(plain))
    assert compare(*two).title.startswith("resnet50-breast 3 → other 4, without --threshold")


def test_intervals_are_by_patient(two: tuple[Path, Path]) -> None:
    comparison = compare(*two, compile_pattern(r"/(?P<patient>\d)\d\.png"))
    assert comparison.patients == 3
    assert comparison.figures["decision changed"].low is None, "of three patients there is no interval"


def test_an_archive_that_is_not_complete_is_refused(tmp_path: Path, collection: Path) -> None:
    run(tmp_path / "old", collection)
    with pytest.raises(InputError):
        run(tmp_path / "new", collection, work=replace(WORK, max_failures=0))
    with pytest.raises(UsageError, match="new is not complete; finish it"):
        compare(tmp_path / "old", tmp_path / "new")


def test_a_sample_plans_the_run_that_goes_on(tmp_path: Path, collection: Path) -> None:
    out = str(tmp_path / "out")
    options = ["--provider", "null", "--shard-size", "5", "--out", out]
    result = CliRunner().invoke(main, ["archive", str(collection), *options, "--sample", "20", "--price-per-hour", "0.5"])
    assert result.exit_code == 0, result.output
    plan = json.loads((tmp_path / "out/plan.json").read_text())
    assert (plan["inputs"], plan["sampled"]) == (28, 20)
    assert plan["image_s"]["low"] < plan["image_s"]["value"] < plan["image_s"]["high"]
    assert plan["price_per_million"]["value"] == pytest.approx(plan["image_s"]["value"] * 1e6 / 3600 * 0.5, rel=1e-4)
    assert not list((tmp_path / "out").rglob("shard-*"))
    assert CliRunner().invoke(main, ["archive", *options[:2], "--out", out, "--resume"]).exit_code == 1
    assert verify(tmp_path / "out").problems == ()


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = [estimate.low <= 1.0 <= estimate.high for estimate in (mean_of(random.gamma(4, 0.25, 19)) for _ in range(400))]  # type: ignore[operator]
    assert 0.91 <= np.mean(held) <= 0.98


def test_settings_survive_the_manifest() -> None:
    from bcd_edge.triage.scale import compile_pattern as scale_pattern

    for pattern in ("breakhis", r"_(?P<magnification>\d+)x"):
        answers = Answers(("a", "s3://b"), threshold=0.3, scale_from_name=scale_pattern(pattern), patients="folder")
        assert Answers.from_dict(json.loads(json.dumps(answers.as_dict()))) == answers
