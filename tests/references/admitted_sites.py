"""A small hospital on disk: three made-up patients, and a site that was admitted."""

from datetime import UTC, datetime
from pathlib import Path

from acf_client.enrolment import EnrolmentState
from acf_client.site import Site, initialise
from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.synthetic.sites import SyntheticSite, synthesize_site

NUM_PATIENTS = 3


def synthesize_small_hospital(folder: Path) -> None:
    """Write CRLM-SYN-A0001 to A0003; the first has no scans, the others have."""
    made_up = SyntheticSite(
        name="hospital-a",
        num_patients=NUM_PATIENTS,
        slice_spacing_mm=7.5,
        pixel_spacing_mm=4.5,
        noise_hu=6.0,
        hu_shift=0.0,
        scans_missing_probability=0.3,
    )
    patients = list(synthesize_site(made_up, folder, seed=3, num_workers=1))
    assert len(patients) == NUM_PATIENTS


def admit_site(folder: Path, contract: DataContract) -> Site:
    """Set up `folder/site` over the hospital's files, as after its admission."""
    site = initialise(
        folder / "site",
        clinical_table=folder / "clinical.xlsx",
        images=folder / "images",
        column_names={},
    )
    state = EnrolmentState(
        consortium="crlm",
        site="hospital-a",
        address="fl.example.org:8443",
        root_fingerprint="ab12",
        admitted=datetime(2026, 3, 1, tzinfo=UTC),
    )
    site.enrolment_path.write_text(state.model_dump_json())
    site.contract_path.write_text(contract_to_toml(contract))
    return site
