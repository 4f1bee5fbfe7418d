from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from references.run_folder import (
    make_risk_map,
    make_rounds,
    make_run,
    make_sites,
    make_verdict,
    write_run_folder,
)

from acf_server.risk_map_files import read_risk_maps, write_risk_map
from acf_server.run_files import (
    ROUNDS_FILE,
    RUN_FILE,
    RoundRecords,
    read_rounds,
    read_run,
    read_sites,
    read_verdict,
    write_record,
)


def test_all_records_come_back_as_written(tmp_path: Path) -> None:
    write_run_folder(tmp_path)
    assert read_run(tmp_path) == make_run()
    assert read_sites(tmp_path) == make_sites()
    assert read_rounds(tmp_path) == make_rounds()
    assert read_verdict(tmp_path) == make_verdict()


def test_rounds_are_read_in_their_order(tmp_path: Path) -> None:
    write_record(tmp_path / ROUNDS_FILE, RoundRecords(make_rounds()[::-1]))
    assert read_rounds(tmp_path) == make_rounds()


def test_number_that_is_not_finite_is_refused() -> None:
    record = make_rounds(1)[0].model_dump()
    with pytest.raises(ValidationError, match="finite"):
        RoundRecords.model_validate([{**record, "mean_loss": float("nan")}])


def test_unknown_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        make_run(patient_name="somebody")


def test_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        make_run(started_utc=datetime(2025, 1, 1))


def test_run_file_ends_with_a_line_break(tmp_path: Path) -> None:
    path = write_record(tmp_path / RUN_FILE, make_run())
    assert path.read_text().endswith("}\n")


def test_risk_map_comes_back_as_written(tmp_path: Path) -> None:
    folder = tmp_path / "risk_maps"
    folder.mkdir()
    written = make_risk_map()
    write_risk_map(folder / "a.safetensors", written)
    (found,) = read_risk_maps(tmp_path)
    assert found.title == written.title
    assert (found.years, found.window_hu) == (written.years, written.window_hu)
    np.testing.assert_array_equal(found.maps, written.maps)
    np.testing.assert_array_equal(found.tumour, written.tumour)


def test_risk_map_of_other_shape_is_refused() -> None:
    good = make_risk_map()
    with pytest.raises(ValueError, match="shapes do not fit: 8 years"):
        replace(good, liver=good.liver[1:])


def test_risk_map_with_an_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="does not rise"):
        replace(make_risk_map(), window_hu=(95.0, 95.0))


def test_survival_at_year_is_that_of_its_last_bin() -> None:
    patient = make_risk_map()
    assert patient.survival_at_year(2) == pytest.approx(float(patient.survival[5]))
