"""CycleDiffusion against the sheet of 2210.05559, section 6: what `test_dpm_encoder.py` does not hold.

Checks 4, 5 and 8 to 10 through `CycleDiffusion`, and guidance in the space of noises (check 6) on known laws.
"""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import (
    VP,
    Condition,
    Denoiser,
    EpsDenoiser,
    Gaussian,
    GaussianMixture,
    Noise,
    Prediction,
    X0Denoiser,
)
from mezzotint.edit import CycleDiffusion
from mezzotint.guide import CFG, Energy, LatentLangevin
from mezzotint.sample import DDIM, DDPM, FromNoise, Sampler, SDEDPMSolverPP, dpm_decode, dpm_encode

F64 = torch.float64
MANY = 20000
ALL: dict[str, Sampler] = {"ddpm": DDPM(), "ddim 0.1": DDIM(0.1), "ddim 0.5": DDIM(0.5), "sde-2": SDEDPMSolverPP(2)}


class Rough(nn.Module):
    """No denoiser at all: wild, of any input, and of a label."""

    def forward(self, x: Tensor, time: Tensor, c: Condition | None = None) -> Tensor:
        shift = 0.0 if c is None else c["label"].view(-1, 1)
        return torch.sin(4 * x + shift) + 0.7 * x.flip(-1)


def exact(mean: float, std: float, size: int = MANY) -> Denoiser:
    return Gaussian(torch.full((size,), mean, dtype=F64), std=std).denoiser(VP())


# check 4: the same model and condition on both sides, guided equally, whatever the network
@pytest.mark.parametrize("name", ALL)
def test_the_same_on_both_sides_is_the_identity(name) -> None:
    d = X0Denoiser(Rough(), VP())
    c = Condition({"label": torch.tensor([1, 2])}, {"label": torch.tensor([0])})
    x = Noise([3, 4])("x", 0, (6,), dtype=F64)
    for w in (1.0, 3.0):
        for start in (0.3, 1.0):
            method = CycleDiffusion(steps=20, start=start, sampler=ALL[name])
            y, _ = method.between(CFG(w)(d), CFG(w)(d), x, Noise([3, 4]), c=c, to=c)
            assert (y - x).abs().max() < 1e-12
    other, _ = CycleDiffusion(steps=20, sampler=ALL[name]).between(d, d, x, Noise([3, 4]), c=c, to=c.null())
    assert (other - x).abs().max() > 0.1


# check 5: N(-2, 0.25) to N(3, 1), n = 100, eta = 1: mean 3.00, variance 0.97, correlation 0.92
def test_two_gaussians() -> None:
    noise = Noise([0])
    x = -2 + 0.5 * noise("x", 0, (MANY,), dtype=F64)
    method = CycleDiffusion(steps=100, start=1.0, sampler=DDIM(1.0))
    y, _ = method.between(exact(-2.0, 0.5), exact(3.0, 1.0), x, noise)
    assert abs(float(y.mean()) - 3.00) < 0.03 and abs(float(y.var()) - 0.97) < 0.04
    assert abs(float(torch.corrcoef(torch.cat([x, y]))[0, 1]) - 0.92) < 0.01


def test_less_of_the_grid_stays_closer_to_the_source() -> None:
    noise = Noise([0])
    x = -2 + 0.5 * noise("x", 0, (2000,), dtype=F64)
    moved = []
    for start in (0.2, 0.4, 0.6, 0.8, 1.0):
        y, _ = CycleDiffusion(steps=50, start=start).between(exact(-2.0, 0.5, 2000), exact(3.0, 1.0, 2000), x, noise)
        moved.append(float((y - x).abs().mean()))
    assert moved == sorted(moved) and abs(moved[-1] - 5) < 0.2


