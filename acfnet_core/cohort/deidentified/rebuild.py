"""Rebuilding a DICOM file: from nothing, attribute by attribute, as a list allows.

What no list names cannot come along: private attributes, overlays, curves, comments,
the preamble, and whatever a maker or a later edition of the standard adds.
"""

import io
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from acfnet_core.cohort.deidentified.cleaning_rules import (
    AllowList,
    Items,
    values_of,
)
from acfnet_core.cohort.deidentified.keyed_names import PatientNames
from acfnet_core.cohort.images.dicom_index import READ_ERRORS

METHODS = (
    codes.DCM.BasicApplicationConfidentialityProfile,
    codes.DCM.CleanDescriptorsOption,
    codes.DCM.RetainLongitudinalTemporalInformationModifiedDatesOption,
    codes.DCM.RetainPatientCharacteristicsOption,
)
"""What was done, as DICOM PS3.16 CID 7050 names it: 113100, 113105, 113107, 113108."""

_IMPLEMENTATION_UID = "2.25.93460785213147320914872096741285163047"
_IMPLEMENTATION_NAME = "ACFNET_EXPORT_1"


def rebuild(source: Any, allowed: AllowList, names: PatientNames) -> Dataset:
    """Return a new dataset with the allowed attributes, each cleaned by its rule.

    Args:
        source: A dataset that pydicom has read; an attribute that it cannot convert
            counts as empty.
        allowed: Which attributes, and how they are cleaned.
        names: What stands for the patient's identifiers.
    """
    target = Dataset()
    for keyword, rule in allowed.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword} is no attribute of DICOM")
        values = _read_values(source, tag)
        vr = dictionary_VR(tag)
        if isinstance(rule, Items):
            items = [item for item in values if isinstance(item, Dataset)]
            rebuilt = [rebuild(item, rule.allowed, names) for item in items]
            if rebuilt:
                target.add_new(tag, vr, rebuilt)
            continue
        value = rule.clean(values, vr, names)
        if value is not None:
            target.add_new(tag, vr, value)
    return target


def code_item(code: Any) -> Dataset:
    """Return a code as the item of a sequence."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def file_bytes(target: Dataset, syntax: UID) -> bytes:
    """Return a rebuilt dataset as a file, with a header and a preamble of its own."""
    target.DeidentificationMethodCodeSequence = [code_item(code) for code in METHODS]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = target.SOPClassUID
    meta.MediaStorageSOPInstanceUID = target.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    meta.ImplementationVersionName = _IMPLEMENTATION_NAME
    target.file_meta = meta
    target.preamble = bytes(128)
    content = io.BytesIO()
    dcmwrite(content, target, enforce_file_format=True)
    return content.getvalue()


def _read_values(source: Any, tag: int) -> list[Any]:
    if tag not in source:
        return []
    try:
        return values_of(source[tag].value)
    except READ_ERRORS:
        # A value that cannot be read is none; its text may name somebody.
        return []
