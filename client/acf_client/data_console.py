"""What a site's data commands show: notes, tables and progress on stderr.

Counts, codes and row numbers are shown, and nothing else of a patient.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

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
    from acfnet_core.cohort.deidentified.export import ExportEvent, ExportFinished
    from acfnet_core.cohort.quick_look.folder_findings import (
        FolderInspection,
        SegmentationFinding,
        SeriesFinding,
    )
    from acfnet_core.cohort.synthetic.cohort_mix import HospitalWritten
    from acfnet_core.cohort.synthetic.sites import PatientWritten

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
        meanings = found.meanings
        for series in found.series:
            self._show_series(series, meanings)
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

    def write_inspection(self, found: "FolderInspection") -> None:
        """Write it for programs, on stdout, piece by piece."""
        sys.stdout.writelines(found.write_json())
        sys.stdout.write("\n")

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
        for warning in report.warnings:
            self._warn(warning.text)
        for doubt in table.warnings:
            self._warn(doubt.text)
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
        for warning in images.warnings:
            self._warn(warning.text)

    def show_data_report(self, content: Mapping[str, Any]) -> None:
        """Show where the page of `data report` is, and what it says first."""
        scans = (
            f"{content['num_scans']} scans, of which {content['num_scans_marked']} are "
            "marked for a second look"
            if content["is_prepared"]
            else "nothing prepared yet"
        )
        self.say(
            f"{content['num_rows']} rows, {content['num_patients']} patients with an "
            f"outcome, {content['num_events']} events; {scans}"
        )
        size_mb = content["size_bytes"] / 1e6
        self.say(
            f"Wrote {content['report']} ({size_mb:.1f} MB), for this site's own eyes: "
            "it holds images of patients, do not send it"
        )

    def show_summary(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Show what `data summary` says, a figure a line."""
        table = Table(box=None, padding=(0, 2, 0, 2))
        for heading in ("", "known", "figures"):
            table.add_column(heading)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._out.print(table)
        self.say(
            "Means and standard deviations are of the numbers as the contract "
            "transforms them: of log(1 + x) where it says log1p."
        )

    def show_synthesis(
        self, events: "Iterable[PatientWritten | HospitalWritten]"
    ) -> "list[HospitalWritten]":
        """Show progress while hospitals are made up; return them."""
        # Its class is heavy to import, and by now it has been.
        from acfnet_core.cohort.synthetic.cohort_mix import HospitalWritten

        hospitals: list[HospitalWritten] = []
        with self._bars() as bars:
            task = bars.add_task("patients", total=None)
            for event in events:
                if isinstance(event, HospitalWritten):
                    hospitals.append(event)
                    self._show_hospital(event)
                else:
                    bars.update(task, completed=event.index, total=event.total)
        return hospitals

    def show_preparation(self, events: Iterable[PreparationEvent]) -> CohortFinished:
        """Show progress while patients are prepared; return the last event."""
        with self._bars() as bars:
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

    def show_export(self, events: "Iterable[ExportEvent]") -> "ExportFinished":
        """Show progress while a copy is written, and what to think of; return it."""
        # Its classes are heavy to import, and by now they have been.
        from acfnet_core.cohort.deidentified.export import (
            ExportFinished,
            PatientExported,
        )

        with self._bars() as bars:
            task = bars.add_task("patients", total=None)
            for event in events:
                if isinstance(event, PatientExported):
                    bars.update(task, completed=event.index, total=event.total)
                    if event.left_out:
                        codes = ", ".join(event.left_out)
                        self.say(f"  row {event.row_number}: {codes}")
                elif isinstance(event, ExportFinished):
                    self._show_exported(event)
                    return event
        raise AssertionError("an export ends with ExportFinished")

    def _show_exported(self, event: "ExportFinished") -> None:
        ready, manifest = event.ready, event.ready.manifest
        self.say(
            f"Copied {manifest.num_patients} patients, {manifest.num_with_scans} of "
            f"them with {manifest.num_scans} scans; {len(manifest.columns)} columns"
        )
        if ready.num_ages_capped:
            self.say(f"  {ready.num_ages_capped} ages above 90 are written as 90")
        for code, count in ready.left_out.items():
            self.say(f"  not copied: {count} x {code}")
        for line in manifest.caution:
            self._out.print(f"  {line}", style="yellow", markup=False)
        self.say(f"Wrote {event.folder}; export.json ({ready.manifest_sha256[:12]})")

    def _bars(self) -> Progress:
        """Return progress bars, which nobody sees where there is no terminal."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._out,
            transient=True,
            disable=not self._out.is_terminal,
        )

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

    def _warn(self, text: str) -> None:
        """Show what to look at; nothing is kept from being prepared by it."""
        self._out.print(f"  warning: {text}", style="yellow", markup=False)

    def _show_hospital(self, written: "HospitalWritten") -> None:
        plan = written.plan
        num_defects = len(plan.image_defects) + len(plan.table_defects)
        self.say(
            f"{written.folder}: {plan.site.num_patients} patients, table "
            f"{plan.site.table}, masks {plan.site.form.masks}, pixels "
            f"{plan.site.form.coding}, seeded defects {num_defects} (answer-key.json)"
        )

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
