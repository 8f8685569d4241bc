"""Rows of a table to records, by the same rule and in the same words as pictures."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge import __version__, bundle
from bcd_edge.backends import onnxruntime, require
from bcd_edge.backends.providers import cpu
from bcd_edge.cytology.table import Feature, Row
from bcd_edge.decision import DecisionRule, probabilities
from bcd_edge.errors import InputError
from bcd_edge.options import RunOptions
from bcd_edge.records import Execution, Prediction, Record, Timing
from bcd_edge.system import machine

Floats = npt.NDArray[np.float64]

KIND: Final = "tabular"


class TableClassifier:
    """A bundle of kind `tabular`, loaded.

    Attributes:
        features: columns that the model needs, in its order.
        rule: how a probability becomes a decision.
    """

    def __init__(self, opened: bundle.Bundle, threshold: float | None = None) -> None:
        variant, (model,) = opened.model("fp32")
        require("cpu", cpu.is_available())
        self._session: Any = onnxruntime.session(model, RunOptions(threads=1), "cpu", [(cpu.PROVIDER, {})])
        self._temperature = opened.temperature
        self.features = [Feature(**feature) for feature in opened.manifest["features"]]
        self.rule: DecisionRule = opened.decision.with_threshold(threshold)
        self.execution = Execution("cpu", machine.cpu_name(), variant["precision"], opened.name, opened.sha256, __version__, "cpu")

    @classmethod
    def load(cls, path: str | None = None, threshold: float | None = None) -> TableClassifier:
        """Opens a bundle, the embedded one if no path is given.

        Raises:
            BundleError: it is damaged, or of another kind.
            ProviderError: ONNX Runtime is not installed.
        """
        return cls(bundle.open(path, kind=KIND), threshold)

    def probabilities(self, values: Floats) -> Floats:
        """Calibrated p_malignant, float64 N, of N x F values without gaps."""
        return probabilities(self._session.run(["logits"], {"features": values.astype(np.float32)})[0], self._temperature)

    def classify(self, row: Row) -> Record:
        """The record of a row; `failed` if it cannot be read."""
        began = time.perf_counter()
        try:
            values, reasons = row.values(self.features)
        except InputError as error:
            return Record(row.source, row.sha256, "failed", str(error), None, None, None, (), None, self.execution, kind="row")
        read = time.perf_counter()
        answer = self.rule.predict(float(self.probabilities(np.array([values]))[0]))
        ended = time.perf_counter()
        timing = Timing(1e3 * (read - began), 0.0, 1e3 * (ended - read), 1e3 * (ended - began))
        return _record(row, answer, reasons, timing, self.execution)

    def classify_many(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Record]]:
        """Each row with its record, in order."""
        for row in rows:
            yield row, self.classify(row)


def _record(row: Row, answer: Prediction, reasons: tuple[str, ...], timing: Timing, execution: Execution) -> Record:
    """What is missing or out of range needs review, whatever the model says."""
    decision = "review" if reasons else answer.decision
    every = (*reasons, *answer.reasons)
    return Record(row.source, row.sha256, "ok", None, answer.label, answer.p_malignant, decision, every, timing, execution, kind="row")
