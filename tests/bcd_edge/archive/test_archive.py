"""Exactly one row per input, whatever dies; the same content once; a data set that others read."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from bcd_edge.archive.contents import ContentIndex
from bcd_edge.archive.verify import verify
from bcd_edge.bundle import Bundle
from bcd_edge.classifier import Classifier
from bcd_edge.cli import main
from bcd_edge.errors import InputError, OutputError, UsageError
from bcd_edge.inputs import Inputs
from bcd_edge.options import RunOptions
from tests.bcd_edge.archive.conftest import WORK, rows, run, same

ROOT = Path(__file__).parents[3]

# Module, class or nothing, function, whether it is killed before or after it, and at which call.
STEPS = [
    ("archive.listing", "Listing", "_write", "after", 1),
    ("archive.listing", "Listing", "_write", "after", 4),
    ("archive.contents", "ContentIndex", "commit", "after", 2),
    ("archive.destination", "Destination", "commit", "after", 3),
    ("archive.run", "", "end", "before", 1),
]

KILLED = """
import importlib, itertools, os, signal, sys
module, owner, name, when, call = sys.argv[1:6]
place = importlib.import_module("bcd_edge." + module)
place = getattr(place, owner) if owner else place
real, calls = getattr(place, name), itertools.count(1)
def killed(*arguments, **options):
    now = next(calls) == int(call)
    if when == "before" and now:
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **options)
    if when == "after" and now:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(place, name, killed)
