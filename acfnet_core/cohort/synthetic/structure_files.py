"""Writing a made-up scan's masks as RTSTRUCT: lines around voxels, in millimetres."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.image import Masks
from acfnet_core.cohort.synthetic.patient import PlannedScan, SyntheticPatient
from acfnet_core.cohort.synthetic.study_header import (
    STUDY_TIME,
    Demographics,
    describe_study,
)

STRUCTURES_SERIES_NUMBER = 400

_Corner = tuple[int, int]


def write_structures(
    patient: SyntheticPatient,
    scan: PlannedScan,
    slices: list[Dataset],
    masks: Masks,
    study_folder: Path,
    *,
    demographics: Demographics,
) -> None:
    """Write the masks as one RTSTRUCT, drawn on the CT's slices.

    The lines run along the edges of voxels, so that no voxel is in doubt.

    Args:
        patient: Whose scan it is.
        scan: When it was made.
        slices: Headers of the CT, foot to head.
        masks: On the CT's voxels.
        study_folder: Gets a folder with the file.
        demographics: What the header says of the person.

    Raises:
        OSError: The folder cannot be written.
    """
    file = _describe_file(patient, scan, slices, demographics)
    file.StructureSetROISequence = []
    file.ROIContourSequence = []
    file.RTROIObservationsSequence = []
    for number, (name, mask) in enumerate(masks.items(), start=1):
        _add_structure(file, number, name, mask, slices)
    series_uid = str(file.SeriesInstanceUID)
    folder = study_folder / (
        f"{STRUCTURES_SERIES_NUMBER}.000000-Structures-{series_uid[-5:]}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    file.save_as(folder / "1-1.dcm", enforce_file_format=True)


def outline_mask(mask: Bool[np.ndarray, "row column"]) -> list[list[_Corner]]:
    """Return closed lines around the set pixels, holes included.

    A pixel (row, column) has its corners at (row, column) and (row + 1, column + 1).
    Pixels that touch at a corner alone get lines of their own.

    Example:
        >>> outline_mask(np.array([[True, True]]))
        [[(0, 0), (0, 2), (1, 2), (1, 0)]]
    """
    headings = _edges_by_start(mask)
    lines = []
    while headings:
        start = min(headings)
        heading = headings[start][0]
        path: list[_Corner] = []
        here = start
        while not path or here != start:
            path.append(here)
            headings[here].remove(heading)
            if not headings[here]:
                del headings[here]
            here = (here[0] + heading[0], here[1] + heading[1])
            heading = _go_on(headings.get(here, []), heading)
        lines.append(_without_straight_corners(path))
    return lines


def _edges_by_start(
    mask: Bool[np.ndarray, "row column"],
) -> dict[_Corner, list[_Corner]]:
    """Return corner -> headings of the edges from it, with set pixels to the right."""
    padded = np.pad(mask, 1)
    headings: dict[_Corner, list[_Corner]] = defaultdict(list)
    for towards, heading, offset in (
        ((-1, 0), (0, 1), (0, 0)),
        ((0, 1), (1, 0), (0, 1)),
        ((1, 0), (0, -1), (1, 1)),
        ((0, -1), (-1, 0), (1, 0)),
    ):
        # The neighbour beyond an edge, seen from every pixel.
        neighbour = np.roll(padded, (-towards[0], -towards[1]), axis=(0, 1))
        is_edge = mask & ~neighbour[1:-1, 1:-1]
        for row, column in zip(*np.nonzero(is_edge), strict=True):
            start = (int(row) + offset[0], int(column) + offset[1])
            headings[start].append(heading)
    return dict(headings)


def _go_on(choices: list[_Corner], heading: _Corner) -> _Corner:
    """Return the next heading: to the right where two pixels touch at a corner."""
    to_the_right = (heading[1], -heading[0])
    if to_the_right in choices:
        return to_the_right
    return choices[0] if choices else heading


def _without_straight_corners(path: list[_Corner]) -> list[_Corner]:
    """Leave out the corners at which a closed path goes straight on."""
    kept = []
    for index, (row, column) in enumerate(path):
        before, after = path[index - 1], path[(index + 1) % len(path)]
        if before[0] != after[0] and before[1] != after[1]:
            kept.append((row, column))
    return kept


def _describe_file(
    patient: SyntheticPatient,
    scan: PlannedScan,
    slices: list[Dataset],
    demographics: Demographics,
) -> Dataset:
    """Return the file without structures: whose it is, and what it was drawn on."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    describe_study(file, patient, scan, demographics)
    first = slices[0]
    file.Modality = "RTSTRUCT"
    file.SOPClassUID = RTStructureSetStorage
    file.SeriesInstanceUID = make_uid("structures", first.StudyInstanceUID)
    file.SOPInstanceUID = make_uid("instance", file.SeriesInstanceUID)
    file.SeriesNumber = STRUCTURES_SERIES_NUMBER
    file.SeriesDescription = "SYNTHETIC STRUCTURES"
    file.StructureSetLabel = "SYNTHETIC"
    file.StructureSetDate = file.StudyDate
    file.StructureSetTime = STUDY_TIME
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(one) for one in slices]
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    file.ReferencedFrameOfReferenceSequence = [frame]
    return file


def _reference(one: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = one.SOPClassUID
    item.ReferencedSOPInstanceUID = one.SOPInstanceUID
    return item


def _add_structure(
    file: Dataset,
    number: int,
    name: str,
    mask: Bool[np.ndarray, "slice row column"],
    slices: list[Dataset],
) -> None:
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = slices[0].FrameOfReferenceUID
    roi.ROIName = name
    roi.ROIGenerationAlgorithm = "MANUAL"
    file.StructureSetROISequence.append(roi)
    drawn = Dataset()
    drawn.ReferencedROINumber = number
    drawn.ContourSequence = [
        _draw(line, header)
        for header, section in zip(slices, mask, strict=True)
        for line in outline_mask(section)
    ]
    file.ROIContourSequence.append(drawn)
    seen = Dataset()
    seen.ObservationNumber = number
    seen.ReferencedROINumber = number
    seen.RTROIInterpretedType = "ORGAN" if name == "Liver" else ""
    seen.ROIInterpreter = ""
    file.RTROIObservationsSequence.append(seen)


def _draw(line: list[_Corner], header: Dataset) -> Dataset:
    """Return a closed line on one slice, in millimetres."""
    x_mm, y_mm, z_mm = map(float, header.ImagePositionPatient)
    row_mm, column_mm = map(float, header.PixelSpacing)
    contour = Dataset()
    contour.ContourImageSequence = [_reference(header)]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(line)
    contour.ContourData = [
        f"{value_mm:.3f}"
        for row, column in line
        for value_mm in (
            x_mm + (column - 0.5) * column_mm,
            y_mm + (row - 0.5) * row_mm,
            z_mm,
        )
    ]
    return contour
