"""The answer to a whole slide that was sent: tile by tile, its files below the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from bcd_edge.readers import slide
from bcd_edge.results import pictures
from bcd_edge.results.folder import Results
from bcd_edge.slides import classify as slides

if TYPE_CHECKING:
    from bcd_edge.classifier import Classifier
    from bcd_edge.records import Record
    from bcd_edge.serve.engine import Job
    from bcd_edge.serve.settings import Settings


def is_slide(data: bytes) -> bool:
    """Whether a file is a whole slide that can be read here."""
    return slide.is_installed() and slide.recognises_bytes(data)


def answer(classifier: Classifier, settings: Settings, job: Job, progress: Callable[[int, int], object]) -> Record:
    """Classifies a slide that lies in `uploads/`; goes on with one that was interrupted.

    Args:
        classifier: loaded for throughput.
        settings: of the server.
        job: what was sent.
        progress: called after each tile.

    Raises:
        OutputError: its files cannot be written.
        ProviderError: the engine failed.
    """
    sha256, root = job.file.sha256, settings.results
    folder = f"{slides.FOLDER}/{sha256[:16]}"
    with Results.open(root) as results:
        title = results.display_name(PurePosixPath(job.name).name)
    how = replace(settings.slides, folder=root / folder, title=title, um_per_pixel=settings.model.get("um_per_pixel"))
    record = slides.classify(classifier, root / pictures.kept_path(sha256), how, name=job.name, progress=progress)
    if record.slide is None:
        return replace(record, sha256=sha256, error=(record.error or "").replace(sha256, title))
    return replace(record, slide=replace(record.slide, files=folder))
