"""A quick look at any folder: its CT series, segmentations, tables, and the rest.

No contract, no site and no key are asked for, and nothing is written. Series and
patients get numbers that hold for one look; identifiers, names and UIDs of the headers
stay out. Paths are told as they lie on the disk, for the site's own eyes.

One damaged file costs itself alone, and is named. A CT series beside a file with an
unreadable header is refused all the same, as everywhere: it may lack a slice.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from acfnet_core.cohort.images.dicom_index import (
    READ_ERRORS,
    InstanceHeader,
    is_nifti_mask,
    quiet_dicom,
    read_header,
)
from acfnet_core.cohort.images.refusals import SEGMENTATION_CODES
from acfnet_core.cohort.images.repairs import ALL_REPAIRS, mend_headers
from acfnet_core.cohort.masks.nifti_contents import NIFTI_ERRORS, read_nifti_contents
from acfnet_core.cohort.masks.segment_counts import SEGMENT_ERRORS, count_segments
from acfnet_core.cohort.quick_look.folder_findings import (
    DamagedFile,
    FolderInspection,
    SegmentationFinding,
    SegmentationFormat,
    TableFinding,
)
from acfnet_core.cohort.quick_look.folder_tree import FolderTree
from acfnet_core.cohort.quick_look.series_verdict import find_series
from acfnet_core.cohort.table.table_file import read_cells
from acfnet_core.errors import DataError

_MARK_ENDS_AT = 132
_TABLES = (".csv", ".xlsx")
_NIFTI = (".nii", ".nii.gz")
_READ_ENDINGS = (".dcm", *_TABLES, *_NIFTI)
_KNOWN_ENDING = re.compile(r"\.([a-z][a-z0-9]{1,4})")
_KNOWN_MODALITY = re.compile(r"[A-Z]{2,16}")


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
    with quiet_dicom():
        for path in look.tree.files():
            look.take(path)
        return look.finish()


@dataclass
class _Look:
    """What has been met so far."""

    tree: FolderTree
    is_repaired: bool
    ct: dict[str, list[InstanceHeader]] = field(
        default_factory=lambda: defaultdict(list)
    )
    drawn: list[tuple[InstanceHeader, SegmentationFinding]] = field(
        default_factory=list
    )
    masks: list[SegmentationFinding] = field(default_factory=list)
    tables: list[TableFinding] = field(default_factory=list)
    damaged: list[DamagedFile] = field(default_factory=list)
    broken_folders: set[object] = field(default_factory=set)
    patients: dict[str, str] = field(default_factory=dict)
    other: Counter[str] = field(default_factory=Counter)

    def take(self, path: Path) -> None:
        """Look at one file."""
        try:
            size_bytes = path.stat().st_size
            with path.open("rb") as file:
                is_dicom = file.read(_MARK_ENDS_AT)[-4:] == b"DICM"
        except OSError:
            self.broken_folders.add(path.parent)
            self._damage(path, "cannot be opened")
            return
        name = path.name.lower()
        is_ours = name.endswith(_READ_ENDINGS)
        if path.name == "DICOMDIR":
            self.other["dicomdir"] += 1
        elif size_bytes == 0 and is_ours:
            self._damage(path, "is empty")
        elif is_dicom:
            self._take_dicom(path)
        else:
            self._taker_of(name)(path)

    def finish(self) -> FolderInspection:
        """Judge the series and number them, in the order of their first files."""
        labels = {key: f"CT-{n}" for n, key in enumerate(self.ct, start=1)}
        drawn_on = [self._series_of(header) for header, _ in self.drawn]
        series = [
            find_series(
                headers,
                label=labels[key],
                patient=self._patient_of(headers),
                folder=self._shown(headers[0].path.parent),
                num_segmentations=drawn_on.count(key),
                broken_folders=frozenset(self.broken_folders),
                root=self.tree.root,
                is_repaired=self.is_repaired,
            )
            for key, headers in self.ct.items()
        ]
        drawn = [
            replace(finding, series=None if key is None else labels[key])
            for (_, finding), key in zip(self.drawn, drawn_on, strict=True)
        ]
        for folder in self.tree.closed_folders:
            self._damage(folder, "is a folder that cannot be opened")
        return FolderInspection(
            patients=len(self.patients),
            series=tuple(series),
            segmentations=(*drawn, *self.masks),
            tables=tuple(self.tables),
            damaged=tuple(self.damaged),
            other=self._count_other(),
        )

    def _taker_of(self, name: str) -> Callable[[Path], None]:
        if name.endswith(_TABLES):
            return self._take_table
        if name.endswith(_NIFTI):
            return self._take_nifti
        return self._take_rest

    def _take_dicom(self, path: Path) -> None:
        try:
            header = self._read(path)
        except READ_ERRORS:
            self.broken_folders.add(path.parent)
            self._damage(
                path, "has a DICOM header that is damaged, cut off or deflated"
            )
            return
        if header.patient_id:
            self.patients.setdefault(header.patient_id, f"P-{len(self.patients) + 1}")
        if header.modality == "CT":
            # Files without a series UID are kept apart by their folder.
            self.ct[header.series_uid or f"in {path.parent}"].append(header)
        elif header.modality in ("SEG", "RTSTRUCT"):
            self._take_drawing(header)
        elif _KNOWN_MODALITY.fullmatch(header.modality):
            self.other[f"dicom_{header.modality.lower()}"] += 1
        else:
            self.other["dicom_unknown"] += 1

    def _read(self, path: Path) -> InstanceHeader:
        header = read_header(path)
        if not (self.is_repaired and header.modality == "CT"):
            return header
        (mended,) = mend_headers([header], self.tree.root, ALL_REPAIRS)
        return mended

    def _take_drawing(self, header: InstanceHeader) -> None:
        kind: SegmentationFormat = "RTSTRUCT"
        names, voxels = header.segment_labels, None
        if header.modality == "SEG":
            try:
                counts = count_segments(header.path).values()
            except SEGMENT_ERRORS:
                self._damage(header.path, SEGMENTATION_CODES["SEG_UNREADABLE"])
                return
            kind = "DICOM SEG"
            names = tuple(label for label, _ in counts)
            voxels = tuple(count for _, count in counts)
        self.drawn.append((header, self._finding(header.path, kind, names, voxels)))

    def _take_nifti(self, path: Path) -> None:
        try:
            found = read_nifti_contents(path)
        except NIFTI_ERRORS:
            self._damage(path, "is damaged, cut off, or no NIfTI volume")
            return
        if found.voxels is None:
            self.other["nifti_image"] += 1
            return
        names = tuple(map(str, found.voxels))
        voxels = tuple(found.voxels.values())
        self.masks.append(self._finding(path, "NIfTI", names, voxels))

    def _take_table(self, path: Path) -> None:
        try:
            columns, rows = read_cells(path)
        except DataError as error:
            self._damage(path, error.message.removeprefix(f"{path}: ").rstrip("."))
            return
        finding = TableFinding(
            file=self._shown(path), rows=len(rows), columns=len(columns)
        )
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

    def _series_of(self, drawing: InstanceHeader) -> str | None:
        """Return the key of the CT series that a segmentation names."""
        for key, (first, *_) in self.ct.items():
            is_named = first.series_uid in drawing.referenced_series or (
                not drawing.referenced_series and first.study_uid == drawing.study_uid
            )
            is_same = (first.patient_id, first.frame_of_reference_uid) == (
                drawing.patient_id,
                drawing.frame_of_reference_uid,
            )
            if first.series_uid and is_named and is_same:
                return key
        return None

    def _patient_of(self, headers: list[InstanceHeader]) -> str | None:
        found = {header.patient_id for header in headers}
        return self.patients.get(found.pop()) if len(found) == 1 else None

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
        return path.relative_to(self.tree.root).as_posix()
