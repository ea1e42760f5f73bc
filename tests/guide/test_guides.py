"""Guides: limits, equality with the formula on a mixture whose answers are known, composition, cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import VP, Condition, Cosine, Denoiser, Flow, GaussianMixture, Noise, Prediction
from mezzotint.core.schedule import Schedule
from mezzotint.guide import CFG, DynamicThreshold, Interval, Rescale, StaticThreshold, Windowed, compose
from mezzotint.sample import DDIM, DPMSolverPP, State

F64 = torch.float64
MIX = GaussianMixture(torch.tensor([[-0.8, 0.3], [0.6, -0.2], [0.1, 0.9]]), torch.tensor([0.2, 0.3, 0.25]))
LABEL = Condition({"label": torch.tensor([0, 1, 2, 1])}, null={"label": torch.tensor([3])})
X = Noise(range(4))("x_T", 0, (2,), dtype=F64)


class Counting(Denoiser):
    """Counts calls and rows."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.inner = MIX.denoiser(schedule)
        self.calls: list[int] = []

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.calls.append(len(x_t))
        return self.inner(x_t, t, c)


class Says(Denoiser):
    """Predicts given data, whatever it is asked."""

    def __init__(self, x0: Tensor) -> None:
        super().__init__(VP())
        self.x0 = x0

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(self.x0, x_t, t, self.schedule)


def times(t: float, batch: int = 4) -> Tensor:
    return torch.full((batch,), t, dtype=F64)


@pytest.mark.parametrize("w", [0.5, 3.0, 7.5])
def test_cfg_is_the_formula_in_eps(w: float) -> None:
    d = MIX.denoiser(VP())
    for t in (0.05, 0.5, 1.0):
        null, cond = d(X, times(t), LABEL.null()).eps, d(X, times(t), LABEL).eps
        got = CFG(w)(d)(X, times(t), LABEL)
        torch.testing.assert_close(got.eps, null + w * (cond - null), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [VP(), Flow(), Cosine()], ids=["vp", "flow", "cosine"])
def test_w_one_and_zero_are_plain_calls_bit_for_bit(schedule: Schedule) -> None:
    for w, c in ((1.0, LABEL), (0.0, LABEL.null())):
        d = Counting(schedule)
        got = DPMSolverPP(2)(CFG(w)(d), X, steps=7, c=LABEL)
        assert d.calls == [4] * 7
        assert torch.equal(got, DPMSolverPP(2)(d, X, steps=7, c=c))
    d = Counting(schedule)
    assert bool(torch.isfinite(DPMSolverPP(2)(CFG(4.0)(d), X, steps=7, c=LABEL)).all())
    assert d.calls == [8] * 7  # one batched call a step
    assert torch.equal(CFG(1.0)(d)(X, times(0.5)).x0, d(X, times(0.5)).x0)  # and needs no condition


def test_guided_runs_are_the_same_alone_and_in_a_batch() -> None:
    guided = compose(CFG(3.0), Rescale(0.5), DynamicThreshold(0.9))(MIX.denoiser(VP()))
    together = DDIM()(guided, X, steps=5, c=LABEL)
    for i in range(4):
        alone = DDIM()(guided, X[i : i + 1], steps=5, c=LABEL.rows([i]))
        assert torch.equal(alone, together[i : i + 1])


def test_interval() -> None:
    """Guided inside, plain and half as dear outside; rows of a batch with unlike times are told apart."""
    d = Counting(VP())
    guide = Interval(CFG(4.0), 0.3, 0.7)
    grid = torch.tensor([1.0, 0.7, 0.5, 0.3, 0.1, 0.0], dtype=F64)
    DDIM()(guide(d), X, grid=grid, c=LABEL)
    assert d.calls == [4, 8, 8, 8, 4]
    mixed = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=F64)
    got, plain, full = (f(X, mixed, LABEL).x0 for f in (guide(d), d, CFG(4.0)(d)))
    assert torch.equal(got[[0, 3]], plain[[0, 3]]) and torch.equal(got[[1, 2]], full[[1, 2]])
    everywhere = Interval(CFG(4.0))(d)
    assert torch.equal(DDIM()(everywhere, X, steps=6, c=LABEL), DDIM()(CFG(4.0)(d), X, steps=6, c=LABEL))


@pytest.mark.parametrize(
    "guide",
    [
        Interval(CFG(4.0), 0.3, 0.7),
        compose(Interval(StaticThreshold(), 0.3, 0.7), CFG(4.0)),
        compose(Interval(StaticThreshold(), 0.3, 0.7), Windowed(4, 2, batch=3)),
    ],
    ids=["around", "inside guidance", "inside windows"],
)
def test_an_interval_reads_no_time_back(guide: Any) -> None:
    """The meta device has no values: whatever waits for one raises."""
    said = torch.zeros(1, 3, 8, 8, device="meta")

    class Same(Denoiser):
        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            return Prediction.from_x0(x_t, x_t, t, self.schedule)

    c = Condition({"label": torch.zeros(1).long()}, {"label": torch.ones(1).long()}).to("meta")
    d, sampler = guide(Same(VP())), DDIM()
    plan = sampler.plan(VP(), torch.linspace(1, 0, 6, dtype=F64)).on(said)
    state = State(said)
    for k in range(plan.steps):
        state = sampler.step(d, state, k, plan, c)
    assert state.x.shape == said.shape


