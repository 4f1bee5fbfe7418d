"""Names of segments that an export may use: the contract's own, never the file's.

A label such as `Tumor_Smith` matches the contract's `Tumor*`, so that a label which
matches is not harmless yet: the contract's spelling is written in its place, and a
running number for the star.
"""

import itertools

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.masks.segmentation import channel_of

_NEUTRAL_NAMES = ("Other", "Unnamed", "Segment")


class SafeLabels:
    """Gives the segments of one file their names; in the order asked for.

    Args:
        imaging: Its `segments` give each channel's labels.
    """

    def __init__(self, imaging: ImagingExpectations) -> None:
        self._imaging = imaging
        self._used: set[str] = set()

    def name_for(self, label: str) -> str | None:
        """Return the name in the export, which belongs to the same channel.

        Returns:
            None if the contract does not know the label.
        """
        channel = channel_of(label, self._imaging)
        if channel is None:
            return None
        pattern = self._matching_name(label, channel)
        if not pattern.endswith("*"):
            return pattern
        stem = pattern[:-1].replace("_", " ").strip() or channel
        return self._number(stem, channel)

    def neutral_name(self) -> str:
        """Return a name for a segment that the contract does not know.

        Raises:
            ValueError: The contract takes every neutral name for a channel's.
        """
        for name in _NEUTRAL_NAMES:
            if channel_of(f"{name} 1", self._imaging) is None:
                return self._number(name, None)
        raise ValueError("the contract's labels leave no neutral name")

    def _matching_name(self, label: str, channel: str) -> str:
        """Return the contract's name that matches; the first, as `channel_of` asks."""
        for key, names in self._imaging.segments.items():
            for name in names:
                only = self._imaging.model_copy(update={"segments": {key: (name,)}})
                if key == channel and channel_of(label, only) == channel:
                    return name
        raise AssertionError("a label of a channel matches one of its names")

    def _number(self, stem: str, channel: str | None) -> str:
        for number in itertools.count(1):
            name = f"{stem} {number}"
            is_same = channel_of(name, self._imaging) == channel
            if is_same and name not in self._used:
                self._used.add(name)
                return name
        raise AssertionError("there is no end of numbers")
