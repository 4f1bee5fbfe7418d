"""A quick look at any folder: its CT series, segmentations, tables, and the rest.

No contract, no site and no key are asked for, and nothing is written. Series and
patients get numbers that hold for one look; identifiers, names and UIDs of the headers
stay out. Paths are told as they lie on the disk, for the site's own eyes.

One damaged file costs itself alone, and is named. A CT series beside a file with an
unreadable header is refused all the same, as everywhere: it may lack a slice.
"""

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from acfnet_core.cohort.images.dicom_index import (
    DicomIndex,
    InstanceHeader,
    is_nifti_mask,
    quiet_dicom,
)
from acfnet_core.cohort.images.header_runs import HeaderRuns
from acfnet_core.cohort.images.repairs import ALL_REPAIRS, mend_index, mender_of
from acfnet_core.cohort.masks.nifti_contents import NiftiContents
from acfnet_core.cohort.quick_look.file_contents import (
    FileContents,
    Sort,
    look_into,
)
from acfnet_core.cohort.quick_look.first_headers import FirstHeaders
from acfnet_core.cohort.quick_look.folder_findings import (
    DamagedFile,
    FolderInspection,
    SegmentationFinding,
    SegmentationFormat,
    SeriesFinding,
    TableFinding,
)
from acfnet_core.cohort.quick_look.folder_tree import FolderTree
from acfnet_core.cohort.quick_look.series_verdict import find_series
from acfnet_core.cohort.spool import Spool, SpooledList
from acfnet_core.errors import DataError

_KNOWN_ENDING = re.compile(r"\.([a-z][a-z0-9]{1,4})")
_KNOWN_MODALITY = re.compile(r"[A-Z]{2,16}")
_PROBLEMS: dict[str, str] = {"closed": "cannot be opened", "empty": "is empty"}


def inspect_folder(root: Path, *, is_repaired: bool = False) -> FolderInspection:
    """Look at every file under a folder.

    Args:
        root: Any folder.
        is_repaired: Whether to show what every repair together would give.

    Raises:
        DataError: `data.path_not_found`: `root` is not a folder.
    """
    if not root.is_dir():
        raise DataError(
            "data.path_not_found",
            f"{root}: there is no such folder; a folder with DICOM, NIfTI or tables is "
            "expected here.",
            remedy="Correct the path of the folder.",
        )
    look = _Look(FolderTree(root=root.resolve()), is_repaired)
    for path, sort, contents in look_into(look.tree.files()):
        look.take(path, sort, contents)
    with quiet_dicom():
        return look.finish()