from bcd_edge.cli import main
main(sys.argv[6:])
"""


def command(out: Path, *arguments: object) -> list[str]:
    return ["archive", *map(str, arguments), "--out", str(out), "--shard-size", "5", "--provider", "cpu", "--quiet"]


def test_one_row_per_input_with_the_answer_of_predict(tmp_path: Path, collection: Path, classifier: Classifier) -> None:
    counts = run(tmp_path / "out", collection, patients="(?P<patient>P[12])/").counts
    table = rows(tmp_path / "out")
    expected = {record.source: record for _, record in classifier.classify_many(Inputs([str(collection)]))}
    assert [row["row"] for row in table] == list(range(28))
    assert Counter(row["source"] for row in table) == Counter(list(expected))
    for row in table:
        record = expected[row["source"]]
        assert (row["status"], row["sha256"], row["error"], row["decision"]) == (record.status, record.sha256, record.error, record.decision)
        assert row["p_malignant"] == (None if record.p_malignant is None else pytest.approx(record.p_malignant, abs=1e-5))
        assert row["intake"]["patient"] == Path(row["source"]).relative_to(collection).parts[0]
    assert {name: counts[name] for name in ("rows", "ok", "failed", "copied")} == {"rows": 28, "ok": 25, "failed": 3, "copied": 6}
    result = verify(tmp_path / "out")
    assert (result.inputs, result.rows, result.failed, result.copies, result.problems) == (28, 28, 3, 6, ())


def test_duckdb_reads_it(tmp_path: Path, collection: Path) -> None:
    run(tmp_path / "out", collection)
    query = f"SELECT status, count(*), min(execution.provider) FROM '{tmp_path}/out/records/*/*.parquet' GROUP BY status ORDER BY status"
    assert duckdb.sql(query).fetchall() == [("failed", 3, "cpu"), ("ok", 25, "cpu")]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["state"], manifest["counts"]["rows"], manifest["listing"]["inputs"]) == ("complete", 28, 28)


def test_embeddings_are_a_column_that_pandas_reads(tmp_path: Path, collection: Path, classifier: Classifier) -> None:
    pandas = pytest.importorskip("pandas")
    run(tmp_path / "out", collection, embeddings="float16")
    table = pandas.read_parquet(tmp_path / "out/records").sort_values("row")
    assert list(table["embedding"].isna()) == list(table["status"] == "failed")
    by_content = dict(classifier.embed_many((record.sha256, Path(record.source)) for record in table.itertuples() if record.status == "ok"))
    for row in table[table["status"] == "ok"].itertuples():
        assert row.embedding.dtype == "float16"
        assert row.embedding == pytest.approx(by_content[row.sha256][1], rel=1e-2, abs=1e-2)
    assert len(row.embedding) == classifier.bundle.embedding_size


def test_embeddings_that_the_bundle_does_not_give(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bundle, "embedding_size", 0)
    with pytest.raises(UsageError, match="gives no embeddings; leave out --embeddings"):
        run(tmp_path / "out", collection, embeddings="float32", work=replace(WORK, options=RunOptions(provider="null")))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(map(str, step)))
def test_killed_and_gone_on_with(tmp_path: Path, collection: Path, pictures: list[bytes], step: tuple[object, ...]) -> None:
    """What is there after the kill stays; a picture that comes meanwhile changes no shard that is listed."""
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, step), *command(out, collection)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = {path: path.read_bytes() for path in [*out.rglob("shard-*.parquet"), *out.glob("listing/*.parquet")]}
    (collection / "P1/000.png").write_bytes(pictures[3])
    result = CliRunner().invoke(main, command(out, "--resume"))
    assert result.exit_code == 1, result.output
    assert {path: path.read_bytes() for path in before} == before
    assert verify(out).problems == ()
    assert [same(row) for row in rows(out)] == [same(row) for row in _undisturbed(tmp_path, collection)]


def _undisturbed(tmp_path: Path, collection: Path) -> list[dict[str, object]]:
    """The rows of a run without a fault, of the pictures that were there at first."""
    (collection / "P1/000.png").unlink()
    run(tmp_path / "undisturbed", collection)
    return rows(tmp_path / "undisturbed")


def test_a_copy_whose_original_changed_is_computed(tmp_path: Path, collection: Path, pictures: list[bytes]) -> None:
    """The row that has the content by the index does not have it any more."""
    run(tmp_path / "out", collection)
    table = rows(tmp_path / "out")
    copied = next(row for row in reversed(table) if [other["sha256"] for other in table].count(row["sha256"]) > 1)
    shard = tmp_path / f"out/records/part=0000/shard-{copied['row'] // 5:06}.parquet"
    original = next(row for row in table if row["sha256"] == copied["sha256"])
    shard.unlink()
    other = tmp_path / f"out/records/part=0000/shard-{original['row'] // 5:06}.parquet"
    changed = pq.read_table(other).to_pylist()
    changed[original["row"] % 5]["sha256"] = "0" * 64
    from bcd_edge.archive import rows as shard_rows

    other.write_bytes(shard_rows.to_bytes(shard_rows.table_of(changed, [], None), {"counts": "{}"}))
    run(tmp_path / "out", collection, resume=True)
    assert [same(row) for row in rows(tmp_path / "out") if row["row"] == copied["row"]] == [same(copied)]


def test_too_many_failures_end_it_and_are_done_again(tmp_path: Path, collection: Path, pictures: list[bytes]) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"inputs failed, more than the 1 of --max-failures \(.*--resume --retry-failed"):
        run(out, collection, work=replace(WORK, max_failures=1))
    for name in ("P1/cut.png", "P2/cut.png", "P1/empty.png"):
        (collection / name).write_bytes(pictures[4])
    counts = run(out, collection, work=replace(WORK, max_failures=1, retries_failed=True), resume=True).counts
    assert (counts["rows"], counts["failed"]) == (28, 0)
    assert verify(out).problems == ()
    assert CliRunner().invoke(main, command(out, "--resume")).exit_code == 0, "nothing is left to do"


def test_the_last_state_is_shown_once(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("bcd_edge.archive.progress.EVERY_S", 0.0)
    run(tmp_path / "out", collection, work=replace(WORK, options=RunOptions(provider="null")))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("28 of 28")]
    assert len(lines) == 1
    assert "6 with the same content as another row" in lines[0]


def test_what_a_run_refuses(tmp_path: Path, collection: Path, changed: Callable[..., Path]) -> None:
    out = tmp_path / "out"
    run(out, collection)
    with pytest.raises(UsageError, match="holds an archive already \\(complete\\); add --resume"):
        run(out, collection)
    with pytest.raises(UsageError, match=r"was begun without --threshold, not with --threshold 0\.3; give the same"):
        run(out, collection, resume=True, threshold=0.3)
    with pytest.raises(UsageError, match=rf"was begun with {collection}, not with {tmp_path}"):
        run(out, tmp_path, resume=True)
    with pytest.raises(UsageError, match="holds other files"):
        run(collection, collection)
    with pytest.raises(UsageError, match=r"missing does not exist; give a folder"):
        run(tmp_path / "new", tmp_path / "missing")
    with pytest.raises(UsageError, match=r"different providers .* add --mixed"):
        run(out, collection, work=replace(WORK, options=RunOptions(provider="null")), resume=True)
    with pytest.raises(UsageError, match="was begun with the bundle resnet50-breast"):
        run(out, collection, work=replace(WORK, bundle=str(changed())), resume=True)


def test_a_source_that_is_not_there_leaves_nothing_to_go_on_with(tmp_path: Path, collection: Path) -> None:
    work, manifest = replace(WORK, options=RunOptions(provider="null")), tmp_path / "files.csv"
    manifest.write_text("path\nx.png\n")
    for source in (tmp_path / "missing", manifest):
        with pytest.raises(UsageError):
            run(tmp_path / "out", source, work=work)
    assert run(tmp_path / "out", collection, work=work).counts["rows"] == 28


def test_a_full_disk_of_the_index_is_a_sentence(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(ContentIndex, "commit", full)
    with pytest.raises(OutputError, match=r"\.state could not be written \(database or disk is full\); make room there"):
        run(tmp_path / "out", collection, work=replace(WORK, options=RunOptions(provider="null")))


def test_verify_finds_what_is_damaged(tmp_path: Path, collection: Path) -> None:
    out = tmp_path / "out"
    run(out, collection)
    shards = sorted(out.rglob("shard-*.parquet"))
    shards[0].write_bytes(shards[0].read_bytes()[:-10])
    shards[1].unlink()
    shards[2].write_bytes(shards[3].read_bytes())
    (out / "listing/000004.parquet").unlink()
    result = CliRunner().invoke(main, ["archive", "verify", str(out)])
    assert result.exit_code == 1
    assert result.output.startswith("NOT whole: ")
    lines = result.output.splitlines()
    for name, problem, fix in (
        ("shard-000000.parquet", "is damaged", "--resume does it"),
        ("shard 1", "with 5 inputs has no rows yet", "--resume does it"),
        ("shard-000002.parquet", "does not have the inputs", "move it away, and --resume does the shard again"),
        ("listing/000005.parquet", "is not what was listed", "copy it back from a backup"),
    ):
        assert any(name in line and problem in line and fix in line for line in lines), (name, result.output)
    plain = json.loads(CliRunner().invoke(main, ["archive", "verify", str(out), "--json"]).output)
    assert (plain["whole"], plain["problem_count"]) == (False, len(plain["problems"]))
    with pytest.raises(UsageError, match=r"listing/000004.parquet is missing, so this run cannot go on"):
        run(out, collection, resume=True)


def test_damaged_shards_are_done_again_and_kept(tmp_path: Path, collection: Path) -> None:
    out = tmp_path / "out"
    run(out, collection)
    before = rows(out)
    shards = sorted(out.rglob("shard-*.parquet"))
    whole = [shard.read_bytes() for shard in shards]
    broken = {0: whole[0][:-10], 1: whole[1][:-4] + b"XXXX", 2: b"", 3: whole[5]}  # the last one has three rows
    for number, content in broken.items():
        shards[number].write_bytes(content)
    (out / ".state/contents.sqlite3").unlink()
    assert run(out, collection, resume=True).counts["rows"] == 28
    assert verify(out).problems == ()
    assert [same(row) for row in rows(out)] == [same(row) for row in before]
    assert {number: (out / "damaged" / shards[number].name).read_bytes() for number in broken} == broken
    assert [shard.read_bytes() for shard in shards[4:]] == whole[4:]


def test_a_run_goes_on_from_any_folder(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are kept absolute; an older run with relative ones goes on where it was begun, and nowhere else."""
    manifest = tmp_path / "files.csv"
    manifest.write_text("file\ncollection/P1/00.png\n")
    monkeypatch.chdir(tmp_path)
    for number, source in enumerate(("collection", "collection/P?/*.png", "files.csv")):
        monkeypatch.chdir(tmp_path)
        assert CliRunner().invoke(main, command(Path(f"out{number}"), source)).exit_code in (0, 1)
        kept = json.loads(Path(f"out{number}/manifest.json").read_text())["settings"]["sources"]
        assert kept == [str(tmp_path / source)]
        assert all(Path(row["source"]).is_absolute() for row in rows(f"out{number}"))
        next(Path(f"out{number}").rglob("shard-*")).unlink()
        for folder in (collection / "P1", tmp_path):
            monkeypatch.chdir(folder)
            again = CliRunner().invoke(main, command(tmp_path / f"out{number}", *([source] if folder == tmp_path else []), "--resume"))
            assert again.exit_code in (0, 1), again.output
        assert verify(tmp_path / f"out{number}").problems == ()
    monkeypatch.chdir(tmp_path)
    run("old", "collection")
    monkeypatch.chdir(collection)
    refused = CliRunner().invoke(main, command(tmp_path / "old", "--resume"))
    assert refused.exit_code == 2
    assert "begun with the relative source collection, which is not in" in refused.output
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, command(tmp_path / "old", "collection", "--resume")).exit_code == 1


