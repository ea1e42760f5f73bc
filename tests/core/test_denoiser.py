"""What preconditioning promises: EDM's table, unit variances, and precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Cosine,
    Discrete,
    EDMDenoiser,
    EncodedDenoiser,
    EpsDenoiser,
    Flow,
    FlowDenoiser,
    Noise,
    VDenoiser,
    X0Denoiser,
)
from mezzotint.objective import Batch, Denoise, EDMWeight

D = torch.float64
T = torch.tensor([0.05, 0.4, 0.8], dtype=D)
X = Noise([0, 1, 2])("x_T", 0, (4,), dtype=D)


class Says:
    """A network that keeps what it was given and answers with tanh of it."""

    def __call__(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        self.x, self.time = x, time
        return torch.tanh(x)


def test_edm_is_table_1():
    """c_skip, c_out, c_in and c_noise of arXiv 2206.00364 at sigma = the VE schedule's."""
    net, schedule, s = Says(), VE(0.01, 50.0), 0.7
    got = EDMDenoiser(net, schedule, sigma_data=s)(X, T).x0
    sigma = schedule.sigma(T)[:, None]
    c_in, c_skip = (sigma**2 + s**2) ** -0.5, s**2 / (sigma**2 + s**2)
    c_out = sigma * s * (sigma**2 + s**2) ** -0.5
    torch.testing.assert_close(got, c_skip * X + c_out * torch.tanh(c_in * X), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net.time, sigma[:, 0].log() / 4, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [VP(), Flow(), Cosine(), VE(0.01, 50.0), Discrete.linear()])
def test_edm_gives_the_network_unit_input_and_unit_target(schedule):
    """For data of the stated spread, at every level; with EDMWeight the loss of a network that says 0 is 1."""
    s, n = 0.7, 4000
    noise = Noise(range(n))
    data, eps = s * noise("data", 0, (1,), dtype=D), noise("eps", 0, (1,), dtype=D)
    for t in (0.02, 0.5, 0.98):
        time = torch.full((n,), t, dtype=D)
        a, b = schedule.alpha(time)[:, None], schedule.sigma(time)[:, None]
        x_t, net = a * data + b * eps, Says()
        d = EDMDenoiser(net, schedule, sigma_data=s)
        d(x_t, time)
        assert float(net.x.std()) == pytest.approx(1, abs=5 / (2 * n) ** 0.5)
        d.net = lambda x, time, c: torch.zeros_like(x)
        skipped = d(x_t, time).x0
        d.net = lambda x, time, c: torch.ones_like(x)
        target = (data - skipped) / (d(x_t, time).x0 - skipped)
        assert float(target.std()) == pytest.approx(1, abs=5 / (2 * n) ** 0.5)
        assert abs(float((target * net.x).mean())) < 5 / n**0.5  # what the skip connection could tell is taken off
    says_nothing = EDMDenoiser(lambda x, time, c: torch.zeros_like(x), schedule, sigma_data=s)
    loss = Denoise("x0", weight=EDMWeight(s), drop=0.0)(says_nothing, Batch(data), noise).total
    assert float(loss) == pytest.approx(1, abs=5 * (2 / n) ** 0.5)


def test_edm_is_finite_at_both_ends():
    for schedule in (VP(), Flow(), Cosine(), VE()):
        net = Says()
        got = EDMDenoiser(net, schedule)(X, torch.tensor([0.0, 1.0, 0.5], dtype=D)).x0
        assert bool(torch.isfinite(got).all()) and bool(torch.isfinite(net.time).all())
        torch.testing.assert_close(got[0], X[0], rtol=1e-12, atol=1e-12)  # no noise: x_t itself
    with pytest.raises(ValueError, match="sigma_data"):
        EDMDenoiser(Says(), VP(), sigma_data=0.0)


@pytest.mark.parametrize(
    ("kind", "name"), [(X0Denoiser, "x0"), (EpsDenoiser, "eps"), (VDenoiser, "v"), (FlowDenoiser, "flow")]
)
def test_the_network_predicts_its_kind_at_1000_t(kind, name):
    net = Says()
    p = kind(net, VP())(X, T)
    torch.testing.assert_close(getattr(p, name), torch.tanh(X), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net.time, 1000 * T)


class Half(nn.Module):
    """In bfloat16; remembers the types it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))

    def forward(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        assert c is not None
        self.seen = x.dtype, time.dtype, c["pooled"].dtype, c["text_mask"].dtype
        return x * self.weight


def test_half_precision_stays_inside_the_network():
    c = Condition({"pooled": torch.zeros(3, 2), "text_mask": torch.ones(3, 5, dtype=torch.bool)})
    for dtype in (torch.float32, D):
        net = Half()
        p = EpsDenoiser(net, VP())(X.to(dtype), T, c)
        assert net.seen == (torch.bfloat16, torch.float32, torch.bfloat16, torch.bool)
        assert p.eps.dtype == p.x0.dtype == dtype


def test_an_encoded_denoiser_encodes_its_condition():
    class Double(nn.Module):
        def forward(self, c: Condition) -> Condition:
            return c.updated({"pooled": 2 * c["pooled"]})

    d = EncodedDenoiser(X0Denoiser(lambda x, time, c: c["pooled"] if c else 0 * x, VP()), Double())
    assert torch.equal(d(X, T, Condition({"pooled": X})).x0, 2 * X)
    assert torch.equal(d(X, T).x0, 0 * X)
