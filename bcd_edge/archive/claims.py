"""Claims of many threads in few calls to an index that is elsewhere."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from bcd_edge.archive.contents import Place

Request = tuple[bytes, Place]


class BatchedClaims:
    """What waits while one call is under way goes with the next one: the slower the calls, the larger the batches."""

    def __init__(self, call: Callable[[list[Request]], list[Place | None]]) -> None:
        """Takes what answers any number of claims, in their order."""
        self._call = call
        self._waiting: deque[tuple[Request, Future[Place | None]]] = deque()
        self._calling = threading.Lock()

    def claim(self, content: bytes, place: Place) -> Place | None:
        """See `bcd_edge.archive.contents.ContentIndex.claim`; for any number of threads."""
        owner: Future[Place | None] = Future()
        self._waiting.append(((content, place), owner))
        with self._calling:
            if not owner.done():
                self._answer([self._waiting.popleft() for _ in range(len(self._waiting))])
        return owner.result()

    def _answer(self, batch: list[tuple[Request, Future[Place | None]]]) -> None:
        try:
            owners = self._call([request for request, _ in batch])
        except BaseException as error:
            for _, future in batch:
                future.set_exception(error)
            raise
        for (_, future), owner in zip(batch, owners, strict=True):
            future.set_result(owner)
