"""De-identified copies of one scan's files: CT, DICOM SEG, RTSTRUCT and NIfTI."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.deidentified.allow_list import (
    CT,
    RTSTRUCT,
    RTSTRUCT_CLASSES,
    SEG,
    SEG_CLASSES,
)
from acfnet_core.cohort.deidentified.keyed_names import PatientNames
from acfnet_core.cohort.deidentified.pixel_data import copy_pixels, syntax_of_copy
from acfnet_core.cohort.deidentified.rebuild import code_item, file_bytes, rebuild
from acfnet_core.cohort.deidentified.safe_labels import SafeLabels
from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.dicom_index import (
    READ_ERRORS,
    InstanceHeader,
    quiet_dicom,
)
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.masks.segmentation import channel_of

_KINDS = {
    "liver": (codes.SCT.AnatomicalStructure, codes.SCT.Liver),
    "tumour": (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Mass),
    "vessel": (codes.SCT.AnatomicalStructure, codes.SCT.BloodVessel),
    None: (codes.SCT.Tissue, codes.SCT.Tissue),
}
"""Channel -> category and type of a segment; None for what the contract does not know.
"""

_NO_DAY = "19000101"
"""Stands where DICOM asks for a day and the source has none."""


def copy_series(
    series: GatedSeries, patient: PatientNames, imaging: ImagingExpectations
) -> Iterator[bytes]:
    """Yield the files of a series that the gate accepted, from the feet to the head.

    Pixels are the source's, byte by byte. UIDs that the site lets be made up are
    written into the copy.

    Raises:
        ScanRefusedError: The gate refused the series, or a file of it cannot be read,
            is not the one that the gate saw, or has frames that cannot be cleaned.
        ValueError: The series was refused.
    """
    if not series.is_accepted:
        raise ValueError("only an accepted series is copied")
    # The frames of a multi-frame file have a header each.
    first_of_file: dict[Path, InstanceHeader] = {}
    for header in series.headers:
        first_of_file.setdefault(header.path, header)
    for number, header in enumerate(first_of_file.values(), start=1):
        try:
            with quiet_dicom():
                yield _copy_ct(header, number, patient, imaging)
        except READ_ERRORS:
            # The error's text may hold values of the header: it must not be chained.
            raise ScanRefusedError("DECODE_FAILED") from None


def copy_segmentation(
    header: InstanceHeader, patient: PatientNames, imaging: ImagingExpectations
) -> bytes:
    """Return the copy of a DICOM SEG or of an RTSTRUCT.

    Of an RTSTRUCT, structures that the contract does not know are left out; of a SEG,
    such segments keep their voxels and lose their names.

    Raises:
        ScanRefusedError: The file cannot be read, or has frames that cannot be cleaned.
    """
    is_structures = header.modality == "RTSTRUCT"
    try:
        with quiet_dicom():
            source = dcmread(header.path)
            _require_same(source, header)
            if is_structures:
                return _copy_structures(source, patient, imaging)
            return _copy_seg(source, patient, imaging)
    except READ_ERRORS:
        # The error's text may hold values of the header: it must not be chained.
        raise ScanRefusedError("SEG_UNREADABLE") from None


def _copy_ct(
    header: InstanceHeader,
    number: int,
    patient: PatientNames,
    imaging: ImagingExpectations,
) -> bytes:
    source = dcmread(header.path)
    _require_same(source, header)
    target = rebuild(source, CT, patient)
    target.SOPClassUID = header.sop_class_uid
    target.SOPInstanceUID = patient.uid(header.sop_instance_uid)
    target.SeriesInstanceUID = patient.uid(header.series_uid)
    target.StudyInstanceUID = patient.uid(header.study_uid)
    target.FrameOfReferenceUID = patient.uid(header.frame_of_reference_uid)
    target.SeriesNumber = 1
    target.InstanceNumber = number
    description = header.series_description.casefold()
    said = [word for word in imaging.phase_words if word.casefold() in description]
    if said:
        target.SeriesDescription = " ".join(said)[:64]
    if list(target.ImageType)[:2] != ["ORIGINAL", "PRIMARY"]:
        raise ValueError("the file is no original image")
    syntax = syntax_of_copy(source.file_meta.TransferSyntaxUID)
    copy_pixels(source, target, syntax)
    return file_bytes(target, syntax)


def _copy_seg(
    source: Any, patient: PatientNames, imaging: ImagingExpectations
) -> bytes:
    target = rebuild(source, SEG, patient)
    if target.SOPClassUID not in SEG_CLASSES:
        raise ValueError("the file is no segmentation")
    labels = SafeLabels(imaging)
    described = zip(source.SegmentSequence, target.SegmentSequence, strict=True)
    for described_there, item in described:
        name = labels.name_for(str(described_there.get("SegmentLabel", "")))
        category, kind = _KINDS[channel_of(name, imaging) if name else None]
        item.SegmentLabel = name or labels.neutral_name()
        item.SegmentedPropertyCategoryCodeSequence = [code_item(category)]
        item.SegmentedPropertyTypeCodeSequence = [code_item(kind)]
        if item.SegmentAlgorithmType != "MANUAL":
            item.SegmentAlgorithmName = "REMOVED"
    target.ContentDate = target.StudyDate or _NO_DAY
    target.SeriesNumber = 2
    target.InstanceNumber = 1
    syntax = syntax_of_copy(source.file_meta.TransferSyntaxUID)
    copy_pixels(source, target, syntax)
    return file_bytes(target, syntax)


def _copy_structures(
    source: Any, patient: PatientNames, imaging: ImagingExpectations
) -> bytes:
    labels = SafeLabels(imaging)
    numbered: dict[int, str] = {}
    rois: list[Any] = []
    for roi in source.StructureSetROISequence:
        name = labels.name_for(str(roi.get("ROIName", "")))
        if name is not None:
            numbered[int(roi.ROINumber)] = name
            rois.append(roi)
    contours = [
        drawn
        for drawn in source.get("ROIContourSequence", None) or ()
        if int(drawn.ReferencedROINumber) in numbered
    ]
    # What the contract does not know is taken out before anything is copied.
    source.StructureSetROISequence = rois
    source.ROIContourSequence = contours
    target = rebuild(source, RTSTRUCT, patient)
    if target.SOPClassUID not in RTSTRUCT_CLASSES:
        raise ValueError("the file is no structure set")
    anew = {number: index for index, number in enumerate(numbered, start=1)}
    for number, item in zip(numbered, target.StructureSetROISequence, strict=True):
        item.ROINumber = anew[number]
        item.ROIName = numbered[number]
    drawn_anew = target.get("ROIContourSequence", None) or ()
    for there, item in zip(contours, drawn_anew, strict=True):
        item.ReferencedROINumber = anew[int(there.ReferencedROINumber)]
    target.RTROIObservationsSequence = [_observe(n) for n in anew.values()]
    target.SeriesNumber = 2
    target.InstanceNumber = 1
    return file_bytes(target, ExplicitVRLittleEndian)


def _observe(number: int) -> Dataset:
    """Return the observation of a structure that DICOM asks for, which says nothing."""
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.RTROIInterpretedType = ""
    item.ROIInterpreter = ""
    return item


def _require_same(source: Any, header: InstanceHeader) -> None:
    """Refuse a file that is not the one which was indexed."""
    uid = str(source.get("SOPInstanceUID", "") or "").strip()
    patient_id = str(source.get("PatientID", "") or "").strip()
    # What a file lacks may have been made up for it.
    same_uid = (uid or header.sop_instance_uid) == header.sop_instance_uid
    if not same_uid or (patient_id or header.patient_id) != header.patient_id:
        raise ValueError("the file changed since it was indexed")
