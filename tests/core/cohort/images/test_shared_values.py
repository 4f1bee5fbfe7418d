import math
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

from references.ct_series import make_series, write_series

from acfnet_core.cohort.guarded.frames import FrameBuffer, pack
from acfnet_core.cohort.images.dicom_index import (
    InstanceHeader,
    index_folder,
    read_header,
)
from acfnet_core.cohort.images.shared_values import share_values

MOST_BYTES_A_HEADER = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    text: str
    numbers: tuple[float, ...] | None = None


def own_copy(header: InstanceHeader) -> InstanceHeader:
    """Return a header as it comes out of another process."""
    (copy,) = FrameBuffer().feed(pack(header))
    assert isinstance(copy, InstanceHeader)
    return copy


def read_one(folder: Path) -> InstanceHeader:
    return read_header(write_series(make_series(num_slices=1), folder)[0])


def test_an_equal_value_becomes_the_other_records_object() -> None:
    one, like = Record(text="".join(["a", "b"])), Record(text="".join(["a", "b"]))
    assert one.text is not like.text
    share_values(one, like)
    assert one.text is like.text


def test_a_value_that_differs_is_kept() -> None:
    one = Record(text="a", numbers=(1.0, 2.0))
    share_values(one, Record(text="a", numbers=(1.0, 2.5)))
    assert one == Record(text="a", numbers=(1.0, 2.0))


def test_a_value_that_the_other_lacks_is_kept() -> None:
    one = Record(text="a", numbers=(math.nan,))
    share_values(one, Record(text="a", numbers=None))
    assert one.numbers is not None


def test_sharing_changes_nothing_that_can_be_asked(tmp_path: Path) -> None:
    like = read_one(tmp_path)
    one = replace(own_copy(like), sop_instance_uid="1.2.3")
    before = own_copy(one)
    share_values(one, like)
    assert one == before


def test_a_header_comes_whole_out_of_another_process(tmp_path: Path) -> None:
    header = read_one(tmp_path)
    assert own_copy(header) == header


def test_headers_of_a_series_share_what_they_have_in_common(tmp_path: Path) -> None:
    write_series(make_series(), tmp_path)
    first, *others = index_folder(tmp_path).ct_series[0]
    for name in ("series_uid", "patient_id", "orientation", "image_type"):
        objects = {id(getattr(header, name)) for header in (first, *others)}
        assert objects == {id(getattr(first, name))}


def test_a_header_more_takes_less_than_a_kilobyte(tmp_path: Path) -> None:
    write_series(make_series(num_slices=40), tmp_path / "images")
    index_folder(tmp_path / "images")
    tracemalloc.start()
    try:
        index = index_folder(tmp_path / "images")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / len(index.ct_series[0]) < MOST_BYTES_A_HEADER
