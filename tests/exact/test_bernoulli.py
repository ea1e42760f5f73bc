"""A chain of masks against brute force: marginals, posterior, and samples under the exact predictor."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from mezzotint.core import BernoulliChain, Noise

CHAIN = BernoulliChain((0.9, 0.55, 0.3, 0.1, 0.02))


def path_weight(path: tuple[int, ...]) -> float:
    """q(m_1 ... m_T | m_0) of a path m_0 ... m_T, step by step."""
    levels, weight = (1.0, *CHAIN.keep), 1.0
    for k in range(1, len(path)):
        a = levels[k] / levels[k - 1]
        one = a * path[k - 1] + (1 - a) / 2
        weight *= one if path[k] else 1 - one
    return weight


def test_marginals_and_posterior_are_those_of_all_paths() -> None:
    paths = {path: path_weight(path) for path in product((0, 1), repeat=CHAIN.steps + 1)}
    for m0, k in product((0, 1), range(CHAIN.steps + 1)):
        want = sum(w for p, w in paths.items() if p[0] == m0 and p[k])
        assert float(CHAIN.marginal(torch.tensor([[m0]]), k)) == pytest.approx(want, abs=1e-12)
    for m0, k, mk in product((0, 1), range(1, CHAIN.steps + 1), (0, 1)):
        fitting = {p: w for p, w in paths.items() if p[0] == m0 and p[k] == mk}
        want = sum(w for p, w in fitting.items() if p[k - 1]) / (sum(fitting.values()) or 1)
        got = CHAIN.posterior(torch.tensor([[mk]]), torch.tensor([[m0]]), k)
        assert float(got) == pytest.approx(want, abs=1e-12)
        # turned masks, turned chances: the two values' chances sum to 1
        turned = CHAIN.posterior(torch.tensor([[1 - mk]]), torch.tensor([[1 - m0]]), k)
        assert float(got + turned) == pytest.approx(1, abs=1e-12)


def test_the_frequency_of_ones_is_the_marginal() -> None:
    n = 20000
    for k, value in product((1, 3, 5), (0.0, 1.0)):
        drawn = CHAIN.noised(torch.full((1, n), value), k, Noise([7])).double().mean()
        p = float(CHAIN.marginal(torch.tensor([[value]]), k))
        assert abs(float(drawn) - p) < 3 * (p * (1 - p) / n) ** 0.5


def test_samples_under_the_exact_predictor_have_the_prior_they_came_from() -> None:
    """Pixels are 1 with probability 0.2, pairs are equal: the exact P(m_0 | m_k) of each pixel by itself gives its
    marginal back (a chain's reverse steps are exact for one pixel)."""
    chain, prior, n = BernoulliChain.cosine(6), 0.2, 20000

    def predict(state: torch.Tensor, k: int) -> torch.Tensor:
        like = [
            torch.where(state, c, 1 - c) for c in (chain.marginal(torch.full_like(state, v), k) for v in (False, True))
        ]
        return prior * like[1] / (prior * like[1] + (1 - prior) * like[0])

    got = chain.sample(predict, (n,), Noise([3])).double().mean()
    assert abs(float(got) - prior) < 3 * (prior * (1 - prior) / n) ** 0.5
    mask = Noise([1]).uniform("truth", 0, (50,)) < 0.5
    assert torch.equal(chain.sample(lambda state, k: mask.double(), (50,), Noise([5])), mask)


def test_the_seed_contract() -> None:
    mask = torch.ones(4, 9, dtype=torch.bool)
    together = CHAIN.noised(mask, 2, Noise(range(4)))
    assert torch.equal(CHAIN.noised(mask[:1], 2, Noise([2]))[0], together[2])


def test_bad_chains() -> None:
    for keep in ((), (0.5, 0.6), (1.2,), (0.5, -0.1), (0.5, 0.0, 0.0)):
        with pytest.raises(ValueError, match="falling"):
            BernoulliChain(keep)
    with pytest.raises(ValueError, match="1 to 5"):
        CHAIN.posterior(torch.zeros(1, 1), torch.zeros(1, 1), 0)
    with pytest.raises(ValueError, match="0 to 5"):
        CHAIN.marginal(torch.zeros(1, 1), 6)
