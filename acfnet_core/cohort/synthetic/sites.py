"""A seeded made-up cohort, written as the real files that a hospital holds.

Each site becomes a folder with `images/` (CT series and masks in the public archive's
layout) and a clinical table (the public cohort's columns). Nothing else of the
product knows that a cohort is made up: it is read back from these files alone. Every
byte follows from the seed, the site and the patient's number.
"""

import functools
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from acfnet_core.cohort.synthetic.grid import Scanner
from acfnet_core.cohort.synthetic.image import render_scan
from acfnet_core.cohort.synthetic.patient import SyntheticPatient, draw_patient
from acfnet_core.cohort.synthetic.site_sizes import share_out
from acfnet_core.cohort.synthetic.study_files import (
    PLAIN_FORM,
    StudyForm,
    write_study,
)
from acfnet_core.cohort.synthetic.study_header import Demographics
from acfnet_core.cohort.synthetic.table_files import write_table
from acfnet_core.cohort.synthetic.table_forms import TableFormName, table_form
from acfnet_core.cohort.synthetic.workers import described_errors, work_in_order
from acfnet_core.errors import MachineError
from acfnet_core.files import make_folder

IMAGES_FOLDER = "images"
HELD_OUT_NAME = "held-out"
SCANNERS: tuple[Scanner, ...] = (
    Scanner(slice_spacing_mm=5.0, pixel_spacing_mm=3.4, noise_hu=9.0, hu_shift=0.0),
    Scanner(slice_spacing_mm=2.5, pixel_spacing_mm=3.2, noise_hu=13.0, hu_shift=-4.0),
    Scanner(slice_spacing_mm=7.5, pixel_spacing_mm=3.3, noise_hu=6.0, hu_shift=5.0),
)
"""The sites' scanners, cycling; the thinner the slice, the stronger the noise."""

SCANS_MISSING_PROBABILITIES = (0.10, 0.15, 0.25)
_FIRST_UNKNOWN = 10_000
"""Numbers above every patient's."""