# check 9: in lock step and one after the other
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("final", ["residual", "denoise"])
def test_lock_step_is_encoding_and_then_decoding(name, final) -> None:
    sampler, noise = ALL[name], Noise([5, 6])
    a, b = X0Denoiser(Rough(), VP()), exact(3.0, 1.0, 4)
    x = noise("x", 0, (4,), dtype=F64)
    method = CycleDiffusion(steps=20, start=0.7, sampler=sampler, final=final)
    y, kept = method.between(a, b, x, noise, keep=True)
    code = dpm_encode(sampler, a, x, noise=noise, grid=method.times(VP()), final=final)
    assert torch.allclose(y, dpm_decode(sampler, b, code), atol=1e-10, rtol=0)
    assert kept is not None and kept.steps == 14
    for part in ("x_T", "eps", "residual"):
        assert torch.allclose(getattr(kept, part), getattr(code, part), atol=1e-12, rtol=1e-12)
    assert torch.equal(kept.plan.nodes, code.plan.nodes) and torch.equal(kept.plan.rows, code.plan.rows)


# check 8
def test_evaluations_are_two_a_step() -> None:
    seen: list[int] = []

    class Counted(Rough):
        def forward(self, x: Tensor, time: Tensor, c: Condition | None = None) -> Tensor:
            seen.append(len(x))
            return super().forward(x, time, c)

    d, x = EpsDenoiser(Counted(), VP()), Noise([0])("x", 0, (4,), dtype=F64)
    for method in (CycleDiffusion(steps=10), CycleDiffusion(steps=10, start=1.0, refine=0.3)):
        method.between(d, d, x, Noise([0]))
        assert sum(seen) == method.nfe()
        seen.clear()
    c = Condition({"label": torch.tensor([1])}, {"label": torch.tensor([0])})
    method = CycleDiffusion(steps=10, refine=0.2)
    method.between(CFG(1.0)(d), CFG(3.0)(d), x, Noise([0]), c=c, to=c)
    assert sum(seen) == method.nfe(source_prompt=True, target_prompt=True) == 7 * 3 + 2 * 2


# check 10: with a denoiser that commutes with a flip, and flipped draws
def test_a_flipped_picture_gives_the_flipped_result(monkeypatch) -> None:
    from mezzotint.sample import dpm_encoder

    class Apart(dpm_encoder._Apart):
        def __call__(self, *args, **options):
            return super().__call__(*args, **options).flip(-1)

    a, b = X0Denoiser(Rough(), VP()), exact(0.5, 1.0, 6)
    x = Noise([1, 2])("x", 0, (6,), dtype=F64)
    y, _ = CycleDiffusion(steps=12).between(a, b, x, Noise([1, 2]))
    monkeypatch.setattr(dpm_encoder, "_Apart", Apart)
    mirrored, _ = CycleDiffusion(steps=12).between(a, b, x.flip(-1), Noise([1, 2]))
    assert torch.allclose(mirrored.flip(-1), y, atol=1e-9, rtol=1e-9) and (y - x).abs().max() > 0.1


def test_the_clean_up_draws_from_the_target() -> None:
    """Far enough it forgets the source: the law is the target's."""
    noise = Noise([0])
    x = -2 + 0.5 * noise("x", 0, (MANY,), dtype=F64)
    method = CycleDiffusion(steps=50, start=0.02, sampler=DDIM(1.0), refine=0.98)
    y, _ = method.between(exact(-2.0, 0.5), exact(3.0, 1.0), x, noise)
    assert abs(float(y.mean()) - 3) < 0.1 and abs(float(torch.corrcoef(torch.stack([x[0], y[0]]))[0, 1])) < 0.05


def test_gradients_flow_through_the_edit() -> None:
    a, b = exact(-2.0, 0.5, 2), exact(3.0, 1.0, 2)
    x = torch.tensor([[-2.3, -1.8]], dtype=F64, requires_grad=True)
    method = CycleDiffusion(steps=6, start=1.0, sampler=DDIM(0.5))
    assert torch.autograd.gradcheck(lambda v: method.between(a, b, v, Noise([0]))[0], (x,))


