"""An overlay as a Secondary Capture, so that a viewer shows the heat map beside the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bcd_edge.dicom.reports import MANUFACTURER, dated, series
from bcd_edge.readers.raster import UInt8Image

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_NUMBER: Final = 9902


def capture(header: Dataset, record: dict[str, Any], overlay_hwc_u8: UInt8Image) -> Dataset:
    """The Secondary Capture of an overlay.

    Args:
        header: of the image, see `reports.source`.
        record: of its answer, as plain values.
        overlay_hwc_u8: the drawn overlay with its legend, uint8 RGB, H x W x 3.
    """
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    image = SCImage(
        pixel_array=overlay_hwc_u8,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        study_instance_uid=header.StudyInstanceUID,
        series_number=SERIES_NUMBER,
        series_description=f"{MANUFACTURER} explanations, for research",
        specific_character_set="ISO_IR 192",
        transfer_syntax_uid=ExplicitVRLittleEndian,  # what every archive takes
        **series(header, record, "overlay"),
    )
    image.PatientOrientation, image.Laterality = [], ""  # a slide has neither, and highdicom asks for one
    image.BurnedInAnnotation = "YES"
    image.copy_patient_and_study_information(header)
    return dated(image, record)
