"""2,000 mutated files, in a process with a limit of memory; `python -m benchmarks fuzz` tries as many as wanted."""

from __future__ import annotations

import collections
import sys
from functools import partial

import pytest

pytest.importorskip("imagecodecs")
if not sys.platform.startswith("linux"):
    pytest.skip("the limit of memory is Linux's", allow_module_level=True)

from bcd_edge.readers import raster
from benchmarks import fuzz, memory


def test_mutated_files_are_decoded_or_refused_and_nothing_else() -> None:
    outcomes = fuzz.chunk(partial(fuzz.mutated, 17), start=0, cases=2000)
    counts = collections.Counter(outcome.split(":")[0] for _, outcome, _ in outcomes)
    faults = [outcome for outcome in outcomes if not outcome[1].startswith(("decoded", "refused"))]
    assert faults == []
    assert len(outcomes) == 2000
    assert min(counts["decoded"], counts["refused"]) > 100


def test_decoding_takes_at_most_four_times_the_memory_of_the_samples() -> None:
    assert max(memory.factor(name, tiles=6) for name in ("CMYK JPEG", "WebP RGBA")) < fuzz.FACTOR  # they took ten times and more


def test_the_seeds_are_whole_and_mutations_repeatable() -> None:
    assert all(raster.decode(data).shape[2] == 3 for data in fuzz.seeds())
    assert [fuzz.mutated(3, case) for case in range(20)] == [fuzz.mutated(3, case) for case in range(20)]
