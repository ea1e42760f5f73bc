"""Ghosts: windows that are known by hand, and a classifier of brightness."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mezzotint.metric import ghosts, windows


def box(top: int, left: int, height: int, width: int, h: int = 12, w: int = 10) -> Tensor:
    mask = torch.zeros(h, w, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


NUMBERED = torch.arange(120.0).view(1, 1, 12, 10)


@pytest.mark.parametrize(
    ("region", "margin", "top", "left", "side"),
    [
        (box(4, 3, 3, 3), 0, 4, 3, 3),
        (box(4, 3, 3, 3), 2, 2, 1, 7),
        (box(4, 3, 1, 3), 0, 3, 3, 3),  # square about the centre
        (box(0, 8, 2, 2), 1, 0, 6, 4),  # moved inside, at a corner
        (box(2, 1, 9, 2), 3, 1, 0, 10),  # no larger than the shorter side
    ],
)
def test_where_a_window_lies(region, margin, top, left, side) -> None:
    made = windows(NUMBERED, region[None], size=side, margin=margin)
    assert torch.equal(made, NUMBERED[:, :, top : top + side, left : left + side])


def test_windows_of_different_regions_come_in_one_size() -> None:
    x = torch.cat([torch.full((1, 2, 12, 10), 0.3), torch.full((1, 2, 12, 10), -0.7)])
    made = windows(x, torch.stack([box(0, 0, 2, 2), box(5, 5, 5, 5)]), size=6)
    assert made.shape == (2, 2, 6, 6)
    torch.testing.assert_close(made.mean((1, 2, 3)), torch.tensor([0.3, -0.7]))


def by_brightness(x: Tensor) -> Tensor:
    """Classes: dark, bright; the probability of bright is sigmoid(mean)."""
    return torch.stack([torch.zeros(len(x)), x.mean((1, 2, 3))], 1)


def test_it_fires_for_the_object_in_the_window_alone() -> None:
    x = torch.full((3, 1, 12, 10), -5.0)
    x[0, :, 2:4, 2:4] = 5.0  # the ghost
    x[1, :, 8:11, 6:9] = 5.0  # the object at its new place
    hole = box(2, 2, 2, 2).expand(3, 12, 10)
    bright, dark = torch.ones(3, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    assert ghosts(by_brightness, x, hole, bright, size=2, margin=0).tolist() == [True, False, False]
    assert ghosts(by_brightness, x, hole, dark, size=2, margin=0).tolist() == [False, True, True]
    assert not ghosts(by_brightness, x, hole, bright, size=6, margin=2).any()  # diluted by what lies around it


def test_the_threshold_is_a_probability() -> None:
    x = torch.full((1, 1, 12, 10), math.log(3))  # p = 3 / 4
    one = torch.ones(1, dtype=torch.long)
    fires = [bool(ghosts(by_brightness, x, box(3, 3, 2, 2)[None], one, threshold=p)) for p in (0.5, 0.74, 0.76, 1)]
    assert fires == [True, True, False, False]


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    x, hole, one = torch.zeros(2, 1, 12, 10), box(3, 3, 2, 2).expand(2, 12, 10), torch.ones(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"regions \[1\] are empty"):
        windows(x, torch.stack([hole[0], torch.zeros(12, 10, dtype=torch.bool)]))
    with pytest.raises(ValueError, match="regions"):
        windows(x, hole[:1])
    with pytest.raises(ValueError, match="size=0"):
        windows(x, hole, size=0)
    with pytest.raises(ValueError, match="threshold"):
        ghosts(by_brightness, x, hole, one, threshold=0)
    with pytest.raises(ValueError, match="labels outside 0 to 1"):
        ghosts(by_brightness, x, hole, one + 1)
    with pytest.raises(ValueError, match="logits"):
        ghosts(lambda w: w.mean((1, 2, 3)), x, hole, one)


def test_pictures_that_are_nan_are_refused() -> None:
    x = torch.full((1, 3, 8, 8), float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite logits"):
        ghosts(lambda x: x.mean((2, 3)), x, torch.ones(1, 8, 8), torch.tensor([0]))