def test_sources_that_have_gone_are_no_failed_rows(tmp_path: Path, collection: Path) -> None:
    run(tmp_path / "out", collection)
    next((tmp_path / "out").rglob("shard-*")).unlink()
    collection.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"collection is not there any more, so all inputs would fail; mount it again"):
        run(tmp_path / "out", collection, resume=True)


@pytest.mark.parametrize("source", ["P1/*/*.nothing", "nothing", "empty.csv"])
def test_nothing_to_classify_leaves_no_data_set(tmp_path: Path, collection: Path, source: str) -> None:
    (collection / "empty.csv").write_text("file\n")
    (collection / "nothing").mkdir()
    result = CliRunner().invoke(main, command(tmp_path / "out", collection / source))
    assert result.exit_code == 2
    assert "There is no image" in result.output
    assert not (tmp_path / "out").exists()


def test_advice_is_true(tmp_path: Path, collection: Path) -> None:
    out, invoke = tmp_path / "out", CliRunner().invoke
    manifest = tmp_path / "m7.csv"
    manifest.write_text(f"file,um_per_pixel\n{collection}/P1/00.png,abc\n{collection}/P1/03.png,0.5\n")
    result = invoke(main, [*command(out, manifest)[:-1], "--threshold", "0.4"])
    assert "'abc' in row 1 of" in result.output
    assert "m7.csv is no width" in result.output
    assert f"bcd-edge archive failed {out}" in result.output
    (line,) = invoke(main, ["archive", "failed", str(out)]).output.splitlines()
    assert line.split("\t")[0] == f"{collection}/P1/00.png"
    assert "add --resume" in invoke(main, command(out, "--retry-failed")).output
    for place, problem in (("nosuch", "does not exist, or is empty"), ("collection", "has no manifest.json, so it is no archive")):
        for arguments in (["verify", str(tmp_path / place)], ["compare", str(out), str(tmp_path / place), "--out", str(tmp_path / "changes")]):
            result = invoke(main, ["archive", *arguments])
            assert result.exit_code == 2
            assert problem in result.output


