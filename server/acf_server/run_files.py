"""The files of a run's folder: what the coordinator writes and the report reads.

    contract.toml     DataContract  the contract that the run was started under
    run.json          RunRecord     what was asked, of whom, with which software
    sites.json        SiteRecords   who took part, with counts above the minimum cell
    rounds.json       RoundRecords  what each round gave and cost
    evaluation.json   Verdict       the held-out judgement (acfnet_core.evaluation)
    risk_maps/        *.safetensors one file for each patient that the report shows

A count below the contract's minimum cell is None here: the number was never sent, or
was dropped on arrival, so no later reader can print it.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RootModel,
    ValidationError,
)

from acf_server.run_plan import StrategySettings
from acfnet_core.errors import ConfigError, MachineError
from acfnet_core.evaluation.verdict import Verdict
from acfnet_core.federation.compression import UpdateSettings
from acfnet_core.federation.messages import PersonalComparison
from acfnet_core.files import write_atomically

RUN_FILE = "run.json"
SITES_FILE = "sites.json"
ROUNDS_FILE = "rounds.json"
CONTRACT_FILE = "contract.toml"
EVALUATION_FILE = "evaluation.json"
RISK_MAPS_FOLDER = "risk_maps"
REPORT_FILE = "report.html"
RUN_LOCK = "running.lock"
"""Held by the ServerApp that works on the run."""
FLOWER_RUN_FILE = "flower-run"
"""Flower's number of the run, as it was last given to it."""

DataOrigin = Literal["synthetic", "public", "consortium"]
RunStatus = Literal["running", "finished", "stopped", "failed"]
RecordT = TypeVar("RecordT", bound=BaseModel)


class _Record(BaseModel):
    """A record that refuses unknown keys, wrong types and numbers that are not."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


class RunRecord(_Record):
    """What a run was asked to do, under which contract, model and software.

    `model`, `training`, `strategy` and `updates` hold the resolved settings of their
    owners; `endpoint` is the endpoint in words; times are aware and in UTC.
    """

    format_version: Literal[1] = 1
    name: str
    study: str
    purpose: str
    started_utc: AwareDatetime
    finished_utc: AwareDatetime | None
    status: RunStatus
    rounds: PositiveInt
    seed: int
    model: dict[str, JsonValue]
    num_parameters: PositiveInt
    training: dict[str, JsonValue]
    strategy: StrategySettings
    updates: UpdateSettings = UpdateSettings()
    contract_name: str
    contract_sha256: str
    features: list[str]
    endpoint: str
    minimum_cell: PositiveInt
    data_origin: DataOrigin
    software: dict[str, str]
    landmark_months: float | None = None
    """Months after the resection from which times count; null is from it."""


class SiteRecord(_Record):
    """One site's share in a run; a count of None is below the minimum cell."""

    name: str
    num_patients: NonNegativeInt | None
    num_events: NonNegativeInt | None
    num_with_scans: NonNegativeInt | None
    num_scans: NonNegativeInt | None
    followed_months: PositiveFloat | None = None
    """How long at least the minimum cell of its patients were at risk; null in files
    from before sites told it."""
    reading_sha256: str | None = None
    """Of how the site reads its table and images, as it last told."""
    rounds_answered: NonNegativeInt
    rounds_failed: dict[str, NonNegativeInt]
    personal: PersonalComparison | None = None
    """Its own model beside the global one, where the run asked for one."""


class RoundPhases(_Record):
    """Where the seconds of a round went at the server, one after the other."""

    waiting: NonNegativeFloat
    """For the sites' answers, which are on their way or being computed."""
    checking: NonNegativeFloat
    """Signatures, admission, putting the updates aside."""
    combining: NonNegativeFloat
    """The strategy's arithmetic."""
    writing: NonNegativeFloat
    """The checkpoint, flushed to the disk."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.waiting + self.checking + self.combining + self.writing


class SiteRound(_Record):
    """One site's answer in one round; `code` says why there was none.

    `loss` and `harrell_c` are of the global model after this round (round 0: before
    any), measured by the site on its own patients.
    """

    name: str
    loss: float | None = None
    harrell_c: float | None = None
    num_patients: NonNegativeInt | None = None
    seconds: NonNegativeFloat = 0.0
    """From the begin of the round to the answer, as the server saw it."""
    computing_seconds: NonNegativeFloat | None = None
    """Of them, what the site says it took to judge and train; the rest is the way."""
    code: str | None = None
    asked: bool = False
    """Whether this round's exchange has come to an end for the site."""


