"""The ablations: the whole network less one idea, as settings of model and loss.

Each is what one would write in the sections `[model]` and `[loss]` of a `run.toml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acfnet_core.model.config import AcfNetConfig


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What is taken away, and the settings that do it.

    Attributes:
        question: What comparing it with the whole network answers.
        model: Fields of `AcfNetConfig`.
        loss: Weights of the losses, by the names of `LossConfig`.
    """

    question: str
    model: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, float] = field(default_factory=dict)


ABLATIONS: dict[str, Ablation] = {
    "none": Ablation(question="The whole network, to compare with."),
    "clinical_only": Ablation(
        question="What do the images add?", model={"modalities": "clinical"}
    ),
    "image_only": Ablation(
        question="What do the clinical columns add?", model={"modalities": "image"}
    ),
    "one_virtual_year": Ablation(
        question="Do the images tell years apart?", model={"virtual_years": "one"}
    ),
    "full_convolution": Ablation(
        question="What does separating space and time cost?",
        model={"convolution": "full"},
    ),
    "no_alignment": Ablation(
        question="Does pulling the shared halves together help?",
        loss={"alignment": 0.0},
    ),
    "no_disentanglement": Ablation(
        question="Does keeping the halves unrelated help?",
        loss={"disentanglement": 0.0},
    ),
    "fixed_gate": Ablation(
        question="Does it help to learn whom to trust?", model={"gate": "fixed"}
    ),
}
"""By name. The names and the choice are ours."""


def ablated_config(config: AcfNetConfig, name: str) -> AcfNetConfig:
    """Return the settings of a network with one idea taken away.

    Args:
        config: The whole network's settings.
        name: One of `ABLATIONS`.

    Raises:
        ValueError: There is no such ablation.
    """
    if name not in ABLATIONS:
        raise ValueError(f"ablation {name!r} is none of {', '.join(ABLATIONS)}")
    return AcfNetConfig.model_validate({**config.model_dump(), **ABLATIONS[name].model})
