"""`--network tiny` for the tests in which the recipe and not the network is tested."""

import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tests.networks  # noqa: F401
from export import graph


@pytest.fixture(scope="session", autouse=True)
def _each_graph_is_written_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """PyTorch takes seconds to trace a network, and most tests export the same run: the file of equal arguments is copied."""
    folder, write = tmp_path_factory.mktemp("graphs"), graph.write

    def write_or_copy(network: torch.nn.Module, size: int, path: Path, *, half: bool = False, head: str = "") -> None:
        torch.save(network, weights := io.BytesIO())
        kept = folder / hashlib.sha256(weights.getvalue() + f"{size} {half} {head}".encode()).hexdigest()
        if not kept.exists():
            write(network, size, kept, half=half, head=head)
        shutil.copy(kept, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "write", write_or_copy)
        yield
