"""The same work on a Ray cluster: a worker on each node answers whole shards, and the driver commits them.

Actors and not Ray Data: shards are listed while others are worked on, each is committed as soon as it is finished, and one whose node has vanished
is done again under its own number. So exactly-once needs nothing but the driver's commit, which is the one of a single machine. This is the only
module that imports Ray.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bcd_edge.archive import folders, ray_messages
from bcd_edge.archive.claims import BatchedClaims
from bcd_edge.archive.contents import Counts, Place
from bcd_edge.archive.destination import Destination, open_index
from bcd_edge.archive.engine import Engine, Shard, no_claim
from bcd_edge.archive.items import Item
from bcd_edge.archive.settings import Answers, Work
from bcd_edge.archive.stores import is_url
from bcd_edge.archive.workers import Node, Shards, node_of
from bcd_edge.classifier import Embedding
from bcd_edge.errors import BcdEdgeError, ProviderError, UsageError
from bcd_edge.records import Record
from bcd_edge.system import machine

# Shards that a worker has at a time: the next one begins while the last pictures of one are answered.
DEPTH: Final = 2
# How often nodes that joined are looked for.
NODES_EVERY_S: Final = 5.0
# Deaths of workers with the same shard after which the run ends: a picture that ends its process would end every one.
MOST_DEATHS: Final = 4
CONNECT_S: Final = 5.0
# A worker that has not loaded by then may wait for CPUs that another program has.
SLOW_S: Final = 30.0
LOST: Final = (RayActorError, WorkerCrashedError, ObjectLostError)


@ray.remote(num_cpus=0, max_concurrency=64)
class _Index:
    """The index of contents, on the driver's node, beside its file."""

    def open(self, place: str) -> None:
        """Not in `__init__`, whose errors Ray reports without their kind."""
        self._index = open_index(Destination(place))

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._index, method)(*arguments)


