"""The checks of the sheet of 2406.11138 that no other file makes: frameworks (2), processes (8), metrics (9).

1: tests/restore/operators; 3 to 6: test_restoration.py; 7: tests/restore/test_repaint.py; 10:
tests/guide/test_patch_mean.py; the laws of processes: tests/restore/bridge/test_law.py.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, VP, Condition, Discrete, EpsDenoiser, GaussianMixture, Noise, karras
from mezzotint.metric import kernel_distance, luma, psnr, spectral_angle, ssim
from mezzotint.restore.bridge import I2SB, IRSDE, BridgeDenoiser, InDI, ResShift, TrainedRestorer
from mezzotint.sample import DDIM, DDPM, Heun

F64 = torch.float64
MEANS = torch.tensor([[1.0, -0.5], [-0.8, 0.4], [0.2, 1.1]], dtype=F64)
DATA = GaussianMixture(MEANS, torch.tensor([0.2, 0.3, 0.25], dtype=F64))
X = torch.tensor([[0.3, -0.2], [-1.4, 0.9], [0.05, 2.0]], dtype=F64)


def at(number: float) -> Tensor:
    return torch.full((3,), number, dtype=F64)


# 2: frameworks


def test_vp_and_ve_have_one_score_after_rescaling():
    vp, ve = VP(), VE(0.002, 400.0)
    for t in (0.1, 0.5, 0.9):
        alpha, sigma = (float(f(at(t))[0]) for f in (vp.alpha, vp.sigma))
        s = ve.t_of(vp.half_log_snr(at(t)))
        torch.testing.assert_close(ve.sigma(s), at(sigma / alpha), rtol=1e-9, atol=0)
        own, other = DATA.denoiser(vp)(X, at(t)).score, DATA.denoiser(ve)(X / alpha, s).score
        torch.testing.assert_close(other, alpha * own, rtol=1e-9, atol=1e-12)


def test_vp_and_ve_have_one_flow():
    """dx = (f x - g^2 score / 2) dt of VP in its own time, written out, against ours in VE coordinates."""
    vp, ve, d = VP(), VE(0.002, 400.0), DATA.denoiser(VP())
    last, steps = 1e-3, 500

    def slope(x: Tensor, t: float) -> Tensor:
        beta = vp.beta_min + t * (vp.beta_max - vp.beta_min)
        return -0.5 * beta * (x + d(x, at(t)).score)

    times = torch.linspace(1, last**0.5, steps + 1, dtype=F64).square().tolist()
    x = X.clone()
    for t, s in zip(times, times[1:]):
        first = slope(x, t)
        x = x + (s - t) * 0.5 * (first + slope(x + (s - t) * first, s))
    start, end = (vp.half_log_snr(torch.tensor([t], dtype=F64)) for t in (1.0, last))
    grid = karras(ve, steps, sigma_min=math.exp(-float(end)), sigma_max=math.exp(-float(start)))[:-1]
    ours = Heun()(DATA.denoiser(ve), X / float(vp.alpha(at(1.0))[0]), grid=grid)
    torch.testing.assert_close(ours, x / float(vp.alpha(at(last))[0]), rtol=0, atol=1e-4)


def test_ddim_is_the_exponential_euler_step_in_log_snr():
    vp, d = VP(), DATA.denoiser(VP())
    t, s = torch.tensor([0.7, 0.5], dtype=F64)
    h = vp.half_log_snr(s) - vp.half_log_snr(t)
    want = vp.sigma(s) / vp.sigma(t) * X + vp.alpha(s) * (1 - (-h).exp()) * d(X, at(0.7)).x0
    torch.testing.assert_close(DDIM()(d, X, grid=torch.stack([t, s])), want, rtol=0, atol=1e-12)


def test_an_ancestral_step_is_the_reverse_equation_to_second_order():
    """mean(x_{k-1}) = x + b (x / 2 + score) + O(b^2): a quarter of b leaves a sixteenth."""
    off = []
    for b in (0.04, 0.01):
        schedule = Discrete(torch.tensor([1 - math.exp(-1.0), b], dtype=F64))
        d = DATA.denoiser(schedule)
        grid = torch.tensor([1.0, 0.5], dtype=F64)
        plan = DDPM().plan(schedule, grid)
        weights = dict(zip(plan.columns, plan.rows[0]))
        now = d(X, at(1.0))
        mean = weights["x"] * X + weights["m0"] * now.x0
        off.append(float((mean - (X + b * (X / 2 + now.score))).norm()))
        kept, whole = schedule.sigma(grid.flip(0)).square().tolist()
        assert weights["noise"] ** 2 == pytest.approx(b * kept / whole, rel=1e-9)
    assert 12 < off[0] / off[1] < 20


def test_the_score_loss_weighted_by_the_variance_is_the_noise_loss():
    vp, x = VP(), DATA.sample(Noise([1, 2, 3]))
    eps = Noise([1, 2, 3])("eps", 0, (2,), dtype=F64)
    for t in (0.2, 0.8):
        a, s = vp.alpha(at(t))[:, None], vp.sigma(at(t))[:, None]
        p = EpsDenoiser(lambda x, time, c: (2 * x).sin(), vp)(a * x + s * eps, at(t))
        weighted = s.square() * (p.score + eps / s).square()
        torch.testing.assert_close(weighted, (p.eps - eps).square(), rtol=1e-9, atol=1e-12)


# 8: processes


def test_ends_of_the_processes():
    ends = torch.tensor([0.0, 1.0], dtype=F64)
    spread = {IRSDE(0.3): 0.3, ResShift(): 2.0, InDI(0.1): 0.1, I2SB(): 0.0}
    for process, std in spread.items():
        (a0, a1), (b0, b1), (c0, c1) = (f(ends).tolist() for f in (process.alpha, process.shift, process.sigma))
        assert (a0, b0, c0) == (1, 0, 0), "x itself at t = 0"
        assert abs(a1) <= 0.005 + 1e-12 and abs(b1 - 1) <= 0.005 + 1e-12
        assert c1 == pytest.approx(std, abs=1.1e-3)
    for left in (0.05, 0.005, 0.0005):  # the marginal variance of IR-SDE goes to level^2 as theta is integrated
        assert float(IRSDE(0.3, left).sigma(ends)[1]) ** 2 == pytest.approx(0.09 * (1 - left**2), rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_an_exact_network_gives_x_back_in_any_number_of_steps(steps):
    """F = x: what is left of noise at the last step is none."""
    x, y = X.float(), Noise([4, 5, 6])("y", 0, (2,))

    def exact(x_t: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        return x

    for process in (InDI(), InDI(0.1), IRSDE(), ResShift(), I2SB()):
        made = TrainedRestorer()(BridgeDenoiser(exact, process), y, Noise([0, 1, 2]), steps=steps)
        torch.testing.assert_close(made, x, rtol=0, atol=1e-6)


# 9: metrics


def test_metrics_where_the_answer_is_known():
    x = Noise([1, 2])("x", 0, (3, 16, 16), dtype=F64).clamp(-1, 1)
    for d in (0.01, 0.3):
        assert psnr(x, x + d, data_range=1.0).tolist() == pytest.approx([-20 * math.log10(d)] * 2, abs=1e-9)
    other = x.flip(0)
    assert ssim(x, x).tolist() == pytest.approx([1, 1], abs=1e-9)
    assert ssim(x, other).tolist() == pytest.approx(ssim(other, x).tolist(), abs=1e-12)
    assert float(luma(torch.ones(1, 3, 1, 1, dtype=F64))) == pytest.approx(235, abs=1e-6)
    bright = (x + 1.1) / 2
    per_pixel = Noise([3, 4]).uniform("scale", 0, (1, 16, 16), dtype=F64) + 0.2
    assert spectral_angle(bright, per_pixel * bright).tolist() == pytest.approx([0, 0], abs=1e-5)
    one, two = Noise(range(300))("a", 0, (6,)), Noise(range(300, 600))("a", 0, (6,))
    same = kernel_distance(one, two)
    assert same.error is not None and abs(same.value) < 3 * same.error
