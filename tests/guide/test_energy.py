"""Energy guidance against tilted Gaussians that are known, on networks, and beside other guides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import VE, VP, Condition, Cosine, EpsDenoiser, Flow, FlowDenoiser, Gaussian, Noise, VDenoiser
from mezzotint.guide import CFG, Energy, Interval, Rescale, compose
from mezzotint.latent import AutoencoderKL
from mezzotint.nn import DiT, UNet
from mezzotint.sample import DDIM, DDPM, DPMSolverPP

F64 = torch.float64
SCHEDULES = {"vp": VP(), "cosine": Cosine(), "ve": VE(), "flow": Flow()}


def loud(module: nn.Module, seed: int = 7) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * p[0].numel() ** -0.5)
    return module.eval()


def linear(g: Tensor):
    return lambda x: (x * g).flatten(1).sum(1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_linear_energy_tilts_a_gaussian_exactly(name) -> None:
    """N(m, v) exp(-w g x) is N(m - w v g, v), at every time."""
    schedule, g, m = (
        SCHEDULES[name],
        torch.tensor([0.5, -1.0, 2.0], dtype=F64),
        torch.tensor([0.3, 0.0, -1.0], dtype=F64),
    )
    guided = Energy(linear(g), 1.5)(Gaussian(m, std=0.7).denoiser(schedule))
    wanted = Gaussian(m - 1.5 * 0.49 * g, std=0.7).denoiser(schedule)
    x = 2 * Noise(range(6))("x", 0, (3,), dtype=F64)
    t = torch.tensor([0.02, 0.2, 0.5, 0.7, 0.9, 0.97], dtype=F64)
    torch.testing.assert_close(guided(x, t).x0, wanted(x, t).x0, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(guided(x, t).x0, wanted(x, t).x0, rtol=1e-9, atol=1e-9)


def test_samples_are_those_of_the_tilted_gaussian() -> None:
    g = torch.tensor([1.0, -1.0], dtype=F64)
    guided = Energy(linear(g), 1.0)(Gaussian(torch.zeros(2, dtype=F64), std=0.5).denoiser(VP()))
    wanted = Gaussian(-0.25 * g, std=0.5).denoiser(VP())
    x_T, noise = Noise(range(4))("x_T", 0, (2,), dtype=F64), Noise(range(4))
    for sampler in (DPMSolverPP(), DDPM()):
        a, b = (sampler(d, x_T, steps=12, noise=noise) for d in (guided, wanted))
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_quadratic_energy_pulls_by_the_posterior_variance() -> None:
    """x0 - w Var[x0 | x_t] (x0 - c) for E = |x0 - c|^2 / 2."""
    d, c = Gaussian(torch.zeros(2, dtype=F64), std=0.5).denoiser(VP()), 3.0
    guided = Energy(lambda x: 0.5 * (x - c).square().sum(1), 2.0)(d)
    x, t = Noise(range(5))("x", 0, (2,), dtype=F64), torch.linspace(0.1, 0.9, 5, dtype=F64)
    alpha, sigma = (f(t)[:, None] for f in (VP().alpha, VP().sigma))
    plain = d(x, t).x0
    variance = 0.25 * sigma**2 / (alpha**2 * 0.25 + sigma**2)
    torch.testing.assert_close(guided(x, t).x0, plain - 2.0 * variance * (plain - c), rtol=1e-9, atol=1e-9)
    cheap = Energy(lambda x: 0.5 * (x - c).square().sum(1), 2.0, "prediction")(d)
    unit = sigma**2 / (alpha**2 + sigma**2)
    torch.testing.assert_close(cheap(x, t).x0, plain - 2.0 * unit * (plain - c), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("through", ["network", "prediction"])
def test_weight_nought_is_the_plain_denoiser_and_asks_no_energy(through) -> None:
    d = EpsDenoiser(loud(UNet(3, channels=8, mult=(1,), blocks=1, attention=())), VP())

    def never(x: Tensor) -> Tensor:
        raise AssertionError("the energy was asked")

    x, t = Noise([0, 1])("x", 0, (3, 8, 8)), torch.tensor([0.3, 0.8])
    assert torch.equal(Energy(never, 0, through)(d)(x, t).x0, d(x, t).x0)


@pytest.mark.parametrize("through", ["network", "prediction"])
@pytest.mark.parametrize("name", ["unet", "dit"])
def test_it_lowers_the_energy_of_samples_of_networks(name, through) -> None:
    net = UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(2,), head_dim=4)
    d = VDenoiser(loud(net if name == "unet" else DiT(3, patch=2, width=16, depth=2, heads=2)), Cosine())
    x_T = Noise([0, 1, 2])("x_T", 0, (3, 8, 8))

    def energy(x: Tensor) -> Tensor:
        return (x - 0.5).square().mean((1, 2, 3))

    with torch.no_grad():
        levels = [energy(DDIM()(Energy(energy, w, through)(d), x_T, steps=8)) for w in (0.0, 10.0, 40.0)]
    assert bool((levels[1] < levels[0]).all()) and bool((levels[2] < levels[1]).all())
    assert not levels[2].requires_grad and all(p.grad is None for p in d.parameters())


def test_in_latent_space_the_energy_decodes() -> None:
    coder = loud(AutoencoderKL(channels=8, mult=(1, 2), blocks=1, latent=4))
    d = VDenoiser(loud(DiT(4, patch=1, width=16, depth=2, heads=2)), VP())
    x_T = Noise([0, 1])("x_T", 0, (4, 4, 4))

    def bright(z: Tensor) -> Tensor:
        return -coder.decode(z).mean((1, 2, 3))  # type: ignore[operator]

    with torch.no_grad():
        plain, guided = (bright(DDIM()(Energy(bright, w)(d), x_T, steps=6)) for w in (0.0, 30.0))
    assert bool((guided < plain - 1e-3).all())


def test_rows_do_not_see_each_other_and_calls_are_one_a_step() -> None:
    d = VDenoiser(loud(UNet(3, channels=8, mult=(1,), blocks=1, attention=())), VP())
    calls: list[int] = []
    d.net.register_forward_hook(lambda *_: calls.append(1))
    guide = Energy(lambda x: x.square().mean((1, 2, 3)), 5.0)
    x = Noise([0, 1])("x_T", 0, (3, 8, 8))
    both = DDIM()(guide(d), x, steps=5)
    assert len(calls) == 5
    torch.testing.assert_close(DDIM()(guide(d), x[1:], steps=5), both[1:], rtol=1e-4, atol=1e-5)


def test_it_goes_around_and_inside_other_guides() -> None:
    d = EpsDenoiser(loud(UNet(3, channels=8, mult=(1,), blocks=1, attention=(), classes=3)), VP())
    c = Condition({"label": torch.tensor([0, 1])}, {"label": torch.tensor([3])})
    x, t = Noise([0, 1])("x", 0, (3, 8, 8)), torch.full((2,), 0.6)
    guide = Energy(lambda x: x.square().mean((1, 2, 3)), 50.0)
    plain = CFG(2.0)(d)(x, t, c).x0
    around = compose(CFG(2.0), guide)(d)
    assert (around(x, t, c).x0 - plain).abs().max() > 1e-3
    told, said = around.pair(x, t, c)  # type: ignore[attr-defined]
    torch.testing.assert_close(said.x0, plain)
    assert compose(guide, Rescale(0.5))(d)(x, t, c).x0.shape == x.shape and told.x0.shape == x.shape
    inside = Interval(compose(CFG(2.0), guide), 0.0, 0.5)(d)
    assert torch.equal(inside(x, t, c).x0, d(x, t, c).x0)
    low = torch.full((2,), 0.3)
    torch.testing.assert_close(inside(x, low, c).x0, around(x, low, c).x0)


def test_at_no_signal_there_is_no_pull() -> None:
    d = FlowDenoiser(loud(UNet(3, channels=8, mult=(1,), blocks=1, attention=())), Flow())
    x, t = Noise([0])("x", 0, (3, 8, 8)), torch.ones(1)
    assert torch.equal(Energy(lambda x: x.sum((1, 2, 3)), 1.0)(d)(x, t).x0, d(x, t).x0)


def test_gradients_flow_on_and_inference_mode_works() -> None:
    d = Gaussian(torch.zeros(2, dtype=F64), std=0.5).denoiser(VP())
    guided = Energy(lambda x: 0.5 * (x - 3).square().sum(1), 2.0)(d)
    x = Noise([0])("x", 0, (2,), dtype=F64).requires_grad_()
    t = torch.full((1,), 0.5, dtype=F64)
    assert torch.autograd.gradcheck(lambda v: guided(v, t).x0, (x,))
    with torch.inference_mode():
        inside = guided(Noise([0])("x", 0, (2,), dtype=F64), torch.full((1,), 0.5, dtype=F64)).x0
    torch.testing.assert_close(inside.clone(), guided(x, t).x0.detach())


def test_what_cannot_be() -> None:
    d = Gaussian(torch.zeros(2), std=0.5).denoiser(VP())
    x, t = torch.zeros(3, 2), torch.full((3,), 0.5)
    for weight in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="expected a finite number >= 0"):
            Energy(lambda x: x.sum(1), weight)
    with pytest.raises(ValueError, match=r"the energy gave \(\); expected \(3,\)"):
        Energy(lambda x: x.sum(), 1.0)(d)(x, t)
    with pytest.raises(ValueError, match="no gradient comes from the energy"):
        Energy(lambda x: x.detach().sum(1), 1.0)(d)(x, t)


def test_another_way_is_refused(unchecked) -> None:
    with pytest.raises(ValueError, match="through='both'"):
        Energy(lambda x: x.sum(1), 1.0, "both")  # type: ignore[arg-type]
