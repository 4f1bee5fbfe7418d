"""Every error that an operator can meet, with its code and exit status.

AcfnetError
├── ConfigError     a file of settings or an option is wrong      exit 10-19
├── DataError       the patients' data is not as agreed           exit 20-39
├── IdentityError   a key, a certificate or an invitation         exit 40-49, 70-79
├── ProtocolError   a run, a round or a message between machines  exit 50-59, 80-89
└── MachineError    a port, a folder, a disk or a process here    exit 60-69, 90-99

An error has two audiences. Its message and remedy may name a path or a row and stay
on this machine. Across the wire goes the code alone, with `CATALOGUE[code].meaning`,
which is constant text.
"""

from dataclasses import dataclass

EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class CodeEntry:
    """What a code means to a reader who has only the code, and its exit status."""

    exit_status: int
    meaning: str


CATALOGUE: dict[str, CodeEntry] = {
    "config.not_found": CodeEntry(10, "A file of settings does not exist."),
    "config.invalid": CodeEntry(11, "A file of settings or an option has faults."),
    "config.already_initialised": CodeEntry(12, "The folder is already set up."),
    "config.not_initialised": CodeEntry(13, "The folder has not been set up yet."),
    "config.run_exists": CodeEntry(14, "A run of this name exists already."),
    "config.run_not_found": CodeEntry(15, "There is no run of this name."),
    "config.contract_invalid": CodeEntry(16, "The data contract has faults."),
    "config.forbidden_feature": CodeEntry(
        17, "A column that is not known before surgery was asked for as a feature."
    ),
    "config.run_state": CodeEntry(18, "The run is not in a state that allows this."),
    "data.path_not_found": CodeEntry(20, "A file or folder of data does not exist."),
    "data.table_empty": CodeEntry(21, "The clinical table has no rows."),
    "data.missing_column": CodeEntry(22, "The clinical table lacks a column."),
    "data.table_invalid": CodeEntry(23, "The clinical table has faulty values."),
    "data.table_unreadable": CodeEntry(24, "The clinical table cannot be read."),
    "data.contract_mismatch": CodeEntry(
        25, "The data was prepared under another contract than the run's."
    ),
    "data.not_prepared": CodeEntry(26, "The data has not been prepared yet."),
    "data.store_damaged": CodeEntry(27, "A prepared file does not match its checksum."),
    "data.too_few_patients": CodeEntry(
        28, "Fewer patients than the contract's minimum."
    ),
    "data.series_refused": CodeEntry(29, "A CT series was refused."),
    "data.segmentation_refused": CodeEntry(30, "A segmentation was refused."),
    "data.no_events": CodeEntry(31, "No patient has an event."),
    "data.nothing_usable": CodeEntry(32, "No patient could be prepared."),
    "data.validation_too_small": CodeEntry(
        33, "Too few patients for the validation part that the run asks for."
    ),
    "data.source_changed": CodeEntry(
        34, "The images of a prepared scan are gone or were changed."
    ),
    "data.patient_unknown": CodeEntry(
        35, "The model cannot be asked about a patient of this identifier."
    ),
    "data.reading_changed": CodeEntry(
        36, "Table or images are read otherwise than when the data was prepared."
    ),
    "data.summary_too_close": CodeEntry(
        38, "The data summary is too close to one that was released before."
    ),
    "identity.invitation_invalid": CodeEntry(40, "The invitation cannot be read."),
    "identity.invitation_expired": CodeEntry(41, "The invitation has expired."),
    "identity.invitation_used": CodeEntry(42, "The invitation was used already."),
    "identity.fingerprint_mismatch": CodeEntry(43, "The fingerprints differ."),
    "identity.site_unknown": CodeEntry(44, "No site of this name is registered."),
    "identity.site_exists": CodeEntry(45, "A site of this name exists already."),
    "identity.request_invalid": CodeEntry(46, "The enrolment request is not valid."),
    "identity.certificate_invalid": CodeEntry(47, "A certificate is not valid."),
    "identity.key_unsafe": CodeEntry(48, "A private key can be read by others."),
    "identity.not_enrolled": CodeEntry(49, "The site has not been enrolled yet."),
    "protocol.malformed": CodeEntry(50, "A message does not have the agreed form."),
    "protocol.version_mismatch": CodeEntry(51, "The two sides run different versions."),
    "protocol.update_refused": CodeEntry(52, "An update was refused."),
    "protocol.too_few_sites": CodeEntry(53, "Fewer sites than the run's minimum."),
    "protocol.run_failed": CodeEntry(54, "The run ended before its last round."),
    "protocol.site_timeout": CodeEntry(55, "A site did not answer in time."),
    "protocol.flower_failed": CodeEntry(56, "Flower reported an error."),
    "protocol.trainer_unreachable": CodeEntry(57, "The site's trainer is not running."),
    "protocol.signature_invalid": CodeEntry(58, "A signature does not verify."),
    "protocol.site_failed": CodeEntry(59, "A site met an unexpected error."),
    "machine.port_in_use": CodeEntry(60, "A network port is taken."),
    "machine.folder_unwritable": CodeEntry(61, "A folder cannot be written."),
    "machine.disk_full": CodeEntry(62, "The disk is full."),
    "machine.process_died": CodeEntry(63, "A process ended unexpectedly."),
    "machine.folder_not_empty": CodeEntry(64, "The folder has something in it."),
    "machine.start_timeout": CodeEntry(65, "A process did not become ready in time."),
    "machine.already_running": CodeEntry(66, "It is already running."),
    "machine.address_not_loopback": CodeEntry(
        67, "This service may only listen on the loopback address."
    ),
    "machine.audit_damaged": CodeEntry(68, "The audit log was changed or damaged."),
    "machine.run_folder_damaged": CodeEntry(69, "A run's file cannot be used."),
    "identity.request_too_large": CodeEntry(70, "The enrolment request is too large."),
    "identity.key_unsupported": CodeEntry(71, "A key is not of the required kind."),
    "identity.name_mismatch": CodeEntry(72, "A file names another site."),
    "identity.admission_invalid": CodeEntry(73, "The admission file is not valid."),
    "identity.key_unreadable": CodeEntry(74, "A private key is missing or damaged."),
    "protocol.bundle_refused": CodeEntry(
        80, "The server sent a Flower bundle that is not the installed one."
    ),
    "protocol.site_not_accepted": CodeEntry(
        81, "The coordinator did not accept this site."
    ),
    "protocol.summary_outdated": CodeEntry(
        82, "A newer data summary of this site was taken before."
    ),
    "protocol.sites_not_ready": CodeEntry(
        83, "Fewer sites are ready for the run than its minimum."
    ),
    "machine.program_missing": CodeEntry(90, "A program is not installed."),
    "machine.server_not_running": CodeEntry(91, "The server does not answer."),
    "machine.out_of_memory": CodeEntry(92, "The memory does not hold one patient."),
    "machine.summary_damaged": CodeEntry(
        94, "A data summary that was kept here is damaged."
    ),
    "machine.disk_low": CodeEntry(95, "The disk has too little space for the run."),
    "machine.memory_low": CodeEntry(96, "The memory is too small for the run."),
}
"""Every code, in the order of its exit status; docs/errors.md is made from it."""