@pytest.mark.parametrize("of", ["v", "eps", "x0"])
def test_rescale(of: Any) -> None:
    """phi = 1 gives the conditional standard deviation, phi = 0 and w = 1 change nothing, phi is linear."""
    d, t = MIX.denoiser(VP()), times(0.4)
    plain, full = d(X, t, LABEL), CFG(5.0)(d)(X, t, LABEL)
    out = {phi: getattr(compose(CFG(5.0), Rescale(phi, of))(d)(X, t, LABEL), of) for phi in (0.0, 0.7, 1.0)}
    torch.testing.assert_close(out[1.0].std(1), getattr(plain, of).std(1), rtol=1e-12, atol=1e-12)
    assert torch.equal(out[0.0], getattr(full, of))
    torch.testing.assert_close(out[0.7], 0.7 * out[1.0] + 0.3 * out[0.0], rtol=1e-12, atol=1e-12)
    assert (out[1.0] - out[0.0]).abs().max() > 1e-2
    assert torch.equal(compose(CFG(1.0), Rescale(0.7))(d)(X, t, LABEL).x0, plain.x0)


def test_rescale_sees_through_an_interval() -> None:
    d = Counting(VP())
    guided = compose(Interval(CFG(5.0), 0.3, 0.7), Rescale(1.0))(d)
    assert torch.equal(guided(X, times(0.9), LABEL).x0, d(X, times(0.9), LABEL).x0)
    inside = compose(CFG(5.0), Rescale(1.0))(d)
    assert torch.equal(guided(X, times(0.5), LABEL).x0, inside(X, times(0.5), LABEL).x0)


def test_static_threshold() -> None:
    x0 = torch.tensor([[-3.0, 0.4], [0.9, 1.1]], dtype=F64)
    x = X[:2]
    got = StaticThreshold(1.0)(Says(x0))(x, times(0.5, 2))
    assert torch.equal(got.x0, torch.tensor([[-1.0, 0.4], [0.9, 1.0]], dtype=F64))
    torch.testing.assert_close(got.alpha * got.x0 + got.sigma * got.eps, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [1.0, 2.5])
def test_dynamic_threshold(limit: float) -> None:
    """Within the range; plain clipping where the quantile is small; the quantile is torch's; samples do not mix."""
    scale = torch.tensor([0.1, 0.3, 1, 2, 5, 20], dtype=F64).view(-1, 1, 1, 1)
    x0 = scale * Noise(range(6))("x", 0, (3, 5, 7), dtype=F64)
    x, t = torch.zeros_like(x0), times(0.5, 6)
    for q in (0.3, 0.9, 0.995, 1.0):
        out = DynamicThreshold(q, limit)(Says(x0))(x, t).x0
        assert float(out.abs().max()) <= limit * (1 + 1e-15)
        s = x0.abs().flatten(1).quantile(q, dim=1).clamp(min=limit).view(-1, 1, 1, 1)
        torch.testing.assert_close(out, x0.clamp(-s, s) / s * limit, rtol=1e-13, atol=1e-14)
        small = s.flatten() == limit
        assert torch.equal(out[small], x0[small].clamp(-limit, limit)) and bool(small.any())
        order = [3, 0, 5, 1, 4, 2]
        assert torch.equal(DynamicThreshold(q, limit)(Says(x0[order]))(x, t).x0, out[order])


def test_compose_goes_outwards() -> None:
    """The first guide is nearest to the network: thresholding comes after guidance, not before."""
    d, t = MIX.denoiser(VP()), times(0.3)
    after = compose(CFG(9.0), StaticThreshold(0.5))(d)(X, t, LABEL).x0
    before = compose(StaticThreshold(0.5), CFG(9.0))(d)(X, t, LABEL).x0
    assert torch.equal(after, CFG(9.0)(d)(X, t, LABEL).x0.clamp(-0.5, 0.5))
    assert float(after.abs().max()) <= 0.5 < float(before.abs().max())
    assert compose()(d) is d


def test_gradients_pass_through_guides() -> None:
    guided = compose(CFG(3.0), Rescale(0.5), DynamicThreshold(0.7, 0.2))(MIX.denoiser(VP()))
    x = X.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: DDIM()(guided, x, steps=3, c=LABEL), x, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CFG(-1.0), "w=-1.0"),
        (lambda: CFG(float("nan")), "w=nan"),
        (lambda: CFG(float("inf")), "w=inf"),
        (lambda: CFG(3.0)(MIX.denoiser(VP()))(X, times(0.5)), "needs a condition"),
        (lambda: CFG(3.0)(MIX.denoiser(VP()))(X, times(0.5), Condition(dict(LABEL))), "null"),
        (lambda: Interval(CFG(3.0), 0.7, 0.3), "t_low=0.7"),
        (lambda: Interval(CFG(3.0), 0.0, 1.5), "t_high=1.5"),
        (lambda: Rescale(1.5), "phi=1.5"),
        (lambda: Rescale(0.7)(MIX.denoiser(VP())), "compose"),
        (lambda: StaticThreshold(0.0), "limit=0.0"),
        (lambda: DynamicThreshold(0.0), "q=0.0"),
        (lambda: DynamicThreshold(0.9, limit=-1.0), "limit=-1.0"),
    ],
)
def test_wrong_calls(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
