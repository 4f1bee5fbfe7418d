import numpy as np
import pytest

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.strategies.local_only import LocalOnly
from acfnet_core.federation.strategies.site_rounds import last_rounds
from acfnet_core.federation.strategies.strategy import require_finite

BASE = np.array([1.0, -0.0], np.float32)


def _update(site: str) -> AdmittedUpdate:
    return AdmittedUpdate(site=site, num_examples=5, parameters=BASE, update_norm=0.0)


def test_the_global_model_stays_to_the_last_bit() -> None:
    values, _ = LocalOnly().aggregate(
        [_update("a")], base=BASE, state={}, round_number=1
    )
    assert values.tobytes() == BASE.tobytes()


def test_each_site_goes_on_from_the_round_that_was_taken_last() -> None:
    _, first = LocalOnly().aggregate(
        [_update("a"), _update("b")], base=BASE, state={}, round_number=1
    )
    _, second = LocalOnly().aggregate(
        [_update("b")], base=BASE, state=first, round_number=9_999
    )
    assert last_rounds(second) == {"a": 1, "b": 9_999}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_ends_the_run_with_a_reason(bad: float) -> None:
    with pytest.raises(ProtocolError) as caught:
        require_finite(
            [BASE, np.array([0.0, bad], np.float32)], strategy="fedadam", round_number=7
        )
    assert caught.value.code == "protocol.run_failed"
    assert "Round 7: strategy fedadam" in caught.value.message
    assert "server_learning_rate" in caught.value.remedy
