"""How long a collection will take, and what it will cost: a random sample of it is classified, and nothing is kept of the answers."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from scipy import stats

from bcd_edge.archive.destination import Destination
from bcd_edge.archive.engine import Shard
from bcd_edge.archive.items import Item
from bcd_edge.archive.listing import Listing
from bcd_edge.archive.progress import display_time
from bcd_edge.archive.run import begin, check, check_nodes, check_sources, end_listing, opened
from bcd_edge.archive.settings import Answers, Work
from bcd_edge.archive.workers import Workers
from bcd_edge.errors import UsageError
from bcd_edge.estimates import LEVELS, Estimate
from bcd_edge.records import Record

# Groups of the sample that are timed: their spread is the interval's.
GROUPS: Final = 20
SEED: Final = 21
# Shards that are listed between two lines.
TOLD: Final = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What is expected of the whole.

    Attributes:
        inputs: of the whole collection.
        bytes: of the whole collection, as far as its listing tells.
        sampled: inputs that were classified.
        failed: how many of them have no answer.
        nodes: that worked on them.
        start_s: seconds until the nodes were loaded.
        image_s: seconds for an input on all nodes together, with its 95 % interval.
        hours: for the whole collection, with the start.
        price_per_hour: of all nodes together, if it was given.
        price_per_million: inputs.
    """

    inputs: int
    bytes: int
    sampled: int
    failed: int
    nodes: int
    start_s: float
    image_s: Estimate
    hours: Estimate
    price_per_hour: float | None
    price_per_million: Estimate | None

    def __str__(self) -> str:
        low, high = self.image_s.low or math.inf, self.image_s.high or math.inf
        where = "on this machine" if self.nodes == 1 else f"on these {self.nodes} nodes"
        lines = [
            f"{self.sampled:,} of {self.inputs:,} inputs: {1 / self.image_s.value:.1f} a second (95 % interval {1 / high:.1f} to {1 / low:.1f}), "
            f"{self.failed:,} without an answer",
            f"the whole: {_hours(self.hours)} {where}, {self.bytes / 1e9:,.1f} GB read",
        ]
        if self.price_per_million:
            price = self.price_per_million
            lines.append(f"cost: {price.value:.2f} per million ({price.low:.2f} to {price.high:.2f}) at {self.price_per_hour:g} an hour")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """Plain values."""
        names = ("image_s", "hours", "price_per_million")
        return asdict(self) | {name: value and value.as_dict() for name in names for value in [getattr(self, name)]}


def plan(
    out: str | os.PathLike[str],
    answers: Answers,
    work: Work,
    size: int,
    price_per_hour: float | None = None,
    *,
    write: Callable[[str], object],
    resume: bool = False,
    started: float | None = None,
) -> Plan:
    """Lists the collection, which a run goes on with, and classifies a random sample of it.

    Args:
        out: folder or URL of the data set; gets the listing and `plan.json`.
        answers: what decides the rows.
        work: how the work is done.
        size: inputs of the sample.
        price_per_hour: of all machines together, in any currency.
        write: takes lines on the listing and the nodes.
        resume: whether the folder may hold a run already.
        started: when the process began, as `time.time`, whose start counts; now if not given.

    Raises:
        OutputError: the folder cannot be written.
        ProviderError: no engine runs.
        UsageError: there is a run already.
    """
    started = started or time.time()
    destination = Destination(out)
    check_sources(destination, answers)
    with destination.locked():
        before = check(destination, answers, resume=resume)
        if before and before["state"] == "complete":
            raise UsageError(f"{out} is complete already; give another --out to plan with.")
        with opened(destination, answers, work, write, samples=True) as workers:
            check_nodes(workers.nodes, before)
            start_s = time.time() - started
            listing = Listing(destination.folder, answers.sources, answers.shard_size)
            manifest = begin(destination, answers, workers.nodes, before)
            _complete(listing, write)
            groups = _Groups(_draw(listing, min(size, listing.inputs)), len(workers.nodes))
            seconds, failed = _time(workers, groups)
            end_listing(destination, manifest, listing)
    result = _plan(listing, groups, failed, seconds, start_s, price_per_hour)
    destination.folder.write("plan.json", (json.dumps(result.as_dict(), indent=1) + "\n").encode())
    return result


def _complete(listing: Listing, write: Callable[[str], object]) -> None:
    with listing:
        for number in listing.numbers():
            if number % TOLD == TOLD - 1:
                write(f"{listing.inputs:,} inputs listed")


def _draw(listing: Listing, size: int) -> list[Item]:
    """A simple random sample, in random order, so that each of its groups is one of the whole."""
    rows = sorted(random.Random(SEED).sample(range(listing.inputs), size))
    sampled: list[Item] = []
    for shard, numbers in itertools.groupby(rows, lambda row: row // listing.shard_size):
        inputs = listing.items(shard)
        sampled += [inputs[number % listing.shard_size] for number in numbers]
    random.Random(SEED).shuffle(sampled)
    return sampled


class _Groups:
    """A sample in groups that are timed.

    Attributes:
        nodes: that work on them at a time.
        inputs: in all groups.
    """

    def __init__(self, sampled: Sequence[Item], nodes: int) -> None:
        self.nodes, self.inputs = nodes, len(sampled)
        size = max(1, math.ceil(len(sampled) / (GROUPS * nodes)))
        self._groups = deque(Shard(start, start, list(sampled[start : start + size])) for start in range(0, len(sampled), size))

    def __iter__(self) -> Iterator[Shard]:
        while group := self.take():
            yield group

    def take(self) -> Shard | None:
        return self._groups.popleft() if self._groups else None

    def is_over(self) -> bool:
        return not self._groups


def _time(workers: Workers, groups: _Groups) -> tuple[list[float], int]:
    """Seconds for an input in each round of the nodes, and how many inputs failed.

    The first groups, in which the stream fills, do not count; nor do the last ones of a cluster, in which some nodes have none.
    """
    ends, sizes = [time.perf_counter()], [0]
    statuses: Counter[str] = Counter()
    with closing(workers.run(groups)) as stream:
        for group in stream:
            ends.append(time.perf_counter())
            sizes.append(len(group.items))
            statuses.update(answer.status for answer in group.answers if isinstance(answer, Record))
    nodes = groups.nodes
    rounds = range(nodes, len(ends) - nodes - (nodes - 1), nodes)
    seconds = [(ends[first + nodes] - ends[first]) / sum(sizes[first + 1 : first + nodes + 1]) for first in rounds]
    return seconds or [(ends[-1] - ends[0]) / max(1, groups.inputs)], statuses["failed"]


def _plan(listing: Listing, groups: _Groups, failed: int, seconds: Sequence[float], start_s: float, price_per_hour: float | None) -> Plan:
    image_s = mean_of(seconds)
    work = image_s.scaled(listing.inputs / 3600)
    start = start_s / 3600
    hours = Estimate(work.value + start, None if work.low is None else work.low + start, None if work.high is None else work.high + start)
    price = None if price_per_hour is None else image_s.scaled(price_per_hour * 1e6 / 3600)
    return Plan(listing.inputs, listing.size, groups.inputs, failed, groups.nodes, start_s, image_s, hours, price_per_hour, price)


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean with its 95 % interval by Student's t; none of one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None, None)
    half = float(stats.t.ppf(LEVELS[1], len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Estimate(mean, max(mean / 100, mean - half), mean + half)


def _hours(hours: Estimate) -> str:
    if hours.low is None or hours.high is None:
        return display_time(3600 * hours.value)
    return f"{display_time(3600 * hours.value)} ({display_time(3600 * hours.low)} to {display_time(3600 * hours.high)})"
