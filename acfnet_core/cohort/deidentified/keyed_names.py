"""What stands in an export for identifiers, UIDs and days: keyed, and the same again.

All follow from the site's key by HMAC-SHA256 through a key of the export's own, so that
the pseudonyms of an export cannot be linked with those of the prepared store, nor with
another site's, by anybody who does not have the site's key. A plain hash would not do:
all numbers of seven digits are hashed in seconds.
"""

import base64
import datetime
import hashlib
import hmac
from dataclasses import dataclass, field

_PURPOSE = b"acfnet de-identified export 1"
_PSEUDONYM_LENGTH = 32
_MIN_KEY_BYTES = 16
_MAX_SHIFT_DAYS = 3652
"""Ten years; a day is always moved, by one day at least, and always to the past."""
_DATE_FORMAT = "%Y%m%d"


@dataclass(frozen=True, kw_only=True)
class PatientNames:
    """One patient's names in an export.

    Attributes:
        pseudonym: Base32 of a keyed hash, 160 bits.
        shift_days: How far all of the patient's days are moved to the past.
    """

    pseudonym: str
    shift_days: int = field(repr=False)
    _names: "KeyedNames" = field(repr=False)

    def uid(self, uid: str) -> str:
        """Return what stands for a UID; see `KeyedNames.uid`."""
        return self._names.uid(uid)

    def shift(self, day: datetime.date) -> datetime.date | None:
        """Move a day; None if it would lie before the calendar."""
        try:
            return day - datetime.timedelta(days=self.shift_days)
        except OverflowError:
            return None

    def shift_dicom(self, text: str) -> str:
        """Move a day as DICOM writes it; "" for anything that is no such day."""
        try:
            day = datetime.datetime.strptime(text.strip(), _DATE_FORMAT).date()
        except ValueError:
            return ""
        moved = self.shift(day)
        return "" if moved is None else f"{moved.year:04}{moved:%m%d}"


class KeyedNames:
    """The names of one site's export.

    Args:
        site_key: The secret of the site, 16 bytes or more.

    Raises:
        ValueError: The key is too short.
    """

    def __init__(self, site_key: bytes) -> None:
        if len(site_key) < _MIN_KEY_BYTES:
            raise ValueError(f"site_key must have {_MIN_KEY_BYTES} bytes or more")
        self._key = hmac.digest(site_key, _PURPOSE, hashlib.sha256)

    def patient(self, patient_id: str) -> PatientNames:
        """Return the names of the patient with this identifier at the site."""
        pseudonym = base64.b32encode(self._digest("patient", patient_id))
        shift = int.from_bytes(self._digest("shift", patient_id)[:8])
        return PatientNames(
            pseudonym=pseudonym.decode("ascii").lower()[:_PSEUDONYM_LENGTH],
            shift_days=1 + shift % _MAX_SHIFT_DAYS,
            _names=self,
        )

    def uid(self, uid: str) -> str:
        """Return the UID that stands for a UID, below root 2.25.

        The same UID gives the same one wherever it stands, which keeps the relations
        between scans, segmentations and their references.

        Source: DICOM PS3.5 section B.2; the 128 bits are a keyed hash in place of a
        UUID.
        """
        digest = self._digest("uid", uid.strip(" \0"))
        return f"2.25.{int.from_bytes(digest[:16])}"

    def _digest(self, purpose: str, text: str) -> bytes:
        message = f"{purpose}:{text}".encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, message, hashlib.sha256)
