"""One JSON object per line, with the keys of `bcd_edge.records.Record`."""

from __future__ import annotations

import json
from typing import TextIO

from bcd_edge.records import Record


class JsonlOutput:
    """See `bcd_edge.outputs.Output`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, record: Record) -> None:
        # ASCII only, because a file name need not be valid Unicode
        self._stream.write(json.dumps(record.as_dict()) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


def open(stream: TextIO) -> JsonlOutput:
    return JsonlOutput(stream)