class AcfnetError(Exception):
    """An error with a code, a message for people and what to do about it.

    Args:
        code: A key of `CATALOGUE`.
        message: What is wrong, where, what was found and what was expected.
        remedy: What to do, as one imperative sentence.

    Raises:
        KeyError: The code is not in the catalogue.
    """

    def __init__(self, code: str, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.exit_status = CATALOGUE[code].exit_status

    def __reduce__(self) -> tuple[object, ...]:
        """Let an error cross from a worker process to its parent whole."""
        return _restore, (type(self), self.args), self.__dict__

    def as_json(self) -> dict[str, str]:
        """Return what a program needs to tell this error on."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


class ConfigError(AcfnetError):
    """A file of settings or an option is wrong."""


class DataError(AcfnetError):
    """The patients' data is not as agreed."""


class IdentityError(AcfnetError):
    """A key, a certificate, an invitation or a site's name is not acceptable."""


class ProtocolError(AcfnetError):
    """A run, a round or a message between the machines went wrong."""


class MachineError(AcfnetError):
    """A port, a folder, a disk or a process of this machine is in the way."""


def _restore(kind: type[AcfnetError], args: tuple[object, ...]) -> AcfnetError:
    """Make an error whose attributes follow; its class may have another initialiser."""
    return kind.__new__(kind, *args)


def restore_error(code: str, message: str, *, remedy: str) -> AcfnetError:
    """Make an error that came from another process again, of the kind of its code.

    Raises:
        KeyError: The code is not in the catalogue.
    """
    return _KINDS[code.partition(".")[0]](code, message, remedy=remedy)


_KINDS: dict[str, type[AcfnetError]] = {
    "config": ConfigError,
    "data": DataError,
    "identity": IdentityError,
    "protocol": ProtocolError,
    "machine": MachineError,
}


def format_error(error: AcfnetError) -> str:
    """Return an error as people read it: what is wrong, and what to do.

    >>> error = DataError("data.table_empty", "a.csv: no rows.", remedy="Export it.")
    >>> print(format_error(error))
    error (data.table_empty): a.csv: no rows.
    what to do: Export it.
    """
    return f"error ({error.code}): {error.message}\nwhat to do: {error.remedy}"
