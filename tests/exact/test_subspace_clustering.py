"""Mixtures of low-rank Gaussians: the closed forms, the equivalences and the limits of arXiv 2409.02426."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VE, VP, Condition, Cosine, LowRankMixture, Noise
from mezzotint.guide import CFG
from mezzotint.interpret import (
    PCA,
    Jacobian,
    KSubspaces,
    LowRankDenoiser,
    SubspaceIteration,
    TrainedSubspaces,
    balanced,
    captured,
    jacobian_rank,
    low_rank_loss,
    neighbour_dimension,
    phase_transition,
    semantic_directions,
    subspace_error,
)
from mezzotint.sample import DDIM, DPMSolverPP

D = torch.float64
VPC = Cosine(0.0)  # alpha = cos(pi t / 2), sigma = sin(pi t / 2)
MIX = LowRankMixture.orthogonal(48, 7, 2, seed=0)
SMALL = LowRankMixture.orthogonal(6, 2, 2, seed=1)
GENERAL = LowRankMixture(
    torch.linalg.qr(torch.randn(3, 8, 3, dtype=D, generator=torch.Generator().manual_seed(0)))[0],
    torch.tensor([0.2, 0.5, 0.3]),
    torch.tensor([[1.0, 0.5, 0.0], [2.0, 0.3, 0.7], [1.5, 0.0, 0.0]]),
    means=torch.randn(3, 8, dtype=D, generator=torch.Generator().manual_seed(1)),
)


def at(value: float, rows: int = 1) -> torch.Tensor:
    return torch.full((rows, 1), value, dtype=D)


def by_the_sheet(mix: LowRankMixture, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """D and J of the basic case as the paper writes them, of one x (n,)."""
    c, phi = alpha / (alpha**2 + sigma**2), alpha**2 / (2 * sigma**2 * (alpha**2 + sigma**2))
    p = mix.bases @ mix.bases.transpose(1, 2)
    w = (phi * torch.einsum("knm,m,n->k", p, x, x)).softmax(0)
    px = p @ x
    mean = w @ px
    inner = torch.einsum("k,kn,km->nm", w, px, px) - mean[:, None] * mean
    return torch.stack([*(c * (torch.einsum("k,knm->nm", w, p) + 2 * phi * inner)), c * mean])


@pytest.mark.parametrize("mix", [SMALL, GENERAL], ids=["basic", "general"])
def test_denoiser_is_the_posterior_mean_by_monte_carlo(mix):
    """Check 1: importance sampling over a million draws, within 3.5 standard errors in every element."""
    generator = torch.Generator().manual_seed(2)
    k = torch.multinomial(mix.weights, 10**6, True, generator=generator)
    a = torch.randn(10**6, mix.bases.shape[2], dtype=D, generator=generator) * mix.scales[k]
    x0 = torch.empty(10**6, mix.size, dtype=D)
    for i in range(len(mix.weights)):
        x0[k == i] = mix.means[i] + a[k == i] @ mix.bases[i].T
    alpha, sigma = 0.6, 0.8
    x = alpha * x0[0] + sigma * torch.randn(mix.size, dtype=D, generator=generator)
    w = (-(x - alpha * x0).square().sum(1) / (2 * sigma**2)).softmax(0)
    mean = w @ x0
    error = (w.square() @ (x0 - mean).square()).sqrt()
    got = mix.posterior_mean(x[None], at(alpha), at(sigma), None)[0]
    assert bool(((got - mean).abs() < 3.5 * error + 1e-12).all())
    assert float((error / got.abs().max()).max()) < 0.02  # sharp enough to tell


def test_one_dimension_by_quadrature():
    """Check 1: two lines crossing in the plane; every posterior mean by two integrals over a line, 1e-8."""
    angle = torch.tensor([0.3, 1.5], dtype=D)
    mix = LowRankMixture(torch.stack([angle.cos(), angle.sin()], 1)[:, :, None], torch.tensor([0.3, 0.7]))
    a = torch.linspace(-12, 12, 20001, dtype=D)
    points = torch.einsum("knd,a->kan", mix.bases, a)
    prior = mix.weights[:, None] * torch.exp(-(a**2) / 2)
    for alpha, sigma, x in ((0.8, 0.6, [0.7, 1.1]), (0.3, 0.95, [-1.0, 0.2]), (0.99, 0.14, [0.4, 0.5])):
        here = torch.tensor(x, dtype=D)
        w = prior * torch.exp(-(here - alpha * points).square().sum(-1) / (2 * sigma**2))
        mean = torch.einsum("ka,kan->n", w, points) / w.sum()
        assert torch.allclose(mix.posterior_mean(here[None], at(alpha), at(sigma), None)[0], mean, atol=1e-8)


def test_basic_case_is_the_formula_of_the_paper():
    x = torch.randn(48, dtype=D, generator=torch.Generator().manual_seed(3))
    for alpha, sigma in ((0.9, 0.4), (0.5, 0.9), (1.0, 5.0)):
        both = by_the_sheet(MIX, x, alpha, sigma)
        assert torch.allclose(MIX.posterior_mean(x[None], at(alpha), at(sigma), None)[0], both[-1], atol=1e-13)
        cov = MIX.posterior_cov(x[None], at(alpha), at(sigma))[0]
        assert torch.allclose(alpha / sigma**2 * cov, both[:-1], atol=1e-12)


def test_unequal_dimensions_need_the_factor_of_their_volume():
    """w_k has (sigma^2 / (alpha^2 + sigma^2))^(d_k / 2)."""
    mix = LowRankMixture.orthogonal(8, [1, 4])
    assert mix.dims == (1, 4)
    x, alpha, sigma = torch.randn(8, dtype=D, generator=torch.Generator().manual_seed(4)), 0.7, 0.6
    phi, d = alpha**2 / (2 * sigma**2 * (alpha**2 + sigma**2)), torch.tensor([1.0, 4.0], dtype=D)
    own = [mix.bases[0, :, :1], mix.bases[1]]
    logs = torch.stack([phi * (u.T @ x).square().sum() for u in own])
    expected = (logs + 0.5 * d * math.log(sigma**2 / (alpha**2 + sigma**2))).softmax(0)
    got = mix.responsibilities(x[None], at(alpha), at(sigma))[0]
    assert torch.allclose(got, expected, atol=1e-13)
    assert not torch.allclose(got, logs.softmax(0), atol=0.05)


@pytest.mark.parametrize("mix", [MIX, GENERAL], ids=["basic", "general"])
def test_jacobian_is_the_covariance_and_finite_differences_agree(mix):
    """Check 2: 1e-9 against central differences, symmetric to 1e-12, semi-definite; products are the matrix."""
    d, n, t = mix.denoiser(VPC), mix.size, 0.4
    time = torch.tensor([t], dtype=D)
    alpha, sigma = float(VPC.alpha(time)), float(VPC.sigma(time))
    x = alpha * mix.sample(Noise([3])) + sigma * Noise([3])("eps", 0, (n,), dtype=D)
    closed = alpha / sigma**2 * mix.posterior_cov(x, at(alpha), at(sigma))[0]
    step = 1e-4 * torch.eye(n, dtype=D)
    plus, minus = (d(x + side * step, time.expand(n)).x0 for side in (1, -1))
    assert float(((plus - minus).T / 2e-4 - closed).abs().max()) < 5e-8 * float(closed.abs().max())
    small = 1e-5 * torch.eye(n, dtype=D)
    at_ = [d(x + q * small, time.expand(n)).x0 for q in (2, 1, -1, -2)]
    fourth = (-at_[0] + 8 * at_[1] - 8 * at_[2] + at_[3]).T / 12e-5
    assert float((fourth - closed).abs().max()) < 1e-9
    assert float((closed - closed.T).abs().max()) < 1e-12
    assert float(torch.linalg.eigvalsh(closed).min()) > -1e-12
    j = Jacobian(d, x, t)
    assert torch.allclose(j.dense()[0], closed, atol=1e-12)
    w = Noise([5])("w", 0, (3, n), dtype=D)
    assert torch.allclose(j.transposed(w), w @ closed, atol=1e-11) and j.products == n + 3


def test_loss_of_one_subspace_is_affine_in_what_it_captures():
    """Check 3, exactly: averaged over +-noise along every axis, the loss of c U U^T is const - kappa |U^T X|^2."""
    n, count = 12, 20
    x = Noise([0])("x", 0, (count, n), dtype=D)[0]
    bases = torch.linalg.qr(Noise([1])("u", 0, (6, 1, n, 3), dtype=D)[0])[0]
    t = torch.linspace(0.1, 0.9, count, dtype=D)
    # noise of every axis and either sign has the mean and, times sqrt(n), the covariance of N(0, I)
    axes = math.sqrt(n) * torch.cat([torch.eye(n, dtype=D), -torch.eye(n, dtype=D)])
    losses = torch.stack([low_rank_loss(bases, x, e.expand(count, n), t, VPC, weight="one") for e in axes]).mean(0)
    alpha, sigma = VPC.alpha(t), VPC.sigma(t)
    c = alpha / (alpha**2 + sigma**2)
    kappa = 2 * c * alpha - c**2 * alpha**2
    assert bool((kappa > 0).all())
    inside = torch.einsum("rnd,Nn->rNd", bases[:, 0], x).square().sum(-1)
    const = x.square().sum(1).mean() + 3 * (c**2 * sigma**2).mean()
    assert torch.allclose(losses, const - (inside * kappa).mean(1), atol=1e-12)


def test_hard_weights_of_clean_data_make_the_loss_that_of_k_subspaces():
    """Theorem 3: const - kappa max_k |U_k^T x|^2 for the modified loss, with several subspaces."""
    n, count = 12, 20
    x = Noise([0])("x", 0, (count, n), dtype=D)[0]
    bases = torch.linalg.qr(Noise([2])("u", 0, (5, 3, n, 2), dtype=D)[0])[0]
    t = torch.full((count,), 0.4, dtype=D)
    axes = math.sqrt(n) * torch.cat([torch.eye(n, dtype=D), -torch.eye(n, dtype=D)])
    losses = [low_rank_loss(bases, x, e.expand(count, n), t, VPC, "hard", "one") for e in axes]
    alpha, sigma = float(VPC.alpha(t[:1])), float(VPC.sigma(t[:1]))
    c = alpha / (alpha**2 + sigma**2)
    kept = torch.tensor([captured(u, x) for u in bases], dtype=D) / count
    const = float(x.square().sum(1).mean()) + 2 * c**2 * sigma**2
    expected = const - (2 * c * alpha - c**2 * alpha**2) * kept
    assert torch.allclose(torch.stack(losses).mean(0), expected, atol=1e-12)


def test_rank_curve():
    """Check 4: 7 up to sigma / alpha = 0.2, 9.0 at 1, 13.8 at 2, 14 from 3 on; the larger weight falls to one half.

    The sheet's numbers are means of 40 draws; these of 200 must lie within three standard errors of the difference.
    """
    expected = {0.02: 7.0, 0.5: 7.0, 1.0: 9.0, 2.0: 13.8, 3.0: 14.0, 10.0: 14.0}
    ve, largest, count = VE(0.002, 80.0), [], 200
    noise = Noise(range(count))
    x0, eps = MIX.sample(noise), noise("eps", 0, (48,), dtype=D)
    for level, rank in expected.items():
        x, alpha, sigma = x0 + level * eps, at(1.0, count), at(level, count)
        values = torch.linalg.svdvals(level**-2 * MIX.posterior_cov(x, alpha, sigma))
        share = values.square().cumsum(1) / values.square().sum(1, keepdim=True)
        ranks = ((share < 0.99**2).sum(1) + 1).double()
        error = float(ranks.std()) * math.sqrt(1 / 40 + 1 / count)
        assert float(ranks.mean()) == pytest.approx(rank, abs=3 * error + 0.05), level
        part = Jacobian(MIX.denoiser(ve), x[:2], float(ve.t_of(torch.tensor(-math.log(level), dtype=D))))
        assert torch.allclose(torch.linalg.svdvals(part.dense()), values[:2], atol=1e-9)
        assert jacobian_rank(part).tolist() == ranks[:2].tolist()
        largest.append(float(MIX.responsibilities(x, alpha, sigma).amax(1).mean()))
    assert largest == sorted(largest, reverse=True)
    assert largest == pytest.approx([1.0, 0.99, 0.84, 0.59, 0.55, 0.5], abs=0.04)


def test_pca_recovers_a_subspace_from_as_many_samples_as_dimensions():
    """Check 5: medians of 20; below d samples sqrt(2 (d - N)) is missing."""
    found = phase_transition(PCA(), (3, 6), (0.5, 1, 2, 8), trials=20)
    missing = [1, 3]
    for d, row in enumerate(found.median.tolist()):
        assert row[0] == pytest.approx(math.sqrt(2 * missing[d]), rel=0.06)
        assert 0.1 < row[1] < 0.6 and row[2] < 0.2 and row[3] < 0.06
        assert row == sorted(row, reverse=True)
    assert found.threshold(0.6) == (1.0, 1.0)


def test_k_subspaces_need_more():
    """Check 6: at N_k = d the objective is degenerate; at 4 d both dimensions are found, and from the truth at 2 d."""
    found = phase_transition(KSubspaces(), (3, 6), (1, 2, 4), components=2, trials=9)
    error = found.median
    assert float(error[0, 0]) > 1 and float(error[1, 0]) > 1.5  # degenerate: wrong, and not by noise
    assert float(error[0, 1]) < 0.2 < 1 < float(error[1, 1])
    assert float(error[:, 2].max()) < 0.15
    near: dict[int, list[float]] = {1: [], 2: []}
    for seed in range(9):
        mix = LowRankMixture.orthogonal(48, 6, 2, seed=seed)
        for ratio, errors in near.items():
            x = balanced(mix, 6 * ratio, seed, jitter=0.01)
            errors.append(subspace_error(KSubspaces(start=mix.bases)(x, 2, 6, Noise([0])), mix.bases))
            if ratio == 1:  # wrong from elsewhere, though its objective is as good up to the jitter's own power
                free = KSubspaces()(x, 2, 6, Noise([seed]))
                assert captured(free, x) > captured(mix.bases, x) - 12 * 48 * 0.01**2
    assert sorted(near[1])[4] < 0.7 and sorted(near[2])[4] < 0.13


def test_trained_denoiser_finds_the_principal_components():
    """Check 3: gradient descent on the loss ends where PCA does."""
    mix = LowRankMixture.orthogonal(12, 2, 1, seed=0)
    x = balanced(mix, 16, 0, jitter=0.05)
    found = TrainedSubspaces(steps=800, restarts=1, lr=0.05, last_lr=1e-3, judged=1)(x, 1, 2, Noise([0]))
    pca = PCA()(x, 1, 2, Noise([0]))
    assert subspace_error(found, pca) < 0.05 < 0.25 * subspace_error(PCA()(x[:1], 1, 2, Noise([0])), mix.bases)


def test_learned_denoiser_with_the_true_bases_is_the_exact_one():
    for schedule in (VP(), VPC, VE(0.01, 20.0)):
        t = torch.tensor([0.05, 0.4, 0.8, 1.0], dtype=D)
        x = 2 * Noise(range(4))("x", 0, (48,), dtype=D)
        learned = LowRankDenoiser(MIX.bases, schedule)
        assert torch.allclose(learned(x, t).x0, MIX.denoiser(schedule)(x, t).x0, atol=1e-11)


def test_limits():
    """Check 7: no noise, only noise, one component."""
    d, x = MIX.denoiser(VPC), 2 * Noise([0])("x", 0, (48,), dtype=D)
    p = MIX.bases @ MIX.bases.transpose(1, 2)
    nearest = p[(p @ x[0]).norm(dim=1).argmax()] @ x[0]
    assert torch.allclose(d(x, torch.tensor([1e-4], dtype=D)).x0[0], nearest, atol=1e-5)
    learned = LowRankDenoiser(MIX.bases, VPC)
    assert torch.allclose(learned(x, torch.zeros(1, dtype=D)).x0[0], nearest, atol=1e-12)
    far = VE(0.01, 1e5)
    got, c = far_mean(far, x), 1 / (1 + float(far.sigma(torch.ones(1, dtype=D))) ** 2)
    assert torch.allclose(got, c * 0.5 * p.sum(0) @ x[0], rtol=1e-6)
    one = LowRankMixture.orthogonal(48, 7, 1)
    alpha, sigma = float(VPC.alpha(torch.tensor(0.3).double())), float(VPC.sigma(torch.tensor(0.3).double()))
    constant = alpha / (alpha**2 + sigma**2) * one.bases[0] @ one.bases[0].T
    for seed in (0, 1):
        j = Jacobian(one.denoiser(VPC), Noise([seed])("x", 0, (48,), dtype=D), 0.3).dense()[0]
        assert torch.allclose(j, constant, atol=1e-13)


def far_mean(schedule, x):
    return MIX.denoiser(schedule)(x, torch.ones(1, dtype=D)).x0[0]


@pytest.fixture
def net(alive):
    """A network of 48 inputs whose Jacobian is not symmetric, and has directions that stand out."""
    made = alive(
        torch.nn.Sequential(torch.nn.Linear(48, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(),
                            torch.nn.Linear(64, 48))
    )  # fmt: skip
    with torch.no_grad():
        made[0].weight[:, 3:] *= 0.3
    return made


def test_subspace_iteration_is_the_svd(net):
    """Check 8: principal angles below 1e-3 where s_r / s_(r+1) > 1.2; signs, values and outputs too."""
    from mezzotint.core import X0Denoiser

    d = X0Denoiser(lambda x, t, c: net(x), VP())
    x, rank = Noise(range(6))("x", 0, (48,), dtype=D), 3
    j = Jacobian(d, x, 0.5)
    got = SubspaceIteration()(j, rank)
    _, s, vh = torch.linalg.svd(j.dense())
    sharp = s[:, rank - 1] / s[:, rank] > 1.2
    assert int(sharp.sum()) >= 2
    for i in sharp.nonzero().flatten().tolist():
        cosine = torch.linalg.svdvals(vh[i, :rank] @ got.vectors[i].T)
        assert float((1 - cosine.square()).clamp(min=0).sqrt().max()) < 1e-3
        assert torch.allclose(got.values[i], s[i, :rank], rtol=1e-6)
        assert float(got.gap[i]) == pytest.approx(float(s[i, rank - 1] / s[i, rank]), rel=0.02)
    for i in range(6):
        assert torch.allclose(got.vectors[i] @ got.vectors[i].T, torch.eye(rank, dtype=D), atol=1e-12)
        assert torch.allclose(j.times(got.vectors)[i], got.values[i, :, None] * got.outputs[i], atol=1e-9)
        assert bool((got.vectors[i].gather(1, got.vectors[i].abs().argmax(1, keepdim=True)) > 0).all())
    assert got.converged.any() and got.products == 5 * (2 * got.iterations - 1)


def test_moving_inside_the_subspace_is_linear_and_outside_is_nothing():
    """Check 9."""
    d, t = MIX.denoiser(VPC), torch.full((1,), 0.2, dtype=D)
    x = float(VPC.alpha(t)) * balanced(MIX, 1, 0)[:1] + float(VPC.sigma(t)) * Noise([0])("eps", 0, (48,), dtype=D)
    found = semantic_directions(d, x, 0.2, rank=3)
    v, before = found.vectors[:, 0], d(x, t).x0
    inside = MIX.bases[0] @ MIX.bases[0].T
    assert torch.allclose(v[0] @ inside, v[0], atol=1e-3)
    for a in (0.01, 0.1):
        moved = d(x + a * v, t).x0 - before
        off = (moved - a * found.values[:, :1] * found.outputs[:, 0]).norm() / moved.norm()
        assert float(off) < 1e-2
    q = torch.linalg.qr(torch.cat([*MIX.bases, torch.randn(48, 34, dtype=D)], 1))[0][:, -1]
    assert float((d(x + 3 * q, t).x0 - before).abs().max()) < 1e-12


def test_labels_are_components_and_guidance_is_exact():
    null = {"label": torch.tensor([2])}
    d, x, t = MIX.denoiser(VPC), Noise(range(3))("x", 0, (48,), dtype=D), torch.full((3,), 0.6, dtype=D)
    c = float((VPC.alpha(t) / (VPC.alpha(t) ** 2 + VPC.sigma(t) ** 2))[0])
    told = Condition({"label": torch.tensor([0, 1, 2])}, null)
    alone = [c * x[k] @ MIX.bases[k] @ MIX.bases[k].T for k in (0, 1)]
    got = d(x, t, told).x0
    assert torch.allclose(got[0], alone[0], atol=1e-13) and torch.allclose(got[1], alone[1], atol=1e-13)
    free = d(x, t).x0
    assert torch.equal(got[2], free[2])
    guided = CFG(3.0)(d)(x, t, told).x0
    assert torch.allclose(guided[0], free[0] + 3 * (alone[0] - free[0]), atol=1e-12)


def test_flow_of_one_component_is_known():
    """Section 3.4b: the inside scales with sqrt(alpha^2 + sigma^2), the rest with sigma."""
    one, schedule = LowRankMixture.orthogonal(10, 3, 1), VE(0.01, 5.0)
    x = 3 * Noise(range(2))("x", 0, (10,), dtype=D)
    s, t = (float(schedule.sigma(torch.tensor(q).double())) for q in (0.9, 0.3))
    inside = x @ one.bases[0] @ one.bases[0].T
    expected = inside * math.sqrt((1 + t**2) / (1 + s**2)) + (x - inside) * t / s
    grid = torch.linspace(0.9, 0.3, 400, dtype=D)
    got = DPMSolverPP(order=2)(one.denoiser(schedule), x, grid=grid)
    assert torch.allclose(got, expected, atol=1e-3)
    coarse = DDIM()(one.denoiser(schedule), x, grid=grid[::57])
    assert float((coarse - expected).abs().max()) > 10 * float((got - expected).abs().max())


def test_dimensions_of_the_data():
    """Truth: d of a class, K d of the union's span."""
    x = balanced(LowRankMixture.orthogonal(48, 3, 2), 400, 0)
    assert neighbour_dimension(x) == pytest.approx(3, abs=0.4)
    assert int((torch.linalg.svdvals(x) > 1e-9).sum()) == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowRankMixture.orthogonal(48, 20, 3), "3 orthogonal subspaces .* 60 dimensions but n=48"),
        (lambda: LowRankMixture.orthogonal(8, 0, 2), "each >= 1"),
        (lambda: LowRankMixture(SMALL.bases, means=torch.zeros(2, 5)), "means of shape"),
        (lambda: LowRankMixture(SMALL.bases, scales=-torch.ones(2, 2)), "none below 0"),
        (lambda: LowRankMixture(SMALL.bases, torch.tensor([1.0, 0.0])), "positive"),
        (lambda: PCA()(torch.ones(4, 3), 2, 1, Noise([0])), "KSubspaces"),
        (lambda: KSubspaces()(torch.ones(4, 3), 2, 4, Noise([0])), "d=4 dimensions in n=3"),
        (lambda: KSubspaces(restarts=0), "restarts=0"),
        (lambda: subspace_error(SMALL.bases, SMALL.bases[:, :, :1]), "expected two"),
        (lambda: TrainedSubspaces(ends=(0.0, 0.9)), "0 < low"),
        (lambda: LowRankDenoiser(torch.ones(1, 2, 3), VP()), "d <= n"),
        (lambda: phase_transition(PCA(), ratios=(2, 1)), "rising"),
        (lambda: phase_transition(PCA(), trials=0), "trials=0"),
    ],
)
def test_bad_input_is_named(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()
