"""What trained models say of one of the site's patients, written as private files.

The patient is named by the site's own identifier, which goes into no file of ours, no
log and no message; DICOM files carry the identity of the CT that they belong to.
"""

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acf_client.data import data_sources, read_contract
from acf_client.prediction_maps import (
    OVERLAYS,
    PARAMETRIC_MAPS,
    PICTURE,
    open_maps,
    write_dicom,
    write_picture,
)
from acf_client.prediction_record import CurveRecord, PredictionRecord, make_record
from acf_client.site import Site
from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.landmark import view_at_landmark
from acfnet_core.cohort.prepared.preparation import make_pseudonym
from acfnet_core.cohort.prepared.store import (
    PreparedCohort,
    PreparedInputs,
    PreparedPatient,
    open_store,
)
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.errors import ConfigError, DataError, MachineError
from acfnet_core.federation.release import ReleaseDescription, load_release
from acfnet_core.files import (
    PRIVATE_FOLDER_MODE,
    PRIVATE_MODE,
    describe_os_error,
    make_folder,
    refuse_strangers,
    write_atomically,
)
from acfnet_core.model.network import AcfNet
from acfnet_core.pictures.prediction_curve import (
    CurveWithRange,
    ProjectedCurves,
    draw_prediction_curve,
)
from acfnet_core.training.prediction import predict_patient
from acfnet_core.training.release import load_ensemble

RECORD = "prediction.json"
CURVE = "curve.png"
_OWN_NAMES = frozenset({RECORD, CURVE, PICTURE, PARAMETRIC_MAPS, OVERLAYS})


@dataclass(frozen=True, kw_only=True)
class WrittenPrediction:
    """A prediction and where it lies.

    Attributes:
        files: What was written, as paths within `folder`.
        years_left_out: Years whose maps were not written: training had nobody under
            observation so long.
        mended: What was mended in the scan: there are no maps as DICOM then, since
            their voxels would be those of no file.
    """

    record: PredictionRecord
    folder: Path
    files: tuple[Path, ...]
    years_left_out: tuple[int, ...]
    mended: tuple[str, ...] = ()

    @property
    def identifying(self) -> tuple[str, ...]:
        """What carries the patient's identity, by its first name in the folder."""
        first = {file.parts[0] for file in self.files}
        return tuple(n for n in (PARAMETRIC_MAPS, OVERLAYS) if n in first)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The models that are asked, and what came with them."""

    models: tuple[AcfNet, ...]
    releases: tuple[ReleaseDescription, ...]


def predict_at_site(
    site: Site,
    patient_id: str,
    *,
    model_folders: Sequence[Path],
    out: Path | None = None,
    with_dicom: bool = True,
) -> WrittenPrediction:
    """Predict for one patient and write what was said; an earlier result is replaced.

    Args:
        site: Whose prepared data has the patient.
        patient_id: The site's own identifier.
        model_folders: `model` folders of finished runs; the first gives the values,
            the others tell how far models differ.
        out: Where to write; None is a private folder of the site's.
        with_dicom: Whether to write DICOM files of the maps.

    Raises:
        DataError: The patient or the models are not there, the models are of another
            contract, or the scan's files are gone or were changed.
        ConfigError: The models cannot be asked together.
        IdentityError: The site is not enrolled, or its key is unsafe.
        MachineError: The folder has other things in it or cannot be written.
        ValueError: There is no model folder.
    """
    contract = read_contract(site)
    asked = _load(model_folders, contract)
    landmark_months = asked.releases[0].landmark_months
    prepared = open_store(
        site.prepared_folder,
        contract=contract,
        reading_sha256=data_sources(site).reading_sha256(),
    )
    cohort = view_at_landmark(prepared, landmark_months)
    pseudonym = make_pseudonym(site.load_pseudonym_key(), patient_id)
    patient = _find(pseudonym, cohort, prepared, site.prepared_folder)
    prediction = predict_patient(
        asked.models, cohort, patient, num_runs=len(model_folders)
    )
    record = make_record(
        prediction,
        asked.releases,
        pseudonym=pseudonym,
        endpoint=contract.endpoint.name,
        has_outcome=isinstance(patient, PreparedPatient),
    )
    mended: tuple[str, ...] = ()
    folder = out or site.predictions_folder / pseudonym
    if out is None:
        make_folder(site.predictions_folder, private=True)
    num_supported = sum(record.is_supported(year) for year in record.years)
    with _replaced(folder) as draft:
        _write_numbers(draft, record)
        if prediction.has_image and num_supported:
            on_scan = open_maps(
                _sources_of(site),
                patient_id,
                cohort,
                patient,
                prediction,
                num_supported,
            )
            mended = on_scan.found.series.repaired
            write_picture(draft, on_scan, record)
            if with_dicom and not mended:
                write_dicom(draft, on_scan)
        files = _make_private(draft)
    _note(site, record, files)
    left_out = record.years[num_supported:] if prediction.has_image else ()
    return WrittenPrediction(
        record=record,
        folder=folder,
        files=files,
        years_left_out=tuple(left_out),
        mended=mended,
    )


def _load(folders: Sequence[Path], contract: DataContract) -> _Asked:
    """Load every model of the folders and hold them to the site's contract."""
    if not folders:
        raise ValueError("model_folders must name at least one folder")
    releases = tuple(load_release(folder)[1] for folder in folders)
    for folder, release in zip(folders, releases, strict=True):
        if release.contract_sha256 != contract.sha256():
            raise DataError(
                "data.contract_mismatch",
                f"{folder}: the model was trained under contract "
                f"{release.contract_sha256[:12]}, but this site's is {contract.name} "
                f"{contract.sha256()[:12]}.",
                remedy="Give a model of this consortium's current contract.",
            )
    models = tuple(model for folder in folders for model in load_ensemble(folder))
    kinds = {model.config.bin_edges_months for model in models}
    if len(kinds) > 1 or len({release.landmark_months for release in releases}) > 1:
        raise ConfigError(
            "config.invalid",
            "--model: the models have different time bins or landmarks, so their "
            "curves cannot be compared.",
            remedy="Give models of runs with the same years, bins and landmark.",
        )
    return _Asked(models=models, releases=releases)


