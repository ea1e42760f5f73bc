"""Diffusion with forward models against linear Gaussian signals, whose answers are closed (arXiv 2306.11719)."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Condition, Cosine, Noise, X0Denoiser, fold
from mezzotint.guide import CFG
from mezzotint.objective import Batch, Denoise
from mezzotint.objective.forward_model import ForwardModelLoss, crop_window
from mezzotint.restore.forward_model import (
    CropModel,
    ForwardModel,
    ForwardModelDenoiser,
    LinearModel,
    ParallelBeam,
    VolumeRender2D,
    check_forward,
    sample_signals,
)
from mezzotint.sample import DDIM

WIDE = torch.float64


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=WIDE)


class Linear4:
    """S ~ N(mean, cov) in R^4; the context is one number of it, the target `rows` others, without noise."""

    def __init__(self, rows, context=1):
        root = random(4, 4, seed=1)
        self.mean, self.cov = random(4, seed=2), root @ root.T / 4 + 0.2 * torch.eye(4, dtype=WIDE)
        self.context, self.target = random(context, 4, seed=3), random(rows, 4, seed=4)

    def given(self, seen, noise):
        """The gain and covariance of S given seen = A S + noise."""
        gain = self.cov @ seen.T @ torch.linalg.pinv(seen @ self.cov @ seen.T + noise)
        return gain, self.cov - gain @ seen @ self.cov

    def net(self, y_t, t, c):
        """G*(y_t, t, c) = E[S | y_t, c]; all rows at one time."""
        time = t[:1].to(WIDE)
        assert bool((t == t[0]).all())
        seen = torch.cat([self.context, Cosine().alpha(time) * self.target])
        spread = torch.zeros(len(seen), dtype=WIDE)
        spread[len(self.context) :] = Cosine().sigma(time) ** 2
        gain, _ = self.given(seen, spread.diag())
        return self.mean + (torch.cat([c["context"], y_t.to(WIDE)], 1) - seen @ self.mean) @ gain.T

    def denoiser(self):
        return ForwardModelDenoiser(self.net, LinearModel(), Cosine())

    def condition(self, value, n):
        return Condition({"context": value.expand(n, -1), "phi": self.target.expand(n, -1, -1)})


@pytest.mark.parametrize("rows", [1, 3])
def test_law_of_total_variance(rows):
    bed = Linear4(rows)
    zero = torch.zeros(1, 1, dtype=WIDE)
    _, given_c = bed.given(bed.context, zero)
    both = torch.cat([bed.context, bed.target])
    gain, given_both = bed.given(both, torch.zeros(len(both), len(both), dtype=WIDE))
    # S_hat = E[S | y, c] is affine in y, whose covariance given c is that of A_t S
    of_y = gain[:, 1:] @ bed.target @ given_c @ bed.target.T @ gain[:, 1:].T
    torch.testing.assert_close(of_y + given_both, given_c, rtol=0, atol=1e-10)
    if rows == 3:  # context and target together determine the signal: no deficit
        assert float(given_both.abs().max()) < 1e-10


def test_exact_network_gives_the_right_law_of_signals_and_views_of_one_signal():
    bed = Linear4(1)
    n = 1500
    value = torch.tensor([0.7], dtype=WIDE)
    c = bed.condition(value, n)
    signal, y = sample_signals(bed.denoiser(), c, Noise([fold(0, i) for i in range(n)]), (1,), steps=60)
    zero = torch.zeros(1, 1, dtype=WIDE)
    gain, given_c = bed.given(bed.context, zero)
    both = torch.cat([bed.context, bed.target])
    _, given_both = bed.given(both, torch.zeros(2, 2, dtype=WIDE))
    expected = given_c - given_both
    found = signal.T.cov()
    assert abs(float(found.trace() / expected.trace()) - 1) < 0.08
    mean = bed.mean + gain @ (value - bed.context @ bed.mean)
    assert float((signal.mean(0) - mean).norm()) < 4 * float((expected.trace() / n).sqrt())
    torch.testing.assert_close(signal @ bed.context.T, c["context"], rtol=0, atol=1e-9)  # the context is kept
    assert float((signal @ bed.target.T - y).abs().max()) < 0.05  # of the last evaluation, whose input was noisy


def test_a_total_context_leaves_no_choice():
    bed = Linear4(1, context=4)
    signal = torch.tensor([0.1, -0.2, 0.3, 0.4], dtype=WIDE)
    c = bed.condition(bed.context @ signal, 5)
    made, _ = sample_signals(bed.denoiser(), c, Noise(range(5)), (1,), steps=8)
    assert float((made - signal).abs().max()) < 1e-6


def test_the_other_view_makes_the_signal_identifiable():
    bed, n = Linear4(1), 100_000
    signals = bed.mean + random(n, 4, seed=5) @ torch.linalg.cholesky(bed.cov).T
    alpha, sigma = 0.8, 0.6
    y, ctx = signals @ bed.target.T, signals @ bed.context.T
    seen = torch.cat([alpha * y + sigma * random(n, 1, seed=6), ctx, torch.ones(n, 1, dtype=WIDE)], 1)
    exact = torch.linalg.lstsq(seen, signals).solution  # G*: E[S | y_t, c] is linear
    target = bed.target.T
    # without the other view any G with the right F(G, phi) is as good: the one of least norm, for example
    only = torch.linalg.lstsq(seen, y).solution @ torch.linalg.pinv(target)
    torch.testing.assert_close(seen @ only @ target, seen @ exact @ target, rtol=0, atol=1e-8)
    free = float((only - exact).norm() / exact.norm())
    # with a random other view the normal equations see every direction
    novel = random(n, 1, 4, seed=7)
    rows = torch.cat([torch.einsum("np,q->npq", seen, target[:, 0]), torch.einsum("np,nq->npq", seen, novel[:, 0])])
    sides = torch.cat([y[:, 0], torch.einsum("nq,nq->n", novel[:, 0], signals)])
    both = torch.linalg.lstsq(rows.flatten(1), sides[:, None]).solution.view(seen.shape[1], 4)
    error = float((both - exact).norm() / exact.norm())
    assert error < 0.02 and free > 10 * error


def test_with_nothing_in_between_it_is_the_ordinary_objective():
    class See(ForwardModel):
        def forward(self, signal, phi):
            return signal

    net = torch.nn.Linear(3, 3).double()
    schedule = Cosine()
    ours = ForwardModelDenoiser(lambda x, t, c: net(x), See(), schedule)
    plain = X0Denoiser(lambda x, t, c: net(x), schedule)
    batch = Batch(random(5, 3), Condition({"phi": torch.zeros(5, 1, dtype=WIDE)}))
    a = ForwardModelLoss(novel=0.0)(ours, batch, Noise(range(5))).total
    b = Denoise("x0", drop=0.0)(plain, batch, Noise(range(5))).total
    assert torch.equal(a, b)


def test_a_constant_forward_model_teaches_nothing():
    class Blind(ForwardModel):
        def forward(self, signal, phi):
            return signal * 0

    net = torch.nn.Linear(3, 3).double()
    d = ForwardModelDenoiser(lambda x, t, c: net(x), Blind(), Cosine())
    batch = Batch(random(5, 3), Condition({"phi": torch.zeros(5, 1, dtype=WIDE)}))
    ForwardModelLoss(novel=0.0)(d, batch, Noise(range(5))).total.backward()
    assert net.weight.grad is not None and not net.weight.grad.any()


@pytest.mark.parametrize("model", ["linear", "beam"])
def test_gradients_are_the_adjoint(model):
    if model == "linear":
        forward, signal, phi = LinearModel(), random(2, 5), random(2, 3, 5, seed=1)
    else:
        forward, signal, phi = ParallelBeam(8), random(2, 1, 8, 8), torch.tensor([0.3, 1.2], dtype=WIDE)
    check_forward(forward, signal, phi)
    o = random(*forward(signal, phi).shape, seed=2)
    s = torch.zeros_like(signal).requires_grad_()
    (adjoint,) = torch.autograd.grad((forward(s, phi) * o).sum(), s)  # F is linear: its gradient anywhere is F* o
    torch.testing.assert_close((forward(signal, phi) * o).sum(), (signal * adjoint).sum(), rtol=1e-10, atol=1e-10)


def test_what_is_detached_is_found():
    class Cast(ForwardModel):
        def forward(self, signal, phi):
            return signal.detach() + 0 * signal if bool(phi.any()) else signal.round().detach()

    with pytest.raises(ValueError, match="no gradient"):
        check_forward(Cast(), random(1, 3), torch.zeros(1))
    with pytest.raises(ValueError, match="finite difference"):
        check_forward(Cast(), random(1, 3), torch.ones(1))


def test_guidance_is_the_same_in_x0_and_eps_and_none_at_weight_one():
    bed = Linear4(2)
    d = bed.denoiser()
    c = Condition(
        {"context": torch.ones(3, 1, dtype=WIDE), "phi": bed.target.expand(3, -1, -1)},
        null={"context": torch.zeros(1, 1, dtype=WIDE)},
    )
    x, t = random(3, 2), torch.full((3,), 0.4, dtype=WIDE)
    assert torch.equal(CFG(1.0)(d)(x, t, c).x0, d(x, t, c).x0)
    w = 2.5
    null, cond = d(x, t, c.null()), d(x, t, c)
    torch.testing.assert_close(CFG(w)(d)(x, t, c).eps, null.eps + w * (cond.eps - null.eps), rtol=0, atol=1e-6)


def slab(density, colour):
    return lambda p: (
        torch.full(p.shape[:2], density, dtype=p.dtype),
        torch.tensor(colour, dtype=p.dtype).expand(*p.shape[:2], 3),
    )


def test_rendering_of_a_constant_field():
    camera = VolumeRender2D(5, 2.0, 1.0, 20, 0.5, 3.5, background=0.25)
    phi = torch.tensor([0.0, 2.0], dtype=WIDE)
    k, length = 0.8, 3.0
    seen = camera.render(slab(k, [1.0, 0.5, 0.0]), phi)
    opacity = 1 - torch.exp(torch.tensor(-k * length, dtype=WIDE))
    torch.testing.assert_close(seen.opacity, opacity.expand(2, 5), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        seen.colour[:, 1], (opacity * 0.5 + (1 - opacity) * 0.25).expand(2, 5), rtol=0, atol=1e-12
    )
    empty = camera.render(slab(0.0, [1.0, 0.5, 0.0]), phi)
    assert bool((empty.colour == 0.25).all()) and not empty.opacity.any()
    one, two = (
        camera(slab(k, v), phi) - camera(slab(k, [0.0, 0.0, 0.0]), phi) for v in ([0.2, 0.4, 0.6], [0.4, 0.8, 1.2])
    )
    torch.testing.assert_close(2 * one, two, rtol=0, atol=1e-12)  # linear in the colours


def test_a_patch_loss_is_the_loss_weighted_by_how_often_a_pixel_is_covered():
    image, size, patch = random(1, 1, 8, 8), 8, 4
    places = [(i, j) for i in range(size - patch + 1) for j in range(size - patch + 1)]
    mean = sum(CropModel(patch, patch)(image, torch.tensor([p])).square().mean() for p in places) / len(places)
    cover = torch.zeros(size, size, dtype=WIDE)
    for i, j in places:
        cover[i : i + patch, j : j + patch] += 1 / (len(places) * patch**2)
    torch.testing.assert_close(mean, (cover * image.square()).sum(), rtol=0, atol=1e-12)
    assert cover[0, 0] < cover[4, 4]
    # and the windows that the objective draws are those, each as often as the others
    codes = torch.arange(64.0).view(1, 1, 8, 8).expand(4000, -1, -1, -1)
    drawn = crop_window(codes, (patch, patch), Noise([fold(1, i) for i in range(4000)]))
    corners = drawn[:, 0, 0, 0].long()
    counts = torch.bincount(corners, minlength=64).double()
    assert set(corners.tolist()) == {i * 8 + j for i, j in places}
    assert float(counts[counts > 0].max() / counts[counts > 0].min()) < 1.6


def test_steps_may_be_taken_by_any_sampler_and_schedule():
    bed = Linear4(1)
    d = ForwardModelDenoiser(bed.net, LinearModel(), Cosine())
    c = bed.condition(torch.tensor([0.1], dtype=WIDE), 2)
    made, _ = sample_signals(d, c, Noise([0, 1]), (1,), sampler=DDIM(eta=1.0), steps=6)
    assert made.shape == (2, 4) and bool(torch.isfinite(made).all())
