from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.cohort.data_settings import DataConfig
from acfnet_core.cohort.images.repairs import ALL_REPAIRS, NO_REPAIRS, Repairs
from acfnet_core.cohort.sources import CohortSources, read_cohort_file, sources_of
from acfnet_core.cohort.table.mapping import AS_AGREED, TableDialect, TableMapping
from acfnet_core.config import check_settings
from acfnet_core.errors import ConfigError

PLAIN = CohortSources(clinical_table=Path("clinical.csv"))
OTHERS = [
    replace(PLAIN, mapping=TableMapping(column_names={"Alter": "age"})),
    replace(PLAIN, mapping=TableMapping(dialect=TableDialect(decimal_mark=","))),
    replace(PLAIN, mapping=TableMapping(dialect=TableDialect(sheet=2))),
    replace(
        PLAIN, mapping=TableMapping(dialect=TableDialect(codes={"sex": {"m": "1"}}))
    ),
    replace(PLAIN, nifti_labels={1: ("Liver",)}),
    replace(PLAIN, nifti_labels={2: ("Liver",)}),
    replace(PLAIN, nifti_labels={1: ("Tumor",)}),
    replace(PLAIN, nifti_labels={1: ("Liver", "Tumor")}),
    *(replace(PLAIN, repairs=Repairs(**{name: True})) for name in vars(NO_REPAIRS)),
    replace(PLAIN, repairs=ALL_REPAIRS),
]


def test_the_hash_tells_readings_apart() -> None:
    hashes = {sources.reading_sha256() for sources in (PLAIN, *OTHERS)}
    assert len(hashes) == 1 + len(OTHERS)


def test_the_hash_of_files_as_agreed_is_fixed() -> None:
    assert PLAIN.reading_sha256().startswith("bae5b0bddecd")


def test_where_the_files_lie_is_not_hashed() -> None:
    elsewhere = CohortSources(
        clinical_table=Path("other.xlsx"), images_folder=Path("images")
    )
    assert elsewhere.reading_sha256() == PLAIN.reading_sha256()


def test_a_setting_that_is_spelled_out_hashes_as_one_left_as_it_is() -> None:
    spelled_out = TableMapping(dialect=TableDialect(decimal_mark=".", sheet=1))
    sources = replace(PLAIN, mapping=spelled_out)
    assert sources.reading_sha256() == PLAIN.reading_sha256()


@settings(deadline=None, max_examples=20)
@given(
    names=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
    labels=st.dictionaries(
        st.integers(1, 99999),
        st.lists(st.text(max_size=5), min_size=1, max_size=3),
        max_size=4,
    ),
)
def test_the_hash_does_not_depend_on_any_order(
    names: dict[str, str], labels: dict[int, list[str]]
) -> None:
    one = replace(
        PLAIN,
        mapping=TableMapping(column_names=names),
        nifti_labels={value: tuple(segments) for value, segments in labels.items()},
    )
    other = replace(
        PLAIN,
        mapping=TableMapping(column_names=dict(reversed(names.items()))),
        nifti_labels={
            value: tuple(reversed(segments))
            for value, segments in reversed(labels.items())
        },
    )
    assert one.reading_sha256() == other.reading_sha256()


def test_a_relative_path_begins_at_the_folder_given() -> None:
    data = DataConfig(clinical_table=Path("a.csv"), images=Path("../images"))
    sources = sources_of(data, Path("/data/site"))
    assert sources.clinical_table == Path("/data/site/a.csv")
    assert sources.images_folder == Path("/data/site/../images")


def test_an_absolute_path_is_taken_as_it_is() -> None:
    data = DataConfig(clinical_table=Path("/data/a.csv"))
    assert sources_of(data, Path("/site")).clinical_table == Path("/data/a.csv")


def test_a_section_that_says_nothing_more_reads_files_as_agreed() -> None:
    sources = sources_of(DataConfig(clinical_table=Path("a.csv")), Path())
    assert sources == CohortSources(clinical_table=Path("a.csv"))
    assert sources.mapping == AS_AGREED


def test_every_word_of_a_section_reaches_the_reading() -> None:
    content = {
        "clinical_table": "a.csv",
        "columns": {"Alter": "age"},
        "table": {"decimal_mark": ","},
        "nifti_labels": {"5": "Liver", "6": ["Liver", "Tumor"]},
        "repairs": {"empty_uids": True},
    }
    data = check_settings(content, DataConfig, where="options")
    assert sources_of(data, Path()) == CohortSources(
        clinical_table=Path("a.csv"),
        mapping=TableMapping(
            column_names={"Alter": "age"}, dialect=TableDialect(decimal_mark=",")
        ),
        nifti_labels={5: ("Liver",), 6: ("Liver", "Tumor")},
        repairs=Repairs(empty_uids=True),
    )


def test_paths_in_a_cohort_file_begin_at_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "held-out.toml"
    path.write_text('[data]\nclinical_table = "a.csv"\nimages = "dicom"\n')
    sources = read_cohort_file(path)
    assert sources.clinical_table == tmp_path / "a.csv"
    assert sources.images_folder == tmp_path / "dicom"


def test_all_faults_of_a_cohort_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "held-out.toml"
    path.write_text(
        "format_version = 2\n[data]\nimages = 3\ncolour = 1\n"
        '[data.columns]\nA = "age"\nB = "age"\n'
        '[data.table]\nencoding = "guess"\n[data.nifti_labels]\n0 = "Liver"\n'
        "[data.repairs]\nmotion = true\n[compute]\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_cohort_file(path)
    assert caught.value.code == "config.invalid"
    for place in (
        "format_version",
        "data.clinical_table",
        "data.images",
        "data.colour",
        "data.table.encoding",
        "data.nifti_labels.0",
        "data.repairs.motion",
        "compute",
    ):
        assert f"held-out.toml: {place}" in caught.value.message


def test_a_name_given_to_two_headings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "held-out.toml"
    path.write_text(
        '[data]\nclinical_table = "a.csv"\n[data.columns]\nA = "age"\nB = "age"\n'
    )
    with pytest.raises(ConfigError, match="two headings"):
        read_cohort_file(path)


def test_a_cohort_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml") as caught:
        read_cohort_file(tmp_path / "none.toml")
    assert caught.value.code == "config.not_found"
