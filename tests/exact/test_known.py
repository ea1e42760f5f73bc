"""Exact denoisers against brute-force posterior means, and against the scores of their own densities."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Cosine,
    Empirical,
    Flow,
    Gaussian,
    GaussianMixture,
    LowRankMixture,
    Noise,
)

D = torch.float64
A = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=D)
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0, 0.2], [0.4, -0.3], [1.2, 1.0]]), torch.tensor([0.35, 0.5, 0.4]), torch.tensor([3.0, 4.0, 3.0])
)
BASES = torch.linalg.qr(torch.randn(2, 4, 2, dtype=D, generator=torch.Generator().manual_seed(0)))[0]
LOW = LowRankMixture(BASES, torch.tensor([0.3, 0.7]), torch.tensor([[1.0, 0.5], [2.0, 0.3]]))
DATA = torch.randn(7, 3, dtype=D, generator=torch.Generator().manual_seed(1))
KNOWN = {
    "gaussian": Gaussian(torch.tensor([0.3, -0.2]), cov=A),
    "diagonal": Gaussian(torch.tensor([0.3, -0.2]), std=torch.tensor([0.5, 0.0])),
    "mixture": MIXTURE,
    "low-rank": LOW,
    "empirical": Empirical(DATA),
}


def _of_parts(weights, means, covs):
    """Covariance of a mixture: mean of the covariances plus covariance of the means."""
    w, means, covs = (torch.as_tensor(v, dtype=D) for v in (weights, means, covs))
    apart = means - w @ means
    return torch.einsum("k,kij->ij", w, covs) + torch.einsum("k,ki,kj->ij", w, apart, apart)


COVARIANCE = {
    "gaussian": A,
    "diagonal": torch.diag(torch.tensor([0.25, 0.0], dtype=D)),
    "mixture": _of_parts(
        MIXTURE.weights, MIXTURE.means, torch.stack([s**2 * torch.eye(2, dtype=D) for s in MIXTURE.stds])
    ),
    "low-rank": _of_parts(
        LOW.weights, torch.zeros(2, 4), torch.stack([u @ torch.diag(s**2) @ u.T for u, s in zip(BASES, LOW.scales)])
    ),
    "empirical": _of_parts(torch.full((7,), 1 / 7, dtype=D), DATA, torch.zeros(7, 3, 3)),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("schedule", [VP(), Flow(), VE(0.05, 5.0), Cosine()], ids=["vp", "flow", "ve", "cosine"])
def test_posterior_mean_is_the_brute_force_one(name, schedule):
    """Tweedie: sigma^2 grad log p_t(x) = alpha D(x) - x, with the density by automatic differentiation."""
    known = KNOWN[name]
    x = torch.randn(5, *known.shape, dtype=D, generator=torch.Generator().manual_seed(2), requires_grad=True)
    for t in (0.2, 0.5, 0.9):
        time = torch.full((5,), t, dtype=D)
        alpha, sigma = float(schedule.alpha(time[:1])), float(schedule.sigma(time[:1]))
        (score,) = torch.autograd.grad(known.log_prob(x, alpha, sigma).sum(), x)
        prediction = known.denoiser(schedule)(x.detach(), time)
        assert torch.allclose(prediction.score, score, rtol=1e-9, atol=1e-9 / sigma)


def test_mixture_density_and_mean_by_quadrature():
    """The density itself, and the posterior mean, by summing the definition over a fine line."""
    mix = GaussianMixture(
        torch.tensor([-1.0, 0.4, 1.2])[:, None], torch.tensor([0.35, 0.5, 0.4]), torch.tensor([0.3, 0.4, 0.3])
    )
    line = torch.linspace(-12, 12, 40001, dtype=D)[:, None]
    step = float(line[1, 0] - line[0, 0])
    prior = mix.log_prob(line).exp()
    assert float(prior.sum()) * step == pytest.approx(1, abs=1e-10)
    for alpha, sigma, x in ((0.8, 0.6, 0.7), (0.1, 0.99, -1.0), (0.999, 0.05, 1.0)):
        weight = prior * torch.exp(-((x - alpha * line[:, 0]) ** 2) / (2 * sigma**2))
        mean = float((weight * line[:, 0]).sum() / weight.sum())
        a, s = (torch.tensor([[v]], dtype=D) for v in (alpha, sigma))
        assert float(mix.posterior_mean(torch.tensor([[x]], dtype=D), a, s, None)) == pytest.approx(mean, abs=1e-9)


def test_gaussian_posterior_by_the_textbook_formula():
    known = KNOWN["gaussian"]
    t = torch.tensor([0.4], dtype=D)
    alpha, sigma = float(VP().alpha(t)), float(VP().sigma(t))
    x = torch.tensor([[0.7, -1.1]], dtype=D)
    gain = alpha * A @ torch.linalg.inv(alpha**2 * A + sigma**2 * torch.eye(2, dtype=D))
    expected = known.mean + gain @ (x[0] - alpha * known.mean)
    assert torch.allclose(known.denoiser(VP())(x, t).x0[0], expected, atol=1e-13)


@pytest.mark.parametrize("name", KNOWN)
def test_samples_have_the_moments_of_the_distribution(name):
    known = KNOWN[name]
    x = known.sample(Noise(range(4000))).reshape(4000, -1)
    a, s = torch.full((1, 1), 1e-6, dtype=D), torch.ones(1, 1, dtype=D)
    mean = known.posterior_mean(torch.zeros(1, known.size, dtype=D), a, s, None)[0]  # no information: the mean
    spread = x.std(0) / 4000**0.5
    assert bool(((x.mean(0) - mean).abs() <= 5 * spread + 1e-9).all())
    centred = x - x.mean(0)
    product = centred[:, :, None] * centred[:, None, :]
    error = product.std(0) / 4000**0.5
    assert bool(((product.mean(0) - COVARIANCE[name]).abs() <= 5 * error + 1e-3).all())


@pytest.mark.parametrize("name", KNOWN)
def test_no_noise_returns_the_data_and_ends_are_finite(name):
    known = KNOWN[name]
    x = known.sample(Noise([0, 1]))
    for schedule in (VP(), Flow(), Cosine()):
        clean = known.denoiser(schedule)(x, torch.zeros(2, dtype=D)).x0
        assert torch.equal(clean, x)
        noisy = known.denoiser(schedule)(x, torch.ones(2, dtype=D)).x0
        assert bool(torch.isfinite(noisy).all())


@pytest.mark.parametrize("name", KNOWN)
def test_denoiser_works_where_x_t_is_and_reads_nothing_back(name):
    """On another device than the distribution's; the meta device refuses both a mix of devices and a read-back."""
    known = KNOWN[name]
    c = Condition({"label": torch.zeros(2, dtype=torch.long)}).to("meta")
    x, t = torch.zeros(2, *known.shape, device="meta"), torch.full((2,), 0.5, device="meta")
    x0 = known.denoiser(VP())(x, t, c).x0
    assert x0.device.type == "meta" and x0.shape == x.shape


