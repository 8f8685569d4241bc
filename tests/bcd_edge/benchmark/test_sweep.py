"""Combinations, rows and what is measured in them, on the real bundle."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bcd_edge import Classifier, bundle
from bcd_edge.benchmark import accuracy, sut, sweep
from bcd_edge.benchmark.rows import SCOPES, Settings
from bcd_edge.benchmark.scenarios import Rule
from bcd_edge.benchmark.sweep import SweepSpec
from bcd_edge.errors import BundleError, ProviderError, UsageError
from bcd_edge.loading import LoadedModel
from bcd_edge.options import Plan, RunOptions

QUICK = Rule(duration_s=0.02, queries=3, limit_s=2.0, qps=50.0)


def test_combinations_are_opened_once_and_no_row_is_measured_twice() -> None:
    plans = sweep.plans(bundle.open(), SweepSpec(("null",), (), (1, 8, 32), (None,), (1, 2)))
    assert len(plans) == 6
    tasks = sweep.tasks(plans, Settings(("singlestream", "multistream", "offline", "server"), ("model",), QUICK))
    rows = [(own.batch, own.streams, key) for own, scenarios in tasks.items() for key, _ in scenarios]
    assert len(rows) == len(set(rows))
    assert sorted(rows) == sorted(
        [
            (1, 1, "singlestream"),
            (1, 1, "multistream"),
            (8, 1, "multistream"),
            *((1, streams, "server") for streams in (1, 2)),
            *((batch, streams, "offline") for batch in (1, 8, 32) for streams in (1, 2)),
        ]
    )


def test_all_means_what_runs_here_and_what_the_bundle_has() -> None:
    opened = bundle.open()
    assert {plan.provider for plan in sweep.plans(opened, SweepSpec(("all",), ("all",)))} <= {"cpu", "openvino", "cuda", "tensorrt"}
    assert [plan.precision for plan in sweep.plans(opened, SweepSpec(("null",), ("all",)))] == opened.precisions
    assert len(sweep.plans(opened, SweepSpec())) == 1


def test_what_cannot_run_is_said() -> None:
    with pytest.raises(BundleError, match="no fp32 variant"):
        sweep.plans(bundle.open(), SweepSpec(("cpu",), ("fp32",)))
    with pytest.raises(UsageError, match="abacus"):
        sweep.plans(bundle.open(), SweepSpec(("abacus",)))
    with pytest.raises(UsageError, match="is not a duration"):
        list(sweep.rows(bundle.open(), {Plan("null", provider_options=(("delay", "soon"),)): [("offline", "model")]}, Settings((), (), QUICK), None))


def test_a_combination_that_fails_leaves_the_others(changed: Callable[..., Path]) -> None:
    folder = changed()
    (folder / "model.int8.onnx").write_bytes(b"damaged")
    settings = Settings(("singlestream",), ("model",), QUICK)
    (failure,) = sweep.rows(bundle.open(folder), {Plan("cpu"): [("singlestream", "model")]}, settings)
    assert isinstance(failure, sweep.Failure)
    assert isinstance(failure.error, BundleError | ProviderError)


class Spy:
    """A backend that remembers the batches it was given."""

    provider, device, batch = "null", "", 0

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def infer(self, batch_nhwc_u8: np.ndarray) -> np.ndarray:
        self.shapes.append(batch_nhwc_u8.shape)
        assert batch_nhwc_u8.base is not None  # a view: nothing was copied
        assert batch_nhwc_u8.flags.c_contiguous
        return np.zeros((len(batch_nhwc_u8), 2), np.float32)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("batch", "fixed", "widths"), [(1, None, [1] * 8), (3, None, [3, 3, 2]), (3, 3, [3, 3, 3]), (8, None, [8]), (32, None, [8])])
def test_the_model_alone_gets_ready_inputs_in_batches(batch: int, fixed: int | None, widths: list[int]) -> None:
    opened, spy = bundle.open(), Spy()
    spy.batch = fixed
    held = sut.build_library(opened, batch)
    model = sut.ModelOnly(LoadedModel(opened, Plan("null", batch=batch), {}, [spy]), held)
    for first in range(model.samples):
        spy.shapes.clear()
        model.query([(first + index) % model.samples for index in range(8)])
        assert spy.shapes == [(width, opened.input.height, opened.input.width, 3) for width in widths]


@pytest.mark.parametrize("streams", [1, 3])
def test_a_stream_of_the_model_answers_everything(streams: int) -> None:
    spy = Spy()
    plan = Plan("null", batch=4, streams=streams)
    model = sut.ModelOnly(LoadedModel(bundle.open(), plan, {}, [spy]), sut.build_library(bundle.open(), 4))
    assert sum(images for images, _ in model.stream(iter([index % 16 for index in range(30)]))) == 30
    assert sum(shape[0] for shape in spy.shapes) == 30


def test_pictures_that_are_answered_when_the_time_is_over_are_counted(png: bytes) -> None:
    with Classifier.load(options=RunOptions(provider="null", batch=4), purpose="throughput") as running:
        model = sut.EndToEnd(running, sut.QuerySampleLibrary([png, png], []))
        assert [images for images, _ in itertools.islice(model.stream(itertools.cycle([0, 1])), 3)] == [4, 4, 4]
        assert sum(images for images, _ in model.stream(iter([0] * 10))) == 10


def test_end_to_end_answers_files(png: bytes) -> None:
    with Classifier.load(options=RunOptions(provider="null")) as running:
        model = sut.EndToEnd(running, sut.QuerySampleLibrary([png, png], []))
        model.query([0])
        model.query([0, 1, 1])
        endless: Iterator[int] = itertools.cycle([0, 1])
        assert [images for images, _ in itertools.islice(model.stream(endless), 5)] == [1] * 5


@pytest.fixture
def labelled(tmp_path: Path, png: bytes) -> Path:
    for label in ("benign", "malignant"):
        for patient in ("p1", "p2"):
            folder = tmp_path / "data" / label / patient
            folder.mkdir(parents=True)
            (folder / "a.png").write_bytes(png)
    (tmp_path / "data" / "malignant" / "loose.png").write_bytes(png[:100])
    (tmp_path / "data" / "notes.png").write_bytes(png)
    return tmp_path / "data"


def test_class_folders_and_a_manifest_tell_the_same(labelled: Path) -> None:
    images = accuracy.collection(labelled)
    assert [(image.malignant, image.patient if image.patient.startswith("p") else "alone") for image in images] == [
        (False, "p1"),
        (False, "p2"),
        (True, "alone"),
        (True, "p1"),
        (True, "p2"),
    ]
    with (labelled / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "patient"])
        writer.writerows([[image.file.relative_to(labelled), "Malignant" if image.malignant else "benign", image.patient] for image in images])
    assert accuracy.collection(labelled) == images


@pytest.mark.parametrize(
    ("content", "expected"), [("file,label\na.png,maybe\n", "line 2"), ("name\nx\n", "line 2"), ("file,label\na.png,benign\n", "only benign")]
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(UsageError, match=expected):
        accuracy.collection(tmp_path)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no labelled image"):
        accuracy.collection(tmp_path)


def test_accuracy_counts_what_could_not_be_read(labelled: Path) -> None:
    with Classifier.load(options=RunOptions(provider="null")) as running:
        scores = accuracy.measure(running, accuracy.collection(labelled))
    assert (scores["images"], scores["failed"], scores["malignant"], scores["patients"]) == (4, 1, 2, 2)
    assert scores["auroc"]["value"] == 0.5  # the null engine answers alike
    assert scores["accuracy"]["value"] == 0.5
    for label in ("p1", "p2"):
        (labelled / "malignant" / label / "a.png").write_bytes(b"")
    with Classifier.load(options=RunOptions(provider="null")) as running, pytest.raises(UsageError, match="both labels"):
        accuracy.measure(running, accuracy.collection(labelled))


def test_rows_carry_everything(labelled: Path) -> None:
    settings = Settings(("singlestream", "offline", "server"), SCOPES, QUICK, accuracy.collection(labelled))
    rows = list(sweep.rows(bundle.open(), sweep.tasks([Plan("null", batch=2, provider_options=(("delay", "1ms"),))], settings), settings))
    assert [(row["scenario"], row["scope"]) for row in rows] == [
        ("SingleStream", "model"),
        ("SingleStream", "end-to-end"),
        ("Server", "model"),
        ("Server", "end-to-end"),
        ("Offline", "model"),
        ("Offline", "end-to-end"),
    ]
    for row in rows:
        latencies = row["raw"]["latency_ns"]
        assert len(latencies) == row["queries"] >= 2
        assert row["latency_ms"]["max"] == pytest.approx(max(latencies) / 1e6, rel=1e-3)
        assert min(latencies) >= 1e6  # the delay is in it
        assert row["accuracy"]["auroc"]["value"] == 0.5
        assert row["cost"]["energy"] is None or row["cost"]["energy"]["joules_per_image"]["value"] > 0
    assert rows[-1]["images"] >= 3
