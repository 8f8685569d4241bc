"""What can go wrong around the quantiser; what it makes is tested in test_bundle.py."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import quantise


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """6 MB: the tool needs nearly twice the graph."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(where)], capture_output=True)
    if not mounted or mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_full_temporary_folder_is_said(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1000]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "one", shapes[:1], shapes[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "float.onnx")
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(OSError, match=r"no room in .*disk"):
        quantise.prepare(tmp_path / "float.onnx", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert quantise.prepare(tmp_path / "float.onnx", tmp_path).exists()
