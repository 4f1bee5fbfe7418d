"""Writing a made-up patient as a hospital would hand it over: CT, SEG and workbook.

Every byte follows from the content: unique identifiers are hashes of what they name,
and the writing libraries' clocks and random numbers are replaced by constants.
"""

import datetime
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import highdicom
import numpy as np
import openpyxl
from jaxtyping import Bool
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from acfnet_core.cohort.synthetic.image import SyntheticScan
from acfnet_core.cohort.synthetic.patient import PlannedScan, SyntheticPatient
from acfnet_core.cohort.synthetic.table import COLUMNS, RESECTION_DATE_COLUMN, Cell

STUDY_DESCRIPTION = "CT ANGIO ABD WITH PEL"
CT_SERIES_DESCRIPTION = "SYNTHETIC PORTAL VENOUS"
SEG_SERIES_DESCRIPTION = "Segmentation"
CT_SERIES_NUMBER = 100
SEG_SERIES_NUMBER = 300
MANUFACTURER = "ACFNET SYNTHETIC"
RESCALE_INTERCEPT = -1024
STUDY_TIME = "120000"
FIXED_TIME = datetime.datetime(1992, 1, 1)
"""Stands wherever a file format asks when the file was made."""


def make_uid(*parts: object) -> str:
    """Return the unique identifier of what the parts name, below root 2.25.

    Source: DICOM PS3.5 section B.2; the 128 bits are a hash in place of a UUID.
    """
    text = "/".join(map(str, parts))
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])}"


def write_study(
    patient: SyntheticPatient, scan: PlannedScan, content: SyntheticScan, folder: Path
) -> None:
    """Write one study as TCIA lays it out: a folder of CT slices and one of the SEG.

    Raises:
        OSError: The folder cannot be written.
    """
    root = _uid_root(patient, scan)
    study_folder = (
        folder
        / patient.patient_id
        / f"{scan.study_date:%m-%d-%Y}-NA-{STUDY_DESCRIPTION}-{root[-5:]}"
    )
    slices = _write_ct(patient, scan, content, study_folder)
    _write_segmentation(patient, scan, content, slices, study_folder)


def write_workbook(rows: Sequence[dict[str, Cell]], path: Path) -> None:
    """Write the clinical table and its data dictionary as two sheets of a workbook.

    Raises:
        OSError: The file cannot be written.
    """
    workbook = openpyxl.Workbook()
    workbook.properties.creator = MANUFACTURER
    workbook.properties.created = FIXED_TIME
    table = workbook.active
    table.title = "clinical"
    table.append(list(COLUMNS))
    for row in rows:
        table.append([row[name] for name in COLUMNS])
    date_column = list(COLUMNS).index(RESECTION_DATE_COLUMN) + 1
    for (cell,) in table.iter_rows(min_row=2, min_col=date_column, max_col=date_column):
        cell.number_format = "yyyy-mm-dd"
    dictionary = workbook.create_sheet("data dictionary")
    dictionary.append(["column", "meaning"])
    for name, meaning in COLUMNS.items():
        dictionary.append([name, meaning])
    dictionary.append(["-999", "Stands for a missing value in every column"])
    content = io.BytesIO()
    workbook.save(content)
    path.write_bytes(_without_clock(content.getvalue()))


def _uid_root(patient: SyntheticPatient, scan: PlannedScan) -> str:
    """Return the study's unique identifier, from which its other ones are made."""
    return make_uid("study", patient.seed, patient.patient_id, scan.index)


def _write_ct(
    patient: SyntheticPatient,
    scan: PlannedScan,
    content: SyntheticScan,
    study_folder: Path,
) -> list[Dataset]:
    """Write the CT slices, foot to head, and return their headers without pixels."""
    study_uid = _uid_root(patient, scan)
    series_uid = make_uid("ct", study_uid)
    folder = study_folder / f"{CT_SERIES_NUMBER}.000000-NA-{series_uid[-5:]}"
    folder.mkdir(parents=True, exist_ok=True)
    template = _describe_series(patient, scan, content, study_uid, series_uid)
    stored = (content.hu - RESCALE_INTERCEPT).astype("<u2")
    x_mm, y_mm, first_z_mm = content.first_voxel_mm
    headers = []
    for number, pixels in enumerate(stored, start=1):
        z_mm = first_z_mm + (number - 1) * content.spacing_mm[0]
        # The slice's own tags are new elements: those of the template are shared.
        dataset = Dataset()
        dataset.update(template)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPInstanceUID = make_uid("slice", series_uid, number)
        dataset.InstanceNumber = number
        dataset.ImagePositionPatient = [
            f"{place_mm:.3f}" for place_mm in (x_mm, y_mm, z_mm)
        ]
        dataset.SliceLocation = f"{z_mm:.3f}"
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / f"1-{number:03d}.dcm", enforce_file_format=True)
        del dataset.PixelData
        headers.append(dataset)
    return headers


