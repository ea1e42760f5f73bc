"""Weather and light, affine in the image: values, their linear parts, guesses."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.restore.operators import Affine, AsComplex, Haze, LinearOperator, Radon, Rain, Scale, Shadow, rain_layer

F64 = torch.float64
MAP = torch.tensor([[0.2, 0.9], [0.5, 1.0]], dtype=F64)
CASES = {
    "Haze": Haze(MAP, torch.tensor([0.8, 0.6, -0.1], dtype=F64)),
    "Shadow": Shadow(MAP),
    "Rain": Rain(MAP),
    "Affine": Affine(Scale(2.0), torch.tensor(0.3, dtype=F64)),
}


@pytest.mark.parametrize("name", CASES)
def test_they_are_their_linear_part_and_an_offset(name, draw):
    a = CASES[name]
    x, z = draw(2, 3, 2, 2), draw(2, 3, 2, 2)
    assert not isinstance(a, LinearOperator) and isinstance(a.linear_part, LinearOperator)
    torch.testing.assert_close(a.centred(a(x)), a.linear_part(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(a(x) - a(z), a.linear_part(x - z), rtol=0, atol=1e-12)
    torch.testing.assert_close(a.guess(a(x)), x, rtol=0, atol=1e-12)
    assert a(x.float()).dtype == torch.float32


def test_haze_of_a_depth():
    depth = torch.tensor([[0.0, 1.0], [3.0, 50.0]], dtype=F64)
    a = Haze.of_depth(depth, 0.7, airlight=0.5)
    x = torch.full((1, 1, 2, 2), -0.4, dtype=F64)
    t = (-0.7 * depth).exp()
    torch.testing.assert_close(a(x)[0, 0], -0.4 * t + 0.5 * (1 - t))
    assert float(a.guess(a(x) + 0.05).abs().max()) < 1.1  # where nothing comes through noise grows tenfold, no more
    torch.testing.assert_close(a.guess(a(x))[0, 0, :, 0], x[0, 0, :, 0])  # t >= 0.1: undone


def test_a_shadow_takes_light_away():
    y = Shadow(torch.tensor([[0.0, 0.25, 1.0]], dtype=F64))(torch.full((1, 1, 1, 3), 0.6, dtype=F64))
    torch.testing.assert_close((y + 1) / 2, torch.tensor([[[[0.0, 0.2, 0.8]]]], dtype=F64))
    assert float(Shadow(0.0).guess(torch.full((1, 1, 1, 1), -1.0))) == 0


def test_streaks_fall_as_they_are_told():
    noise = Noise(range(6))
    upright = rain_layer((40, 50), noise, density=0.004, length=12, angle=0, strength=0.5)
    assert upright.shape == (6, 1, 40, 50) and float(upright.min()) == 0
    assert torch.equal(rain_layer((40, 50), Noise([4]), density=0.004, length=12, angle=0, strength=0.5), upright[4:5])
    drops = 6 * 40 * 50 * 0.004  # each of 12 pixels of light 3/4 x 1/2 on average
    assert float(upright.sum()) == pytest.approx(drops * 12 * 0.375, rel=5 / math.sqrt(drops))
    assert float(upright.diff(dim=2).abs().sum()) < 0.3 * float(upright.diff(dim=3).abs().sum())  # along the columns
    slanted = rain_layer((40, 50), noise, density=0.004, length=12, angle=45, strength=0.5)
    down_right = (slanted[..., 1:, 1:] * slanted[..., :-1, :-1]).sum()
    down_left = (slanted[..., 1:, :-1] * slanted[..., :-1, 1:]).sum()
    assert float(down_right) > 2 * float(down_left)
    assert float(rain_layer(8, noise, density=0.0).abs().max()) == 0


def test_bad_input_is_told(unchecked):
    x = torch.zeros(1, 3, 4, 4)
    for make, said in (
        (lambda: Haze(torch.tensor(-0.1)), "a transmission from -0.1 to -0.1; expected values in .0, 1."),
        (lambda: Haze(1.2), "a transmission from 1.2"),
        (lambda: Haze(torch.full((2, 2), torch.nan)), "a transmission from nan"),
        (lambda: Haze(0.5, 2.0), "airlight=2.0; expected values in .-1, 1."),
        (lambda: Haze.of_depth(torch.tensor([[-1.0]])), "a depth from -1 to -1"),
        (lambda: Haze.of_depth(torch.ones(2, 2), 0.0), "beta=0.0; expected a number > 0"),
        (lambda: Shadow(torch.ones(3)), r"a matte torch.float32 of shape \(3,\); expected real numbers \(h, w\)"),
        (lambda: Rain(-torch.ones(2, 2)), "a layer from -1 to -1"),
        (lambda: Scale(torch.ones(2, 2, dtype=torch.complex64)), "a gain torch.complex64"),
        (lambda: Rain(torch.ones(2, 2))(x), r"images \(1, 3, 4, 4\); it was made for \(1, 1, 2, 2\)"),
        (lambda: Haze(torch.ones(2, 2))(x), r"images \(1, 3, 4, 4\); it was made for"),
        (lambda: Haze(0.5, (1.0, 0.5))(x), r"it was made for \(1, 2, 1, 1\)"),
        (lambda: Shadow(0.5)(x.to(torch.complex64)), "complex64 tensor"),
        (lambda: Affine(CASES["Haze"], torch.zeros(1)), "Haze; expected a LinearOperator"),
        (lambda: rain_layer(8, Noise([0]), angle=90), "angle=90"),
        (lambda: rain_layer(8, Noise([0]), density=2), "density=2"),
        (lambda: AsComplex(torch.full((2, 2), torch.inf)), "expected finite radians"),
        (lambda: AsComplex().adjoint(torch.zeros(1, 3, 2, 2)), "3 channels; expected pairs"),
    ):
        with pytest.raises(ValueError, match=said):
            make()


def test_an_affine_operator_may_have_any_linear_part(draw):
    rays = Radon([0.0, 1.0], 4)
    ones = torch.ones(1, 1, 4, 4, dtype=F64)
    a = Affine(rays, rays(ones))  # projections of x + 1, which is 0 in air
    x = draw(2, 1, 4, 4)
    torch.testing.assert_close(a(x), rays(x + 1))
    torch.testing.assert_close(a.guess(a(x)), rays.fbp(rays(x)))


def test_a_faint_row_beside_a_bright_one_is_the_row_alone():
    gain = torch.stack([torch.full((1, 2, 2), 1e-8), torch.ones(1, 2, 2)])
    both, alone, x = Scale(gain), Scale(gain[:1]), torch.ones(2, 1, 2, 2)
    assert torch.equal(both.pinv(both(x))[:1], alone.pinv(alone(x[:1])))
    torch.testing.assert_close(both.pinv(both(x)), x)