# check 6: lambda = 0 gives variance 1 / (1 - s/4)
def test_langevin_without_an_energy_is_the_prior_widened_by_its_steps() -> None:
    z = LatentLangevin(weight=0, step=0.05, iterations=60)(
        lambda z: z, lambda x: x.sum(1), Noise([0]), (300_000,), dtype=F64
    ).z
    assert abs(float(z.var()) / (1 / (1 - 0.05 / 4)) - 1) < 0.005 and abs(float(z.mean())) < 0.01
    wide = LatentLangevin(weight=0, step=2.0, iterations=15)(
        lambda z: z, lambda x: x.sum(1), Noise([0]), (300_000,), dtype=F64
    )
    assert abs(float(wide.z.var()) - 2) < 0.02


# check 6: E = |z - c|^2 / 2 gives mean lambda c / (1 + lambda), variance 1 / ((1 + lambda) (1 - s (1 + lambda) / 4))
def test_langevin_with_a_quadratic_energy() -> None:
    c, weight, step = 2.0, 3.0, 0.05
    z = LatentLangevin(weight, step, 80)(
        lambda z: z, lambda x: 0.5 * (x - c).square().sum(1), Noise([0]), (300_000,), dtype=F64
    ).z
    assert abs(float(z.mean()) / (weight * c / (1 + weight)) - 1) < 0.005
    assert abs(float(z.var()) / 0.26316 - 1) < 0.005


def test_langevin_diverges_where_the_sheet_says() -> None:
    toward = lambda x: 0.5 * x.square().sum(1)  # noqa: E731
    inside = LatentLangevin(weight=78.0, step=0.05, iterations=400)(lambda z: z, toward, Noise([0]), (100,))  # 3.95
    assert bool(torch.isfinite(inside.z).all()) and float(inside.z.abs().max()) < 10
    seen: list[Tensor] = []
    with pytest.raises(FloatingPointError, match=r"step \(1 \+ weight curvature of the energy\) must stay") as told:
        LatentLangevin(weight=120.0, step=0.05, iterations=400)(
            lambda z: z, toward, Noise([0]), (100,), on_step=lambda k, z: seen.append(torch.isfinite(z.sum()))
        )
    assert f"not finite from iteration {torch.stack(seen).tolist().index(False)} of 400 on" in str(told.value)


def test_langevin_through_a_sampler_has_the_law_of_its_slope() -> None:
    """DDIM of a Gaussian is affine, G(z) = a z + m: precision k = 1 + lambda a^2, mean lambda a (c - m) / k."""
    d, size = exact(0.5, 2.0, 40_000), 40_000
    G = FromNoise(DDIM(), d, steps=8)
    ends = G(torch.tensor([0.0, 1.0], dtype=F64)[:, None, None].expand(2, 1, size))[:, 0]
    m, a = float(ends[0]), float(ends[1] - ends[0])
    assert abs(a - 2) < 0.6 and G.shape((size,)) == (1, size)
    c, weight, step = 4.0, 0.5, 0.1
    z = LatentLangevin(weight, step, 60)(
        G, lambda x: 0.5 * (x - c).square().sum(1), Noise([0]), G.shape((size,)), dtype=F64
    ).z
    k = 1 + weight * a * a
    assert abs(float(z.mean()) / (weight * a * (c - m) / k) - 1) < 0.01
    assert abs(float(z.var()) * k * (1 - step * k / 4) - 1) < 0.02


# what G(z) is
@pytest.mark.parametrize("name", [*ALL, "ddim"])
def test_a_function_of_noises_is_the_sampler_with_those_noises(name) -> None:
    sampler = ALL.get(name, DDIM())
    d, noise = X0Denoiser(Rough(), VP()), Noise([1, 2, 3])
    G = FromNoise(sampler, d, steps=9)
    assert G.count == (1 if name == "ddim" else 9)  # x_T, and every step but the last
    parts = [noise("x_T", 0, (4,), dtype=F64)]
    parts += [noise("step", k, (4,), dtype=F64) for k in G.drawn]
    z = torch.stack(parts, 1).requires_grad_()
    x_T = parts[0] * VP().sigma(torch.ones(1, dtype=F64))
    x = G(z)
    torch.testing.assert_close(x, sampler(d, x_T, steps=9, noise=noise), rtol=0, atol=1e-9)
    (gradient,) = torch.autograd.grad(x.sum(), z)
    assert bool((gradient.abs().amax((0, 2)) > 0).all())  # every noise matters
    with pytest.raises(ValueError, match=rf"expected \(b, {G.count}, ...\)"):
        G(z[:, :, None].expand(3, G.count, 2, 4).reshape(3, 2 * G.count, 4))


