"""The comparison as a table beside the cited figures, as CSV, and inside a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from train.cytology.tables import Floats, Table
from train.cytology.validation import Outcome
from train.evaluation.metrics import Scores

METRICS: Final = ("accuracy", "auroc", "sensitivity", "specificity")
MARKS: Final = ("<!-- figures -->", "<!-- end of figures -->")
# Which split and how rows count: the published one first.
PROTOCOLS: Final = {
    "row": "random split of rows; each row counts",
    "group": "identical rows and ids kept together; each row counts",
    "distinct": "identical rows and ids kept together; each distinct row counts once",
}
CITED: Final = (
    ("Asha et al., DNN with recursive feature elimination", "0.97", "as cited by others; the protocol is not known to us"),
    ("Sathyan et al., Complex Eng. Syst. 2022;2:18, DNN, diagnostic set", "0.97", "one random split, 80 % to 20 %"),
)


@dataclass(frozen=True)
class Line:
    """Metrics of a model on a table by one of `PROTOCOLS`."""

    table: str
    model: str
    protocol: str
    scores: Scores

    def cells(self) -> list[str]:
        """Value and interval of each of `METRICS`."""
        metrics = [self.scores["metrics"][name] for name in METRICS]
        return [f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})" for metric in metrics]


def as_csv(lines: Iterable[Line]) -> str:
    """A row per model, table and protocol, a column per end of an interval."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["table", "protocol", "model", "rows", "groups", *(f"{name}{end}" for name in METRICS for end in ("", "_low", "_high"))])
    for line in lines:
        values = [f"{line.scores['metrics'][name][end]:.6f}" for name in METRICS for end in ("value", "low", "high")]  # type: ignore[literal-required]
        writer.writerow([line.table, line.protocol, line.model, line.scores["images"], line.scores["patients"], *values])
    return stream.getvalue()


def markdown(lines: Sequence[Line], notes: Iterable[str]) -> str:
    """The tables of every collection and protocol, the cited figures above them, the notes below."""
    text = ["| cited | accuracy | how |", "|---|---|---|", *(f"| {who} | {value} | {how} |" for who, value, how in CITED)]
    for table in dict.fromkeys(line.table for line in lines):
        for protocol, meaning in PROTOCOLS.items():
            own = [line for line in lines if (line.table, line.protocol) == (table, protocol)]
            if own:
                rows, groups = own[0].scores["images"], own[0].scores["patients"]
                counts = f"{rows} rows" if rows == groups else f"{rows} rows in {groups} groups"
                text += ["", f"**The {table} set, {meaning}** ({counts})", "", f"| model | {' | '.join(METRICS)} |", "|---" * 5 + "|"]
                text += [f"| {line.model} | {' | '.join(line.cells())} |" for line in own]
    return "\n".join([*text, "", *(f"- {note}" for note in notes)])


def duplicates(table: Table, random: Outcome, kept: Outcome) -> list[str]:
    """What identical rows are, and whether it helps a model to have seen them."""
    _, twin, count = np.unique(table.twins, return_inverse=True, return_counts=True)
    repeated = count[twin] > 1
    if not repeated.any():
        return [f"No two of the {len(table.x)} rows of the {table.name} set are identical."]
    benign = (repeated & ~table.malignant).sum()
    shares = [
        f"{name} {' / '.join(f'{((p[rows] >= 0.5) == table.malignant[rows]).mean():.3f}' for p, rows in _parts(random, kept, name))}"
        for name in random.p
    ]
    return [
        f"Of the {len(table.x)} rows of the {table.name} set, {len(count)} are distinct. {repeated.sum()} rows have an identical one "
        f"({benign} benign, {repeated.sum() - benign} malignant); the most frequent stands {count.max()} times.",
        f"In the random split {random.seen.sum()} rows ({random.seen.mean():.0%}) were tested with an identical row in training. Accuracy on the "
        f"other rows / on these / on these when identical rows are kept out of training: {'; '.join(shares)}.",
    ]


def _parts(random: Outcome, kept: Outcome, name: str) -> list[tuple[Floats, npt.NDArray[np.bool_]]]:
    return [(random.p[name], ~random.seen), (random.p[name], random.seen), (kept.p[name], random.seen)]


def selected(table: Table, outcome: Outcome) -> str:
    """How often each feature was kept."""
    folds = len(outcome.chosen)
    often, sizes = outcome.chosen.sum(axis=0), outcome.chosen.sum(axis=1)
    words = ", ".join(f"{table.features[index]} {often[index]}" for index in np.argsort(-often, kind="stable"))
    return f"Features kept by recursive elimination in {folds} folds of the {table.name} set ({sizes.min()} to {sizes.max()} at once): {words}."


def write_between(page: Path, text: str) -> None:
    """Replaces what stands between `MARKS` in a page, or writes a page that has nothing else."""
    before, _, rest = (page.read_text(encoding="utf-8") if page.exists() else "").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    page.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after or chr(10)}", encoding="utf-8")
