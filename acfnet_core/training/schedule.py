"""The learning rate over a run: a warm-up, then constant or half a cosine.

The rounds of a run are one course: a site's round r of R covers the run from (r-1)/R to
r/R, whatever number of steps the site has in it. So every site stands at the same place
of the course, and a run of one round equals plain training of the same length.
"""

from dataclasses import dataclass
from math import cos, pi

from acfnet_core.training.settings import LocalTrainingSettings


@dataclass(frozen=True, kw_only=True)
class RoundOfRun:
    """Which part of a run a piece of training is; plain training is one round of one.

    Raises:
        ValueError: `number` is not from 1 to `num_rounds`.
    """

    number: int = 1
    num_rounds: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.num_rounds:
            raise ValueError(
                f"round {self.number} is not one of 1 to {self.num_rounds}"
            )

    def progress(self, step: int, num_steps: int) -> float:
        """Return how much of the run is over in the middle of a step.

        The middle, so that neither the first step nor the last has a rate of nothing.

        Args:
            step: Of this round, from 1.
            num_steps: Of this round.

        Example:
            >>> RoundOfRun(number=2, num_rounds=4).progress(1, 5)
            0.275
        """
        return (self.number - 1 + (step - 0.5) / num_steps) / self.num_rounds


def learning_rate_at(progress: float, settings: LocalTrainingSettings) -> float:
    """Return the learning rate where `progress` of a run, 0 to 1, is over.

    For the first `warm_up_share` w it rises linearly, `lr p / w`. Then, with
    `t = (p - w) / (1 - w)` and `lr_end = final_share lr`, a cosine falls as
    `lr_end + (lr - lr_end) (1 + cos(pi t)) / 2`.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5, without restarts.
    The warm-up before it is ours to place; Goyal et al. 2017, arXiv 1706.02677,
    section 2.2, has it linear.

    Raises:
        ValueError: `progress` is outside 0 to 1.

    Example:
        >>> settings = LocalTrainingSettings(
        ...     local_steps=1,
        ...     learning_rate=0.1,
        ...     schedule="cosine",
        ...     warm_up_share=0.2,
        ...     final_share=0.0,
        ... )
        >>> [round(learning_rate_at(p, settings), 6) for p in (0.1, 0.2, 0.6, 1.0)]
        [0.05, 0.1, 0.05, 0.0]
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress must be from 0 to 1, got {progress}")
    highest, warm_up = settings.learning_rate, settings.warm_up_share
    if progress < warm_up:
        return highest * progress / warm_up
    if settings.schedule == "constant":
        return highest
    lowest = settings.final_share * highest
    course = (progress - warm_up) / (1 - warm_up)
    return lowest + (highest - lowest) * (1 + cos(pi * course)) / 2