class Humps(Denoiser):
    """Of every number by itself: 10 % N(1, 0.36), 90 % N(-1, 0.36)."""

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        a, s = (f(t).view(-1, 1) for f in (self.schedule.alpha, self.schedule.sigma))
        total = a * a * 0.36 + s * s
        share = (2 * a * x_t / total + math.log(0.1 / 0.9)).sigmoid()  # of the hump at 1
        m = 2 * share - 1
        x0 = m + a * 0.36 / total * (x_t - a * m)
        return Prediction.from_x0(x0, x_t, t, self.schedule)


def test_langevin_through_a_sampler_of_two_humps_has_the_law_of_quadrature() -> None:
    """p(z | C) ∝ N(z) exp(-lambda E(G(z))) in one dimension, where it is an integral; 5000 chains side by side."""
    means, size = torch.tensor([[1.0], [-1.0]], dtype=F64), 5000
    known = GaussianMixture(means, torch.full((2,), 0.6, dtype=F64), torch.tensor([0.1, 0.9], dtype=F64)).denoiser(VP())
    places, time = torch.linspace(-3, 3, 7, dtype=F64), torch.full((7,), 0.4, dtype=F64)
    torch.testing.assert_close(Humps(VP())(places[:, None], time).x0, known(places[:, None], time).x0)
    G = FromNoise(DDIM(), Humps(VP()), steps=5)

    def energy(x: Tensor) -> Tensor:
        return 0.5 * (x - 1).square().sum(1)

    grid = torch.linspace(-6, 6, 2001, dtype=F64)
    x = G(grid[None, None])[0]
    p = (-0.5 * grid.square() - 2.0 * 0.5 * (x - 1).square()).softmax(0)
    wanted, plain = float((p * x).sum()), float(((-0.5 * grid.square()).softmax(0) * x).sum())
    draw = LatentLangevin(2.0, 0.05, 200)(G, energy, Noise([0]), G.shape((size,)), dtype=F64)
    found = G(draw.z)
    assert abs(float(found.mean()) - wanted) < 0.04 and wanted - plain > 0.5  # the error of the mean is 0.011
    torch.testing.assert_close(draw.energy, energy(found))


def test_the_best_seen_is_never_worse_than_the_last() -> None:
    toward = lambda x: 0.5 * (x - 1).square().sum(1)  # noqa: E731
    last, best = (LatentLangevin(2.0, 0.05, 40, keep)(lambda z: z, toward, Noise(range(50)), (3,)) for keep in _KEEP)
    assert bool((best.energy <= last.energy).all()) and float(best.energy.mean()) < 0.2 < float(last.energy.mean())
    torch.testing.assert_close(best.energy, toward(best.z))


_KEEP: tuple[Literal["last", "best"], ...] = ("last", "best")


def test_the_guide_finds_it_too() -> None:
    means = torch.tensor([[3.0, 0.0], [-3.0, 0.0]], dtype=F64)
    d = GaussianMixture(means, torch.full((2,), 0.3, dtype=F64), torch.tensor([0.02, 0.98], dtype=F64)).denoiser(VP())
    x_T = Noise(range(500))("x_T", 0, (2,), dtype=F64)
    guided = Energy(lambda x: -(-(x[:, None] - means).square().sum(2) / 2).log_softmax(1)[:, 0], 2.0)(d)
    with torch.no_grad():
        rare = [float((DDIM()(e, x_T, steps=30)[:, 0] > 0).double().mean()) for e in (d, guided)]
    assert rare[0] < 0.05 and rare[1] > 0.8
