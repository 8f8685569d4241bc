"""What is compared: two linear and boosted baselines, and small versions of the networks that the literature reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = npt.NDArray[np.float64]
ADAM: Final[Mapping[str, Any]] = {"solver": "adam", "learning_rate_init": 1e-3, "batch_size": 32, "alpha": 1e-3, "max_iter": 60}


class ConvolutionalNetwork(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Two convolutions of width 3 along the features in their order, and a linear layer; the order carries no distance."""

    def __init__(self, epochs: int = 60, seed: int = 0) -> None:
        self.epochs, self.seed = epochs, seed

    def fit(self, x: Floats, y: npt.NDArray[np.bool_]) -> ConvolutionalNetwork:
        import torch
        from torch import nn

        self.classes_ = np.array([False, True])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layers = (nn.Conv1d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv1d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten())
            self.network_ = nn.Sequential(*layers, nn.Linear(16 * x.shape[1], 1))
            inputs, labels = torch.tensor(x[:, None], dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
            optimiser = torch.optim.AdamW(self.network_.parameters(), lr=1e-3, weight_decay=1e-3)
            for _ in range(self.epochs):
                for rows in torch.randperm(len(x)).split(32):
                    optimiser.zero_grad()
                    nn.functional.binary_cross_entropy_with_logits(self.network_(inputs[rows])[:, 0], labels[rows]).backward()
                    optimiser.step()
        return self

    def predict_proba(self, x: Floats) -> Floats:
        import torch

        with torch.inference_mode():
            p = torch.sigmoid(self.network_(torch.tensor(x[:, None], dtype=torch.float32))[:, 0]).numpy().astype(np.float64)
        return np.column_stack([1 - p, p])


# The simplest first: of models that are as good, the first is taken.
MODELS: Final[Mapping[str, Callable[[int], Any]]] = {
    "logistic regression": lambda seed: LogisticRegression(max_iter=1000),
    "ANN (one hidden layer of 16)": lambda seed: MLPClassifier((16,), random_state=seed, **ADAM),
    "DNN (hidden layers of 64, 32, 16)": lambda seed: MLPClassifier((64, 32, 16), random_state=seed, **ADAM),
    "gradient boosting": lambda seed: GradientBoostingClassifier(max_depth=2, subsample=0.8, random_state=seed),
    "CNN over ordered features": lambda seed: ConvolutionalNetwork(seed=seed),
}


def build(name: str, seed: int) -> Pipeline:
    """The model behind imputation by the mean and standardisation, which learn from the same rows as it does."""
    return make_pipeline(SimpleImputer(strategy="mean", keep_empty_features=True), StandardScaler(), MODELS[name](seed))


def dense_layers(estimator: Any) -> list[tuple[list[list[float]], list[float]]] | None:
    """Weights (in x out) and biases of a model made of dense layers with ReLU between them, a number at its end; None for another."""
    if isinstance(estimator, LogisticRegression):
        return [(estimator.coef_.T.tolist(), estimator.intercept_.tolist())]
    if isinstance(estimator, MLPClassifier):
        return [(weights.tolist(), bias.tolist()) for weights, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True)]
    return None
