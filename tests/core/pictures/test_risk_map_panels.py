import numpy as np
import pytest
from references.run_folder import make_risk_map

from acfnet_core.pictures.risk_map_panels import choose_slices, overlay_map


def test_map_that_lowers_is_blue_and_one_that_raises_is_red() -> None:
    values = np.array([[-1.0, 1.0, 0.0]], dtype=np.float32)
    grey = np.full((1, 3), 95.0, dtype=np.float32)
    lowers, raises, calm = overlay_map(grey, values, 1.0, (5.0, 185.0))[0]
    assert lowers[2] > lowers[0]
    assert raises[0] > raises[2]
    assert calm == pytest.approx([0.5, 0.5, 0.5])


def test_slices_include_the_one_with_most_tumour() -> None:
    patient = make_risk_map()
    assert int(patient.tumour.sum(axis=(1, 2)).argmax()) in choose_slices(
        patient.liver, patient.tumour
    )
