from __future__ import annotations

import pytest

from trainer.plain_words import told_p


@pytest.mark.parametrize(
    ("p", "told"), [(0.0004, "< .001"), (0.001, "0.001"), (0.0491, "0.049"), (0.04996, "< .05"), (0.05, "0.050")]
)
def test_a_p_is_told_in_three_digits_that_stay_on_its_side_of_the_level(p: float, told: str) -> None:
    assert told_p(p) == told
