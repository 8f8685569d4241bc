"""An answer as a Structured Report: a TID 1500 Measurement Report that a viewer shows beside the image, in the image's study.

Its content qualification is RESEARCH, it is preliminary and unverified, and it names the bundle with its hash. Its UID follows from image
and bundle, so that the same report sent twice is one report in the archive.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from bcd_edge import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER: Final = "bcd-edge"
SERIES_NUMBER: Final = 9901
SCHEME: Final = "99BCDEDGE"
# Elements that highdicom takes from the image and that real files lack: all may be empty.
EXPECTED: Final = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime")
SEXES: Final = ("", "M", "F", "O")


def source(file: BinaryIO) -> Dataset:
    """The header of an answered DICOM file, complete enough for what refers to it."""
    from pydicom import dcmread

    header = dcmread(file, stop_before_pixels=True)
    for name in EXPECTED:
        if name not in header:
            setattr(header, name, "")
    if header.PatientSex not in SEXES:
        header.PatientSex = ""
    return header


def uid(*parts: str) -> str:
    """A UID that is always the same for the same parts (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(('bcd-edge', *parts))).int}"


def series(header: Dataset, record: dict[str, Any], kind: str) -> dict[str, Any]:
    """What all objects of a kind about an image have in common: one series in a study for a bundle."""
    bundle = record["execution"]["bundle_sha256"]
    return {
        "series_instance_uid": uid(str(header.StudyInstanceUID), bundle, kind),
        "sop_instance_uid": uid(str(header.SOPInstanceUID), record["sha256"], bundle, kind),
        "instance_number": int(header.get("InstanceNumber") or 1),
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": record["execution"]["bundle"],
        "software_versions": __version__,
        "device_serial_number": bundle[:16],
        "content_qualification": "RESEARCH",
    }


def report(header: Dataset, record: dict[str, Any]) -> Dataset:
    """The Structured Report of one answer.

    Args:
        header: of the image, see `source`.
        record: of its answer, as plain values.
    """
    from highdicom.sr import ComprehensiveSR, MeasurementReport
    from pydicom.sr.codedict import codes

    content = MeasurementReport(
        observation_context=_observer(record),
        procedure_reported=codes.SCT.LightMicroscopy,
        imaging_measurements=[_measurements(header, record)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    made = ComprehensiveSR(
        evidence=[header],
        content=content[0],
        series_number=SERIES_NUMBER,
        series_description=f"{MANUFACTURER} answers, for research",
        is_complete=True,
        is_final=False,
        specific_character_set="ISO_IR 192",
        **series(header, record, "report"),
    )
    return dated(made, record)


def dated(dataset: Dataset, record: dict[str, Any]) -> Dataset:
    """The object with the time of the answer in place of now, so that what is made again is the same to the last byte."""
    answered = datetime.fromisoformat(record["intake"]["answered"])
    date, time = f"{answered:%Y%m%d}", f"{answered:%H%M%S}"
    values = {"InstanceCreationDate": date, "ContentDate": date, "DateOfSecondaryCapture": date}
    values |= {"InstanceCreationTime": time, "ContentTime": time, "TimeOfSecondaryCapture": time}
    for keyword, value in values.items():
        if keyword in dataset:
            setattr(dataset, keyword, value)
    for equipment in dataset.get("ContributingEquipmentSequence", []):  # highdicom notes itself
        equipment.ContributionDateTime = date + time
    return dataset


def _observer(record: dict[str, Any]) -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    ran = record["execution"]
    device = DeviceObserverIdentifyingAttributes(
        uid("device", ran["bundle_sha256"]), name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=ran["bundle"]
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _measurements(header: Dataset, record: dict[str, Any]) -> Any:
    """Probability, decision and its reasons, about the one image."""
    from highdicom.sr import (
        AlgorithmIdentification,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        RelationshipTypeValues,
        SourceImageForMeasurementGroup,
        TextContentItem,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    ran = record["execution"]
    parameters = [
        f"bundle {ran['bundle']}, SHA-256 of its manifest {ran['bundle_sha256']}",
        f"{ran['precision']} on {ran['provider']}, {ran['device']}",
        f"SHA-256 of the image file {record['sha256']}",
    ]
    algorithm = AlgorithmIdentification(name=MANUFACTURER, version=__version__, parameters=parameters)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid(record["sha256"], ran["bundle_sha256"], "tracking"), "whole image"),
        algorithm_id=algorithm,
        measurements=[Measurement(codes.DCM.ProbabilityOfCancer, round(100 * record["p_malignant"], 2), codes.UCUM.Percent)],
        qualitative_evaluations=[QualitativeEvaluation(codes.DCM.Impression, coded_decision(record["decision"]))],
        source_images=[SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)],
    )
    sentences = ["For research: assists a pathologist and does not diagnose.", *record["reasons"]]
    for sentence in sentences:
        group[0].ContentSequence.append(TextContentItem(codes.DCM.Comment, sentence, RelationshipTypeValues.CONTAINS))
    return group


def coded_decision(decision: str) -> Any:
    """Benign and malignant by SNOMED CT (CID 6063); the third has no code there."""
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    review = CodedConcept("REVIEW", SCHEME, "Needs pathologist review")
    return {"benign": codes.SCT.Benign, "malignant": codes.SCT.Malignant, "review": review}[decision]