def _find(
    pseudonym: str, cohort: PreparedCohort, prepared: PreparedCohort, folder: Path
) -> PreparedInputs:
    """Find the patient in both parts of the cohort; no error names an identifier."""
    for patient in (*cohort.patients, *cohort.without_outcome):
        if patient.pseudonym == pseudonym:
            return patient
    if any(patient.pseudonym == pseudonym for patient in prepared.patients):
        raise DataError(
            "data.patient_unknown",
            "The patient had the event or was last seen before the landmark from "
            "which this model predicts.",
            remedy="Give a model with an earlier landmark, or with none.",
        )
    num_patients = len(prepared.patients) + len(prepared.without_outcome)
    raise DataError(
        "data.patient_unknown",
        f"{folder}: none of the {num_patients} prepared patients has this identifier.",
        remedy="Write the identifier as the clinical table has it, leading zeros "
        "included; after a change of the table or of acfnet's version run "
        "`acf-client data prepare`.",
    )


def _sources_of(site: Site) -> CohortSources:
    sources = data_sources(site)
    if sources.images_folder is None:
        raise DataError(
            "data.path_not_found",
            "site.toml names no folder of images, but the patient was prepared with "
            "scans.",
            remedy="Set data.images in site.toml, or run `acf-client data prepare` to "
            "go on without images.",
        )
    return sources


def _write_numbers(folder: Path, record: PredictionRecord) -> None:
    """Write the record and the picture of its curves."""
    has_range = record.num_models > 1
    curves = ProjectedCurves(
        bin_edges_months=tuple(record.bin_edges_months),
        survival=_to_curve(record.survival),
        cumulative_incidence=_to_curve(record.cumulative_incidence),
        hazard=_to_curve(record.hazard),
        supported_months=record.supported_months,
        counted_from=record.counted_from,
        range_words=f"bands: {record.lowest_and_highest}" if has_range else "",
    )
    picture = draw_prediction_curve(curves)
    write_atomically(folder / CURVE, picture, mode=PRIVATE_MODE)
    content = record.model_dump_json(indent=2).encode()
    write_atomically(folder / RECORD, content + b"\n", mode=PRIVATE_MODE)


def _to_curve(curve: CurveRecord) -> CurveWithRange:
    return CurveWithRange(
        values=np.array(curve.values),
        lowest=None if curve.lowest is None else np.array(curve.lowest),
        highest=None if curve.highest is None else np.array(curve.highest),
    )


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Give a new private folder to write in, which takes the place of `folder` whole.

    Should the block fail, what was there before stays.
    """
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise MachineError(
            "machine.folder_unwritable",
            f"{folder}: is no folder.",
            remedy="Choose a new or an empty folder.",
        )
    refuse_strangers(folder, own_names=_OWN_NAMES)
    make_folder(folder.parent)
    mark = secrets.token_hex(6)
    draft = folder.parent / f".{folder.name}.{mark}.new"
    try:
        draft.mkdir(mode=PRIVATE_FOLDER_MODE)
        yield draft
        _put_in_place(draft, folder, folder.parent / f".{folder.name}.{mark}.old")
    except OSError as error:
        raise describe_os_error(error, folder) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _put_in_place(draft: Path, folder: Path, former: Path) -> None:
    """Give the draft the folder's name; what had it is removed after that alone."""
    if folder.exists():
        folder.rename(former)
    try:
        draft.rename(folder)
    except OSError:
        if former.exists():
            former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _make_private(folder: Path) -> tuple[Path, ...]:
    """Let the owner alone read everything below; return the files."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        path.chmod(PRIVATE_FOLDER_MODE if path.is_dir() else PRIVATE_MODE)
    return tuple(path.relative_to(folder) for path in paths if path.is_file())


def _note(site: Site, record: PredictionRecord, files: Sequence[Path]) -> None:
    """Note in the audit log that a model was asked, not about whom."""
    site.audit.append(
        "patient_predicted",
        parameters_sha256=record.models[0].parameters_sha256,
        num_models=record.num_models,
        num_files=len(files),
    )
