from __future__ import annotations

import pytest

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.steps import resolve_step
from tests import reference


@pytest.mark.parametrize("value", [0, 0.1, 0.29, 0.5, 0.999, 1, 1.0, 7, 10.0])
@pytest.mark.parametrize("max_steps", [10, 100])
def test_a_share_below_one_and_a_count_from_one_up(value, max_steps):
    assert resolve_step(value, max_steps) == reference.step_meant(value, max_steps)


def test_the_share_is_that_of_plain_floating_point():
    assert 0.07 * 100 > 7  # 7.000000000000001
    assert resolve_step(0.07, 100) == 8


@pytest.mark.parametrize("value", [1.5, -1, -0.1, float("nan"), float("inf"), True, "0.5", None])
def test_what_means_no_step_is_refused(value):
    with pytest.raises(ConfigurationError, match="duration must be a share of the run"):
        resolve_step(value, 10, name="duration")


def test_a_step_beyond_the_end_is_refused():
    with pytest.raises(ConfigurationError, match="start must lie within the run's 10 optimizer"):
        resolve_step(11, 10)