@dataclass(frozen=True, kw_only=True)
class SyntheticSite:
    """A made-up hospital: how many patients it has and how its scanner sees them.

    Args:
        name: Lower-case letters, digits and hyphens; part of every identifier.
        num_patients: At least 1.
        slice_spacing_mm: Distance of neighbouring slices, from 1 to 10.
        pixel_spacing_mm: Distance of neighbouring pixels, from 3.2 (so that the body
            fits into the image) to 5.
        noise_hu: Standard deviation of the scanner's noise.
        hu_shift: Constant error of the scanner's calibration.
        scans_missing_probability: Chance of each planned scan not to exist.
        form: How studies are handed over.
        num_with_rivals: So many patients, the first ones, have competing DICOM SEG.
        frames_every: The CT of every so many-th patient is enhanced multi-frame; 0 for
            nobody's.
        table: How the clinical table is written.
        has_digits_for_id: Identifiers are digits with zeros in front.
        has_other_demographics: The headers' sex and age are those of other people, as
            in the public cohort.

    Raises:
        ValueError: A value is out of its range.
    """

    name: str
    num_patients: int
    slice_spacing_mm: float
    pixel_spacing_mm: float
    noise_hu: float
    hu_shift: float
    scans_missing_probability: float
    form: StudyForm = PLAIN_FORM
    num_with_rivals: int = 0
    frames_every: int = 0
    table: TableFormName = "public"
    has_digits_for_id: bool = False
    has_other_demographics: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9](-?[a-z0-9])*", self.name):
            raise ValueError(
                "name must be lower-case letters, digits and single hyphens, "
                f"got {self.name!r}"
            )
        for field, low, high in (
            ("num_patients", 1, 9999),
            ("slice_spacing_mm", 1, 10),
            ("pixel_spacing_mm", 3.2, 5),
            ("noise_hu", 0, 100),
            ("hu_shift", -50, 50),
            ("scans_missing_probability", 0, 1),
            ("num_with_rivals", 0, 9999),
            ("frames_every", 0, 9999),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise ValueError(f"{field} must be from {low} to {high}, got {value}")
        if self.frames_every:
            # Refuses what frames do not go with.
            replace(self.form, ct="frames")

    def form_of(self, index: int) -> StudyForm:
        """Return how the studies of patient number `index` (from 1) are written."""
        has_frames = bool(self.frames_every) and index % self.frames_every == 0
        return replace(
            self.form,
            ct="frames" if has_frames else self.form.ct,
            has_rivals=index <= self.num_with_rivals,
        )

    @property
    def scanner(self) -> Scanner:
        """What of the site changes the images."""
        return Scanner(
            slice_spacing_mm=self.slice_spacing_mm,
            pixel_spacing_mm=self.pixel_spacing_mm,
            noise_hu=self.noise_hu,
            hu_shift=self.hu_shift,
        )


@dataclass(frozen=True, kw_only=True)
class PatientWritten:
    """A patient's images are on disk: number `index` (from 1) of `total`."""

    index: int
    total: int


def default_sites(num_sites: int, num_patients: int) -> tuple[SyntheticSite, ...]:
    """Return sites of different sizes and scanners, hospital-a, hospital-b and so on.

    Args:
        num_sites: From 1 to 26.
        num_patients: Number of patients of all sites together, one per site at least.

    Raises:
        ValueError: A number is out of its range.
    """
    if not 1 <= num_sites <= len(string.ascii_lowercase):
        raise ValueError(f"num_sites must be from 1 to 26, got {num_sites}")
    if num_patients < num_sites:
        raise ValueError(
            f"num_patients must be at least num_sites={num_sites}, got {num_patients}"
        )
    return tuple(
        _make_site(f"hospital-{string.ascii_lowercase[number]}", number, size)
        for number, size in enumerate(share_out(num_sites, num_patients))
    )


def held_out_site(num_patients: int) -> SyntheticSite:
    """Return the central site that takes no part in training.

    Raises:
        ValueError: `num_patients` is below 1.
    """
    return SyntheticSite(
        name=HELD_OUT_NAME,
        num_patients=num_patients,
        slice_spacing_mm=5.0,
        pixel_spacing_mm=3.3,
        noise_hu=9.0,
        hu_shift=2.0,
        scans_missing_probability=0.10,
    )


def synthesize_site(
    site: SyntheticSite, folder: Path, *, seed: int, num_workers: int = 2
) -> Iterator[PatientWritten]:
    """Write a site's images and clinical table, patient by patient.

    The table is written last, so its presence says that the site is complete.

    Args:
        site: Who is made up.
        folder: The site's folder; it may exist, but without images or a table in it.
        seed: Seed of the whole cohort, 0 or more.
        num_workers: Processes to use; the files do not depend on it.

    Returns:
        Events, one per patient in order; the work is done while they are taken.

    Raises:
        ValueError: `seed` is negative or `num_workers` below 1.
        MachineError: The folder has a cohort in it, or cannot be written.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    if num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {num_workers}")
    images = prepare_folder(site, folder)
    return _write_site(site, folder, images, seed=seed, num_workers=num_workers)


def prepare_folder(site: SyntheticSite, folder: Path) -> Path:
    """Return the new, empty folder of a site's images.

    Raises:
        MachineError: The folder has a cohort in it, or cannot be written.
    """
    for name in (IMAGES_FOLDER, table_form(site.table).file_name):
        if (folder / name).exists():
            raise MachineError(
                "machine.folder_not_empty",
                f"{folder / name}: exists already; a made-up site is written once.",
                remedy="Choose another folder or remove this one.",
            )
    return make_folder(folder / IMAGES_FOLDER)


def draw_site(site: SyntheticSite, *, seed: int) -> tuple[SyntheticPatient, ...]:
    """Draw all patients of a site, without voxels."""
    return tuple(_draw(site, seed, n) for n in range(1, site.num_patients + 1))


def draw_demographics(site: SyntheticSite, index: int, *, seed: int) -> Demographics:
    """Return what the headers of patient number `index` (from 1) say of the person."""
    # Somebody of the same site whom nobody else knows: the marginals stay the same.
    other = index + _FIRST_UNKNOWN if site.has_other_demographics else index
    return Demographics.of(_draw(site, seed, other))


def write_images(
    site: SyntheticSite,
    images: Path,
    *,
    seed: int,
    num_workers: int,
    left_out: frozenset[int] = frozenset(),
) -> Iterator[PatientWritten]:
    """Write the images of all patients but those left out; yield one event for each."""
    numbers = range(1, site.num_patients + 1)
    write = functools.partial(_write_patient, site, images, seed, left_out)
    for index in work_in_order(write, numbers, num_workers=num_workers):
        yield PatientWritten(index=index, total=site.num_patients)


def _write_site(
    site: SyntheticSite, folder: Path, images: Path, *, seed: int, num_workers: int
) -> Iterator[PatientWritten]:
    """Do the work of `synthesize_site`, whose checks cannot wait for an event."""
    form = table_form(site.table)
    with described_errors(folder):
        yield from write_images(site, images, seed=seed, num_workers=num_workers)
        rows = [form.write_row(one.row) for one in draw_site(site, seed=seed)]
        write_table(rows, form, folder / form.file_name)


def _write_patient(
    site: SyntheticSite, images: Path, seed: int, left_out: frozenset[int], index: int
) -> int:
    """Write the images of one patient; runs in a worker process."""
    if index in left_out:
        return index
    patient = _draw(site, seed, index)
    demographics = draw_demographics(site, index, seed=seed)
    form = site.form_of(index)
    for scan in patient.scans:
        content = render_scan(patient, scan, site.scanner)
        write_study(
            patient, scan, content, images, form=form, demographics=demographics
        )
    return index


def _draw(site: SyntheticSite, seed: int, index: int) -> SyntheticPatient:
    """Draw one patient of the site."""
    return draw_patient(
        site.name,
        index,
        seed=seed,
        scans_missing_probability=site.scans_missing_probability,
        has_digits_for_id=site.has_digits_for_id,
    )


def _make_site(name: str, number: int, num_patients: int) -> SyntheticSite:
    """Return a site with the scanner whose turn it is."""
    scanner = SCANNERS[number % len(SCANNERS)]
    return SyntheticSite(
        name=name,
        num_patients=num_patients,
        slice_spacing_mm=scanner.slice_spacing_mm,
        pixel_spacing_mm=scanner.pixel_spacing_mm,
        noise_hu=scanner.noise_hu,
        hu_shift=scanner.hu_shift,
        scans_missing_probability=SCANS_MISSING_PROBABILITIES[number % 3],
    )
