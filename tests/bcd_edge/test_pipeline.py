"""Overlapped work: order, bounds, failures, hangs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcd_edge.errors import InputError, ProviderError
from bcd_edge.pipeline import PipelineConfig, run_pipeline


def twice(values: Sequence[int]) -> list[int]:
    return [2 * value for value in values]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.booleans(), max_size=70),
    st.builds(PipelineConfig, decoders=st.integers(1, 4), streams=st.integers(1, 3), batch=st.integers(1, 9)),
)
def test_every_item_is_answered_once_and_in_order(broken: list[bool], config: PipelineConfig) -> None:
    sizes: list[int] = []

    def prepare(item: tuple[int, bool]) -> int:
        if item[1]:
            raise InputError(f"{item[0]} is broken")
        return item[0]

    def infer(values: Sequence[int]) -> list[int]:
        sizes.append(len(values))
        return twice(values)

    items = list(enumerate(broken))
    results = list(run_pipeline(items, prepare, infer, config))
    assert [item for item, _ in results] == items
    assert [str(answer) if bad else answer for (_, answer), bad in zip(results, broken, strict=True)] == [
        f"{number} is broken" if bad else 2 * number for number, bad in items
    ]
    assert all(1 <= size <= config.batch for size in sizes)
    assert sum(sizes) == broken.count(False)


def test_an_endless_source_is_read_only_as_far_as_the_window() -> None:
    config = PipelineConfig(decoders=2, streams=2, batch=4)
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count(1):
            taken = number
            yield number

    answers = run_pipeline(source(), int, twice, config)
    assert [next(answers)[1] for _ in range(50)] == [2 * number for number in range(1, 51)]
    assert taken <= 50 + config.window
    answers.close()


def test_batches_are_full_where_there_is_enough() -> None:
    sizes: list[int] = []

    def infer(values: Sequence[int]) -> list[int]:
        time.sleep(0.01)
        sizes.append(len(values))
        return twice(values)

    assert len(list(run_pipeline(range(200), int, infer, PipelineConfig(decoders=2, streams=1, batch=8)))) == 200
    assert sizes.count(8) >= 20


def test_work_overlaps() -> None:
    together = threading.Barrier(5, timeout=20)  # four decoders and an inference: only if they run at the same time does it open

    def prepare(item: int) -> int:
        if 1 <= item <= 4:
            together.wait()
        return item

    def infer(values: Sequence[int]) -> list[int]:
        if 0 in values:
            together.wait()
        return twice(values)

    assert len(list(run_pipeline(range(6), prepare, infer, PipelineConfig(decoders=4, streams=1, batch=1)))) == 6


def test_what_hangs_fails_alone_and_blocks_nothing() -> None:
    for_ever = threading.Event()

    def prepare(item: int) -> int:
        if item in (3, 4, 9):
            for_ever.wait()
        return item

    results = list(run_pipeline(range(40), prepare, twice, PipelineConfig(decoders=2, streams=1, batch=4, timeout_s=0.2)))
    for_ever.set()
    assert [item for item, _ in results] == list(range(40))
    late = {item: answer for item, answer in results if isinstance(answer, InputError)}
    assert set(late) == {3, 4, 9}
    assert "longer than 0.2 s" in str(late[3])


@pytest.mark.parametrize("where", ["prepare", "infer"])
def test_any_other_failure_ends_the_stream_after_what_came_before(where: str) -> None:
    def fail(value: int) -> None:
        if value == 20:
            raise ProviderError("the engine is gone")

    def prepare(item: int) -> int:
        if where == "prepare":
            fail(item)
        return item

    def infer(values: Sequence[int]) -> list[int]:
        if where == "infer":
            fail(values[0])
        return twice(values)

    seen = []
    with pytest.raises(ProviderError, match="gone"):
        for item, _ in run_pipeline(range(1000), prepare, infer, PipelineConfig(decoders=1, streams=1, batch=1)):
            seen.append(item)
    assert seen == list(range(len(seen)))
    assert len(seen) <= 20


def test_leaving_early_ends_the_threads() -> None:
    before = threading.active_count()
    answers = run_pipeline(range(1000), int, twice, PipelineConfig(decoders=3, streams=2, batch=2))
    next(answers)
    assert threading.active_count() == before + 5
    answers.close()
    assert threading.active_count() == before
