"""One row of a made-up clinical table, with the columns of the public cohort.

The marginals are those of the 197 patients of TCIA Colorectal-Liver-Metastases
(doi:10.7937/QXK2-QG03, CC BY 4.0) to the precision that a made-up cohort needs.
"""

import datetime
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from acfnet_core.cohort.synthetic.anatomy import Tumour, has_both_sides

Cell = int | float | str | datetime.date

MISSING = -999
RESECTION_DATE_COLUMN = "date_of_liver_resection"

BEFORE_SURGERY: dict[str, str] = {
    "Patient-ID": "Identifier, equal to PatientID in the images",
    "De-identify Scout Name": "Second identifier",
    "age": "Age at the resection in years",
    "sex": "1 male, 2 female",
    "major_comorbidity": "Major comorbidity: 0 no, 1 yes",
    "body_mass_index": "Body mass index in kg/m2",
    "node_positive_primary": "Primary tumour with positive nodes: 0 no, 1 yes",
    "synchronous_crlm": "Metastases within 12 months of the primary: 0 no, 1 yes",
    "multiple_metastases": "More than one metastasis: 0 no, 1 yes",
    "clinrisk_score": "Clinical risk score of Fong, 0 to 5",
    "clinrisk_stratified": "Clinical risk score of 3 or more: 0 no, 1 yes",
    "carcinoembryonic_antigen": "Carcinoembryonic antigen in ng/ml",
    "max_tumor_size": "Diameter of the largest metastasis in cm",
    "bilobar_disease": "Metastases in both lobes: 0 no, 1 yes",
    "extrahep_disease": "Disease outside the liver: 0 no, 1 yes",
    "chemo_before_liver_resection": "Chemotherapy before resection: 0 no, 1 yes",
    "preoperative_pve": "Portal vein embolisation before resection: 0 no, 1 yes",
    RESECTION_DATE_COLUMN: "Day of the liver resection",
}
"""Columns known before surgery and what they mean."""

FROM_SPECIMEN: dict[str, str] = {
    "steatosis_yesno": "Steatosis in the specimen: 0 no, 1 yes",
    "presence_sinusoidal_dilata": "Sinusoidal dilatation: 0 no, 1 yes",
    "NASH_score": "Steatohepatitis activity score, 0 to 8",
    "NASH_yesno": "Steatohepatitis score above 0: 0 no, 1 yes",
    "NASH_greater_4": "Steatohepatitis score of 4 or more: 0 no, 1 yes",
    "total_response_percent": "Part of the tumour that responded, 0 to 1",
    "necrosis_percent": "Part of the tumour that is necrosis, 0 to 1",
    "fibrosis_percent": "Part of the tumour that is fibrosis, 0 to 1",
    "fibrosis_greater_40_percent": "Fibrosis of 0.4 or more: 0 no, 1 yes",
    "mucin_percent": "Part of the tumour that is mucin, 0 to 1",
}
"""Columns that the pathologist fills after surgery; no feature may be made of them."""

OUTCOME: dict[str, str] = {
    "overall_survival_months": "Months from resection to death or last contact",
    "vital_status": "0 alive, 1 dead",
    "progression_or_recurrence": "Any recurrence: 0 no, 1 yes",
    "months_to_DFS_progression": "Months to recurrence, death or last contact",
    "vital_status_DFS": "Recurrence or death: 0 no, 1 yes",
    "progression_or_recurrence_liveronly": "Recurrence in the liver: 0 no, 1 yes",
    "months_to_liver_DFS_progression": "Months to liver recurrence, death or contact",
    "vital_status_liver_DFS": "Liver recurrence or death: 0 no, 1 yes",
}
"""Columns of what happened afterwards."""

COLUMNS: dict[str, str] = {
    **BEFORE_SURGERY,
    **FROM_SPECIMEN,
    **OUTCOME,
    "relevant_notes": "Free text",
}
"""All columns of the table in their order; -999 stands for a missing value."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What happened to a patient after the resection, until follow-up ended."""

    disease_free_months: float
    survival_months: float
    has_recurrence: bool
    has_liver_recurrence: bool
    has_died: bool


def describe_patient(
    rng: np.random.Generator,
    *,
    patient_id: str,
    index: int,
    clinical: float,
    response: float,
    tumours: tuple[Tumour, ...],
    course: Course,
    resection: datetime.date,
) -> dict[str, Cell]:
    """Draw the row of one patient.

    Args:
        rng: The patient's generator.
        patient_id: Identifier, as in the images.
        index: Number of the patient at the site, from 1.
        clinical: Standard normal trait that the clinical columns show.
        response: Standard normal trait that the specimen shows.
        tumours: The metastases at resection, the largest first.
        course: What happened afterwards.
        resection: Day of the resection.

    Returns:
        One cell for each of `COLUMNS`, in their order.
    """
    row: dict[str, Cell] = {
        "Patient-ID": patient_id,
        "De-identify Scout Name": f"{index:03d}_synthetic_preop",
        **_draw_person(rng, clinical),
        **_draw_disease(rng, clinical, tumours),
        RESECTION_DATE_COLUMN: resection,
        **_draw_specimen(rng, response),
        **_describe_outcome(course),
        "relevant_notes": "",
    }
    row.update(_score_risk(row, is_missing=bool(rng.uniform() < 0.12)))
    return {name: row[name] for name in COLUMNS}