def test_labels_choose_a_component_and_the_null_label_means_all():
    d = MIXTURE.denoiser(VP())
    x, t = torch.zeros(4, 2, dtype=D), torch.full((4,), 0.5, dtype=D)
    null = {"label": torch.tensor([3])}
    out = d(x, t, Condition({"label": torch.tensor([0, 1, 2, 3])}, null)).x0
    for k in range(3):
        alone = GaussianMixture(MIXTURE.means[k : k + 1], MIXTURE.stds[k : k + 1]).denoiser(VP())
        assert torch.allclose(out[k], alone(x[:1], t[:1]).x0[0], atol=1e-14)
    assert torch.equal(out[3], d(x, t).x0[3])
    with pytest.raises(ValueError, match="components"):
        d(x, t, Condition({"label": torch.tensor([0, 1, 2, 4])}))


@pytest.mark.parametrize("name", KNOWN)
def test_row_of_a_batch_is_the_row_alone_bit_for_bit(name):
    known = KNOWN[name]
    x = torch.randn(64, *known.shape, generator=torch.Generator().manual_seed(3))
    t = torch.linspace(0.01, 1, 64)
    d = known.denoiser(VP())
    together = d(x, t).x0
    for i in (0, 17, 63):
        assert torch.equal(d(x[i : i + 1], t[i : i + 1]).x0[0], together[i])
    assert together.dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(torch.zeros(2)), "exactly one"),
        (lambda: Gaussian(torch.zeros(2), cov=torch.tensor([[1.0, 2.0], [0.0, 1.0]])), "asymmetric"),
        (lambda: Gaussian(torch.zeros(2), cov=-torch.eye(2)), "eigenvalue"),
        (lambda: Gaussian(torch.zeros(2), std=-1.0), "negative std"),
        (lambda: GaussianMixture(torch.zeros(2, 1), torch.tensor([0.1, -1.0])), "numbers >= 0"),
        (lambda: GaussianMixture(torch.zeros(2, 1), torch.ones(2), torch.tensor([1.0, 0.0])), "positive"),
        (lambda: LowRankMixture(torch.ones(1, 3, 2)), "orthonormal"),
        (lambda: Empirical(DATA).log_prob(DATA), "sigma > 0"),
        (lambda: MIXTURE.denoiser(VP())(torch.zeros(2, 5), torch.ones(2)), "samples of shape"),
    ],
)
def test_wrong_distributions_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
