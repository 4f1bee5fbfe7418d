"""A site whose files have identifiers planted wherever a file has room for them.

Each planted text is another one, with `STEM` in it, so that a test can tell which of
them came through; numbers begin with `NUMBER_STEM`.
"""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from references.ct_series import (
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)
from references.structure_sets import (
    affine_of,
    liver_contours,
    write_nifti,
    write_structures,
)

from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.sources import CohortSources

STEM = "KNRY"
NUMBER_STEM = "86753090"
UID_STEM = "1.2.86753090"
DAYS = ("19911206", "19920606")
RESECTION = "1992-06-20"
_TEXTS = (
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PatientComments",
    "PatientReligiousPreference",
    "EthnicGroup",
    "Occupation",
    "AdditionalPatientHistory",
    "IssuerOfPatientID",
    "MilitaryRank",
    "CountryOfResidence",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "ImageComments",
    "AcquisitionComments",
    "DerivationDescription",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "OperatorsName",
    "PerformingPhysicianName",
    "PhysiciansOfRecord",
    "ReferringPhysicianName",
    "RequestingPhysician",
    "NameOfPhysiciansReadingStudy",
    "RequestingService",
    "RequestedProcedureDescription",
    "PerformedProcedureStepDescription",
    "PerformedProcedureStepID",
    "AdmissionID",
    "CurrentPatientLocation",
    "DeviceSerialNumber",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "PositionReferenceIndicator",
    "ClinicalTrialSubjectID",
    "DeidentificationMethod",
    "TextComments",
    "TextValue",
)
"""Attributes of text that are planted in every file."""
_WORDS = ("PatientPosition", "BodyPartExamined", "ExposureStatus")
_NUMBERS = (
    "KVP",
    "XRayTubeCurrent",
    "Exposure",
    "SeriesNumber",
    "AcquisitionNumber",
    "InstanceNumber",
    "SliceLocation",
    "PatientWeight",
)


