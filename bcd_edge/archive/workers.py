"""Who answers shards, whether this process or a cluster, and the shards that are left to do."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from bcd_edge.archive.contents import Counts
from bcd_edge.archive.engine import Shard
from bcd_edge.archive.items import Item
from bcd_edge.archive.listing import Listing
from bcd_edge.classifier import Classifier, Embedding
from bcd_edge.records import Record


@dataclass(frozen=True, slots=True)
class Node:
    """What a worker says of itself before the work starts: provider, precision and device as in the rows, and the bundle."""

    name: str
    ran: str
    bundle: str
    bundle_sha256: str


def node_of(name: str, classifier: Classifier) -> Node:
    """A loaded worker's."""
    ran = classifier.execution
    return Node(name, f"{ran.provider} {ran.precision} on {ran.device}", classifier.bundle.name, classifier.bundle.sha256)


class Index(Protocol):
    """A `bcd_edge.archive.contents.ContentIndex`, wherever it is."""

    def commit(self, shard: int, counts: Counts) -> None: ...
    def counts(self) -> Counts: ...
    def failed_shards(self) -> set[int]: ...
    def forget(self, shards: Collection[int]) -> None: ...


class Reads(Protocol):
    """How many reads of stores were tried again."""

    retries: int


class Shards(Protocol):
    """Shards that are left to do; iterating waits for those that are not known yet."""

    def __iter__(self) -> Iterator[Shard]: ...

    def take(self) -> Shard | None:
        """The next one; None where none is known yet, or none is left."""

    def is_over(self) -> bool:
        """Whether none is left."""


class Todo:
    """The shards without rows, as they are listed."""

    def __init__(self, listing: Listing, committed: set[int]) -> None:
        """Leaves out what is committed."""
        self._listing, self._committed, self._number = listing, committed, 0

    def take(self) -> Shard | None:
        """See `Shards`."""
        while self._listing.is_listed(self._number):
            number, self._number = self._number, self._number + 1
            if number not in self._committed:
                return self._load(number)
        return None

    def is_over(self) -> bool:
        """See `Shards`."""
        return self._listing.is_listed(self._number) is False

    def __iter__(self) -> Iterator[Shard]:
        """Waits for the listing where it must."""
        for number in self._listing.numbers():
            if number not in self._committed:
                yield self._load(number)

    def _load(self, number: int) -> Shard:
        return Shard(number, number * self._listing.shard_size, self._listing.items(number))


class Workers(Protocol):
    """This process, or a cluster.

    Attributes:
        nodes: that are ready to work.
        index: of contents.
        reads: of all of them.
    """

    @property
    def nodes(self) -> list[Node]: ...
    @property
    def index(self) -> Index: ...
    @property
    def reads(self) -> Reads: ...

    def run(self, todo: Shards) -> Generator[Shard, None, None]:
        """Yields finished shards, in any order."""

    def answer(self, item: Item) -> tuple[Record, Embedding | None]:
        """The answer for one input, whoever else has its content, and its embedding."""
