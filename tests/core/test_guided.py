"""A denoiser with guidance inside: how it is told the weight, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import (
    Condition,
    EncodedDenoiser,
    Flow,
    FlowDenoiser,
    VDenoiser,
    WConditioned,
    handles_guidance,
    student_in,
)
from mezzotint.guide import CFG, Interval, StaticThreshold


def _net(x, time, c):
    return c["guidance"].view(-1, 1).expand_as(x).to(x)


STUDENT = WConditioned(FlowDenoiser(_net, Flow()), (1.0, 5.0), steps=4, parent="abc")
X, T = torch.zeros(3, 2), torch.full((3,), 0.5)


def test_it_is_told_a_weight_for_each_sample():
    c = STUDENT.told(None, [1.0, 2.0, 5.0], batch=3)
    assert STUDENT(X, T, c).flow[:, 0].tolist() == [1.0, 2.0, 5.0]
    both = STUDENT.told(Condition({"label": torch.tensor([1, 2, 3])}, {"label": torch.tensor([9])}), 3.0)
    assert both["guidance"].tolist() == [3.0] * 3 and both["label"].tolist() == [1, 2, 3]
    assert list(both.null_rows) == ["label"]  # the weight has no null: it stays where the rest is dropped
    assert both.null()["guidance"].tolist() == [3.0] * 3


@pytest.mark.parametrize("w", [0.999, 5.01, float("nan"), float("inf"), -3.0])
def test_a_weight_outside_the_range_is_never_clamped(w):
    for call in (
        lambda: STUDENT.told(None, w, batch=3),
        lambda: STUDENT(X, T, Condition({"guidance": torch.tensor([2.0, w, 3.0])})),
    ):
        with pytest.raises(ValueError, match=r"w=\S+ lies outside \[1, 5\]"):
            call()


def test_weights_are_one_a_sample():
    with pytest.raises(ValueError, match=r"\(2,\) for 3 samples"):
        STUDENT.told(None, [1.0, 2.0], batch=3)
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
        STUDENT(X, T, Condition({"guidance": torch.ones(3, 1)}))
    for c in (None, Condition({"label": torch.zeros(3)})):
        with pytest.raises(ValueError, match="told the weight"):
            STUDENT(X, T, c)


def test_guidance_twice_is_refused_through_every_wrapper():
    wrapped = StaticThreshold(1.0)(EncodedDenoiser(STUDENT, torch.nn.Identity()))
    for d in (STUDENT, wrapped):
        assert handles_guidance(d) and student_in(d) is STUDENT
        for guide in (CFG(3.0), CFG(1.0), Interval(CFG(2.0), 0.1, 0.9)):
            with pytest.raises(ValueError, match="guided twice"):
                guide(d)
    plain = FlowDenoiser(_net, Flow())
    assert not handles_guidance(plain) and student_in(StaticThreshold(1.0)(plain)) is None
    assert CFG(3.0)(plain) is not None


@pytest.mark.parametrize(
    "bad",
    [
        {"w_range": (5.0, 1.0)},
        {"w_range": (-1.0, 1.0)},
        {"w_range": (1.0,)},
        {"steps": 0},
        {"steps": 4, "starts": 6},
        {"starts": 4},
    ],
)
def test_settings_out_of_range(bad):
    with pytest.raises(ValueError, match="WConditioned got|w_range="):
        WConditioned(FlowDenoiser(_net, Flow()), **{"w_range": (1.0, 5.0), **bad})


def test_what_it_says_of_itself():
    assert STUDENT.net is _net and STUDENT.kind == "flow" and STUDENT.starts == 4
    assert WConditioned(VDenoiser(_net, Flow()), (0.0, 2.0)).kind == "v"
    assert {k: v for k, v in STUDENT.config.items() if k != "base"} == {
        "w_range": [1.0, 5.0], "steps": 4, "starts": 4, "encoder": False, "parent": "abc",
    }  # fmt: skip