def test_a_replaced_file_has_its_own_size_and_version(tmp_path: Path, collection: Path, pictures: list[bytes]) -> None:
    run(tmp_path / "out", collection)
    replaced = collection / "P1/cut.png"
    replaced.write_bytes(pictures[4])
    run(tmp_path / "out", collection, work=replace(WORK, retries_failed=True), resume=True)
    row = next(row for row in rows(tmp_path / "out") if row["source"] == str(replaced))
    assert row["status"] == "ok"
    assert (row["intake"]["size"], row["intake"]["version"]) == (len(pictures[4]), str(replaced.stat().st_mtime_ns))


def test_interrupted_says_how_to_go_on(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bcd_edge.archive.committer.Committer.add", interrupted)
    result = CliRunner().invoke(main, command(tmp_path / "out", collection, "--max-rate", "50MB"))
    assert result.exit_code == 130
    assert f"bcd-edge archive --out {tmp_path}/out --resume" in result.output
    assert "--max-rate 50MB" in result.output


def test_whole_slides_are_rows(tmp_path: Path, collection: Path) -> None:
    slide = ROOT.parent / "shared/data/slides/CMU-1-Small-Region.svs"
    pytest.importorskip("openslide")
    if not slide.exists():
        pytest.skip("needs ../shared/data/slides")
    (collection / "P1/05.svs").symlink_to(slide)
    run(tmp_path / "out", collection, field_um=700)
    row = next(row for row in rows(tmp_path / "out") if row["kind"] == "slide")
    assert (row["decision"], row["slide"]["vendor"]) == ("review", "aperio")
    assert verify(tmp_path / "out").problems == ()
