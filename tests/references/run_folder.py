"""A run's folder with made-up but plausible numbers, for tests of what reads one."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from acf_server.risk_map_files import write_risk_map
from acf_server.run_files import (
    EVALUATION_FILE,
    RISK_MAPS_FOLDER,
    ROUNDS_FILE,
    RUN_FILE,
    SITES_FILE,
    RoundRecord,
    RoundRecords,
    RunRecord,
    SiteRecord,
    SiteRecords,
    SiteRound,
    write_record,
)
from acfnet_core.evaluation.verdict import (
    CalibrationBin,
    GroupCurve,
    Interval,
    ModelScore,
    PairedDifference,
    TemporalAdjacency,
    Verdict,
)
from acfnet_core.pictures.risk_map_panels import RiskMapPatient

MODEL = "4D-ACFNet"
READING = "7a5c" * 16
SITE_NAMES = ("north", "harbour", "hillside")


def make_run(**changes: object) -> RunRecord:
    """Describe a finished run on made-up patients."""
    values: dict[str, object] = {
        "name": "demo-2025-11",
        "study": "Liver metastases, demonstration consortium",
        "purpose": "Does 4D-ACFNet, trained over three hospitals, predict disease-free "
        "survival after liver resection better than a ridge Cox model on the same "
        "clinical table?",
        "started_utc": datetime(2025, 11, 23, 16, 2, 11, tzinfo=UTC),
        "finished_utc": datetime(2025, 11, 23, 16, 5, 40, tzinfo=UTC),
        "status": "finished",
        "rounds": 6,
        "seed": 7,
        "model": {"size": "tiny", "num_years": 8},
        "num_parameters": 103_482,
        "training": {"local_epochs": 1, "learning_rate": 1e-3, "loss": {"survival": 1}},
        "strategy": {"name": "fedavg", "max_share": 0.5},
        "contract_name": "crlm 1",
        "contract_sha256": "4f1c" * 16,
        "features": ["age", "sex", "max_tumor_size", "carcinoembryonic_antigen"],
        "endpoint": "disease-free survival",
        "minimum_cell": 10,
        "data_origin": "synthetic",
        "software": {"acfnet": "0.1.0", "torch": "2.13.0", "flwr": "1.41.0"},
    }
    return RunRecord.model_validate({**values, **changes})


def make_sites() -> list[SiteRecord]:
    """Describe three sites; the last one is below the minimum cell."""
    return [
        SiteRecord(
            name=name,
            num_patients=patients,
            num_events=events,
            num_with_scans=with_scans,
            num_scans=scans,
            rounds_answered=6 - failed,
            rounds_failed={"protocol.site_timeout": failed} if failed else {},
        )
        for name, patients, events, with_scans, scans, failed in (
            (SITE_NAMES[0], 64, 41, 60, 121, 0),
            (SITE_NAMES[1], 31, 19, 29, 52, 1),
            (SITE_NAMES[2], None, None, None, None, 0),
        )
    ]


def make_rounds(num_rounds: int = 6) -> list[RoundRecord]:
    """Describe rounds with a falling loss; the second site misses round 4."""
    rng = np.random.default_rng(3)
    records = []
    for number in range(num_rounds + 1):
        level = 1.62 * np.exp(-number / 6) + 1.1
        losses = level + np.array([-0.06, 0.03, 0.14]) + rng.normal(0, 0.015, 3)
        scores = 0.5 + 0.14 * (1 - np.exp(-number / 2.5)) + np.array([0.02, 0, -0.04])
        sites = [
            SiteRound(
                name=name,
                loss=None if missed else float(losses[index]),
                harrell_c=None if missed else float(scores[index]),
                num_patients=(64, 31, None)[index],
                seconds=2.1 + index if number else 0.0,
                code="protocol.site_timeout" if missed else None,
            )
            for index, name in enumerate(SITE_NAMES)
            for missed in [number == 4 and index == 1]
        ]
        records.append(
            RoundRecord(
                round=number,
                mean_loss=float(losses[:2].mean()),
                worst_loss=float(losses[2]),
                worst_loss_site=SITE_NAMES[2],
                mean_c=float(scores[:2].mean()),
                worst_c=float(scores[2]),
                worst_c_site=SITE_NAMES[2],
                num_patients=None,
                num_patients_c=95,
                seconds=5.2 + float(rng.random()) if number else 0.0,
                bytes_sent=1_242_000 if number else 0,
                bytes_received=1_243_000 if number else 0,
                sites=sites,
                update_norm=None if number == 0 else 0.9 / number,
            )
        )
    return records


def make_verdict(**changes: object) -> Verdict:
    """Judge a model that is no better than ridge Cox."""
    values: dict[str, object] = {
        "model": MODEL,
        "reading_sha256": READING,
        "headline": "No evidence of a difference between 4D-ACFNet and ridge Cox: "
        "Harrell's C differs by -0.012 (95 % interval -0.081 to 0.055) in 43 held-out "
        "patients with 28 events.",
        "num_patients": 43,
        "num_events": 28,
        "median_follow_up_months": 61.3,
        "num_training_patients": 104,
        "tau_months": 96.0,
        "risk_definition": "minus the restricted mean survival to month 96",
        "brier_window_months": (6.0, 96.0),
        "scores": [
            make_score(MODEL, 0.604, 0.212),
            make_score("ridge Cox", 0.616, 0.210),
            make_score("Fong score", 0.561, 0.219),
            make_score("Kaplan-Meier", 0.5, 0.222),
        ],
        "differences": make_differences(),
        "risk_groups": make_risk_groups(),
        "log_rank_p": 0.041,
        "temporal_adjacency": TemporalAdjacency(
            value=0.57,
            best_constant=0.6,
            best_constant_year=2,
            num_patients=28,
            note="The constant is chosen on these very patients.",
        ),
        "num_bootstrap": 500,
        "bootstrap_seed": 11,
        "minimum_cell": 10,
        "warnings": ["28 events: the intervals are wide."],
    }
    return Verdict.model_validate({**values, **changes})


def make_score(name: str, concordance: float, brier: float) -> ModelScore:
    """Score one model at given levels."""

    def around(estimate: float, width: float) -> Interval:
        return Interval(estimate=estimate, low=estimate - width, high=estimate + width)

    return ModelScore(
        name=name,
        num_patients=43,
        harrell_c=around(concordance, 0.09),
        uno_c=around(concordance - 0.006, 0.1),
        auc_by_year={
            "1": around(concordance + 0.02, 0.13),
            "3": around(concordance + 0.03, 0.12),
            "5": None if name == "Fong score" else around(concordance, 0.16),
        },
        integrated_brier=around(brier, 0.03),
        scaled_brier=around(1 - brier / 0.222, 0.12),
        calibration=[
            CalibrationBin(
                year=year,
                group=group,
                num_patients=(14, 14, 15)[group - 1],
                predicted=predicted,
                observed=around(predicted + 0.05 * (2 - group), 0.17),
            )
            for year, level in ((1, 0.3), (3, 0.55), (5, 0.62))
            for group, predicted in enumerate((level - 0.13, level, level + 0.14), 1)
        ],
        observed_expected={
            "1": around(1.05, 0.3),
            "3": around(0.97, 0.2),
            "5": around(0.94, 0.2),
        },
    )


def make_differences() -> list[PairedDifference]:
    """Compare the model with its three references on three metrics."""
    rows: list[PairedDifference] = []
    for metric, higher, shifts in (
        ("harrell_c", True, (-0.012, 0.043, 0.104)),
        ("uno_c", True, (-0.009, 0.038, 0.098)),
        ("integrated_brier", False, (0.002, -0.007, -0.010)),
    ):
        width = 0.068 if higher else 0.014
        for reference, shift in zip(
            ("ridge Cox", "Fong score", "Kaplan-Meier"), shifts, strict=True
        ):
            clear = abs(shift) > width
            rows.append(
                PairedDifference.model_validate(
                    {
                        "model": MODEL,
                        "reference": reference,
                        "metric": metric,
                        "num_patients": 43,
                        "interval": {
                            "estimate": shift,
                            "low": shift - width,
                            "high": shift + width,
                        },
                        "higher_is_better": higher,
                        "conclusion": "better" if clear else "no_evidence",
                    }
                )
            )
    return rows


def make_risk_groups() -> list[GroupCurve]:
    """Draw three survival curves that part."""
    curves = []
    for label, rate, patients, events in (
        ("low risk", 0.011, 14, 7),
        ("middle", 0.02, 14, 10),
        ("high risk", 0.034, 15, 11),
    ):
        times = [0.0, 3, 7, 11, 16, 22, 29, 37, 48, 61, 77, 96]
        survival = [float(np.exp(-rate * time)) for time in times]
        at_risk = [patients, 11, None, None, None, 0 if rate > 0.03 else None]
        curves.append(
            GroupCurve(
                label=label,
                num_patients=patients,
                num_events=events,
                time_months=times,
                survival=survival,
                low=[None, *[max(s - 0.16, 0.0) for s in survival[1:]]],
                high=[None, *[min(s + 0.14, 1.0) for s in survival[1:]]],
                times_at_risk=[0.0, 12.0, 24.0, 36.0, 60.0, 96.0],
                at_risk=at_risk,
            )
        )
    return curves


def make_risk_map(number: int = 1) -> RiskMapPatient:
    """Make an ellipsoid liver with one tumour and a map that moves outwards."""
    rng = np.random.default_rng(number)
    depth, height, width = np.mgrid[:24, :48, :48].astype(np.float32)

    def inside(centre: tuple[int, int, int], radii: tuple[int, int, int]) -> np.ndarray:
        terms = [
            ((axis - middle) / radius) ** 2
            for axis, middle, radius in zip(
                (depth, height, width), centre, radii, strict=True
            )
        ]
        return np.asarray(sum(terms) <= 1)

    liver = inside((12, 24, 22), (9, 15, 18))
    tumour = inside((10 + 3 * number, 20, 14 + 4 * number), (3, 4, 4))
    body = inside((12, 25, 24), (60, 21, 23))
    ct_hu = np.where(liver, 110.0, np.where(body, 45.0, 5.0))
    ct_hu = np.where(tumour, 70.0, ct_hu) + rng.normal(0, 9, ct_hu.shape)
    maps = []
    for year in range(1, 9):
        distance = np.hypot(height - 20, width - (14 + 4 * number)) - 1.6 * year
        front = np.exp(-((distance / 4) ** 2)) * np.exp(-(((depth - 12) / 6) ** 2))
        calm = 0.5 * np.exp(-(((height - 30) / 6) ** 2 + ((width - 32) / 6) ** 2))
        maps.append((front * (1 - year / 14) - calm * year / 8) * liver)
    return RiskMapPatient(
        title=f"held-out patient {number}",
        years=tuple(range(1, 9)),
        ct_hu=ct_hu.clip(5, 185).astype(np.float32),
        window_hu=(5.0, 185.0),
        liver=liver.astype(np.uint8),
        tumour=tumour.astype(np.uint8),
        maps=(np.stack(maps) / 100).astype(np.float32),
        survival=np.exp(-0.09 * number * np.arange(1, 17) / 2).astype(np.float32),
    )


def write_run_folder(folder: Path, *, evaluated: bool = True) -> Path:
    """Write all files of a run's folder."""
    write_record(folder / RUN_FILE, make_run())
    write_record(folder / SITES_FILE, SiteRecords(make_sites()))
    write_record(folder / ROUNDS_FILE, RoundRecords(make_rounds()))
    if evaluated:
        write_record(folder / EVALUATION_FILE, make_verdict())
    (folder / RISK_MAPS_FOLDER).mkdir()
    for number in (1, 2):
        path = folder / RISK_MAPS_FOLDER / f"patient-{number}.safetensors"
        write_risk_map(path, make_risk_map(number))
    return folder
