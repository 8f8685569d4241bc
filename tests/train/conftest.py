"""`--network tiny` for the tests in which the recipe and not the network is tested."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

import tests.networks  # noqa: F401


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are composed but matplotlib renders no pixels, which takes longer than a short training; other tests look at rendered ones."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: Path(path).write_bytes(b"\x89PNG"))
