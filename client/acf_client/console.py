"""What a site's commands show: notes and progress on stderr; nothing of a patient."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from acfnet_core.cohort.preparation_events import (
    CohortFinished,
    PatientPrepared,
    PreparationEvent,
    SourcesRead,
    StudyRefused,
)
from acfnet_core.errors import AcfnetError, format_error

if TYPE_CHECKING:
    # Heavy to import, and needed for their types alone.
    from acfnet_core.cohort.check import CheckReport


class Console:
    """Writes for people, on stderr."""

    def __init__(self) -> None:
        self._out = RichConsole(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Say something."""
        self._out.print(text, markup=False)

    def error(self, error: AcfnetError) -> None:
        """Say what is wrong and what to do."""
        self._out.print(format_error(error), style="red", markup=False)

    def show_check(self, report: "CheckReport") -> None:
        """Show what `data check` found."""
        table = report.table
        self.say(f"Contract {report.contract} ({report.contract_sha256[:12]})")
        self.say(
            f"Table: {table.num_rows} rows, {table.num_patients} patients with an "
            f"outcome, {table.num_events} events, {table.num_without_outcome} without "
            "an outcome"
        )
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
                        f"{event.num_patients} patients in the table, "
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
        if event.num_scans_assumed:
            self.say(
                f"  {event.num_scans_assumed} scans have no resection date to count "
                "from: the last of each patient was put at 0, the others keep their "
                "distance to it"
            )
        for code, count in event.refused.items():
            self.say(f"  not used: {count} x {code}")

    def _show_codes(self, codes: dict[str, int], meanings: dict[str, str]) -> None:
        if not codes:
            return
        table = Table(box=None, padding=(0, 2, 0, 2))
        for heading in ("not used", "count", "because"):
            table.add_column(heading)
        for code, count in sorted(codes.items()):
            table.add_row(code, str(count), meanings.get(code, ""))
        self._out.print(table)