class _RemoteIndex:
    """A `ContentIndex` that is elsewhere."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def _call(self, method: str, *arguments: Any) -> Any:
        return _value(self._actor.call.remote(method, *arguments))

    def claim_many(self, claims: list[tuple[bytes, Place]]) -> list[Place | None]:
        owners: list[Place | None] = self._call("claim_many", claims)
        return owners

    def release(self, shard: int) -> None:
        self._call("release", shard)

    def forget(self, shards: Collection[int]) -> None:
        self._call("forget", shards)

    def commit(self, shard: int, counts: Counts) -> None:
        self._call("commit", shard, counts)

    def counts(self) -> Counts:
        return Counter(self._call("counts"))

    def failed_shards(self) -> set[int]:
        return set(self._call("failed_shards"))


@ray.remote(max_concurrency=DEPTH + 1)
class _Worker:
    """A classifier on a node."""

    def __init__(self, answers: Answers, work: Work, place: str, index: Any) -> None:
        self._answers, self._work, self._place, self._index = answers, work, place, index

    def load(self, cpus: int) -> Node:
        """Opens the classifier; not in `__init__`, whose errors Ray reports without their kind."""
        name = f"{ray.util.get_node_ip_address()} ({os.uname().nodename})"
        for source in self._answers.sources:
            if not is_url(source) and not os.path.lexists(source) and not any(letter in source for letter in "*?["):
                raise UsageError(f"The node {name} does not see {source}; mount it there under the same path, or give a URL.")
        options = self._work.options
        if options.streams is None and cpus < machine.cores():
            options = replace(options, streams=cpus)
        claim = BatchedClaims(_RemoteIndex(self._index).claim_many).claim if self._index else no_claim
        self._engine = Engine(self._answers, self._work, claim, folders.open(self._place), options=options)
        return node_of(name, self._engine.classifier)

    def classify(self, shard: Shard) -> tuple[Shard, int]:
        """The shard with its answers, and how many reads of it were tried again."""
        before = self._engine.reader.retries
        (finished,) = self._engine.run([shard])
        return finished, self._engine.reader.retries - before

    def answer(self, item: Item) -> tuple[Record, Embedding | None]:
        return self._engine.answer(item)


@dataclass(slots=True)
class _Running:
    """A worker, and the shards that it has."""

    actor: Any
    node_id: str
    loading: Any
    node: Node | None = None
    shards: dict[Any, Shard] = field(default_factory=dict)


@dataclass(slots=True)
class _Reads:
    """Reads of all workers that were tried again."""

    retries: int = 0


class Cluster:
    """Gives shards to workers, one on each node and several where it has GPUs, whatever joins and vanishes."""

    def __init__(self, answers: Answers, work: Work, place: str, index: Any, write: Callable[[str], object], *, samples: bool = False) -> None:
        """Starts a worker on every node there is, and waits until all are loaded.

        Args:
            answers: what decides the rows.
            work: how the work is done.
            place: folder or URL of the data set.
            index: the actor of the index.
            write: takes a line.
            samples: whether workers answer every input without asking the index.

        Raises:
            BcdEdgeError: a worker cannot work.
        """
        self.index, self.reads = _RemoteIndex(index), _Reads()
        self._arguments = answers, place, None if samples else index
        self._work, self._write = work, write
        self._workers: list[_Running] = []
        self._refused: set[str] = set()
        self._deaths: Counter[int] = Counter()
        self._looked_at = 0.0
        self._join()
        reason = ""
        for worker in list(self._workers):
            try:
                if not ray.wait([worker.loading], timeout=SLOW_S)[0]:
                    self._write(f"waiting for the node {worker.node_id[:8]}: it still loads, or another program of the cluster has its CPUs")
                self._introduce(worker)
            except LOST as error:
                reason = ray_messages.failed(str(error))
                self._lose(worker, deque(), error)
        if not self.nodes:
            raise (
                ProviderError(reason)
                if reason
                else ProviderError("The Ray cluster has no node with a CPU for a worker; start some with: ray start --address ADDRESS")
            )

    @property
    def nodes(self) -> list[Node]:
        """Workers that are loaded."""
        return [worker.node for worker in self._workers if worker.node]

    def _join(self) -> None:
        """Starts workers on nodes that have none."""
        if time.monotonic() - self._looked_at < NODES_EVERY_S and self._workers:
            return
        self._looked_at = time.monotonic()
        busy = {worker.node_id for worker in self._workers} | self._refused
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        for node in nodes:
            if node["NodeID"] not in busy:
                gpus = int(node["Resources"].get("GPU", 0))
                for _ in range(max(1, gpus)):
                    self._workers.append(self._start(node, max(1, gpus), gpus > 0, len(nodes)))

    def _start(self, node: dict[str, Any], share: int, has_gpu: bool, nodes: int) -> _Running:
        cpus = max(1, int(node["Resources"]["CPU"]) // share)
        rate = self._work.max_rate and self._work.max_rate / (nodes * share)
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"num_cpus": cpus, "num_gpus": int(has_gpu), "scheduling_strategy": place}
        answers, folder, index = self._arguments
        actor = _Worker.options(**options).remote(answers, replace(self._work, max_rate=rate), folder, index)  # type: ignore[attr-defined]
        return _Running(actor, node["NodeID"], actor.load.remote(cpus))

    def _introduce(self, worker: _Running) -> None:
        worker.node = _value(worker.loading)
        self._write(f"node {worker.node.name}: {worker.node.ran}, {worker.node.bundle}")

    def run(self, todo: Shards) -> Generator[Shard, None, None]:
        """Yields finished shards, in any order."""
        again: deque[Shard] = deque()
        while True:
            self._join()
            for worker in self._workers:
                while worker.node and len(worker.shards) < DEPTH and (shard := again.popleft() if again else todo.take()):
                    worker.shards[worker.actor.classify.remote(shard)] = shard
            waiting = {ref: worker for worker in self._workers for ref in (worker.shards if worker.node else [worker.loading])}
            if todo.is_over() and not again and not any(worker.shards for worker in self._workers):
                return
            if not waiting:
                time.sleep(0.2)
                continue
            for ref in ray.wait(list(waiting), timeout=1.0)[0]:
                finished = self._finish(waiting[ref], ref, again)
                if finished:
                    yield finished

    def _finish(self, worker: _Running, ref: Any, again: deque[Shard]) -> Shard | None:
        try:
            if not worker.node:
                self._introduce(worker)
                self._refuse_mixture(worker)
                return None
            shard, retries = _value(ref)
            self.reads.retries += retries
            del worker.shards[ref]
            return shard if isinstance(shard, Shard) else None
        except LOST as error:
            self._lose(worker, again, error)
            return None

    def _refuse_mixture(self, worker: _Running) -> None:
        """A node that joins with another provider gets no work."""
        assert worker.node
        if not self._work.is_mixed and {node.ran for node in self.nodes} != {worker.node.ran}:
            self._write(f"node {worker.node.name} gets no work: it would run {worker.node.ran}; add --mixed to allow that")
            ray.kill(worker.actor)
            self._workers.remove(worker)
            self._refused.add(worker.node_id)

    def _lose(self, worker: _Running, again: deque[Shard], error: RayError) -> None:
        """What a vanished worker had is done again; a node where none can start gets no other one."""
        if isinstance(error, RayActorError) and error.actor_init_failed:
            self._write(f"node {worker.node_id[:8]} gets no work: {ray_messages.failed(str(error))}")
            self._workers.remove(worker)
            self._refused.add(worker.node_id)
            return
        if worker in self._workers:
            self._workers.remove(worker)
            self._write(f"node {worker.node.name if worker.node else worker.node_id[:8]} is lost; {len(worker.shards)} shards are done again")
        for shard in worker.shards.values():
            self._deaths[shard.number] += 1
            if self._deaths[shard.number] >= MOST_DEATHS:
                raise ProviderError(
                    f"Shard {shard.number} ended its worker {MOST_DEATHS} times, from {shard.items[0].name} to {shard.items[-1].name}; "
                    "find the file, for example with bcd-edge predict, and take it away."
                )
            self.index.release(shard.number)
            again.append(Shard(shard.number, shard.first_row, shard.items))
        worker.shards.clear()

    def answer(self, item: Item) -> tuple[Record, Embedding | None]:
        """The answer for one input and its embedding, by any worker."""
        for worker in self._workers:
            if worker.node:
                try:
                    answer: tuple[Record, Embedding | None] = _value(worker.actor.answer.remote(item))
                    return answer
                except LOST:
                    continue
        raise ProviderError("No node is left that could answer; start nodes, then go on with --resume.")


def _value(ref: Any) -> Any:
    """What a worker returned, or its own error in place of Ray's."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, BcdEdgeError | sqlite3.OperationalError):
            raise error.cause from None
        if isinstance(error.cause, ImportError | AttributeError | TypeError):  # of another version's code
            raise ProviderError(ray_messages.failed(f"bcd_edge: {error.cause}")) from error
        raise


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Ray, joined at an address or started on this machine for `local`.

    Raises:
        ProviderError: it failed.
        UsageError: there is no cluster at the address, or it is of another version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    host, _, port = address.rpartition(":")
    is_answered = False
    try:
        if host and port.isdecimal() and "://" not in address:  # Ray itself tries for more than a minute
            socket.create_connection((host, int(port)), CONNECT_S).close()
            is_answered = True
        ray.init(address=address, log_to_driver=False, logging_level="warning", include_dashboard=None if address != "local" else False)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        raise UsageError(ray_messages.not_connected(address, str(error), is_answered=is_answered)) from None
    try:
        yield
    except RayTaskError:  # an error in code of ours
        raise
    except RayError as error:
        raise ProviderError(ray_messages.failed(str(error))) from error
    finally:
        ray.shutdown()


@contextmanager
def opened(destination: Destination, answers: Answers, work: Work, write: Callable[[str], object], *, samples: bool = False) -> Iterator[Cluster]:
    """The cluster with its workers; arguments as for `bcd_edge.archive.run.opened`."""
    assert work.ray_address is not None
    with connected(work.ray_address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores, gpus = (int(sum(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU"))
        have = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}, {cores} cores" + (f", {gpus} GPUs" if gpus else "")
        write(f"Ray cluster at {ray.get_runtime_context().gcs_address}: {have}")
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        place = str(destination.folder)
        index = _Index.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        _value(index.open.remote(place))
        yield Cluster(answers, work, place, index, write, samples=samples)
