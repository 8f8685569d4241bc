"""What a file says of its picture beside the pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metadata:
    """All that is taken from a file's header; None where it does not say.

    Attributes:
        um_per_pixel: width of a pixel on the slide in µm.
        patient: whose picture it is: DICOM's Patient ID.
        slide: which slide of the patient: DICOM's Container Identifier.
        study: DICOM's Study Instance UID.
    """

    um_per_pixel: float | None = None
    patient: str | None = None
    slide: str | None = None
    study: str | None = None
