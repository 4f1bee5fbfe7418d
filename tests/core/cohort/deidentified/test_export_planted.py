"""What was planted in a site's files is searched for in every byte of an export."""

import gzip
import struct
from pathlib import Path

from references.planted_identifiers import NUMBER_STEM, STEM, Planter

from acfnet_core.cohort.sources import CohortSources


def _bytes_in(folder: Path) -> bytes:
    """Return every byte of a folder: names, contents, and what is packed in them."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(str(path.relative_to(folder)).encode())
        if path.is_file():
            content = path.read_bytes()
            parts.append(content)
            if content[:2] == b"\x1f\x8b":
                parts.append(gzip.decompress(content))
    return b"\n".join(parts)


def _forms(text: str) -> tuple[bytes, ...]:
    return tuple(text.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be"))


def test_more_than_a_thousand_identifiers_are_in_the_source(
    planted: tuple[CohortSources, Planter],
) -> None:
    sources, planter = planted
    content = _bytes_in(sources.clinical_table.parent)
    assert [text for text in planter.texts if text.encode() not in content] == []
    assert len(planter.texts) > 1000


def test_no_planted_text_is_in_the_export(
    planted: tuple[CohortSources, Planter], export: Path
) -> None:
    content = _bytes_in(export)
    assert [form for form in _forms(STEM) if form in content] == []
    assert [form for form in _forms(STEM.lower()) if form in content] == []


def test_no_planted_number_is_in_the_export_as_text(export: Path) -> None:
    content = _bytes_in(export)
    assert [form for form in _forms(NUMBER_STEM) if form in content] == []


def test_no_planted_number_is_in_the_export_as_a_number(
    planted: tuple[CohortSources, Planter], export: Path
) -> None:
    content = _bytes_in(export)
    for text in planted[1].numbers:
        number = int(text)
        forms = [struct.pack(f"{order}d", float(number)) for order in "<>"]
        forms += [struct.pack(f"{order}q", number) for order in "<>"]
        assert not any(form in content for form in forms), text


def test_no_true_day_is_in_the_export(export: Path) -> None:
    content = _bytes_in(export)
    days = (b"19911206", b"19920606", b"1992-06-20", b"1992-07-01", b"19310704")
    assert [day for day in days if day in content] == []


def test_no_time_of_day_is_in_the_export(export: Path) -> None:
    assert b"111111" not in _bytes_in(export)


def test_an_age_above_89_is_written_as_90(export: Path) -> None:
    content = _bytes_in(export)
    assert b"090Y" in content
    assert b"093Y" not in content


def test_voxels_without_a_meaning_are_background(export: Path) -> None:
    (mask,) = export.rglob("*.nii.gz")
    voxels = gzip.decompress(mask.read_bytes())[352:]
    assert set(voxels) == {0, 1, 2}


def test_a_structure_that_the_contract_does_not_know_is_left_out(export: Path) -> None:
    content = _bytes_in(export)
    assert content.count(b"CLOSED_PLANAR") == 7
