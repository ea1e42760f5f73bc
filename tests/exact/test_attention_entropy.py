"""Entropy of attention against the number of keys, and the factor that keeps its share (arXiv 2306.08645, sheet 6)."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.attention import attention_scaling, entropy_probe, log_ratio, row_entropy, token_counts
from mezzotint.attention.scaling import LogRatio, MatchedEntropy
from mezzotint.core import Condition, Flow, FlowDenoiser
from mezzotint.nn import DiT, UNet
from mezzotint.nn.attention import attend

COUNTS = (64, 256, 1024, 4096, 16384)


def test_values_and_their_symmetry():
    for (n, t), value in {
        (784, 4096): 0.895112, (9216, 4096): 1.047613, (16384, 4096): 1.080123, (16, 64): 0.816497,
    }.items():  # fmt: skip
        assert log_ratio(n, t) == pytest.approx(value, abs=1e-6)
        assert log_ratio(n, t) * log_ratio(t, n) == pytest.approx(1, abs=1e-12)
        assert LogRatio(2.0)("", n, t) == pytest.approx(value**2, abs=2e-6) and LogRatio(0.0)("", n, t) == 1
    assert log_ratio(100, 100) == 1.0
    assert [log_ratio(n, 64) for n in COUNTS] == sorted(log_ratio(n, 64) for n in COUNTS)
    assert [log_ratio(64, t) for t in COUNTS] == sorted((log_ratio(64, t) for t in COUNTS), reverse=True)
    assert log_ratio(1, 1) == 1.0 and log_ratio(1, 16) == 0.5  # as if there were two


def entropies(scaled: bool, std: float = 1.0, trained: int = 1024) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for n in COUNTS:
        q, k = (std * torch.randn(1, 1, m, 64, dtype=torch.float64, generator=generator) for m in (400, n))
        q = q * log_ratio(n, trained) if scaled else q
        made.append(float(row_entropy(q, k)[0].mean()))
    return made


def slope(values: list[float]) -> float:
    x = torch.tensor([math.log(n) for n in COUNTS], dtype=torch.float64)
    y = torch.tensor(values, dtype=torch.float64)
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def test_the_law_of_entropy():
    plain, scaled = entropies(False), entropies(True)
    for n, a, b in zip(COUNTS, plain, scaled, strict=True):
        assert a == pytest.approx(math.log(n) - 0.5, abs=0.05)
        assert b == pytest.approx(math.log(n) * (1 - 1 / (2 * math.log(1024))), abs=0.03)
    shares = [[e / math.log(n) for n, e in zip(COUNTS, row, strict=True)] for row in (plain, scaled)]
    assert max(shares[1]) - min(shares[1]) < 0.003 < 0.05 < max(shares[0]) - min(shares[0])
    assert slope(plain) == pytest.approx(1.0, abs=0.02)
    assert slope(scaled) == pytest.approx(plain[2] / math.log(1024), abs=0.02)


def test_matched_entropy_keeps_the_entropy_of_normal_logits():
    generator = torch.Generator().manual_seed(1)
    made = []
    for n in COUNTS[1:]:
        q, k = (torch.randn(1, 1, m, 64, dtype=torch.float64, generator=generator) for m in (400, n))
        factor = MatchedEntropy({"a": torch.ones(1, dtype=torch.float64)})("a", n, 1024)
        made.append(float(row_entropy(q * factor.view(-1, 1, 1), k)[0].mean()))
    assert max(made[1:3]) - min(made[1:3]) < 0.15  # the paper's factor lets it grow by 1.3 there
    assert made[1] == pytest.approx(math.log(1024) - 0.5, abs=0.05)


def test_bounds_and_masks():
    k = torch.randn(2, 3, 32, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for factor in (0.5, 1.0, 7.0):
        entropy, kappa = row_entropy(factor * torch.zeros(2, 3, 5, 8, dtype=torch.float64), k)
        torch.testing.assert_close(entropy, torch.full_like(entropy, math.log(32)), atol=1e-12, rtol=0)
        assert float(kappa.max()) == 0
    entropy, _ = row_entropy(1e4 * k, k)
    assert float(entropy.min()) >= 0 and float(entropy.max()) < 1e-6
    mask = torch.zeros(1, 1, 1, 32, dtype=torch.bool)
    mask[..., 3:10] = True
    entropy, _ = row_entropy(torch.zeros(2, 3, 5, 8, dtype=torch.float64), k, mask)
    torch.testing.assert_close(entropy.exp(), torch.full_like(entropy, 7.0), atol=1e-9, rtol=0)


def test_rows_in_chunks_and_samples_of_them(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn(1, 2, 512, 16, generator=generator) for _ in range(2))
    maps = (q @ k.transpose(-1, -2) / 4).softmax(-1)
    whole = -(maps * maps.log()).sum(-1)
    monkeypatch.setattr("mezzotint.attention.entropy._BUDGET", 3 * 2 * 512)
    torch.testing.assert_close(row_entropy(q, k)[0], whole, atol=1e-5, rtol=0)
    some = row_entropy(q[:, :, torch.randperm(512, generator=generator)[:128]], k)[0]
    assert abs(float(some.mean() - whole.mean())) < 3 * float(whole.std()) / 16


NETS = {
    "unet": lambda: UNet(3, channels=16, mult=(1, 2), blocks=1, attention=(2,), context=6),
    "dit": lambda: DiT(3, patch=2, width=16, depth=2, heads=2, context=6),
}


def made(kind: str, alive) -> tuple[FlowDenoiser, Condition]:
    torch.manual_seed(0)
    return FlowDenoiser(alive(NETS[kind]()), Flow()).eval(), Condition({"text": torch.randn(1, 4, 6)})


@pytest.mark.parametrize("kind", NETS)
def test_nothing_changes_at_the_training_size_and_after_the_block(kind, alive):
    d, c = made(kind, alive)
    counts = token_counts(d, (3, 16, 16), c)
    assert counts and set(counts.values()) == {64}
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([0.6])
    wide = torch.randn(1, 3, 8, 32), torch.randn(1, 3, 24, 24)
    plain = [d(y, t, c).x0 for y in (x, *wide)]
    with attention_scaling(d, counts):
        now = [d(y, t, c).x0 for y in (x, *wide)]
    assert torch.equal(now[0], plain[0]) and torch.equal(now[1], plain[1])  # 8 x 32 has as many tokens
    assert float((now[2] - plain[2]).abs().max()) > 1e-6
    with pytest.raises(RuntimeError, match="on purpose"), attention_scaling(d, counts):
        raise RuntimeError("on purpose")
    assert torch.equal(d(wide[1], t, c).x0, plain[2])


def test_it_equals_plain_softmax_with_the_factor_and_gradients_flow():
    generator = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(2, 2, n, 8, generator=generator) for n in (9, 9, 9))
    f = log_ratio(9, 64)
    q.requires_grad_()
    out = attend(q * f, k, v)
    torch.testing.assert_close(out, (f / 8**0.5 * q @ k.transpose(-1, -2)).softmax(-1) @ v, atol=1e-5, rtol=0)
    assert float(torch.autograd.grad(out.sum(), q)[0].abs().max()) > 0


def test_the_probe_sees_the_factor_and_cross_attention_stays(alive):
    d, c = made("unet", alive)
    counts = token_counts(d, (3, 16, 16), c)
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([0.6, 0.6])
    c = c.repeat(2)
    sums: dict[str, list[float]] = {}
    for strength in (0.0, 1.0, 6.0):
        with attention_scaling(d, counts, LogRatio(strength)), entropy_probe(d, rows=None) as probe:
            d(x, t, c)
        for site, row in probe.report().items():
            assert row.keys == 256 and row.rows == 512 and 0 < row.share <= 1
            sums.setdefault(site, []).append(row.mean)
    first = next(iter(sums.values()))  # later layers are fed by changed ones
    assert first[0] > first[1] > first[2]
    assert not any("cross" in site for site in sums)


def test_what_is_not_known_is_told(alive):
    d, c = made("unet", alive)
    with pytest.raises(ValueError, match="number of tokens in training is not known"), attention_scaling(d, {}):
        d(torch.zeros(1, 3, 8, 8), torch.tensor([0.5]), c)
    with pytest.raises(ValueError, match="no attention site matches"), attention_scaling(d, {}, sites="nowhere"):
        pass
    with pytest.raises(ValueError, match="probe it at the training size"):
        MatchedEntropy({})("mid", 4, 16)
    with pytest.warns(UserWarning, match="over a single key"):
        token_counts(d, (3, 2, 2), c)