def _draw_person(rng: np.random.Generator, clinical: float) -> dict[str, Cell]:
    """Draw what is true of the person rather than of the disease."""
    age = 60 + 12 * _mix(rng, clinical, 0.30)
    return {
        "age": int(np.clip(round(age), 30, 88)),
        "sex": 2 if rng.uniform() < 0.41 else 1,
        "major_comorbidity": _draw_flag(rng, clinical, 0.55, loading=0.35),
        "body_mass_index": round(float(np.clip(rng.normal(27.3, 4.9), 17, 44)), 1),
    }


def _draw_disease(
    rng: np.random.Generator, clinical: float, tumours: tuple[Tumour, ...]
) -> dict[str, Cell]:
    """Draw the findings before surgery; those about size and number are the truth."""
    log_antigen = math.log(6.9) + 1.5 * _mix(rng, clinical, 0.70)
    size_cm = tumours[0].diameter_mm / 10 * rng.normal(1.0, 0.06)
    is_bilobar = has_both_sides(tumours)
    return {
        "node_positive_primary": _draw_flag(rng, clinical, 0.35, loading=0.65),
        "synchronous_crlm": _draw_flag(rng, clinical, 0.56, loading=0.50),
        "multiple_metastases": int(len(tumours) > 1),
        "carcinoembryonic_antigen": round(
            float(np.clip(math.exp(log_antigen), 0.2, 1100)), 1
        ),
        "max_tumor_size": round(max(0.5, float(size_cm)), 1),
        "bilobar_disease": int(is_bilobar),
        "extrahep_disease": _draw_flag(rng, clinical, 0.09, loading=0.50),
        "chemo_before_liver_resection": _draw_flag(rng, clinical, 0.62, loading=0.20),
        "preoperative_pve": int(rng.uniform() < (0.20 if is_bilobar else 0.07)),
    }


def _score_risk(row: dict[str, Cell], *, is_missing: bool) -> dict[str, Cell]:
    """Return the clinical risk score that follows from the row's own columns.

    Source: Fong et al. (1999), Ann Surg 230:309, one point each: positive
    nodes, less than 12 months since the primary, more than one tumour, antigen above
    200 ng/ml, largest tumour above 5 cm. Without an antigen there is no score, as in
    the public table.
    """
    if is_missing:
        names = ("carcinoembryonic_antigen", "clinrisk_score", "clinrisk_stratified")
        return dict.fromkeys(names, MISSING)
    score = sum(
        int(str(row[name]))
        for name in ("node_positive_primary", "synchronous_crlm", "multiple_metastases")
    )
    score += float(str(row["carcinoembryonic_antigen"])) > 200
    score += float(str(row["max_tumor_size"])) > 5
    return {"clinrisk_score": score, "clinrisk_stratified": int(score >= 3)}


def _draw_specimen(rng: np.random.Generator, response: float) -> dict[str, Cell]:
    """Draw the pathologist's findings in tenths; the parts add up to the response."""
    total = int(np.clip(round(5.4 + 2.2 * _mix(rng, response, 0.85)), 0, 10))
    necrosis = int(rng.binomial(total, 0.58))
    fibrosis = int(rng.binomial(total - necrosis, 0.85))
    nash = int(min(6, rng.poisson(2.0))) if rng.uniform() < 0.40 else 0
    findings: dict[str, Cell] = {
        "steatosis_yesno": int(rng.uniform() < 0.35),
        "presence_sinusoidal_dilata": int(rng.uniform() < 0.13),
        "NASH_score": nash,
        "NASH_yesno": int(nash > 0),
        "NASH_greater_4": int(nash >= 4),
    }
    parts: dict[str, Cell] = {
        "total_response_percent": total / 10,
        "necrosis_percent": necrosis / 10,
        "fibrosis_percent": fibrosis / 10,
        "fibrosis_greater_40_percent": int(fibrosis >= 4),
        "mucin_percent": (total - necrosis - fibrosis) / 10,
    }
    if rng.uniform() < 0.02:
        parts = dict.fromkeys(parts, MISSING)
    return {**findings, **parts}


def _describe_outcome(course: Course) -> dict[str, Cell]:
    """Write a course as the eight outcome columns, consistent with one another."""
    liver_months = (
        course.disease_free_months
        if course.has_liver_recurrence
        else course.survival_months
    )
    return {
        "overall_survival_months": course.survival_months,
        "vital_status": int(course.has_died),
        "progression_or_recurrence": int(course.has_recurrence),
        "months_to_DFS_progression": course.disease_free_months,
        "vital_status_DFS": int(course.has_recurrence or course.has_died),
        "progression_or_recurrence_liveronly": int(course.has_liver_recurrence),
        "months_to_liver_DFS_progression": liver_months,
        "vital_status_liver_DFS": int(course.has_liver_recurrence or course.has_died),
    }


def _mix(rng: np.random.Generator, trait: float, loading: float) -> float:
    """Return a standard normal value that correlates by `loading` with the trait."""
    return loading * trait + math.sqrt(1 - loading**2) * float(rng.normal())


def _draw_flag(
    rng: np.random.Generator, trait: float, share: float, *, loading: float
) -> int:
    """Return 1 for a `share` of the patients, rather those with a high trait."""
    return int(_mix(rng, trait, loading) > NormalDist().inv_cdf(1 - share))
