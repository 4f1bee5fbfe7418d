"""Which CT series a segmentation names, found by UIDs on the disk."""

from acfnet_core.cohort.images.dicom_index import InstanceHeader
from acfnet_core.cohort.spool import Spool, SpooledList


class FirstHeaders:
    """The first header of each series, in the order of the series.

    Args:
        spool: Where they are put.
    """

    def __init__(self, spool: Spool) -> None:
        self._firsts: SpooledList[InstanceHeader] = spool.new_list()

    def add(self, first: InstanceHeader) -> None:
        """Take the next series."""
        keys = [f"series {first.series_uid}", f"study {first.study_uid}"]
        # A series without a UID cannot be named.
        self._firsts.append(first, keys=keys if first.series_uid else ())

    def place_of(self, drawing: InstanceHeader) -> int | None:
        """Return the place of the first series that a segmentation was drawn on.

        That is one of its patient and frame of reference that it names; where it names
        none, one of its study.
        """
        named = [f"series {uid}" for uid in drawing.referenced_series]
        keys = named or [f"study {drawing.study_uid}"]
        places = sorted({place for key in keys for place in self._firsts.places(key)})
        for place in places:
            first = self._firsts[place]
            if (first.patient_id, first.frame_of_reference_uid) == (
                drawing.patient_id,
                drawing.frame_of_reference_uid,
            ):
                return place
        return None