class _Look:
    """What has been met so far."""

    def __init__(self, tree: FolderTree, is_repaired: bool) -> None:
        self.tree, self.is_repaired = tree, is_repaired
        self.spool = Spool()
        self.ct = HeaderRuns(self.spool)
        self.drawn: SpooledList[InstanceHeader] = self.spool.new_list()
        self.drawings: SpooledList[SegmentationFinding] = self.spool.new_list()
        self.masks: SpooledList[SegmentationFinding] = self.spool.new_list()
        self.tables: SpooledList[TableFinding] = self.spool.new_list()
        self.damaged: SpooledList[DamagedFile] = self.spool.new_list()
        self.patients: SpooledList[None] = self.spool.new_list()
        self.last_patient = ""
        self.broken_folders: set[object] = set()
        self.other: Counter[str] = Counter()

    def take(self, path: Path, sort: Sort, contents: FileContents) -> None:
        """Note what one file is and holds."""
        if sort == "closed" or contents.is_header_broken:
            self.broken_folders.add(path.parent)
        problem = _PROBLEMS.get(sort, contents.problem)
        if problem:
            for header in contents.headers[:1]:
                self._know(header)
            self._damage(path, problem)
        elif sort == "dicomdir":
            self.other["dicomdir"] += 1
        elif sort == "dicom":
            self._take_dicom(path, contents)
        elif sort == "table":
            self._take_table(path, contents)
        elif contents.nifti is not None:
            self._take_nifti(path, contents.nifti)
        else:
            self._take_rest(path)

    def finish(self) -> FolderInspection:
        """Judge the series and number them, in the order of their first files."""
        index = DicomIndex(
            ct_series=self.ct.as_met(),
            segmentations=self.drawn,
            num_ignored=0,
            num_broken=0,
            broken_folders=frozenset(),
            spool=self.spool,
        )
        shown = self._shown_of(index)
        firsts = FirstHeaders(self.spool)
        for first in shown.first_headers:
            firsts.add(first)
        num_drawn = array("Q", bytes(8 * len(index.ct_series)))
        segmentations: SpooledList[SegmentationFinding] = self.spool.new_list()
        for header, finding in zip(shown.drawn, self.drawings, strict=True):
            place = firsts.place_of(header)
            if place is not None:
                num_drawn[place] += 1
            label = None if place is None else _label(place)
            segmentations.append(replace(finding, series=label))
        for mask in self.masks:
            segmentations.append(mask)
        series = self._find_series(index, num_drawn)
        for folder in self.tree.closed_folders:
            self._damage(folder, "is a folder that cannot be opened")
        return FolderInspection(
            patients=len(self.patients),
            series=series,
            segmentations=segmentations,
            tables=self.tables,
            damaged=self.damaged,
            other=self._count_other(),
        )

    def _shown_of(self, index: DicomIndex) -> "_Shown":
        """Return the headers that the look is about: as they are, or mended."""
        if not self.is_repaired:
            return _Shown(first_headers=self.ct.first_of_each(), drawn=self.drawn)
        mended = mend_index(index, self.tree.root, ALL_REPAIRS)
        firsts: SpooledList[InstanceHeader] = self.spool.new_list()
        for headers in mended.ct_series:
            firsts.append(headers[0])
            for header in headers:
                self._know(header)
        for header in mended.segmentations:
            self._know(header)
        return _Shown(first_headers=firsts, drawn=mended.segmentations)

    def _find_series(
        self, index: DicomIndex, num_drawn: Sequence[int]
    ) -> Sequence[SeriesFinding]:
        """Judge every series as it is and with all mended that can be mended."""
        found: SpooledList[SeriesFinding] = self.spool.new_list()
        mend = mender_of(index, self.tree.root, ALL_REPAIRS)
        broken_folders = frozenset(self.broken_folders)
        for place, as_they_are in enumerate(index.ct_series):
            mended = mend(as_they_are)
            headers = mended if self.is_repaired else as_they_are
            found.append(
                find_series(
                    headers,
                    label=_label(place),
                    patient=self._patient_of(headers),
                    folder=self._shown(headers[0].path.parent),
                    num_segmentations=num_drawn[place],
                    broken_folders=broken_folders,
                    mended=mended,
                    is_repaired=self.is_repaired,
                )
            )
        return found

    def _take_dicom(self, path: Path, contents: FileContents) -> None:
        headers = contents.headers
        header = headers[0]
        self._know(header)
        if header.modality == "CT":
            # Files without a series UID are kept apart by their folder.
            self.ct.add(header.series_uid or f"in {path.parent}", headers)
        elif header.modality in ("SEG", "RTSTRUCT"):
            self._take_drawing(header, contents)
        elif _KNOWN_MODALITY.fullmatch(header.modality):
            self.other[f"dicom_{header.modality.lower()}"] += 1
        else:
            self.other["dicom_unknown"] += 1

    def _know(self, header: InstanceHeader) -> None:
        """Number a patient who is met for the first time."""
        patient_id = header.patient_id
        # Files follow one another as their patients do.
        if patient_id == self.last_patient:
            return
        self.last_patient = patient_id
        if patient_id and not self.patients.has(patient_id):
            self.patients.append(None, keys=[patient_id])

    def _take_drawing(self, header: InstanceHeader, contents: FileContents) -> None:
        kind: SegmentationFormat = "RTSTRUCT"
        names, voxels = header.segment_labels, None
        if header.modality == "SEG":
            kind = "DICOM SEG"
            names = tuple(label for label, _ in contents.segments)
            voxels = tuple(count for _, count in contents.segments)
        self.drawn.append(header)
        self.drawings.append(self._finding(header.path, kind, names, voxels))

    def _take_nifti(self, path: Path, found: NiftiContents) -> None:
        if found.voxels is None:
            self.other["nifti_image"] += 1
            return
        names = tuple(map(str, found.voxels))
        voxels = tuple(found.voxels.values())
        self.masks.append(self._finding(path, "NIfTI", names, voxels))

    def _take_table(self, path: Path, contents: FileContents) -> None:
        rows, columns = contents.table_size
        finding = TableFinding(file=self._shown(path), rows=rows, columns=columns)
        self.tables.append(finding)

    def _take_rest(self, path: Path) -> None:
        if path.suffix.lower() == ".dcm":
            self._damage(path, "is named .dcm and lacks the mark of a DICOM file")
            return
        # Only plain endings are told: one may be part of an identifier.
        known = _KNOWN_ENDING.fullmatch(path.suffix.lower())
        self.other[f"file_{known[1]}" if known else "file_unknown"] += 1

    def _finding(
        self,
        path: Path,
        kind: SegmentationFormat,
        names: tuple[str, ...],
        voxels: tuple[int, ...] | None,
    ) -> SegmentationFinding:
        return SegmentationFinding(
            file=self._shown(path),
            format=kind,
            is_read=kind != "NIfTI" or is_nifti_mask(path),
            series=None,
            segments=names,
            voxels=voxels,
        )

    def _patient_of(self, headers: Sequence[InstanceHeader]) -> str | None:
        found = {header.patient_id for header in headers}
        places = self.patients.places(found.pop()) if len(found) == 1 else []
        return f"P-{places[0] + 1}" if places else None

    def _count_other(self) -> dict[str, int]:
        tree = self.tree
        self.other["link_outward"] += len(tree.links_outward)
        self.other["link_not_entered"] += len(tree.links_not_entered)
        self.other["folder_closed"] += len(tree.closed_folders)
        self.other["special_file"] += tree.num_special
        return {
            kind: self.other[kind] for kind in sorted(self.other) if self.other[kind]
        }

    def _damage(self, path: Path, problem: str) -> None:
        self.damaged.append(DamagedFile(file=self._shown(path), problem=problem))

    def _shown(self, path: Path) -> str:
        # A name with escape codes would write on the terminal as it likes.
        shown = path.relative_to(self.tree.root).as_posix()
        return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown)


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """Of each series the first header, and every segmentation's."""

    first_headers: Sequence[InstanceHeader]
    drawn: Sequence[InstanceHeader]


def _label(place: int) -> str:
    return f"CT-{place + 1}"