def _describe_series(
    patient: SyntheticPatient,
    scan: PlannedScan,
    content: SyntheticScan,
    study_uid: str,
    series_uid: str,
) -> Dataset:
    """Return what every slice of a CT series has in common."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    for name in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, name, f"{scan.study_date:%Y%m%d}")
    for name in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(dataset, name, STUDY_TIME)
    dataset.AccessionNumber = ""
    dataset.Modality = "CT"
    dataset.Manufacturer = MANUFACTURER
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = STUDY_DESCRIPTION
    dataset.SeriesDescription = CT_SERIES_DESCRIPTION
    dataset.PatientName = "SYNTHETIC^PATIENT"
    dataset.PatientID = patient.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "F" if patient.is_female else "M"
    dataset.PatientAge = f"{patient.age:03d}Y"
    dataset.KVP = "120"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = study_uid
    dataset.SeriesInstanceUID = series_uid
    dataset.StudyID = str(scan.index + 1)
    dataset.SeriesNumber = CT_SERIES_NUMBER
    dataset.AcquisitionNumber = 1
    dataset.FrameOfReferenceUID = make_uid("frame", study_uid)
    dataset.PositionReferenceIndicator = ""
    _describe_pixels(dataset, content)
    return dataset


def _describe_pixels(dataset: Dataset, content: SyntheticScan) -> None:
    """Add the tags of the pixel grid and of its values."""
    slice_mm, row_mm, column_mm = content.spacing_mm
    dataset.SliceThickness = f"{slice_mm:g}"
    dataset.SpacingBetweenSlices = f"{slice_mm:g}"
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = [f"{row_mm:g}", f"{column_mm:g}"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = content.hu.shape[1:]
    dataset.BitsAllocated = 16
    dataset.BitsStored = 12
    dataset.HighBit = 11
    dataset.PixelRepresentation = 0
    dataset.BurnedInAnnotation = "NO"
    dataset.RescaleIntercept = str(RESCALE_INTERCEPT)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"


def _write_segmentation(
    patient: SyntheticPatient,
    scan: PlannedScan,
    content: SyntheticScan,
    slices: list[Dataset],
    study_folder: Path,
) -> None:
    """Write the masks as one DICOM SEG over the slices that hold liver."""
    study_uid = _uid_root(patient, scan)
    series_uid = make_uid("seg", study_uid)
    has_any = np.any([mask.any(axis=(1, 2)) for mask in content.masks.values()], axis=0)
    first, last = np.flatnonzero(has_any)[[0, -1]]
    covered = slice(int(first), int(last) + 1)
    pixels = np.stack([mask[covered] for mask in content.masks.values()], axis=-1)
    segmentation = highdicom.seg.Segmentation(
        source_images=slices[covered],
        pixel_array=pixels.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=list(_describe_segments(content.masks)),
        series_instance_uid=series_uid,
        series_number=SEG_SERIES_NUMBER,
        sop_instance_uid=make_uid("instance", series_uid),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="acfnet_core.cohort.synthetic.sites",
        software_versions="1",
        device_serial_number="0",
        content_label="SYNTHETIC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=SEG_SERIES_DESCRIPTION,
        omit_empty_frames=True,
    )
    _fix_clock_and_chance(segmentation, scan, make_uid("dimension", series_uid))
    folder = study_folder / (
        f"{SEG_SERIES_NUMBER}.000000-{SEG_SERIES_DESCRIPTION}-{series_uid[-5:]}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(folder / "1-1.dcm")


def _describe_segments(
    masks: dict[str, Bool[np.ndarray, "slice row column"]],
) -> Iterator[highdicom.seg.SegmentDescription]:
    """Yield a description with a standard code for every segment."""
    kinds = {
        "Liver": codes.SCT.Liver,
        "Liver Remnant": codes.SCT.Liver,
        "Hepatic": codes.SCT.HepaticVein,
        "Portal": codes.SCT.PortalVein,
    }
    for number, label in enumerate(masks, start=1):
        is_organ = label in kinds
        yield highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=(
                codes.SCT.AnatomicalStructure
                if is_organ
                else codes.SCT.MorphologicallyAbnormalStructure
            ),
            segmented_property_type=kinds.get(label, codes.SCT.Mass),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )


def _fix_clock_and_chance(
    segmentation: Dataset, scan: PlannedScan, dimension_uid: str
) -> None:
    """Replace the times and the random identifier that highdicom 0.28 puts in."""
    day = f"{scan.study_date:%Y%m%d}"
    for element in segmentation:
        if element.VR == "DA" and element.value:
            element.value = day
        if element.VR == "TM" and element.value:
            element.value = STUDY_TIME
    for item in segmentation.ContributingEquipmentSequence:
        item.ContributionDateTime = day + STUDY_TIME
    for sequence in (
        segmentation.DimensionOrganizationSequence,
        segmentation.DimensionIndexSequence,
    ):
        _set_dimension_uid(sequence, dimension_uid)


def _set_dimension_uid(sequence: DicomSequence, uid: str) -> None:
    """Set the identifier of the dimension organisation in every item."""
    for item in sequence:
        item.DimensionOrganizationUID = uid


def _without_clock(workbook: bytes) -> bytes:
    """Return a workbook whose archive and properties bear a constant time."""
    stamp = f"{FIXED_TIME:%Y-%m-%dT%H:%M:%SZ}".encode()
    rewritten = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook)) as source,
        zipfile.ZipFile(rewritten, "w") as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                # openpyxl 3.1 sets the time of the change itself when it saves.
                content = re.sub(
                    rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, content
                )
            entry = zipfile.ZipInfo(name, date_time=FIXED_TIME.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content)
    return rewritten.getvalue()
