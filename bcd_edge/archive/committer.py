"""Finished shards to rows: the same content gets the answer of the row that computed it, whichever shard that is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from bcd_edge.archive.contents import Counts, Place
from bcd_edge.archive.destination import Destination
from bcd_edge.archive.engine import Copied, Shard
from bcd_edge.archive.failures import KEY, reason_of
from bcd_edge.archive.items import Item
from bcd_edge.archive.rows import row_of, table_of
from bcd_edge.archive.settings import Answers
from bcd_edge.archive.workers import Index
from bcd_edge.classifier import Embedding
from bcd_edge.errors import InputError
from bcd_edge.records import Record
from bcd_edge.results import patients


class Committer:
    """Commits shards; one whose content another shard answers waits for that one.

    Attributes:
        counts: of all committed rows, those of earlier runs included.
    """

    def __init__(
        self,
        destination: Destination,
        index: Index,
        answer: Callable[[Item], tuple[Record, Embedding | None]],
        settings: Answers,
        max_failures: int | None = None,
    ) -> None:
        """Prepares for shards.

        Args:
            destination: where rows go.
            index: of contents.
            answer: computes an answer where the row that should have it turned out otherwise, for example because its file changed.
            settings: where the patient stands in a path, and whether there is a column of embeddings.
            max_failures: number of failed inputs after which the run ends.
        """
        self._destination, self._index, self._answer = destination, index, answer
        self._pattern = patients.compile_pattern(settings.patients) if settings.patients else None
        self._max_failures, self._embeddings = max_failures, settings.embeddings
        self._held: dict[int, Shard] = {}
        self._committed = destination.committed()
        self.counts = index.counts()

    def add(self, shard: Shard) -> None:
        """Takes a finished shard, and commits what can be committed.

        Raises:
            InputError: more inputs failed than are allowed; this shard is not committed.
            OutputError: the destination cannot be written.
        """
        self._held[shard.number] = shard
        for held in [held for held in self._held.values() if self._is_ready(held)]:
            self._commit(held)

    def finish(self) -> None:
        """Commits what still waits; the contents that nobody answered are computed."""
        for held in list(self._held.values()):
            self._commit(held)

    def _is_ready(self, shard: Shard) -> bool:
        owners = {answer.owner.shard for answer in shard.answers if isinstance(answer, Copied)}
        return owners <= self._held.keys() | self._committed

    def _commit(self, shard: Shard) -> None:
        answers = [self._resolve(shard, index) for index in range(len(shard.items))]
        records = [record for record, _ in answers]
        copied = sum(isinstance(answer, Copied) for answer in shard.answers)
        counts = _counts(shard.items, records, copied)
        failures = Counter({key: number for key, number in (self.counts + counts).items() if key.startswith(KEY)})
        if self._max_failures is not None and failures.total() > self._max_failures:
            key, number = failures.most_common(1)[0]
            reason = key[len(KEY) :]
            example = next((record.error for record in records if record.error and reason_of(record.error, record.source) == reason), reason)
            raise InputError(
                f"{failures.total():,} inputs failed, more than the {self._max_failures:,} of --max-failures ({number:,} x {example}); "
                "fix the cause, then go on with --resume --retry-failed."
            )
        rows = [row_of(record, shard.first_row + index, shard.items[index], *self._patient(shard, index)) for index, record in enumerate(records)]
        self._index.commit(shard.number, counts)
        self._destination.commit(shard.number, table_of(rows, [embedding for _, embedding in answers], self._embeddings), counts)
        self.counts += counts
        self._committed.add(shard.number)
        # rows that wait for this shard find their answers in its file from now on
        del self._held[shard.number]

    def _resolve(self, shard: Shard, index: int) -> tuple[Record, Embedding | None]:
        """The answer for an input, and its embedding."""
        item, answer = shard.items[index], shard.answers[index]
        if isinstance(answer, Record):
            return answer, shard.embeddings[index]
        if answer is not None:
            try:
                record, embedding = self._owned(answer.owner)
            except (OSError, pa.ArrowException):  # the shard that has it was damaged meanwhile
                record, embedding = None, None
            if isinstance(record, Record) and record.sha256 == answer.sha256:
                return replace(record, source=item.name), embedding
        return self._answer(item)

    def _owned(self, owner: Place) -> tuple[Record | Copied | None, Embedding | None]:
        """What the row has that should answer a content."""
        if held := self._held.get(owner.shard):
            return held.answers[owner.row], held.embeddings[owner.row]
        return self._destination.record(*owner) if owner.shard in self._committed else (None, None)

    def _patient(self, shard: Shard, index: int) -> tuple[str | None, str | None]:
        """From the manifest, else from the file's header, else from its path."""
        item = shard.items[index]
        sources = (item.patient, item.slide), shard.patients.get(index, (None, None)), patients.match(self._pattern, item.name)
        return next((pair for pair in sources if pair[0]), (None, item.slide))


def _counts(items: Sequence[Item], records: Sequence[Record], copied: int) -> Counts:
    counts: Counts = Counter(rows=len(records), copied=copied)
    for item, record in zip(items, records, strict=True):
        counts[record.status] += 1
        counts[f"ran: {record.execution.provider} {record.execution.precision} on {record.execution.device}"] += 1
        if record.error:
            counts[KEY + reason_of(record.error, item.name)] += 1
        else:
            counts[f"decision: {record.decision}"] += 1
    return counts
