import csv
from pathlib import Path

import pytest
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.synthetic.pseudo_sites import write_public_cohort_sites
from acfnet_core.errors import DataError

PUBLIC = SHARED_DATA / "crlm"
NAMES = ("thin-slices", "thick-slices", "held-out")

needs_public_cohort = pytest.mark.skipif(
    not (PUBLIC / "clinical.csv").is_file(),
    reason="the public cohort's tables are not beside the project",
)


def read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_small_cohort(folder: Path, num_patients: int = 20) -> tuple[Path, Path]:
    clinical, series = folder / "clinical_all.csv", folder / "series.csv"
    lines = ["Patient-ID,age,vital_status_DFS"]
    lines += [f"P{n:03d},{40 + n}.50,{n % 2}" for n in range(num_patients)]
    clinical.write_text("\n".join(lines) + "\n")
    lines = ["Subject ID,Number of Images"]
    lines += [f"P{n:03d},{150 if n % 3 else 40}" for n in range(num_patients)]
    series.write_text("\n".join(lines) + "\n")
    return clinical, series


@needs_public_cohort
def test_every_public_row_is_copied_verbatim_to_exactly_one_site(
    tmp_path: Path,
) -> None:
    names = write_public_cohort_sites(
        PUBLIC / "clinical.csv", PUBLIC / "ct_series.csv", tmp_path, seed=1
    )
    whole = read_rows(PUBLIC / "clinical.csv")
    tables = [read_rows(tmp_path / name / "clinical.csv") for name in names]
    assert all(table[0] == whole[0] for table in tables)
    assert sorted(row for table in tables for row in table[1:]) == sorted(whole[1:])


@needs_public_cohort
def test_held_out_part_is_a_fifth_with_the_cohorts_share_of_events(
    tmp_path: Path,
) -> None:
    write_public_cohort_sites(
        PUBLIC / "clinical.csv", PUBLIC / "ct_series.csv", tmp_path, seed=1
    )
    header, *rows = read_rows(tmp_path / "held-out" / "clinical.csv")
    events = [row[header.index("vital_status_DFS")] for row in rows]
    assert (len(rows), events.count("1")) == (40, 28)


@needs_public_cohort
def test_thin_slices_site_has_only_patients_with_100_slices_or_more(
    tmp_path: Path,
) -> None:
    write_public_cohort_sites(
        PUBLIC / "clinical.csv", PUBLIC / "ct_series.csv", tmp_path, seed=1
    )
    header, *series = read_rows(PUBLIC / "ct_series.csv")
    count_at = header.index("Number of Images")
    num_slices = {row[0]: int(row[count_at]) for row in series}
    thin = read_rows(tmp_path / "thin-slices" / "clinical.csv")[1:]
    thick = read_rows(tmp_path / "thick-slices" / "clinical.csv")[1:]
    assert min(num_slices[row[0]] for row in thin) >= 100
    assert max(num_slices[row[0]] for row in thick) < 100


def test_names_of_the_training_sites_come_before_the_held_out_one(
    tmp_path: Path,
) -> None:
    assert (
        write_public_cohort_sites(*write_small_cohort(tmp_path), tmp_path, seed=3)
        == NAMES
    )


def test_same_seed_gives_same_files(tmp_path: Path) -> None:
    tables = write_small_cohort(tmp_path)
    for run in ("first", "second"):
        write_public_cohort_sites(*tables, tmp_path / run, seed=3)
    for name in NAMES:
        first = tmp_path / "first" / name / "clinical.csv"
        second = tmp_path / "second" / name / "clinical.csv"
        assert first.read_bytes() == second.read_bytes()


def test_another_seed_holds_out_others(tmp_path: Path) -> None:
    tables = write_small_cohort(tmp_path)
    for seed in (3, 4):
        write_public_cohort_sites(*tables, tmp_path / str(seed), seed=seed)
    assert read_rows(tmp_path / "3" / "held-out" / "clinical.csv") != read_rows(
        tmp_path / "4" / "held-out" / "clinical.csv"
    )


def test_tables_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    write_public_cohort_sites(*write_small_cohort(tmp_path), tmp_path, seed=3)
    mode = (tmp_path / "held-out" / "clinical.csv").stat().st_mode
    assert mode & 0o777 == 0o600


def test_missing_file_is_named(tmp_path: Path) -> None:
    _, series = write_small_cohort(tmp_path)
    with pytest.raises(DataError, match=r"absent\.csv") as caught:
        write_public_cohort_sites(tmp_path / "absent.csv", series, tmp_path, seed=1)
    assert caught.value.code == "data.path_not_found"


def test_header_without_rows_is_refused(tmp_path: Path) -> None:
    clinical, series = write_small_cohort(tmp_path, num_patients=0)
    with pytest.raises(DataError) as caught:
        write_public_cohort_sites(clinical, series, tmp_path, seed=1)
    assert caught.value.code == "data.table_empty"


def test_unreadable_table_is_refused(tmp_path: Path) -> None:
    clinical, series = write_small_cohort(tmp_path)
    clinical.write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(DataError) as caught:
        write_public_cohort_sites(clinical, series, tmp_path, seed=1)
    assert caught.value.code == "data.table_unreadable"


def test_missing_column_is_named(tmp_path: Path) -> None:
    clinical, series = write_small_cohort(tmp_path)
    series.write_text("Subject ID,Slices\nP000,4\n")
    with pytest.raises(DataError, match="'Number of Images'") as caught:
        write_public_cohort_sites(clinical, series, tmp_path, seed=1)
    assert caught.value.code == "data.missing_column"


def test_slice_count_that_is_no_number_is_refused_by_row(tmp_path: Path) -> None:
    clinical, series = write_small_cohort(tmp_path)
    series.write_text("Subject ID,Number of Images\nP000,12\nP001,many\n")
    with pytest.raises(DataError, match="row 3") as caught:
        write_public_cohort_sites(clinical, series, tmp_path, seed=1)
    assert caught.value.code == "data.table_invalid"


def test_patients_without_series_are_counted_and_not_named(tmp_path: Path) -> None:
    clinical, series = write_small_cohort(tmp_path)
    series.write_text("Subject ID,Number of Images\nP000,120\n")
    with pytest.raises(DataError, match="19 of 20 patients") as caught:
        write_public_cohort_sites(clinical, series, tmp_path, seed=1)
    assert "P001" not in caught.value.message


def test_cohort_that_leaves_a_site_empty_is_refused(tmp_path: Path) -> None:
    clinical, series = write_small_cohort(tmp_path, num_patients=1)
    with pytest.raises(DataError, match="'thin-slices'") as caught:
        write_public_cohort_sites(clinical, series, tmp_path, seed=1)
    assert caught.value.code == "data.too_few_patients"
