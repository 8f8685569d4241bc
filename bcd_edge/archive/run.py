"""One run over an archive: listing, engine and commits, from a beginning or from where an earlier run ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from bcd_edge import __version__, backends
from bcd_edge.archive import failures, preflight
from bcd_edge.archive.committer import Committer
from bcd_edge.archive.contents import ContentIndex, Counts
from bcd_edge.archive.destination import Destination, open_index
from bcd_edge.archive.engine import Engine, Shard, no_claim
from bcd_edge.archive.items import Item
from bcd_edge.archive.listing import Listing
from bcd_edge.archive.progress import Progress
from bcd_edge.archive.settings import Answers, Work, typed
from bcd_edge.archive.workers import Node, Shards, Todo, Workers, node_of
from bcd_edge.classifier import Embedding
from bcd_edge.errors import UsageError
from bcd_edge.records import Record

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run left: counts of all rows, a line on each reason of a failure, and further reads of stores that failed at first."""

    counts: Counts
    failures: Sequence[str]
    retries: int


def archive(out: str | os.PathLike[str], answers: Answers, work: Work, progress: Progress, *, resume: bool = False) -> Summary:
    """Classifies a collection into a data set.

    Args:
        out: folder or URL of the data set.
        answers: what decides the rows.
        work: how the work is done.
        progress: told of every shard.
        resume: whether to go on with what is there.

    Raises:
        InputError: more inputs failed than are allowed.
        OutputError: the folder cannot be written.
        ProviderError: no engine runs, or another one than in the rows that are there.
        UsageError: there is a run already, or another one.
    """
    destination = Destination(out)
    check_sources(destination, answers)
    with destination.locked():
        before = check(destination, answers, resume=resume)
        with opened(destination, answers, work, progress.write) as workers:
            return _run(destination, answers, work, progress, workers, before)


@contextmanager
def opened(destination: Destination, answers: Answers, work: Work, write: Callable[[str], object], *, samples: bool = False) -> Iterator[Workers]:
    """This process or a cluster, loaded.

    Args:
        destination: of the rows.
        answers: what decides the rows.
        work: how the work is done.
        write: takes lines on nodes that come and go.
        samples: whether the answers are thrown away, so that no input waits for another's.
    """
    for number in destination.take_out_damaged(answers.shard_size):
        write(f"shard {number} is damaged and is done again; its file is in damaged/ now")
    if work.ray_address is None:
        with closing(open_index(destination)) as index:
            engine = Engine(answers, work, no_claim if samples else index.claim, destination.folder)
            with engine.classifier:
                yield _Here(engine, index)
        return
    from bcd_edge.archive import on_ray

    with on_ray.opened(destination, answers, work, write, samples=samples) as cluster:
        yield cluster


def _run(destination: Destination, answers: Answers, work: Work, progress: Progress, workers: Workers, before: dict[str, Any] | None) -> Summary:
    check_nodes(workers.nodes, before)
    check_mixture(workers.index.counts(), [node.ran for node in workers.nodes], work)
    listing = Listing(destination.folder, answers.sources, answers.shard_size)
    manifest = begin(destination, answers, workers.nodes, before)
    again = workers.index.failed_shards() if work.retries_failed else set()
    if not listing.is_complete or len(destination.committed() - again) < listing.shards:
        preflight.check_reachable(answers.sources)
    workers.index.forget(again)
    committer = Committer(destination, workers.index, workers.answer, answers, work.max_failures)
    with listing:
        progress.start(listing, committer, workers.reads)
        todo = Todo(listing, destination.committed() - again)
        with closing(workers.run(todo)) as shards:
            for shard in shards:
                committer.add(shard)
                progress.show()
        committer.finish()
        retries = workers.reads.retries + destination.folder.retries
        end(destination, manifest, listing, committer.counts, retries)
        progress.finish()
        reasons = failures.summary(committer.counts, destination, workers.index.failed_shards())
    return Summary(committer.counts, reasons, retries)


class _Here:
    """This process as the only worker."""

    def __init__(self, engine: Engine, index: ContentIndex) -> None:
        self.nodes = [node_of("this machine", engine.classifier)]
        self.index, self.reads, self._engine = index, engine.reader, engine

    def run(self, todo: Shards) -> Generator[Shard, None, None]:
        yield from self._engine.run(todo)

    def answer(self, item: Item) -> tuple[Record, Embedding | None]:
        return self._engine.answer(item)