class Planter:
    """Makes texts and numbers that are nowhere else, and remembers them."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.numbers: list[str] = []

    def text(self) -> str:
        self.texts.append(f"ZQ{len(self.texts):03}{STEM}")
        return self.texts[-1]

    def number(self) -> str:
        self.numbers.append(f"{NUMBER_STEM}{len(self.numbers):02}")
        return self.numbers[-1]

    def uid(self) -> str:
        return f"1.2.{self.number()}"

    def into_any(self, file: Dataset) -> None:
        """Plant in what every kind of file has."""
        for keyword in _TEXTS:
            setattr(file, keyword, self.text())
        item = Dataset()
        item.PatientID = self.text()
        item.RequestedProcedureID = self.text()
        file.OtherPatientIDsSequence = [item]
        inner = Dataset()
        inner.CodeMeaning, inner.CodeValue = self.text(), self.text()
        inner.CodingSchemeDesignator = "99X"
        request = Dataset()
        request.RequestedProcedureDescription = self.text()
        request.RequestedProcedureCodeSequence = [inner]
        file.RequestAttributesSequence = [request]
        reference = Dataset()
        reference.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
        reference.ReferencedSOPInstanceUID = self.uid()
        file.ReferencedStudySequence = [reference]
        self._into_private(file)
        self._into_overlay(file)
        file.PatientBirthDate = "19310704"
        file.StudyTime = "111111.867530"
        file.AcquisitionDateTime = "19920606111111.867530"
        file.PatientAge = "093Y"
        file.preamble = self.text().encode().ljust(128, b"\0")

    def _into_private(self, file: Dataset) -> None:
        block = file.private_block(0x0009, self.text(), create=True)
        block.add_new(0x01, "LO", self.text())
        block.add_new(0x02, "UN", self.text().encode())
        block.add_new(0x03, "UT", self.text())
        block.add_new(0x04, "PN", self.text())
        block.add_new(0x05, "OB", self.text().encode())
        item = Dataset()
        item.PatientName = self.text()
        block.add_new(0x06, "SQ", Sequence([item]))
        block.add_new(0x07, "UI", self.uid())
        block.add_new(0x08, "SV", int(self.number()))
        block.add_new(0x09, "FD", float(self.number()))
        block.add_new(0x0A, "AE", self.text())

    def _into_overlay(self, file: Dataset) -> None:
        content = self.text().encode()
        file.add_new(0x60000022, "LO", self.text())
        file.add_new(0x60001500, "LO", self.text())
        file.add_new(0x60004000, "LT", self.text())
        file.add_new(0x60003000, "OW", content + bytes(120 - len(content)))
        file.add_new(0x50000022, "LO", self.text())
        file.add_new(0x50003000, "OW", content + bytes(120 - len(content)))
        file.add_new(0xFFFCFFFC, "OB", self.text().encode())
        file.add_new(0x04000010, "US", 1)
        file.add_new(0x00331010, "LO", self.text())

    def into_slice(self, one: Dataset) -> None:
        """Plant in a CT slice."""
        self.into_any(one)
        for keyword in _NUMBERS:
            setattr(one, keyword, self.number())
        for keyword in _WORDS:
            setattr(one, keyword, self.text())
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", self.text()]
        one.PatientName = f"{self.text()}^{self.text()}"
        one.IrradiationEventUID = self.uid()
        one.PixelData += self.text().encode()

    def into_meta(self, path: Path) -> None:
        """Plant in the header of a file, before its data set."""
        file = dcmread(path)
        file.file_meta.SourceApplicationEntityTitle = self.text()
        file.file_meta.PrivateInformationCreatorUID = self.uid()
        file.file_meta.PrivateInformation = self.text().encode()
        file.file_meta.ImplementationVersionName = self.text()
        file.save_as(path)

    def into_segmentation(self, file: Any) -> None:
        """Plant in a DICOM SEG."""
        self.into_any(file)
        file.ContentLabel = self.text()
        file.ContentDescription = self.text()
        file.ContentCreatorName = self.text()
        file.ContentDate = "20010101"
        for item in file.SegmentSequence:
            item.SegmentDescription = self.text()
            item.SegmentAlgorithmType = "AUTOMATIC"
            item.SegmentAlgorithmName = self.text()
            item.TrackingID, item.TrackingUID = self.text(), self.uid()
            item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning = self.text()
        for item in file.DimensionIndexSequence:
            item.DimensionDescriptionLabel = self.text()
        for frame in file.PerFrameFunctionalGroupsSequence:
            frame.FrameContentSequence[0].FrameComments = self.text()
            frame.FrameContentSequence[0].FrameLabel = self.text()
        file.PixelData += self.text().encode()

    def into_structures(self, file: Dataset) -> None:
        """Plant in an RTSTRUCT."""
        self.into_any(file)
        file.StructureSetLabel = self.text()
        file.StructureSetName = self.text()
        file.StructureSetDescription = self.text()
        file.StructureSetDate = "20010101"
        for roi in file.StructureSetROISequence:
            roi.ROIDescription = self.text()
            roi.ROIGenerationAlgorithm = self.text()
            roi.ROIGenerationDescription = self.text()
            roi.ROINumber = int(self.number()) % 2**31
        for roi, drawn in zip(
            file.StructureSetROISequence, file.ROIContourSequence, strict=True
        ):
            drawn.ReferencedROINumber = roi.ROINumber
        seen = Dataset()
        seen.ObservationNumber = 1
        seen.ReferencedROINumber = 1
        seen.ROIObservationLabel = self.text()
        seen.ROIInterpreter = self.text()
        file.RTROIObservationsSequence = [seen]

    def into_nifti(self, path: Path) -> None:
        """Plant in a NIfTI mask: header, extension, after the voxels, and in gzip's."""
        content = bytearray(gzip.decompress(path.read_bytes()))
        for start, room in ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16)):
            text = self.text().encode()[:room]
            content[start : start + len(text)] = text
        extension = struct.pack("<2i", 32, 6) + self.text().encode().ljust(24, b"\0")
        (offset,) = struct.unpack_from("<f", content, 108)
        struct.pack_into("<f", content, 108, offset + 32)
        content[348] = 1
        content[int(offset) : int(offset)] = extension
        content += self.text().encode()
        with path.open("wb") as raw, gzip.GzipFile(self.text(), "wb", 9, raw) as file:
            file.write(content)


