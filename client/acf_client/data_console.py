"""What a site's data commands show: notes, tables and progress on stderr.

Counts, codes and row numbers are shown, and nothing else of a patient.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from acf_client.console import Console
from acfnet_core.cohort.prepared.preparation_events import (
    CohortFinished,
    PatientPrepared,
    PreparationEvent,
    SourcesRead,
    StudyRefused,
)
from acfnet_core.cohort.quick_look.folder_findings import REPAIRS

if TYPE_CHECKING:
    # Heavy to import, and needed for their types alone.
    from acfnet_core.cohort.check import CheckReport, ImageCheck
    from acfnet_core.cohort.quick_look.folder_findings import (
        FolderInspection,
        SegmentationFinding,
        SeriesFinding,
    )

_SEGMENTS_SHOWN = 8


class DataConsole(Console):
    """Writes for people, on stderr."""

    def show_inspection(self, found: "FolderInspection") -> None:
        """Show what `data inspect` found; names of files cannot steer the terminal."""
        self.say(
            f"CT series: {len(found.series)}, patients: {found.patients}, "
            f"segmentations: {len(found.segmentations)}, tables: {len(found.tables)}, "
            f"damaged: {len(found.damaged)}"
        )
        for series in found.series:
            self._show_series(series, found.meanings)
        for segmentation in found.segmentations:
            self.say(_printable(_segmentation_line(segmentation)))
        for table in found.tables:
            size = f"{table.rows} rows, {table.columns} columns"
            self.say(_printable(f"Table {table.file}: {size}"))
        for damaged in found.damaged:
            self.say(_printable(f"Damaged: {damaged.file} {damaged.problem}"))
        if found.other:
            kinds = (f"{k.replace('_', ' ')} {n}" for k, n in found.other.items())
            self.say(f"Other: {', '.join(kinds)}")
        self.say(
            "Verdicts are by headers, without a contract's bounds. `data prepare` uses "
            "accepted series, and mends what site.toml allows under [data.repairs]."
        )

    def show_check(self, report: "CheckReport") -> None:
        """Show what `data check` found."""
        table = report.table
        self.say(f"Contract {report.contract} ({report.contract_sha256[:12]})")
        self.say(
            f"Table: {table.num_rows} rows, {table.num_patients} patients with an "
            f"outcome, {table.num_events} events, {table.num_without_outcome} without "
            "an outcome"
        )
        self._show_without_outcome(table.num_patients, table.num_without_outcome)
        for fault in table.faults:
            self.say(f"  fault: {fault.text}")
        missing = {name: n for name, n in table.num_missing.items() if n}
        if missing:
            shown = ", ".join(f"{name} {n}" for name, n in missing.items())
            self.say(f"  missing values: {shown}")
        if report.images is None:
            self.say("Images: none; every scan counts as missing")
            return
        images = report.images
        self.say(
            f"Images: {images.num_series} CT series, {images.num_series_accepted} "
            f"accepted; {images.num_segmentations} segmentations; {images.num_scans} "
            f"scans of {images.num_patients_with_scans} patients can be used"
        )
        self._show_segmentations(images)
        self._show_repairs(images.repaired_codes)
        self._show_codes({**images.series_codes, **images.study_codes}, report.meanings)

    def show_preparation(self, events: Iterable[PreparationEvent]) -> CohortFinished:
        """Show progress while patients are prepared; return the last event."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
        )
        with Progress(
            *columns,
            console=self._out,
            transient=True,
            disable=not self._out.is_terminal,
        ) as bars:
            task = bars.add_task("patients", total=None)
            for event in events:
                if isinstance(event, PatientPrepared):
                    bars.update(task, completed=event.index, total=event.total)
                elif isinstance(event, StudyRefused):
                    self.say(f"  row {event.row_number}: {', '.join(event.codes)}")
                elif isinstance(event, SourcesRead):
                    self.say(
                        f"{event.num_patients} patients with an outcome in the table, "
                        f"{event.num_without_outcome} without; "
                        f"{event.num_scans_planned} scans to prepare"
                    )
                else:
                    self._show_finished(event)
                    return event
        raise AssertionError("a preparation ends with CohortFinished")

    def _show_finished(self, event: CohortFinished) -> None:
        self.say(
            f"Prepared {event.num_patients} patients ({event.num_events} events), "
            f"{event.num_with_scans} of them with {event.num_scans} scans"
        )
        if event.num_without_outcome:
            self.say(
                f"Prepared {event.num_without_outcome} patients without an outcome, "
                f"with {event.num_scans_without_outcome} scans"
            )
        self._show_without_outcome(event.num_patients, event.num_without_outcome)
        if event.num_scans_assumed:
            self.say(
                f"  {event.num_scans_assumed} scans have no resection date to count "
                "from: the last of each patient was put at 0, the others keep their "
                "distance to it"
            )
        self._show_repairs(event.repaired)
        for code, count in event.refused.items():
            self.say(f"  not used: {count} x {code}")

    def _show_without_outcome(self, num_patients: int, num_without: int) -> None:
        """Say what patients without an outcome are for."""
        if not num_without:
            return
        self.say(
            "  without an outcome: for `predict` alone; no run trains on these "
            "patients, counts them or is judged by them"
        )
        if not num_patients:
            self._out.print(
                "No patient has an outcome: this data serves prediction alone, and "
                "the site's part in a run will be refused (data.too_few_patients).",
                style="yellow",
                markup=False,
            )

    def _show_segmentations(self, images: "ImageCheck") -> None:
        """Show which files were found, which give the masks, and by which rule."""
        found, used = images.segmentations_by_kind, images.scans_by_kind
        if found:
            counts = (
                f"{kind} {n}, used {used.get(kind, 0)}" for kind, n in found.items()
            )
            self.say(f"  segmentations: {'; '.join(counts)}")
            self.say(f"  rule: {images.segmentation_rule}")
        if images.num_stray_masks:
            self.say(
                f"  NIfTI masks with no CT series in their folder: "
                f"{images.num_stray_masks}"
            )

    def _show_series(self, series: "SeriesFinding", meanings: dict[str, str]) -> None:
        shape = " x ".join(map(str, series.shape or ())) or "unequal"
        spacing = " x ".join(f"{step:g}" for step in series.spacing_mm or ())
        syntax = ", ".join(series.transfer_syntax)
        self.say(
            f"{series.series} {series.verdict}: {series.modality} of "
            f"{series.patient or 'no one patient'}, files: {series.files}, {shape} "
            f"voxels of {spacing or 'unequal'} mm, segmentations: "
            f"{series.segmentations}"
        )
        self.say(_printable(f"  {syntax}; in {series.folder}"))
        for code in series.repaired:
            self.say(f"  mended {code}: {meanings[code]}; {REPAIRS[code]}")
        for code in series.codes:
            is_mendable = series.verdict == "repairable" and code in REPAIRS
            mending = f"; to mend: {REPAIRS[code]}" if is_mendable else ""
            self.say(f"  {code}: {meanings[code]}{mending}")

    def _show_repairs(self, repaired: dict[str, int]) -> None:
        for code, count in repaired.items():
            self.say(f"  mended: {count} x {code}, {REPAIRS[code]}")

    def _show_codes(self, codes: dict[str, int], meanings: dict[str, str]) -> None:
        if not codes:
            return
        table = Table(box=None, padding=(0, 2, 0, 2))
        for heading in ("not used", "count", "because"):
            table.add_column(heading)
        for code, count in sorted(codes.items()):
            table.add_row(code, str(count), meanings.get(code, ""))
        self._out.print(table)


def _segmentation_line(found: "SegmentationFinding") -> str:
    voxels = found.voxels or ()
    names = found.segments[:_SEGMENTS_SHOWN]
    shown = [f"{n} ({v:,})" for n, v in zip(names, voxels, strict=False)] or [*names]
    counted = " (voxels)" if voxels else ""
    num_more = len(found.segments) - len(names)
    more = f" and {num_more} more (--json has all)" if num_more else ""
    drawn_on = f", on {found.series}" if found.series else ""
    unread = "" if found.is_read else "; not read: no mask by its name"
    return (
        f"{found.format} {found.file}{drawn_on}: segments{counted}: "
        f"{', '.join(shown) or 'none'}{more}{unread}"
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