def check_nodes(nodes: Sequence[Node], before: dict[str, Any] | None) -> None:
    """All rows of an archive are of one bundle.

    Raises:
        UsageError: a node has another one, or what is there is of another one.
    """
    first = nodes[0]
    for node in nodes:
        if node.bundle_sha256 != first.bundle_sha256:
            raise UsageError(f"{first.name} has the bundle {first.bundle} and {node.name} another one, {node.bundle}; install the same on all.")
    if before and before["bundle"]["sha256"] != first.bundle_sha256:
        raise UsageError(f"The archive was begun with the bundle {before['bundle']['name']}, not {first.bundle}; give that one, or another --out.")


def check_sources(destination: Destination, answers: Answers) -> None:
    """Before a new run makes its folder.

    Raises:
        UsageError: a source does not exist, or nothing is in any of them.
    """
    if destination.manifest() is None:
        preflight.check_new(answers.sources)


def check(destination: Destination, answers: Answers, *, resume: bool) -> dict[str, Any] | None:
    """The manifest of the run that this one goes on with; None for a new one.

    Raises:
        UsageError: there is one, and this is not to go on with it; or it had other settings.
    """
    manifest = destination.manifest()
    if manifest is None:
        if not destination.folder.is_empty():
            raise UsageError(f"{destination.folder} holds other files; give an empty or new folder with --out.")
        return None
    if not destination.folder.names("listing"):  # that run ended before there was anything to go on with
        return None
    if not resume:
        raise UsageError(
            f"{destination.folder} holds an archive already ({manifest['state']}); add --resume to go on with it, or give another --out."
        )
    wanted = answers.as_dict()
    for name, value in manifest["settings"].items():
        if name in wanted and wanted[name] != value:
            raise UsageError(
                f"{destination.folder} was begun {typed(name, value)}, not {typed(name, wanted[name])}; give the same, or another --out."
            )
    preflight.check_relative(manifest["settings"]["sources"])
    return manifest


def check_mixture(counts: Counts, executions: list[str], work: Work) -> None:
    """All rows come from one provider, precision and kind of device, unless a mixture is asked for.

    Raises:
        UsageError: they would not.
    """
    known = {key.removeprefix("ran: ") for key in counts if key.startswith("ran: ")} | set(executions)
    if len(known) > 1 and not work.is_mixed:
        raise UsageError(
            f"Rows would come from different providers ({'; '.join(sorted(known))}), whose answers differ in the last digits; "
            "choose one with --provider and --precision, or add --mixed: each row says what ran."
        )


def begin(destination: Destination, answers: Answers, nodes: Sequence[Node], before: dict[str, Any] | None) -> dict[str, Any]:
    """Writes the manifest of a run that has begun on some nodes."""
    manifest = before or {
        "schema": SCHEMA,
        "state": "running",
        "started": _now(),
        "finished": None,
        "bundle": {"name": nodes[0].bundle, "sha256": nodes[0].bundle_sha256},
        "bcd_edge": __version__,
        "engines": backends.versions(),
        "settings": answers.as_dict(),
        "listing": None,
        "counts": None,
        "retries": 0,
    }
    manifest |= {"state": "running", "nodes": [{"name": node.name, "ran": node.ran} for node in nodes]}
    destination.write_manifest(manifest)
    return manifest


def end(destination: Destination, manifest: dict[str, Any], listing: Listing, counts: Counts, retries: int) -> None:
    """Writes the manifest of a run that is complete."""
    listed = {"shards": listing.shards, "inputs": listing.inputs, "bytes": listing.size, "fingerprint": listing.fingerprint}
    manifest |= {"state": "complete", "finished": _now(), "listing": listed, "counts": dict(counts), "retries": manifest["retries"] + retries}
    destination.write_manifest(manifest)


def end_listing(destination: Destination, manifest: dict[str, Any], listing: Listing) -> None:
    """Writes the manifest of a collection that is listed, and not classified yet."""
    listed = {"shards": listing.shards, "inputs": listing.inputs, "bytes": listing.size, "fingerprint": listing.fingerprint}
    destination.write_manifest(manifest | {"state": "listed", "listing": listed})


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
