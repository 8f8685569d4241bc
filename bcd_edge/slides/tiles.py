"""The file of tile answers, `tiles.csv`: rows are added while a slide is classified, and an interrupted run goes on after the last whole one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO

from bcd_edge.records import Verdict
from bcd_edge.slides.aggregation import TileAnswer
from bcd_edge.slides.tiling import Grid, Tile
from bcd_edge.system.atomic import atomic_write

TILES: Final = "tiles.csv"
RUN: Final = "run.json"
# `x`, `y` and `side` in pixels of level 0; a tile that was left out has a reason in place of decision and probability.
COLUMNS: Final = ("column", "row", "x", "y", "side", "decision", "p_malignant", "novelty", "left_out")
DECISIONS: Final[dict[str, Verdict]] = {"benign": "benign", "review": "review", "malignant": "malignant"}


class TileFile:
    """The tiles of one slide, one bundle and one grid; a context manager.

    Attributes:
        answers: those that are known, by tile.
    """

    def __init__(self, folder: Path, run: dict[str, Any], grid: Grid) -> None:
        """Opens the file, and begins anew where it is of another run.

        Args:
            folder: of the slide's files; made if missing.
            run: plain values that say of what slide, bundle and grid the tiles are.
            grid: where the tiles lie.

        Raises:
            OSError: the folder may not be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._grid = folder / TILES, grid
        self.answers: dict[Tile, TileAnswer] = {}
        if not (run_of(folder) == run and self._resume()):
            self._path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
            atomic_write(folder / RUN, json.dumps(run, indent=1).encode())
        self._file: TextIO = self._path.open("a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def _resume(self) -> bool:
        """Reads the whole rows, and cuts off a last one that was not written to its end; False where there are none, or others."""
        try:
            text = self._path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            answers = [_answer(row) for row in csv.DictReader(io.StringIO(whole))]
        except (OSError, ValueError, KeyError, TypeError):  # missing, or edited by hand
            return False
        if whole != text:
            self._path.write_text(whole, encoding="utf-8")
        self.answers = {answer.tile: answer for answer in answers}
        return bool(answers)

    def add(self, answers: Iterable[TileAnswer]) -> None:
        """Adds answers and hands them to the system."""
        for answer in answers:
            p, novelty = (None if value is None else round(value, 6) for value in (answer.p_malignant, answer.novelty))
            kept = TileAnswer(answer.tile, answer.decision, p, novelty, answer.left_out)
            self.answers[answer.tile] = kept
            place = (*answer.tile, *self._grid.origin(answer.tile), round(self._grid.side))
            self._writer.writerow((*place, answer.decision or "", "" if p is None else p, "" if novelty is None else novelty, answer.left_out))
        self._file.flush()

    def __enter__(self) -> TileFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def _answer(row: dict[str, str]) -> TileAnswer:
    p, novelty = (float(row[name]) if row[name] else None for name in ("p_malignant", "novelty"))
    return TileAnswer(Tile(int(row["column"]), int(row["row"])), DECISIONS.get(row["decision"]), p, novelty, row["left_out"])


def run_of(folder: Path) -> Any:
    """What the tiles in a folder are of; None where there are none."""
    try:
        return json.loads((folder / RUN).read_bytes())
    except (OSError, ValueError):
        return None
