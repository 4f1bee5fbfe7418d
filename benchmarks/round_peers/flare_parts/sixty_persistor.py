"""FLARE's keeper of the model: makes the first one, writes each one as a file.

FLARE's own for numpy knows one array. This one does the same with sixty, and notes when
it was asked to: at the end of each round.
"""

import time
from pathlib import Path

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import (
    ModelLearnable,
    ModelLearnableKey,
    make_model_learnable,
)
from nvflare.app_common.abstract.model_persistor import ModelPersistor
from sixty_tensors import sixty_tensors


class SixtyTensorsPersistor(ModelPersistor):
    """Keeps the model.

    Args:
        mb: Its size.
        times_file: Where to note when each round ended.
    """

    def __init__(self, mb: float, times_file: str) -> None:
        super().__init__()
        self.mb = mb
        self.times_file = times_file

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        """Return the first model."""
        return make_model_learnable(weights=sixty_tensors(self.mb), meta_props={})

    def save_model(self, model_learnable: ModelLearnable, fl_ctx: FLContext) -> None:
        """Write the model of a round."""
        folder = Path(self.times_file).parent
        np.savez(folder / "model.npz", **model_learnable[ModelLearnableKey.WEIGHTS])
        with Path(self.times_file).open("a") as file:
            file.write(f"{time.time()}\n")
