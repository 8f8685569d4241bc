"""bcd-edge: breast tissue classification on small computers. It assists a pathologist; it does not diagnose alone.

from bcd_edge import Classifier
record = Classifier.load().classify("x.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Classifier", "Record", "RunOptions", "__version__"]

if TYPE_CHECKING:
    from bcd_edge.classifier import Classifier
    from bcd_edge.options import RunOptions
    from bcd_edge.records import Record


def __getattr__(name: str) -> Any:
    """Imports on first use (PEP 562), so that `bcd-edge --help` does not load OpenCV."""
    if name == "Classifier":
        from bcd_edge.classifier import Classifier

        return Classifier
    if name == "Record":
        from bcd_edge.records import Record

        return Record
    if name == "RunOptions":
        from bcd_edge.options import RunOptions

        return RunOptions
    raise AttributeError(f"module 'bcd_edge' has no attribute {name!r}")
