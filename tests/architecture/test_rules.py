"""The rules of the source tree."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bcd_edge", "train", "export", "benchmarks", "deploy")
PLUGINS = ("providers", "explainers", "formats", "codecs", "networks", "sources")


def test_no_module_of_the_runtime_loads_torch_or_the_other_stages() -> None:
    script = """
import importlib, pkgutil, sys, bcd_edge
class WithoutPandas:  # pyarrow loads it where it is installed
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "pandas":
            raise ImportError(name)
sys.meta_path.insert(0, WithoutPandas)
for module in pkgutil.walk_packages(bcd_edge.__path__, "bcd_edge."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
heavy = {"torch", "torchvision", "onnx", "sklearn", "matplotlib", "pandas", "lifelines", "anndata", "umap"}
print(sorted((heavy | {"train", "export", "benchmarks", "deploy"}) & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("package", ["train", "export", "benchmarks", "deploy"])
def test_help_of_a_stage_does_not_wait_for_torch(package: str) -> None:
    script = f"import sys, {package}.__main__; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"


def sources() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield file.relative_to(ROOT), file.read_text(encoding="utf-8")


def test_files_are_short_and_say_what_they_are_for() -> None:
    assert [str(file) for file, source in sources() if source.count("\n") > 350] == []
    assert [str(file) for file, source in sources() if not ast.get_docstring(ast.parse(source))] == []


def test_public_functions_and_classes_are_documented() -> None:
    """What every plug-in of a folder has is documented once, in the package above it."""
    undocumented = [
        f"{file}: {node.name}"
        for file, source in sources()
        if file.parent.name not in PLUGINS
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert undocumented == []


def test_the_onnxruntimes_are_never_asked_for_together() -> None:
    wanted = requires("bcd-edge") or []
    engines = {
        extra: {entry.split(">")[0] for entry in wanted if f'extra == "{extra}"' in entry.replace("'", '"') and "onnxruntime" in entry}
        for extra in ("cpu", "gpu")
    }
    assert engines == {"cpu": {"onnxruntime"}, "gpu": {"onnxruntime-gpu"}}
    always = [entry for entry in wanted if "extra ==" not in entry]
    assert always
    assert not [entry for entry in always if "torch" in entry or "onnx" in entry]