class RoundRecord(_Record):
    """One round: what the sites measured, what it cost; round 0 is the initial model.

    Means are over patients; worst is the site with the highest loss or the lowest C.
    `num_patients` is the n of the loss and `num_patients_c` that of C, which fewer
    sites may tell: it needs enough patients with an event and enough without. Both
    count the sites that told theirs, so no withheld count can be worked out.
    """

    round: NonNegativeInt
    mean_loss: float | None = None
    worst_loss: float | None = None
    worst_loss_site: str | None = None
    mean_c: float | None = None
    worst_c: float | None = None
    worst_c_site: str | None = None
    num_patients: NonNegativeInt | None = None
    num_patients_c: NonNegativeInt | None = None
    seconds: NonNegativeFloat = 0.0
    phases: RoundPhases | None = None
    """Null while the round is not complete."""
    bytes_sent: NonNegativeInt = 0
    bytes_received: NonNegativeInt = 0
    sites: list[SiteRound]
    update_norm: NonNegativeFloat | None = None


class SiteRecords(RootModel[list[SiteRecord]]):
    """The content of sites.json."""


class RoundRecords(RootModel[list[RoundRecord]]):
    """The content of rounds.json."""


def write_record(path: Path, record: BaseModel) -> Path:
    """Write one of the records above as indented JSON, wholly or not at all.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    write_atomically(path, (record.model_dump_json(indent=2) + "\n").encode())
    return path


def read_run(run_folder: Path) -> RunRecord:
    """Read what the run was.

    Raises:
        ConfigError: The folder holds no run.
        MachineError: The file cannot be read or has faults.
    """
    path = run_folder / RUN_FILE
    if not path.is_file():
        raise ConfigError(
            "config.run_not_found",
            f"{run_folder}: holds no {RUN_FILE}, so it is not the folder of a run.",
            remedy="Give the folder that `acf-server run list` names for the run.",
        )
    return _read_record(path, RunRecord)


def end_run(run_folder: Path, status: RunStatus) -> None:
    """Write into a run's record how and when it ended."""
    ended = {"status": status, "finished_utc": datetime.now(UTC)}
    record = read_run(run_folder).model_copy(update=ended)
    write_record(run_folder / RUN_FILE, record)


def reopen_run(run_folder: Path) -> None:
    """Write into a run's record that it goes on."""
    reopened = {"status": "running", "finished_utc": None}
    record = read_run(run_folder).model_copy(update=reopened)
    write_record(run_folder / RUN_FILE, record)


def read_sites(run_folder: Path) -> list[SiteRecord]:
    """Read who took part; empty while no site has answered yet."""
    path = run_folder / SITES_FILE
    return _read_record(path, SiteRecords).root if path.is_file() else []


def read_rounds(run_folder: Path) -> list[RoundRecord]:
    """Read what each round gave, by round; empty before the first."""
    path = run_folder / ROUNDS_FILE
    records = _read_record(path, RoundRecords).root if path.is_file() else []
    return sorted(records, key=lambda record: record.round)


def read_verdict(run_folder: Path) -> Verdict | None:
    """Read the held-out judgement; None while the run has not been evaluated."""
    path = run_folder / EVALUATION_FILE
    return _read_record(path, Verdict) if path.is_file() else None


def damaged(path: Path, what: str) -> MachineError:
    """Say that a file of a run's folder cannot be used, and what to do."""
    return MachineError(
        "machine.run_folder_damaged",
        f"{path}: {what}.",
        remedy="Restore this file from a backup, or repeat the command that writes it.",
    )


def _read_record(path: Path, kind: type[RecordT]) -> RecordT:
    """Read one file as a record, with all of its faults in one message."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise damaged(path, f"cannot be read ({error.strerror})") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise damaged(path, f"is not as expected: {faults}") from error
