"""The pyramid: refusals, units of the levels, enlargement."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import AveragePool, ResolutionPyramid


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ResolutionPyramid((12, 32)), "resolution 32 is not divisible by 12"),
        (lambda: ResolutionPyramid((32, 16)), "rising"),
        (lambda: ResolutionPyramid((16, 16)), "rising"),
        (lambda: ResolutionPyramid(()), "rising"),
        (lambda: ResolutionPyramid((8, 16), scales=(1.0,)), "one > 0 a level"),
        (lambda: ResolutionPyramid((8, 16), scales=(1.0, math.inf)), "one > 0 a level"),
        (lambda: ResolutionPyramid((8, 16), dims=4), "1 to 3 dimensions"),
        (lambda: ResolutionPyramid((8, 16), up="bicubic"), "nearest or bilinear"),  # type: ignore[arg-type]
        (lambda: AveragePool(0), "factor >= 1"),
        (lambda: AveragePool(3)(torch.zeros(1, 1, 8, 9)), "8x9 is not divisible by the pooling factor 3"),
        (lambda: AveragePool(2)(torch.zeros(1, 1, 8)), "2 dimensions"),
        (lambda: ResolutionPyramid((8, 16)).down(torch.zeros(1, 1, 8, 8), 0), "resolution 8x8.*begins at 16"),
        (lambda: ResolutionPyramid((8, 16)).level_of(torch.zeros(1, 1, 32, 32)), r"trained for levels \[8, 16\]"),
        (lambda: ResolutionPyramid((8, 16)).lift(torch.zeros(1, 1, 8, 8), 0), "no level below"),
        (lambda: ResolutionPyramid((8, 16)).lift(torch.zeros(1, 1, 16, 16), 1), "resolution 8, in the units"),
        (lambda: ResolutionPyramid.measured([], (8, 16)), "0 samples"),
        (lambda: ResolutionPyramid.measured([torch.ones(4, 1, 16, 16)], (8, 16)), "some spread"),
    ],
)
def test_refusals(make, words, unchecked):
    with pytest.raises(ValueError, match=words):
        make()


def test_scales_do_not_depend_on_the_batches():
    x = torch.linspace(-1, 1, 6 * 2 * 16).sin().reshape(6, 2, 4, 4).double()
    one, two = (ResolutionPyramid.measured(x.split(n), (2, 4), sigma_data=0.25) for n in (6, 1))
    assert one.scales == pytest.approx(two.scales, rel=1e-12)
    assert one.scales[1] == pytest.approx(float(x.std(correction=0)) / 0.25, rel=1e-12)


def test_lifting_is_interpolation_of_data_in_the_units_of_the_next_level(draw):
    low = draw(2, 1, 2, 2)
    for up in ("nearest", "bilinear"):
        pyramid = ResolutionPyramid((2, 4), scales=(0.5, 2.0), up=up)
        lifted = pyramid.data(pyramid.lift(low, 1), 1)
        data = pyramid.data(low, 0)
        corners = lifted[..., [0, 0, -1, -1], [0, -1, 0, -1]]
        assert torch.allclose(corners, data.flatten(2)), up
        row = lifted[..., 0, :]
        third = data[..., 0, 0] if up == "nearest" else 0.75 * data[..., 0, 0] + 0.25 * data[..., 0, 1]
        assert torch.allclose(row[..., 1], third), up


def test_sides_may_differ():
    pyramid = ResolutionPyramid((2, 4))
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert pyramid.down(x, 0).shape == (1, 1, 2, 3)
    assert float(pyramid.down(x, 0)[0, 0, 1, 2]) == float(x[0, 0, 2:, 4:].mean())
    assert pyramid.lift(pyramid.down(x, 0), 1).shape == x.shape


def test_config_builds_it_again():
    pyramid = ResolutionPyramid((4, 8, 16), scales=(0.7, 0.9, 1.1), up="nearest")
    assert ResolutionPyramid(**pyramid.config) == pyramid
    assert [pyramid.area(level) for level in range(3)] == [1 / 16, 1 / 4, 1]
