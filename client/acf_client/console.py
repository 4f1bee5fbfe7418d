"""What a site's commands show: results for programs on stdout, all else on stderr.

Nothing of a patient is shown, but for what `predict` was asked for.
"""

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.table import Table

from acfnet_core.errors import AcfnetError, format_error

if TYPE_CHECKING:
    # Heavy to import, and needed for their types alone.
    from acf_client.prediction import WrittenPrediction
    from acf_client.prediction_record import PredictionRecord

TABLE_YEARS = (1, 2, 3, 5, 8)


class Console:
    """Writes for people on stderr, for programs on stdout."""

    def __init__(self) -> None:
        self._out = RichConsole(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Say something."""
        self._out.print(text, markup=False)

    def write_json(self, content: Any) -> None:
        """Write a result for programs, on stdout."""
        sys.stdout.write(f"{json.dumps(content)}\n")

    def next_step(self, command: str) -> None:
        """Say what to type next."""
        self.say(f"Next: {command}")

    def error(self, error: AcfnetError) -> None:
        """Say what is wrong and what to do."""
        self._out.print(format_error(error), style="red", markup=False)

    def show_prediction(self, written: "WrittenPrediction") -> None:
        """Show what models say of a patient, what it is and is not, and the files."""
        record = written.record
        self.say(
            f"Projected probability to be free of the event ({record.endpoint}), years "
            f"from {record.counted_from}:"
        )
        self._show_years(record)
        self.say(f"Lowest, highest: {record.lowest_and_highest}.")
        if record.supported_months is None:
            self.say("How far patients were followed in training is not known.")
        self._show_what_was_read(record)
        for note in record.notes:
            self.say(note)
        if written.years_left_out:
            years = ", ".join(map(str, written.years_left_out))
            self.say(
                f"No map of year {years}: nobody was followed this long in training."
            )
        if written.mended:
            self.say(
                f"No maps as DICOM: the scan was mended ({', '.join(written.mended)}), "
                "so its voxels are not those of the files."
            )
        self.say(record.caution)
        names = dict.fromkeys(file.parts[0] for file in written.files)
        ours = [name for name in names if name not in written.identifying]
        self.say(f"Wrote {len(written.files)} files in {written.folder}:")
        self.say(f"  under the pseudonym: {', '.join(ours)}")
        if written.identifying:
            shown = ", ".join(written.identifying)
            self.say(f"  with the patient's identity, as the CT has it: {shown}")

    def _show_years(self, record: "PredictionRecord") -> None:
        table = Table(box=None, padding=(0, 2, 0, 2))
        for heading in ("year", "free of the event", "lowest", "highest"):
            table.add_column(heading, justify="right")
        is_marked = False
        for year in TABLE_YEARS:
            index = record.bin_at_year(year)
            if index is None:
                continue
            curve = record.survival
            cells = [
                "-" if values is None else f"{100 * values[index]:.0f} %"
                for values in (curve.values, curve.lowest, curve.highest)
            ]
            mark = "" if record.is_supported(year) else "* "
            is_marked = is_marked or bool(mark)
            table.add_row(f"{mark}{year}", *cells)
        self._out.print(table)
        if is_marked:
            self.say("* nobody was followed this long in training")

    def _show_what_was_read(self, record: "PredictionRecord") -> None:
        for scan in record.scans:
            when = "time assumed" if scan.time_assumed else "months"
            channels = ", ".join(scan.channels)
            self.say(f"Read: a scan at {scan.time_months:+.1f} {when} ({channels})")
        known, missing = len(record.known_columns), record.missing_columns
        unknown = f"; not known: {', '.join(missing)}" if missing else ""
        self.say(f"Read: {known} of {known + len(missing)} columns{unknown}")
        if record.has_image:
            shares = ", ".join(f"{100 * s:.0f} %" for s in record.image_share_by_year)
            self.say(f"The image's share of the logit, year by year: {shares}")
