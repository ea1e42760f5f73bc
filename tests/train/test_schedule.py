from __future__ import annotations

import math

import pytest

from mezzotint.train import Constant, CosineDecay


@pytest.mark.parametrize("make", [lambda: Constant(5), lambda: CosineDecay(50, 5, 0.1)])
def test_a_schedule_is_a_pure_function_of_the_step(make):
    forward = [make()(s) for s in range(60)]
    schedule = make()
    backward = [schedule(s) for s in reversed(range(60))][::-1]
    assert forward == backward


def test_cosine_against_its_formula():
    schedule = CosineDecay(steps=110, warmup=10, final=0.2)
    for step in range(10, 111):
        assert schedule(step) == pytest.approx(0.6 + 0.4 * math.cos(math.pi * (step - 10) / 100), abs=1e-12)
    assert schedule(1000) == pytest.approx(0.2)


@pytest.mark.parametrize("schedule", [Constant(9), CosineDecay(1000, 9)])
def test_warm_up_rises_in_equal_steps_from_above_zero(schedule):
    factors = [schedule(s) for s in range(10)]
    assert factors == pytest.approx([(s + 1) / 10 for s in range(10)])


@pytest.mark.parametrize("wrong", [{"warmup": 10}, {"warmup": -1}, {"final": 2.0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="warmup|final"):
        CosineDecay(steps=10, **wrong)
