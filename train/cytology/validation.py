"""Nested cross-validation: features are chosen inside each fold, and a fold is tested once by models that never saw it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import RFECV
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline

from bcd_edge.estimates import resample_groups
from train.cytology.models import MODELS, build
from train.cytology.tables import Table
from train.evaluation.metrics import Scores, score

Floats = npt.NDArray[np.float64]
INNER: Final = 5
FEWEST: Final = 3
EDGE: Final = 1e-7


@dataclass(frozen=True)
class Outcome:
    """Out-of-fold answers of one table under one kind of split.

    Attributes:
        p: N probabilities for each model.
        chosen: which features each fold took, bool folds x F.
        seen: whether a row has an identical one in what its fold learned from, bool N.
    """

    p: dict[str, Floats]
    chosen: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.bool_]


def select(table: Table, rows: npt.NDArray[np.intp], grouped: bool, seed: int) -> npt.NDArray[np.bool_]:
    """Features that recursive elimination keeps (Guyon et al., Mach. Learn. 2002), bool F; how many is chosen by log loss on inner folds."""
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(INNER, shuffle=True, random_state=seed)
    elimination = RFECV(
        build("logistic regression", seed),
        cv=splitter,
        scoring="neg_log_loss",
        min_features_to_select=FEWEST,
        importance_getter="named_steps.logisticregression.coef_",
    )
    kept: npt.NDArray[np.bool_] = elimination.fit(table.x[rows], table.malignant[rows], groups=table.groups[rows] if grouped else None).support_
    return kept


def validate(table: Table, folds: int, seed: int, *, grouped: bool) -> Outcome:
    """Answers for every row from models that learned from other folds.

    Args:
        table: the rows.
        folds: number of outer folds.
        seed: of splits and networks.
        grouped: whether identical rows and those of one id stay together; if not, rows are split at random, as is often published.
    """
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(folds, shuffle=True, random_state=seed)
    p = {name: np.empty(len(table.x)) for name in MODELS}
    chosen, seen = [], np.zeros(len(table.x), bool)
    for train, test in splitter.split(table.x, table.malignant, table.groups if grouped else None):
        kept = select(table, train, grouped, seed)
        chosen.append(kept)
        seen[test] = np.isin(table.twins[test], table.twins[train])
        for name in MODELS:
            p[name][test] = fit(name, table, train, kept, seed).predict_proba(table.x[test][:, kept])[:, 1]
    return Outcome(p, np.array(chosen), seen)


def fit(name: str, table: Table, rows: npt.NDArray[np.intp], kept: npt.NDArray[np.bool_], seed: int) -> Pipeline:
    """A model of the kept features, fitted on rows."""
    with warnings.catch_warnings():  # the number of epochs is fixed, as in the published networks
        warnings.simplefilter("ignore", ConvergenceWarning)
        return build(name, seed).fit(table.x[rows][:, kept], table.malignant[rows])


def scores(table: Table, outcome: Outcome, name: str, *, by: str) -> Scores:
    """Metrics of a model at 0.5, with intervals.

    Args:
        table: the rows.
        outcome: of the table.
        name: of the model.
        by: `row`, each drawn alone, as published intervals are; `group`, identical rows and ids drawn together; `distinct`, the same
            with each distinct row once.
    """
    rows = np.unique(table.twins, return_index=True)[1] if by == "distinct" else np.arange(len(table.x))
    groups = rows.astype(str) if by == "row" else table.groups[rows]
    return score(table.malignant[rows], outcome.p[name][rows], groups, 0.5)


def simplest(table: Table, outcome: Outcome) -> tuple[str, str, float]:
    """The first of `MODELS` whose log loss is not worse than the best one's; the best; how often it is worse by resamples of groups.

    Not worse: the 95 % interval of the difference, from resamples of groups, contains 0.
    """
    losses = {name: log_loss(table.malignant, p) for name, p in outcome.p.items()}
    best = min(losses, key=lambda name: float(losses[name].mean()))
    drawn = resample_groups(table.malignant, table.groups, 0)
    for name, loss in losses.items():
        difference = np.array([(loss - losses[best])[rows].mean() for rows in drawn])
        if np.quantile(difference, 0.025) <= 0:
            return name, best, float((difference > 0).mean())
    raise AssertionError("the best is not worse than itself")


def log_loss(malignant: npt.NDArray[np.bool_], p: Floats) -> Floats:
    """Of each row, N."""
    return np.asarray(-np.log(np.clip(np.where(malignant, p, 1 - p), EDGE, 1)))


def logits(p: Floats) -> npt.NDArray[np.float32]:
    """Log odds as two logits, N x 2."""
    p = np.clip(p, EDGE, 1 - EDGE)
    return np.column_stack([np.zeros(len(p)), np.log(p / (1 - p))]).astype(np.float32)
