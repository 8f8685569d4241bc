"""Plug-ins: each module in a package such as `bcd_edge.backends.providers` is one, named by its file and imported on use."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

from bcd_edge.errors import UsageError


def names(package: str) -> list[str]:
    """The sorted names of a package's plug-ins, without importing them or the package."""
    top, *below = package.split(".")
    specification = importlib.util.find_spec(top)
    assert specification is not None, package
    folders = [str(Path(folder, *below)) for folder in specification.submodule_search_locations or ()]
    return sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Imports one plug-in.

    Raises:
        UsageError: there is no plug-in of that name.
    """
    if name not in names(package):
        kind = package.rpartition(".")[2]
        raise UsageError(f"{name!r} is not one of the {kind}; choose one of {', '.join(names(package))}.")
    return importlib.import_module(f"{package}.{name}")
