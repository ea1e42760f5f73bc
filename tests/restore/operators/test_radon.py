"""Tomography: projections of what is known in closed form, and its way back."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.restore.operators import FanBeam, Radon
from mezzotint.restore.operators.rays import angle_shares

F64 = torch.float64


def disc(n: int, radius: float, x: float = 0.0, y: float = 0.0, fine: int = 4) -> torch.Tensor:
    """A disc of density 1 around (x, y), its rim smoothed by how much of a pixel it covers, (1, 1, n, n)."""
    place = (torch.arange(n * fine, dtype=F64) - (n * fine - 1) / 2) / fine
    inside = ((place[None] - x) ** 2 + (-place[:, None] - y) ** 2 < radius**2).double()
    return torch.nn.functional.avg_pool2d(inside[None, None], fine)


def bins(a: Radon | FanBeam) -> torch.Tensor:
    return (torch.arange(a.bins, dtype=F64) - (a.bins - 1) / 2) * a.spacing


def test_a_disc_casts_its_chords():
    n, r = 128, 40.3
    a = Radon.sparse(13, n)
    y, s = a(disc(n, r))[0, 0], bins(a)
    chord = 2 * (r * r - s**2).clamp(min=0).sqrt()
    off = (y - chord).abs()
    assert float(off[:, (s.abs() - r).abs() > 2].max()) < 0.015 * 2 * r  # the sheet asks for 0.03
    assert float((y.sum(1) - math.pi * r * r).abs().max()) < 0.01 * math.pi * r * r  # each view sees all of it


def test_places_turn_counterclockwise_with_y_up():
    n = 64
    theta = torch.tensor([0.0, 0.5, math.pi / 2, 2.2], dtype=F64)
    a = Radon(theta, n)
    y = a(disc(n, 3.0, x=15.0, y=8.0))[0, 0]
    centre = (y * bins(a)).sum(1) / y.sum(1)
    torch.testing.assert_close(centre, 15 * theta.cos() + 8 * theta.sin(), rtol=0, atol=0.05)
    fan = FanBeam(theta, n, 100.0)
    z = fan(disc(n, 1.5, x=15.0, y=8.0))[0, 0]
    centre = (z * bins(fan)).sum(1) / z.sum(1)
    depth = 1 + (8 * theta.cos() - 15 * theta.sin()) / 100
    torch.testing.assert_close(centre, (15 * theta.cos() + 8 * theta.sin()) / depth, rtol=0, atol=0.05)


def test_columns_and_rows_are_summed_exactly(draw):
    x = draw(2, 1, 5, 8)
    y = Radon([0.0], (5, 8), 8)(x)
    torch.testing.assert_close(y[:, :, 0], x.sum(2), rtol=0, atol=1e-12)
    y = Radon([math.pi / 2], (5, 8), 5)(x)
    torch.testing.assert_close(y[:, :, 0].flip(-1), x.sum(3), rtol=0, atol=1e-12)


def test_filtered_back_projection_finds_two_discs():
    n = 64
    x = disc(n, 20.3) + 0.5 * disc(n, 8.0, x=-7.0, y=5.0)
    flat = (torch.nn.functional.max_pool2d(x, 7, 1, 3) - x < 1e-9) & (
        x + torch.nn.functional.max_pool2d(-x, 7, 1, 3) < 1e-9
    )
    near = disc(n, 30.0) == 1
    for a in (Radon.sparse(90, n), FanBeam.sparse(120, n, 80.0), Radon(2 * math.pi * torch.arange(120) / 120, n)):
        y = a(x)
        for window in ("ramp", "hann"):
            off = (a.fbp(y, window) - x)[flat & near].abs().max()
            assert float(off) < 0.05, f"{type(a).__name__}, {window}"
        assert torch.equal(a.guess(y), a.fbp(y))
    assert float((a.fbp(y, "hann") - x).norm()) > 1.2 * float((a.fbp(y) - x).norm())  # smoother: edges lose


def test_finer_bins_change_nothing_but_the_sampling():
    n = 32
    x = disc(n, 9.0, x=2.0)
    coarse, fine = Radon.sparse(40, n), Radon(torch.pi * torch.arange(40, dtype=F64) / 40, n, 92, spacing=0.5)
    mean = lambda a: float(a.fbp(a(x))[disc(n, 6.0, x=2.0) == 1].mean())  # noqa: E731
    assert mean(coarse) == pytest.approx(1, abs=0.02) and mean(fine) == pytest.approx(1, abs=0.02)


def test_fewer_or_missing_angles_lose_something():
    n = 48
    x = disc(n, 15.0) + 0.5 * disc(n, 4.0, x=-5.0)
    error = lambda a: float((a.fbp(a(x)) - x).norm() / x.norm())  # noqa: E731
    full, few, wedge = Radon.sparse(72, n), Radon.sparse(8, n), Radon.limited(48, n, 0.0, 120.0)
    assert error(full) < 0.1 and error(few) > 3 * error(full) and error(wedge) > 3 * error(full)
    torch.testing.assert_close(wedge.angles[-1], torch.tensor(math.radians(117.5), dtype=F64))


def test_the_share_of_an_angle():
    turn = math.pi
    even = turn * torch.arange(6, dtype=F64) / 6
    torch.testing.assert_close(angle_shares(even, turn), torch.full((6,), turn / 6, dtype=F64))
    torch.testing.assert_close(
        angle_shares(even[[3, 1, 0, 2, 5, 4]] + turn, turn), torch.full((6,), turn / 6, dtype=F64)
    )
    twice = angle_shares(torch.cat([even, even + turn]), turn)  # a full turn: every line twice
    torch.testing.assert_close(twice, torch.full((12,), turn / 12, dtype=F64))
    single = angle_shares((2 * turn * torch.arange(12) / 12).float().double(), turn)  # the same, rounded
    torch.testing.assert_close(single, twice, rtol=1e-5, atol=0)
    torch.testing.assert_close(angle_shares(even[:4], turn), torch.full((4,), turn / 6, dtype=F64))  # two are missing
    torch.testing.assert_close(angle_shares(even[:1], turn), torch.tensor([turn], dtype=F64))
    uneven = angle_shares(torch.tensor([0.0, 0.4, 0.6, 1.0], dtype=F64), 1.3)
    torch.testing.assert_close(uneven, torch.tensor([0.35, 0.3, 0.3, 0.35], dtype=F64))


def test_a_far_source_is_a_parallel_beam(draw):
    x = draw(1, 1, 8, 8)
    theta = [0.3, 1.1, 2.0]
    near = Radon(theta, 8, 11)(x)
    torch.testing.assert_close(FanBeam(theta, 8, 1e7, 11)(x), near, rtol=0, atol=1e-4)


def test_a_network_can_be_trained_through_it(draw):
    a = Radon([0.1, 1.0], 4)
    assert torch.autograd.gradcheck(lambda x: a.fbp(a(x)), draw(1, 1, 4, 4).requires_grad_(), atol=1e-7)
    assert torch.autograd.gradgradcheck(lambda x: a(x).square(), draw(1, 1, 4, 4).requires_grad_(), atol=1e-7)


def test_bad_input_is_told(unchecked):
    with pytest.raises(ValueError, match="expected one or more finite angles in radians"):
        Radon([], 8)
    with pytest.raises(ValueError, match="expected one or more finite angles in radians"):
        FanBeam([math.nan], 8)
    with pytest.raises(ValueError, match="size=0; expected a whole number"):
        Radon([0.0], 0)
    with pytest.raises(ValueError, match="detector=0, spacing=1.0; expected both positive"):
        Radon([0.0], 4, 0)
    with pytest.raises(ValueError, match="source=5; expected pixels, above half the image's diagonal, 5.7"):
        FanBeam([0.0], 8, 5.0)
    with pytest.raises(ValueError, match="span=180; expected degrees above 0 and below 180"):
        Radon.limited(4, 8, 0, 180)
    with pytest.raises(ValueError, match="Radon got 0 angles"):
        Radon.sparse(0, 8)
    a = Radon([0.0, 1.0], 8)
    with pytest.raises(ValueError, match="images of 8 x 9 pixels; it was made for 8 x 8"):
        a(torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match="complex tensor"):
        a(torch.zeros(1, 1, 8, 8, dtype=torch.complex64))
    with pytest.raises(ValueError, match="projections of 3 angles x 12 bins; it was made for 2 x 12"):
        a.adjoint(torch.zeros(1, 1, 3, 12))
    with pytest.raises(ValueError, match="window='shepp'; choose ramp or hann"):
        a.fbp(torch.zeros(1, 1, 2, 12), "shepp")