def plant_site(folder: Path, contract: DataContract) -> tuple[CohortSources, Planter]:
    """Write a site of four patients: two scans with SEG, RTSTRUCT, NIfTI, no scan.

    The contract is crlm, or one with its columns.
    """
    planter = Planter()
    patients = [f"{planter.text()}-{number}" for number in range(4)]
    images = folder / "images"
    for day in DAYS:
        _plant_seg(images / planter.text() / day, patients[0], day, planter)
    _plant_rtstruct(images / planter.text(), patients[1], planter)
    _plant_nifti(images / planter.text(), patients[2], planter)
    _write_table(folder / "clinical.csv", patients, contract, planter)
    sources = CohortSources(
        clinical_table=folder / "clinical.csv",
        images_folder=images,
        nifti_labels={1: ("Liver",), 2: (f"Tumor {STEM}",)},
    )
    return sources, planter


def make_planted_series(
    patient_id: str, day: str, change: Callable[[Dataset], None]
) -> list[Dataset]:
    """Return a series whose UIDs hold a number and whose slices were changed."""
    slices = make_series(patient_id, study_date=day)
    for index, one in enumerate(slices):
        one.SpecificCharacterSet = "ISO_IR 192"
        of_patient = f"{UID_STEM}.{int(patient_id[2:5])}.{day}"
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(one, keyword, f"{of_patient}.{len(keyword)}")
        one.SOPInstanceUID = f"{of_patient}.1.{index}"
        change(one)
    return slices


def _write_planted(slices: list[Dataset], folder: Path, planter: Planter) -> None:
    for path in write_series(slices, folder):
        planter.into_meta(path)


def _plant_seg(folder: Path, patient_id: str, day: str, planter: Planter) -> None:
    plain = make_planted_series(patient_id, day, lambda one: None)
    tumour = np.zeros_like(liver_box())
    tumour[5, 12:16, 10:14] = 1
    masks = {
        "Liver": liver_box(),
        f"Tumor_{planter.text()}": tumour,
        planter.text(): tumour,
    }
    seg = write_segmentation(
        plain, folder / "seg" / f"{planter.text()}.dcm", masks, kind="BINARY"
    )
    file = dcmread(seg)
    planter.into_segmentation(file)
    file.save_as(seg)
    planter.into_meta(seg)
    for one in plain:
        planter.into_slice(one)
    _write_planted(plain, folder / "ct", planter)


def _plant_rtstruct(folder: Path, patient_id: str, planter: Planter) -> None:
    slices = make_planted_series(patient_id, DAYS[1], lambda one: None)
    structures = {
        planter.text(): liver_contours(),
        "Liver": liver_contours(),
        f"tumour {planter.text()}": liver_contours()[:1],
    }
    write_structures(
        slices, folder / "rt.dcm", structures, change=planter.into_structures
    )
    for one in slices:
        planter.into_slice(one)
    _write_planted(slices, folder / "ct", planter)


def _plant_nifti(folder: Path, patient_id: str, planter: Planter) -> None:
    slices = make_planted_series(patient_id, DAYS[1], planter.into_slice)
    values = liver_box()
    values[5, 12:16, 10:14] = 2
    values[0, 0, 0] = 77
    _write_planted(slices, folder, planter)
    planter.into_nifti(write_nifti(folder / "seg.nii.gz", values, affine_of(slices)))


def _write_table(
    path: Path, patients: list[str], contract: DataContract, planter: Planter
) -> None:
    rows = []
    for number, patient_id in enumerate(patients):
        row = {"Patient-ID": patient_id, "De-identify Scout Name": planter.text()}
        row |= dict.fromkeys(contract.features, "1")
        row |= {"age": str(50 + 15 * number), "body_mass_index": "25.5"}
        row |= {"months_to_DFS_progression": f"{10 + number}.25"}
        row |= {"vital_status_DFS": str(number % 2), "clinrisk_score": "-999"}
        row |= {"date_of_liver_resection": RESECTION if number else "1992-07-01"}
        row |= {"relevant_notes": planter.text(), "our own": planter.text()}
        rows.append(row)
    header = [*rows[0], planter.text()]
    lines = [",".join(header)]
    lines += [",".join([*row.values(), planter.text()]) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
