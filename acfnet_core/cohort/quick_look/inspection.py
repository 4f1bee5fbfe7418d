"""A quick look at any folder: its CT series, segmentations, tables, and the rest.

No contract, no site and no key are asked for, and nothing is written. Series and
patients get numbers that hold for one look; identifiers, names and UIDs of the headers
stay out. Paths are told as they lie on the disk, for the site's own eyes.

One damaged file costs itself alone, and is named. A CT series beside a file with an
unreadable header is refused all the same, as everywhere: it may lack a slice.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from acfnet_core.cohort.images.dicom_index import (
    DicomIndex,
    InstanceHeader,
    is_nifti_mask,
    quiet_dicom,
)
from acfnet_core.cohort.images.repairs import ALL_REPAIRS, mend_index
from acfnet_core.cohort.masks.nifti_contents import NiftiContents
from acfnet_core.cohort.quick_look.file_contents import (
    FileContents,
    Sort,
    look_into,
    sort_of,
)
from acfnet_core.cohort.quick_look.folder_findings import (
    DamagedFile,
    FolderInspection,
    SegmentationFinding,
    SegmentationFormat,
    TableFinding,
)
from acfnet_core.cohort.quick_look.folder_tree import FolderTree
from acfnet_core.cohort.quick_look.series_verdict import find_series
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
    files = [(path, sort_of(path)) for path in look.tree.files()]
    for path, sort, contents in look_into(files):
        look.take(path, sort, contents)
    with quiet_dicom():
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
        mended = self._mend()
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
                mended=mended[key],
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

    def _take_dicom(self, path: Path, contents: FileContents) -> None:
        headers = contents.headers
        header = headers[0]
        self._know(header)
        if header.modality == "CT":
            # Files without a series UID are kept apart by their folder.
            self.ct[header.series_uid or f"in {path.parent}"].extend(headers)
        elif header.modality in ("SEG", "RTSTRUCT"):
            self._take_drawing(header, contents)
        elif _KNOWN_MODALITY.fullmatch(header.modality):
            self.other[f"dicom_{header.modality.lower()}"] += 1
        else:
            self.other["dicom_unknown"] += 1

    def _know(self, header: InstanceHeader) -> None:
        """Number a patient who is met for the first time."""
        if header.patient_id:
            self.patients.setdefault(header.patient_id, f"P-{len(self.patients) + 1}")

    def _mend(self) -> dict[str, list[InstanceHeader]]:
        """Return the CT series with all mended that `data prepare` could mend.

        Where that is asked for, they take the place of the series as they are.
        """
        index = DicomIndex(
            ct_series=tuple(map(tuple, self.ct.values())),
            segmentations=tuple(header for header, _ in self.drawn),
            num_ignored=0,
            num_broken=0,
            broken_folders=frozenset(),
        )
        index = mend_index(index, self.tree.root, ALL_REPAIRS)
        mended = dict(zip(self.ct, map(list, index.ct_series), strict=True))
        if self.is_repaired:
            self.ct = mended
            findings = (finding for _, finding in self.drawn)
            self.drawn = list(zip(index.segmentations, findings, strict=True))
            for header in chain(*mended.values(), index.segmentations):
                self._know(header)
        return mended

    def _take_drawing(self, header: InstanceHeader, contents: FileContents) -> None:
        kind: SegmentationFormat = "RTSTRUCT"
        names, voxels = header.segment_labels, None
        if header.modality == "SEG":
            kind = "DICOM SEG"
            names = tuple(label for label, _ in contents.segments)
            voxels = tuple(count for _, count in contents.segments)
        self.drawn.append((header, self._finding(header.path, kind, names, voxels)))

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
        # A name with escape codes would write on the terminal as it likes.
        shown = path.relative_to(self.tree.root).as_posix()
        return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown)
