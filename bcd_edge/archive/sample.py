"""How long a collection will take, and what it will cost: a random sample of it is classified, and nothing is kept of the answers."""

from __future__ import annotations

import bisect
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy import stats

from bcd_edge.archive import items as item_files
from bcd_edge.archive.destination import Destination
from bcd_edge.archive.engine import Engine, Shard
from bcd_edge.archive.items import Item
from bcd_edge.archive.listing import Listing
from bcd_edge.archive.progress import display_time
from bcd_edge.archive.run import begin, check, end_listing
from bcd_edge.archive.settings import Answers, Work, slide_folder
from bcd_edge.archive.stores import Reader, is_url
from bcd_edge.classifier import Classifier
from bcd_edge.errors import UsageError
from bcd_edge.estimates import LEVELS, Estimate
from bcd_edge.slides.settings import SlideSettings
from bcd_edge.system.atomic import atomic_write

# Groups of the sample that are timed: their spread is the interval's.
GROUPS: Final = 20
SEED: Final = 21


@dataclass(frozen=True, slots=True)
class Plan:
    """What is expected of the whole.

    Attributes:
        inputs: of the whole collection.
        bytes: of the whole collection, as far as its listing tells.
        sampled: inputs that were classified.
        failed: how many of them have no answer.
        image_s: seconds for an input, with its 95 % interval.
        hours: for the whole collection on this machine.
        price_per_hour: of this machine, if it was given.
        price_per_million: inputs.
    """

    inputs: int
    bytes: int
    sampled: int
    failed: int
    image_s: Estimate
    hours: Estimate
    price_per_hour: float | None
    price_per_million: Estimate | None

    def __str__(self) -> str:
        low, high = self.image_s.low or math.inf, self.image_s.high or math.inf
        lines = [
            f"{self.sampled:,} of {self.inputs:,} inputs: {1 / self.image_s.value:.1f} a second (95 % interval {1 / high:.1f} to {1 / low:.1f}), "
            f"{self.failed:,} without an answer",
            f"the whole: {_hours(self.hours)} on this machine, {self.bytes / 1e9:,.1f} GB read",
        ]
        if self.price_per_million:
            price = self.price_per_million
            lines.append(f"cost: {price.value:.2f} per million ({price.low:.2f} to {price.high:.2f}) at {self.price_per_hour:g} an hour")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """Plain values."""
        names = ("image_s", "hours", "price_per_million")
        return asdict(self) | {name: value and value.as_dict() for name in names for value in [getattr(self, name)]}


def plan(out: Path, answers: Answers, work: Work, size: int, price_per_hour: float | None = None, *, resume: bool = False) -> Plan:
    """Lists the collection, which a run goes on with, and classifies a random sample of it.

    Args:
        out: folder of the data set; gets the listing and `plan.json`.
        answers: what decides the rows.
        work: how the work is done.
        size: inputs of the sample.
        price_per_hour: of this machine, in any currency.
        resume: whether the folder may hold a run already.

    Raises:
        OutputError: the folder cannot be written.
        ProviderError: no engine runs.
        UsageError: there is a run already.
    """
    destination = Destination(out)
    with destination.locked():
        before = check(destination, answers, resume=resume)
        if before and before["state"] == "complete":
            raise UsageError(f"{out} is complete already; give another --out to plan with.")
        with Classifier.load(work.bundle, work.options, threshold=answers.threshold, purpose="throughput", **answers.triage) as classifier:
            manifest = begin(destination, answers, classifier.bundle.name, classifier.bundle.sha256, before)
            with Listing(destination.listing, answers.sources, answers.shard_size) as listing:
                firsts = [0, *(_end(listing, number) for number in listing.numbers())]
            slides = SlideSettings(slide_folder(destination.state), answers.field_um, answers.overlap, answers.um_per_pixel)
            engine = Engine(classifier, Reader(work.max_rate), lambda content, place: None, slides, answers.scale_from_name)
            is_remote = any(is_url(source) for source in answers.sources)
            sampled = _draw(listing, firsts, min(size, listing.inputs))
            seconds, failed = _time(engine, sampled, is_remote=is_remote)
        end_listing(destination, manifest, listing)
    result = _plan(listing, len(sampled), failed, seconds, price_per_hour)
    atomic_write(out / "plan.json", (json.dumps(result.as_dict(), indent=1) + "\n").encode())
    return result


def _end(listing: Listing, number: int) -> int:
    return int(item_files.totals_of(listing.path(number))["inputs"])


def _draw(listing: Listing, firsts: Sequence[int], size: int) -> list[Item]:
    """A simple random sample, in random order, so that each of its groups is one of the whole."""
    rows = sorted(random.Random(SEED).sample(range(listing.inputs), size))
    sampled: list[Item] = []
    by_shard: dict[int, list[int]] = {}
    for row in rows:
        shard = bisect.bisect_right(firsts, row) - 1
        by_shard.setdefault(shard, []).append(row - firsts[shard])
    for shard, numbers in by_shard.items():
        inputs = listing.items(shard)
        sampled += [inputs[number] for number in numbers]
    random.Random(SEED).shuffle(sampled)
    return sampled


def _time(engine: Engine, sampled: Sequence[Item], *, is_remote: bool) -> tuple[list[float], int]:
    """Seconds for an input in each group but the first, in which the stream fills; and how many failed."""
    size = max(1, math.ceil(len(sampled) / GROUPS))
    groups = [Shard(number, 0, list(sampled[start : start + size])) for number, start in enumerate(range(0, len(sampled), size))]
    seconds: list[float] = []
    statuses: Counter[str] = Counter()
    at = time.perf_counter()
    stream: Iterator[Shard] = engine.run(groups, is_remote=is_remote)
    with closing(stream):  # type: ignore[type-var]
        for group in stream:
            seconds.append((time.perf_counter() - at) / len(group.items))
            at = time.perf_counter()
            statuses.update(answer.status for answer in group.answers if answer is not None and not hasattr(answer, "owner"))
    return seconds[1:] or seconds, statuses["failed"]


def _plan(listing: Listing, sampled: int, failed: int, seconds: Sequence[float], price_per_hour: float | None) -> Plan:
    image_s = mean_of(seconds)
    hours = image_s.scaled(listing.inputs / 3600)
    price = None if price_per_hour is None else image_s.scaled(price_per_hour * 1e6 / 3600)
    return Plan(listing.inputs, listing.size, sampled, failed, image_s, hours, price_per_hour, price)


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
