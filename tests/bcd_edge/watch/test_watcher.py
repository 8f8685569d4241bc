"""The loop, in this process: one answer for each content, whatever names, times and states it arrives with."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcd_edge.backends.fake import Model, darkness
from bcd_edge.classifier import Classifier
from bcd_edge.errors import OutputError, ProviderError, UsageError
from bcd_edge.options import RunOptions
from bcd_edge.results.clock import Clock
from bcd_edge.results.daily import DailyTables
from bcd_edge.results.folder import Results
from bcd_edge.results.patients import compile_pattern
from bcd_edge.watch.reader import Content, read
from tests.bcd_edge.watch.conftest import without_blue

Engine = Callable[[Model], None]


def test_every_content_has_one_row_one_result_and_one_line(place: Any) -> None:
    place.drop("a.png", "b.png", "below/a.png", "below/c.PNG")
    stats = place.run()
    assert stats.answered == 4
    assert place.query("SELECT COUNT(*) FROM images WHERE state = 'done'") == [4]
    assert sorted(record["source"] for record in place.records()) == ["a.png", "b.png", "below/a.png", "below/c.PNG"]
    assert sorted(row["source"] for row in place.rows()) == ["a.png", "b.png", "below/a.png", "below/c.PNG"]
    assert place.verification().problems == ()
    assert stat.S_IMODE(place.results.stat().st_mode) == 0o700
    assert place.run().answered == 0
    assert len(place.rows()) == 4


def test_the_record_is_that_of_predict_with_the_watchers_own_under_one_key(place: Any) -> None:
    place.drop("a.png")
    place.run()
    (record,) = place.records()
    with Classifier.load(options=RunOptions(provider="null")) as classifier:
        plain = classifier.classify(place.inbox / "a.png", name="a.png").as_dict()
    assert list(record) == [*plain, "intake"]
    own = record.pop("intake")
    assert list(own) == ["patient", "slide", "seen", "taken", "answered", "study"]
    for answer in (record, plain):
        answer.pop("timing_ms")
        answer["execution"].pop("requested")
        answer["reasons"] = list(answer["reasons"])
        answer["quality"]["reasons"] = list(answer["quality"]["reasons"])
    assert record == plain


def test_the_same_content_under_a_new_name_is_linked_and_not_classified(place: Any, engine: Engine) -> None:
    place.drop("a.png", seed=1)
    place.run()
    batches: list[np.ndarray] = []
    engine(lambda batch: batches.append(batch) or darkness(batch))
    place.drop("b.png", "below/c.png", seed=1)
    assert place.run().linked == 2
    assert batches == []
    assert place.query("SELECT COUNT(*) FROM images") == [1]
    assert {row["source"]: row["intake.same_as"] for row in place.rows()} == {"a.png": "", "b.png": "a.png", "below/c.png": "a.png"}
    assert len({row["decision"] for row in place.rows()}) == 1
    assert place.verification().problems == ()


def test_two_names_of_one_content_that_arrive_together_are_classified_once(place: Any) -> None:
    place.drop(*(f"{index}.png" for index in range(40)), seed=1)
    stats = place.run()
    assert (sum(stats.decisions.values()), stats.linked) == (1, 39)
    assert len(place.records()) == 1


def test_new_content_under_an_old_name_is_a_new_row(place: Any) -> None:
    place.drop("a.png", seed=1)
    place.run()
    times = (place.inbox / "a.png").stat()
    place.drop("a.png", seed=2)
    os.utime(place.inbox / "a.png", ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` would
    place.run()
    assert place.query("SELECT COUNT(*) FROM images WHERE state = 'done'") == [2]
    assert [row["source"] for row in place.rows()] == ["a.png", "a.png"]
    assert len({row["sha256"] for row in place.rows()}) == 2


def test_what_does_not_decode_goes_to_quarantine_and_comes_back_when_it_is_whole(place: Any) -> None:
    place.drop("a.png", "b.png")
    whole = (place.inbox / "a.png").read_bytes()
    (place.inbox / "a.png").write_bytes(whole[:-20])
    stats = place.run()
    assert stats.failed_attempts["quarantined"] == 1
    assert stats.failed_attempts["failed"] == 2
    assert place.query("SELECT state, attempts FROM files WHERE path = ?", b"a.png") == [("quarantined", 3)]
    assert "a.png" in {path.name for path in place.inbox.iterdir()}
    assert place.run().failed_attempts["quarantined"] == 0  # and is not tried again for ever
    (place.inbox / "a.png").write_bytes(whole)
    assert place.run().answered == 1
    assert place.verification().problems == ()


def test_a_quarantined_content_under_another_name_is_not_decoded_again(place: Any) -> None:
    (place.inbox / "a.png").write_bytes(b"no image")
    place.run()
    (place.inbox / "b.png").write_bytes(b"no image")
    stats = place.run()
    assert (stats.failed_attempts["quarantined"], stats.failed_attempts["failed"]) == (1, 0)


def test_retry_tries_what_is_in_quarantine(place: Any) -> None:
    (place.inbox / "a.png").write_bytes(b"no image")
    (place.inbox / "b.png").write_bytes(b"nor this")
    place.run()
    assert place.tell("retry", "a*").stdout == "1 to be retried as soon as a watcher is running.\n"
    assert place.run().failed_attempts["quarantined"] == 1
    assert place.tell("retry").stdout.startswith("2 to be")


@pytest.mark.parametrize(
    "name",
    [
        os.fsdecode(b"\xff\xfe.png"),
        "x" * 250 + ".png",
        "new\nline.png",
        "=cmd|'x'.png",
        "a.b/c d/\u6771.png",
    ],
)
def test_names_that_are_odd(place: Any, name: str) -> None:
    place.drop(name)
    assert place.run(after="move").answered == 1
    assert place.verification().problems == ()
    assert place.verification().moved == 1
    assert place.tell("report").returncode == 0
    place.drop(name)
    assert place.run(after="move").linked == 1


def test_what_is_no_image_by_its_name_or_kind_is_left_alone(place: Any) -> None:
    place.drop("a.png", ".hidden.png", "~lock.png", "b.png.part", "c.tmp", "d.png~", ".git/e.png", "notes.txt")
    (place.inbox / "link.png").symlink_to(place.inbox / "a.png")
    (place.inbox / "folder.png").mkdir()
    (place.inbox / "loop").symlink_to(place.inbox)
    os.mkfifo(place.inbox / "pipe.png")
    assert place.run().answered == 1


def test_globs(place: Any) -> None:
    place.drop("a.png", "b.PNG", "x.dat", "old/c.png", "old/x.dat")
    assert place.run(include=("*.dat", "A.*"), exclude=("old/*",)).answered == 2


def test_moving_keeps_the_folders_and_loses_nothing(place: Any) -> None:
    place.drop("a.png", "below/a.png", "below/a-2.png")
    contents = {path.read_bytes() for path in place.inbox.rglob("*.png")}
    place.run(after="move")
    place.drop("a.png")
    place.run(after="move")
    assert not list(place.inbox.rglob("*.png"))
    moved = [path.relative_to(place.results / "processed").parts[1:] for path in (place.results / "processed").rglob("*.png")]
    assert sorted(len(parts) for parts in moved) == [1, 1, 2, 2]
    assert {path.read_bytes() for path in (place.results / "processed").rglob("*.png")} == contents


def test_deleting_is_only_on_request(place: Any) -> None:
    place.drop("a.png")
    place.run()
    assert (place.inbox / "a.png").exists()
    place.drop("b.png")
    place.run(after="delete")
    assert [path.name for path in place.inbox.iterdir()] == ["a.png"]  # what was answered with `keep` stays


def test_a_new_bundle_answers_again_only_when_asked(place: Any, changed: Callable[..., Path]) -> None:
    place.drop("a.png", "b.png")
    place.run(after="move")
    other = {"options": RunOptions(provider="null"), "path": changed(lambda manifest: manifest.update(version="99"))}
    assert place.run(model=other).answered == 0
    place.drop("c.png")
    assert place.run(model=other, reprocess=True).answered == 3
    assert place.query("SELECT COUNT(*) FROM images WHERE state = 'done'") == [5]
    assert place.run(model=other, reprocess=True).answered == 0
    assert place.verification().problems == ()


def test_patients(place: Any) -> None:
    for index, name in enumerate(("SOB_M_DC-14-2523-40-001", "SOB_M_DC-14-2523AB-100-002", "SOB_B_A-14-22549G-40-001", "other")):
        place.drop(f"{name}.png", seed=index)
    place.run(patients=compile_pattern("breakhis"))
    output = place.tell("report", "--json").stdout

    patients = {patient["name"]: patient for patient in json.loads(output)["patients"]}
    assert {name: (patient["images"], patient["slides"], patient["p_malignant"], patient["decision"]) for name, patient in patients.items()} == {
        "2523": (2, 1, 0.5, "review"),
        "22549": (1, 1, 0.5, "review"),
    }
    assert [row["intake.patient"] for row in place.rows() if row["source"].startswith("SOB_M")] == ["2523", "2523"]
    assert "22549" in (place.results / "summary.html").read_text()


def test_a_pattern_sees_folders_and_what_several_patients_share_is_reported(place: Any, caplog: pytest.LogCaptureFixture) -> None:

    place.drop("P1/a.png", "P2/b.png")
    place.run()
    place.drop("P3/copy of a.png", seed=None)
    (place.inbox / "P3" / "copy of a.png").write_bytes((place.inbox / "P1" / "a.png").read_bytes())
    caplog.clear()
    place.run(patients=compile_pattern("folder"))
    assert "bcd-edge watch recount" in caplog.text
    assert place.tell("recount", "--patients", "folder").stdout == "2 names changed\n"
    place.drop("P4/copy of b.png")
    (place.inbox / "P4" / "copy of b.png").write_bytes((place.inbox / "P2" / "b.png").read_bytes())
    caplog.clear()
    place.run(patients=compile_pattern("folder"))
    assert "P4/copy of b.png: the same image under several patients, P4 and P2" in caplog.text
    assert "recount" not in caplog.text
    shared = json.loads(place.tell("report", "--json").stdout)["shared between patients"]
    assert sorted(image["patients"] for image in shared) == [["P1", "P3"], ["P2", "P4"]]
    assert "several patients" in (place.results / "summary.html").read_text()
    assert place.verification().problems == ()
    assert "4 of 4 names have no patient" in place.tell("recount", "--patients", "breakhis").stderr


def test_what_is_not_taken_is_counted_by_suffix_in_log_heartbeat_and_page(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    place.drop("a.png", "slide.VSI", "more/slide.vsi", "notes.txt", "IMG0001", "@eaDir/thumb.vsi", ".hidden.txt", "copying.part", "excluded.bin")
    (place.inbox / "no suffix").write_text("no image")
    place.run(exclude=("*.bin",))
    sentence = "4 files in the inbox are not taken, by name or content: 2 .vsi, 1 .txt, 1 without a suffix."
    assert sorted(sentence) == sorted(next(record.message for record in caplog.records if "not taken" in record.message))
    for name in ("status", "report"):
        assert "2 .vsi" in " ".join(place.tell(name).stdout.split())
    assert "2 .vsi" in (place.results / "summary.html").read_text()
    assert {image["path"] for image in json.loads(place.tell("report", "--json").stdout)["images"]} == {"a.png", "IMG0001"}


def test_images_in_a_recycle_bin_are_not_deleted(place: Any) -> None:
    place.drop("a.png", "$RECYCLE.BIN/b.png", "#recycle/c.png", "ward/@eaDir/d.png")
    place.run(after="delete")
    assert sorted(path.name for path in place.inbox.rglob("*.png")) == ["b.png", "c.png", "d.png"]


def test_csvs_for_excel(place: Any) -> None:
    place.drop("=1+1.png")
    place.run(excel=True)
    (path,) = (place.results / "daily").iterdir()
    assert path.read_bytes().startswith("\ufeffsource,".encode())
    assert "'=1+1.png" in path.read_text()
    assert place.verification().problems == ()


def test_pseudonyms_leave_no_name_in_logs_table_page_or_report(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    caplog.set_level(logging.DEBUG, "bcd_edge.watch")
    place.drop("SOB_M_DC-14-2523-40-001.png", "Doe-Jane.png")
    (place.inbox / "Doe-John.png").write_bytes(b"")
    place.run(pseudonymise=True, patients=compile_pattern("breakhis"))
    written = caplog.text + "".join(path.read_text() for path in [*(place.results / "daily").iterdir(), place.results / "summary.html"])
    written += place.tell("report", "--pseudonymise", "--json").stdout
    assert "malignant" in written
    for secret in ("Doe", "SOB", "2523"):
        assert secret not in written
    assert {record["source"] for record in place.records()} == {"SOB_M_DC-14-2523-40-001.png", "Doe-Jane.png"}


def test_a_clock_that_jumps_back_changes_only_what_is_written_down(place: Any) -> None:
    place.drop(*(f"{index}.png" for index in range(200)))
    asked = 0

    def wall() -> datetime:
        nonlocal asked
        asked += 1
        return datetime(2026, 3, 2 if asked < 150 else 1, 0, 10)

    place.run(clock=Clock(wall=wall))
    assert place.done() == 200
    assert len(place.rows()) == 200
    assert [path.name for path in sorted((place.results / "daily").iterdir())] == ["2026-03-01.csv", "2026-03-02.csv"]
    assert place.verification().problems == ()


def test_what_changes_or_goes_while_it_is_read_is_not_believed(place: Any) -> None:
    from bcd_edge.watch.models import QueuedFile
    from bcd_edge.watch.scanner import stat

    place.drop("a.png")
    seen = stat(place.inbox, "a.png")
    assert seen is not None
    file = QueuedFile(seen, 0, False, "", None)
    assert read(file, place.inbox, place.results, None).state == "new"
    place.drop("a.png", seed=3)
    changed: Content = read(file, place.inbox, place.results, None)
    assert changed.state == "changed"
    assert changed.now == stat(place.inbox, "a.png")
    (place.inbox / "a.png").unlink()
    assert read(file, place.inbox, place.results, None).state == "gone"


def test_a_csv_that_was_cut_lengthened_or_deleted_is_mended(place: Any) -> None:
    place.drop("a.png", "b.png", "c.png")
    place.run()
    place.drop("d.png", seed=1)
    place.drop("e.png", seed=1)
    place.run()
    (path,) = (place.results / "daily").iterdir()
    whole = path.read_bytes()
    for damaged in (whole + b"torn,row", whole[:-30], None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        place.run()
        assert path.read_bytes() == whole
    (place.results / "daily" / "2001-01-01.csv").write_bytes(b"torn")  # of a day whose first transaction never came
    place.run()
    assert [file.name for file in (place.results / "daily").iterdir()] == [path.name]


def test_a_provider_that_fails_is_started_anew_and_nothing_is_lost(place: Any, engine: Engine) -> None:
    place.drop(*(f"{index}.png" for index in range(30)))
    failures = iter([True, False, True, True, False])

    def failing(batch: np.ndarray) -> np.ndarray:
        if next(failures, False):
            raise ProviderError("the engine is gone")
        return darkness(batch)

    engine(failing)
    stats = place.run()
    assert place.done() == 30
    assert stats.provider_failures >= 1
    assert place.verification().problems == ()


def test_a_provider_that_fails_on_and_on_ends_the_watcher_and_the_next_one_answers(place: Any, engine: Engine) -> None:
    place.drop(*(f"{index}.png" for index in range(10)))

    def failing(batch: np.ndarray) -> np.ndarray:
        raise ProviderError("the engine is gone")

    engine(failing)
    with pytest.raises(ProviderError, match="4 times in a row, nothing is lost"):
        place.run(max_provider_attempts=4)
    assert place.done() == 0
    engine(darkness)
    assert place.run().answered == 10


def test_one_image_that_breaks_the_provider_goes_to_quarantine_and_the_others_are_answered(place: Any, engine: Engine) -> None:
    place.drop(*(f"{index}.png" for index in range(12)))
    place.drop_without_blue("5.png")

    def failing(batch: np.ndarray) -> np.ndarray:
        if without_blue(batch):
            raise ProviderError("not a number")
        return darkness(batch)

    engine(failing)
    place.run(max_provider_attempts=20)
    assert place.done() == 11
    ((path, reason),) = place.query("SELECT path, reason FROM files WHERE state = 'quarantined'")
    assert path == b"5.png"
    assert "failed with it alone" in reason


def test_results_that_cannot_be_written_are_tried_again(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place.drop("a.png")
    real, failures = DailyTables.append, iter([True, True])

    def append(*arguments: Any) -> Any:
        if next(failures, False):
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(DailyTables, "append", append)
    assert place.run().answered == 1
    assert place.verification().problems == ()
    place.drop("b.png")
    monkeypatch.setattr(Results, "commit_staged", lambda self, also: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="nothing is lost"):
        place.run()
    monkeypatch.undo()
    assert place.run().answered == 1


def test_inbox_and_results_must_not_lie_in_each_other(place: Any) -> None:
    for results in (place.inbox, place.inbox / "results", place.inbox.parent):
        with pytest.raises(UsageError, match="must not contain each other"):
            place.run(results=results)


def test_results_are_no_inbox(place: Any) -> None:
    place.drop("a.png")
    place.run()
    with pytest.raises(UsageError, match="holds the results of a watcher"):
        place.run(inbox=place.results, results=place.inbox.with_name("more"))


def test_answers_are_written_in_batches(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bcd_edge.watch import batch

    sizes: list[int] = []
    real = Results.commit_staged
    monkeypatch.setattr(batch, "BATCH_S", 60.0)
    monkeypatch.setattr(Results, "commit_staged", lambda self, also: sizes.append(self.staged) or real(self, also))
    place.drop(*(f"{index}.png" for index in range(200)))
    place.run()
    # whatever is due is committed when nothing else is: on a slow disk the scan comes in several parts
    assert sum(sizes) == 200 and max(sizes) <= batch.BATCH and len(sizes) < 20, sizes


def test_no_name_is_interned(place: Any, interned: list[str]) -> None:
    place.drop("marked-1.png", "marked-below/2.png", "same.png", seed=1)
    place.drop("marked-3.png", "marked-4.tif")
    (place.inbox / "marked-5.png").write_bytes(b"no image")
    interned.clear()
    stats = place.run(after="move")
    assert [text for text in interned if "marked" in text] == []
    assert Path("marked-6.png").name in interned, "pathlib interns in another way now, and this test sees nothing"
    assert (stats.answered, stats.linked, stats.failed_attempts["quarantined"]) == (5, 2, 1)
