"""A file is a plug-in and its name is the name: what a folder of modules offers, imported only when it is used."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

from bcd_edge.errors import UsageError


def names(package: str) -> list[str]:
    """The plug-ins of a package such as `bcd_edge.backends.providers`, sorted, without importing one or the package itself."""
    top, *below = package.split(".")
    specification = importlib.util.find_spec(top)
    assert specification is not None, package
    folders = [str(Path(folder, *below)) for folder in specification.submodule_search_locations or ()]
    return sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Imports one plug-in.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in names(package):
        kind = package.rpartition(".")[2]
        raise UsageError(f"{name!r} is not among the {kind}; choose one of {', '.join(names(package))}.")
    return importlib.import_module(f"{package}.{name}")
