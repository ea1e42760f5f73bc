"""EPG (arXiv 2510.12586) against known answers: levels, pairs, contrast, boundaries, sampling in an interval."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mezzotint.core import BoundaryDenoiser, Condition, DirectDenoiser, Gaussian, Noise, Prediction, Shifted
from mezzotint.core.denoiser import Denoiser
from mezzotint.core.exact import probability_flow
from mezzotint.data import VIEWS, Mirror
from mezzotint.guide import CFG, LevelInterval
from mezzotint.nn import EncoderDecoderViT, ProjectedEncoder, Projector, ViTEncoder
from mezzotint.objective import (
    ECT,
    Batch,
    CeilDoubling,
    ConstantTau,
    CosineTau,
    Denoise,
    ECTPairs,
    KarrasSpacing,
    NormalisedSquare,
    PseudoHuber,
    Representation,
    ResolutionLevels,
    SameImage,
    SnappedLogNormal,
    Twins,
    nce,
    represent,
)
from mezzotint.sample import Consistency, Heun

F64 = torch.float64


def _encoder(**more) -> ViTEncoder:
    return ViTEncoder(3, **{"size": 8, "patch": 4, "width": 16, "depth": 2, "heads": 2, **more})


def _net(**more) -> EncoderDecoderViT:
    return EncoderDecoderViT(3, **{"size": 8, "patch": 4, "width": 16, "depth": 2, "heads": 2, **more})


class TestLevels:
    """Check 1."""

    def test_the_number_of_levels(self) -> None:
        count = CeilDoubling(600_000)
        told = [count(k) for k in (0, 1, 99_629, 99_630, 2 * 99_629, 2 * 99_629 + 1, 3 * 99_629 + 1, 599_999)]
        assert told == [21, 41, 41, 81, 81, 161, 321, 1281]

    @pytest.mark.parametrize("height, shift", [(64, 1.0), (256, 4.0), (16, 0.25)])
    def test_ends_scale_with_the_height(self, height: int, shift: float) -> None:
        levels = ResolutionLevels(height)
        for count in (21, 1281):
            found = levels.shifted(count)
            assert found[0].item() == pytest.approx(80 * shift, rel=1e-12)
            assert found[-1].item() == pytest.approx(0.002 * shift, rel=1e-12)
            assert torch.allclose(found, shift * levels.levels(count), rtol=1e-12, atol=0)
        index = 17  # against the formula, in Python
        s = (80 ** (1 / 7) + index / 20 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        assert levels.shifted(21)[index].item() == pytest.approx(s * shift, rel=1e-9)

    def test_the_schedule_and_the_grid_have_these_levels(self) -> None:
        levels = ResolutionLevels(256)
        t = levels.grid(levels.schedule, 31)
        assert len(t) == 32 and t[0] == 1
        assert torch.allclose(levels.schedule.sigma(t), levels.shifted(32), rtol=1e-6, atol=0)

    def test_the_index_is_one_for_a_batch_and_a_function_of_the_step(self) -> None:
        objective = Representation(ResolutionLevels(64), CeilDoubling(1000), VIEWS)
        steps = [objective.at(k) for k in range(400)]
        assert steps == [objective.at(k) for k in range(400)]
        for k, step in enumerate(steps[:40]):
            levels = ResolutionLevels(64).levels(CeilDoubling(1000)(k)).tolist()
            place = levels.index(step.high)
            assert step.low == levels[place + 1] and step.least == 0.002
        seen = {step.high for step in steps[1:165]}  # 41 levels: each of the 40 pairs is drawn
        assert len(seen) == 40

    def test_temperatures(self) -> None:
        tau = CosineTau(900, start=0.4, end=0.1)
        assert tau(0, 1.0) == pytest.approx(0.4) and tau(300, 1.0) == pytest.approx(0.25)
        assert all(tau(k, 0.0) == pytest.approx(0.1) for k in (0, 300, 900))
        assert all(tau(k, 1.0) == pytest.approx(0.1) for k in (600, 900, 5000))
        assert tau(300, 0.5) == pytest.approx(0.5 * (0.1 + tau(300, 1.0)))
        high = Representation(ResolutionLevels(256), CeilDoubling(900), VIEWS, tau=tau)
        for k in range(0, 300, 10):
            step = high.at(k)  # linear in the level before the shift
            assert step.tau == pytest.approx(tau(k, (step.high / 4 - 0.002) / (80 - 0.002)))


class TestPairs:
    """Check 2: two levels of one image and one noise lie near the probability flow, but not on it."""

    def test_the_difference_is_the_noise(self) -> None:
        # in short binary fractions, in which nothing is rounded
        x, eps = ((1024 * Noise(range(4))(name, 0, (3, 8, 8), dtype=F64)).round() / 1024 for name in ("x", "eps"))
        for high, low in ((0.75, 0.5), (80.0, 65.125), (0.5, 2**-9)):
            assert torch.equal((x + high * eps) - (x + low * eps), (high - low) * eps)

    def test_one_point_is_the_exact_flow(self) -> None:
        levels = ResolutionLevels(64)
        x, eps = torch.full((5, 3), 0.3, dtype=F64), Noise(range(5))("eps", 0, (3,), dtype=F64)
        t = levels.schedule.t_of(-torch.tensor([7.0, 5.0], dtype=F64).log()).tolist()
        there = probability_flow(Gaussian(x[0], std=0.0), levels.schedule, x + 7.0 * eps, *t)
        assert (there - (x + 5.0 * eps)).abs().max() < 1e-9

    def test_a_gaussian_is_missed_by_its_conditional_spread(self) -> None:
        s, sigma, low = 0.5, 1.0, 0.99
        x, eps = s * Noise([0])("x", 0, (200_000,), dtype=F64)[0], Noise([0])("eps", 0, (200_000,), dtype=F64)[0]
        noisy = x + sigma * eps
        truth = noisy * math.sqrt((s**2 + low**2) / (s**2 + sigma**2))
        miss = (x + low * eps) - truth
        rms = (sigma - low) * s / math.sqrt(s**2 + sigma**2)
        assert rms == pytest.approx(4.472e-3, rel=1e-3)
        assert miss.square().mean().sqrt().item() == pytest.approx(rms, rel=0.02)
        # given x_sigma the pair is on average Euler's step: x_sigma + (low - sigma) E[eps | x_sigma]
        slope = (noisy * (x + low * eps)).mean() / noisy.square().mean()
        assert slope.item() == pytest.approx(1 + (low - sigma) * sigma / (s**2 + sigma**2), rel=1e-4)


class TestContrast:
    """Check 3."""

    @pytest.mark.parametrize("b", [1, 2, 7, 64])
    def test_equal_embeddings_give_the_logarithm_of_the_batch(self, b: int) -> None:
        same = torch.full((b, 5), 0.7, dtype=F64)
        assert nce(same, same, 0.1).item() == pytest.approx(math.log(b), abs=1e-12)

    @pytest.mark.parametrize("tau", [0.05, 0.2, 1.0])
    def test_orthogonal_negatives(self, tau: float) -> None:
        same = 3 * torch.eye(6, dtype=F64)
        assert nce(same, same, tau).item() == pytest.approx(math.log(1 + 5 * math.exp(-1 / tau)), abs=1e-12)

    def test_lengths_do_not_matter(self, draw) -> None:
        q, k = draw(9, 4), draw(9, 4)
        scales = draw(9, 1).exp(), draw(9, 1).exp()
        assert nce(q * scales[0], k * scales[1], 0.1).item() == pytest.approx(nce(q, k, 0.1).item(), rel=1e-6)

    def test_it_is_the_cross_entropy_of_cosines(self, draw) -> None:
        q, k = draw(5, 3), draw(5, 3)
        cosines = F.cosine_similarity(q[:, None], k[None], dim=-1) / 0.3
        assert nce(q, k, 0.3).item() == pytest.approx(F.cross_entropy(cosines, torch.arange(5)).item(), rel=1e-12)

    def test_half_precision_does_not_overflow(self) -> None:
        q = torch.eye(4, dtype=torch.float16)
        assert nce(q, q, 1e-5).item() == 0.0  # a logit of 100,000 has no float16

    def test_no_gradient_through_keys(self, draw) -> None:
        q, k = draw(4, 3).requires_grad_(), draw(4, 3).requires_grad_()
        nce(q, k, 0.1).backward()
        assert k.grad is None and q.grad is not None and q.grad.abs().max() > 1e-3

    def test_no_gradient_through_the_target_and_the_low_branch(self, alive) -> None:
        online = alive(ProjectedEncoder(_encoder(), Projector(16, 8, 4)))
        target = alive(ProjectedEncoder(_encoder(), Projector(16, 8, 4)))
        x = Noise(range(4))("x", 0, (3, 8, 8), dtype=F64)
        step = Representation(ResolutionLevels(8), CeilDoubling(100), (Mirror(0.0),) * 3).at(1)
        seen: list[torch.Tensor] = []
        online.encoder.register_forward_hook(lambda *call: seen.append(call[2]))
        with pytest.warns(UserWarning, match="weak negatives"):
            step(Twins(online, target), Batch(x), Noise(range(4))).total.backward()
        assert all(p.grad is None for p in target.parameters())
        with_grad, without = seen  # the low branch is evaluated without a graph
        assert with_grad.requires_grad and len(with_grad) == 12
        assert not without.requires_grad and len(without) == 4

    def test_the_whole_loss_by_hand(self, alive) -> None:
        """Lc + Lr from their definitions, with every view the image itself."""
        online = alive(ProjectedEncoder(_encoder(), Projector(16, 8, 4))).eval()
        target = alive(ProjectedEncoder(_encoder(), Projector(16, 8, 4))).eval()
        with torch.no_grad():
            target.encoder.cls += 0.5  # another network than the online one
        x = Noise(range(5))("x", 0, (3, 8, 8), dtype=F64)
        noise = Noise(range(5))
        views = (lambda x, noise, name: x.flip(2), lambda x, noise, name: 0.5 * x, lambda x, noise, name: x.flip(3))
        objective = Representation(ResolutionLevels(8), CeilDoubling(100), views, tau=ConstantTau(0.3))
        step = objective.at(7)
        eps = noise("eps", 0, (3, 8, 8), dtype=F64)
        a, b = x.flip(2) + step.least * eps, 0.5 * x + step.least * eps
        wanted = nce(represent(online, a, step.least), represent(target, b, step.least), 0.2)
        wanted = wanted + nce(represent(online, b, step.least), represent(target, a, step.least), 0.2)
        u = represent(online.encoder, x.flip(3) + step.high * eps, step.high)
        v = represent(online.encoder, x.flip(3) + step.low * eps, step.low)
        wanted = wanted + nce(u, v, 0.3)
        with pytest.warns(UserWarning, match="weak negatives"):
            found = step(Twins(online, target), Batch(x), noise)
        assert found.total.item() == pytest.approx(wanted.item(), rel=1e-10)
        assert (found.terms["contrast"] + found.terms["consistency"]).item() == pytest.approx(wanted.item(), rel=1e-10)


class TestBoundary:
    """Check 4."""

    @pytest.mark.parametrize("height", [16, 256])
    def test_the_identity_at_the_shifted_minimum(self, height: int, alive, draw) -> None:
        levels = ResolutionLevels(height)
        f = BoundaryDenoiser(alive(_net()), levels.schedule, sigma_min=levels.minimum)
        x = draw(3, 3, 8, 8)
        t = levels.schedule.t_of(-torch.tensor(levels.minimum, dtype=F64).log()).expand(3)
        assert (f(x, t).x0 - x).abs().max() < 1e-7
        assert (f(x, torch.full_like(t, 0.5)).x0 - x).abs().max() > 1e-3
        if height > 64:  # with the unshifted minimum it is not the identity
            assert (BoundaryDenoiser(f.net, levels.schedule)(x, t).x0 - x).abs().max() > 1e-4

    def test_before_training(self, draw) -> None:
        levels, x = ResolutionLevels(32), draw(3, 3, 8, 8)
        t = torch.tensor([0.1, 0.5, 1.0], dtype=F64)
        assert not DirectDenoiser(_net().double(), levels.schedule)(x, t).x0.any()
        m, sigma = levels.minimum, levels.schedule.sigma(t).view(3, 1, 1, 1)
        found = BoundaryDenoiser(_net().double(), levels.schedule, sigma_min=m)(x, t).x0
        assert torch.allclose(found, 0.25 / ((sigma - m) ** 2 + 0.25) * x, rtol=1e-9, atol=0)

    def test_the_input_has_unit_variance_and_the_code_is_shifted(self, draw) -> None:
        levels, seen = ResolutionLevels(256), []
        d = DirectDenoiser(lambda x, time, c: seen.append((x, time)) or x, levels.schedule)
        sigma, x = torch.tensor([0.5, 20.0], dtype=F64), draw(2, 4)
        d(x, levels.schedule.t_of(-sigma.log()))
        assert torch.allclose(seen[0][0], x / (sigma**2 + 0.25).sqrt()[:, None], rtol=1e-9, atol=0)
        assert torch.allclose(seen[0][1], 250 * sigma.log(), rtol=1e-9, atol=1e-9)

    def test_residual_branches_start_at_zero(self, draw) -> None:
        block = _net().double().blocks[0]
        x, skip, emb = draw(2, 6, 16), draw(2, 6, 16), draw(2, 16)
        assert torch.equal(block(x, skip, emb), block.norm(block.join(torch.cat([x, skip], -1))))


class TestECT:
    """Check 5, and the loss."""

    def test_the_map(self) -> None:
        levels = ResolutionLevels(64)
        t = torch.tensor([80.0, 5.0, 1.0], dtype=F64)
        assert ECTPairs(levels).lower(t).tolist() == pytest.approx([40.0, 2.3661, 0.002], rel=2e-5)
        assert ECTPairs(levels, stage=7).lower(t)[0].item() == pytest.approx(79.375, rel=1e-12)
        gaps = [t - ECTPairs(levels, stage=k).lower(t) for k in range(1, 40)]
        assert all((b <= a).all() for a, b in zip(gaps, gaps[1:])) and gaps[-1].max() < 1e-8

    @pytest.mark.parametrize("height", [16, 64])
    def test_pairs_are_ordered_and_shifted(self, height: int) -> None:
        levels = ResolutionLevels(height)
        for stage in (1, 3, 8):
            pairs = ECTPairs(levels, stage=stage)(Noise(range(3000)), levels.shifted(2))
            assert (pairs.low >= levels.minimum).all() and (pairs.low < pairs.high).all()
            assert (pairs.high <= levels.maximum).all()
            log = (pairs.high / levels.shift).log()
            assert abs(log.mean() + 0.4) < 0.1 and abs(log.std() - 1.6) < 0.1

    def test_stages(self) -> None:
        objective = ECT(ResolutionLevels(64), every=10)
        assert [objective.at(k).index.stage for k in (0, 9, 10, 25)] == [1, 1, 2, 3]

    def test_its_gradient_is_twice_the_pseudo_hubers(self, draw) -> None:
        for size in (1e-3, 1.0, 1e3):
            error = (size * draw(4, 12)).requires_grad_()
            (ours,) = torch.autograd.grad(NormalisedSquare()(error, 0.06).sum(), error)
            (huber,) = torch.autograd.grad(PseudoHuber()(error, 0.06).sum(), error)
            assert torch.allclose(ours, 2 * huber, rtol=1e-12, atol=0)

    def test_the_loss_by_hand(self, alive) -> None:
        levels = ResolutionLevels(8)
        f = BoundaryDenoiser(alive(_net(dropout=0.5)), levels.schedule, sigma_min=levels.minimum).train()
        x, noise = Noise(range(6))("x", 0, (3, 8, 8), dtype=F64), Noise(range(6))
        stage = ECT(levels, every=100).at(250)
        state = torch.get_rng_state()
        found = stage(f, Batch(x), noise)
        pairs, eps = stage.index(noise, stage.levels), noise("eps", 0, (3, 8, 8), dtype=F64)

        def at(level: torch.Tensor) -> torch.Tensor:
            torch.set_rng_state(state)  # the same dropout mask for both
            return f(x + level.view(-1, 1, 1, 1) * eps, levels.schedule.t_of(-level.log())).x0

        q = (at(pairs.high) - at(pairs.low)).square().flatten(1).sum(1)
        wanted = (q / (q + 0.06**2).sqrt() / (pairs.high - pairs.low)).mean()
        assert found.total.item() == pytest.approx(wanted.item(), rel=1e-6)

    def test_a_pair_at_the_boundary_costs_nothing(self, alive) -> None:
        levels = ResolutionLevels(64)
        far = ECTPairs(levels, mean=-40.0, std=0.1)  # every level is the least one
        stage = replace(ECT(levels).at(0), index=far)
        f = BoundaryDenoiser(alive(_net()), levels.schedule, sigma_min=levels.minimum)
        loss = stage(f, Batch(Noise(range(4))("x", 0, (3, 8, 8), dtype=F64)), Noise(range(4)))
        assert 0 <= loss.total.item() < 1e-2

    def test_the_frozen_encoder_teaches_and_does_not_learn(self, alive) -> None:
        levels = ResolutionLevels(8)
        teacher = alive(ProjectedEncoder(_encoder(), Projector(16, 8, 4))).train()
        objective = ECT(levels, teacher=teacher)
        assert not teacher.training
        x, out = (Noise(range(4))(name, 0, (3, 8, 8), dtype=F64) for name in ("x", "out"))
        term = SameImage(teacher, levels.minimum)
        (extra,) = objective.at(0).extra
        assert isinstance(extra, SameImage) and extra.level == levels.minimum
        out.requires_grad_()
        with pytest.warns(UserWarning, match="weak negatives"):
            value = term(x, out, ECTPairs(levels)(Noise(range(4)), levels.shifted(2)))
        wanted = nce(represent(teacher, out, levels.minimum), represent(teacher, x, levels.minimum), 0.1)
        assert value.item() == pytest.approx(wanted.item(), rel=1e-12)
        value.backward()
        assert out.grad is not None and out.grad.abs().max() > 0
        assert all(p.grad is None for p in teacher.parameters())

    def test_one_step_is_the_function_at_the_greatest_level(self, alive) -> None:
        levels = ResolutionLevels(8)
        f = BoundaryDenoiser(alive(_net()), levels.schedule, sigma_min=levels.minimum)
        x_T = levels.maximum * Noise([3])("x_T", 0, (3, 8, 8), dtype=F64)
        with torch.no_grad():
            made = Consistency()(f, x_T, steps=1, noise=Noise([3]))
            assert torch.allclose(made, f(x_T, torch.ones(1, dtype=F64)).x0, rtol=1e-9, atol=1e-12)


class TestPrediction:
    """Stage 2a: levels, weights, loss."""

    def test_levels_are_snapped_and_shifted(self) -> None:
        levels = ResolutionLevels(256)
        t = SnappedLogNormal(levels)(Noise(range(2000)), levels.schedule)
        s = levels.schedule.sigma(t) / 4
        known = levels.levels(1280)
        assert (s[:, None] / known - 1).abs().min(1).values.max() < 1e-8
        raw = (-1.2 + 1.6 * Noise(range(2000))("t", 0, (), dtype=F64)).exp()
        gap = (raw[:, None] - known).abs()
        assert torch.allclose((raw - s).abs(), gap.min(1).values, rtol=1e-6, atol=1e-9)  # none is nearer

    def test_the_weight_is_the_unshifted_spacing(self) -> None:
        levels = ResolutionLevels(256)
        known, weight = levels.levels(1280), KarrasSpacing(levels)
        for i in (0, 1, 700, 1278, 1279):
            sigma = (4 * known[i]).view(1)
            j = min(i, 1278)
            wanted = 1 / (known[j] - known[j + 1]).item()
            assert weight("x0", torch.ones_like(sigma), sigma).item() == pytest.approx(wanted, rel=1e-9)
        ends = [weight("x0", torch.ones(1, dtype=F64), (4 * known[i]).view(1)).item() for i in (0, 1278)]
        assert ends[1] / ends[0] == pytest.approx((80 / 0.002) ** (6 / 7), rel=0.02)  # four orders of magnitude

    @pytest.mark.parametrize("target", ["eps", "v", "flow"])
    def test_the_same_loss_in_every_target(self, target: str, alive) -> None:
        levels = ResolutionLevels(8)
        d = DirectDenoiser(alive(_net()), levels.schedule)
        batch, noise = Batch(Noise(range(4))("x", 0, (3, 8, 8), dtype=F64)), Noise(range(4))
        first, second = (
            Denoise(kind, SnappedLogNormal(levels), KarrasSpacing(levels), drop=0.0)(d, batch, noise).total.item()
            for kind in ("x0", target)
        )
        assert second == pytest.approx(first, rel=1e-6)


class _Counted(Denoiser):
    """The exact denoiser of N(0, s^2), which counts evaluations; a label moves its mean."""

    def __init__(self, schedule: Shifted, s: float = 0.5) -> None:
        super().__init__(schedule)
        self.s, self.levels = s, []

    def forward(self, x_t, t, c: Condition | None = None) -> Prediction:
        sigma = self.schedule.sigma(t.double())
        rows = len(x_t)
        self.levels.append((sigma[0].item(), rows))
        gain = (self.s**2 / (self.s**2 + sigma**2)).to(x_t.dtype).view(-1, 1)
        mean = 0 if c is None else c["label"].to(x_t.dtype).view(-1, 1)
        return Prediction.from_x0(mean + gain * (x_t - mean), x_t, t, self.schedule)


class TestSampling:
    """Checks 6 and 7."""

    def _run(self, steps: int, guide=None, c=None, height: int = 256):
        levels = ResolutionLevels(height)
        d = _Counted(levels.schedule)
        x_T = levels.maximum * Noise(range(3))("x_T", 0, (4,), dtype=F64)
        guided = d if guide is None else guide(d)
        return Heun()(guided, x_T, grid=levels.grid(levels.schedule, steps), c=c), x_T, d, levels

    def test_heun_is_of_order_two(self) -> None:
        errors = []
        for steps in (64, 128):
            made, x_T, _, levels = self._run(steps, height=64)
            truth = x_T * math.sqrt((0.25 + levels.minimum**2) / (0.25 + levels.maximum**2))
            errors.append((made - truth).abs().max().item())
        assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.15

    def test_evaluations_are_counted(self) -> None:
        _, _, d, _ = self._run(31)
        assert len(d.levels) == 62  # 2 (points - 1): none at 0, none left out at the end
        label = Condition({"label": torch.tensor([1, 1, 1])}, {"label": torch.tensor([0])})
        _, _, d, _ = self._run(31, LevelInterval(CFG(1.5), 0.19 * 4, 1.61 * 4), label)
        inside = [sigma for sigma, _ in d.levels if 0.19 * 4 < sigma <= 1.61 * 4]
        rows = sum(rows for _, rows in d.levels)
        assert rows == 3 * (62 + len(inside)) and len(inside) == 12  # 74 evaluations a sample in all
        assert all((count == 6) == (0.19 * 4 < sigma <= 1.61 * 4) for sigma, count in d.levels)

    def test_weight_one_is_no_guidance(self) -> None:
        label = Condition({"label": torch.tensor([1, 2, 1])}, {"label": torch.tensor([0])})
        plain = self._run(8, None, label)[0]
        assert torch.equal(plain, self._run(8, LevelInterval(CFG(1.0), 0.19 * 4, 1.61 * 4), label)[0])
        assert not torch.equal(plain, self._run(8, LevelInterval(CFG(2.0), 0.19 * 4, 1.61 * 4), label)[0])

    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    def test_the_low_end_is_out_and_the_high_end_in(self, dtype: torch.dtype) -> None:
        levels = ResolutionLevels(16)
        low, high = 0.19 / 4, 1.61 / 4
        label = Condition({"label": torch.tensor([1])}, {"label": torch.tensor([0])})
        d = _Counted(levels.schedule)
        guided = LevelInterval(CFG(2.0), low, high)(d)
        for sigma, inside in ((low, False), (low * 1.001, True), (high, True), (high * 1.001, False)):
            d.levels.clear()
            t = levels.schedule.t_of(-torch.tensor([sigma], dtype=F64).log()).to(dtype)
            guided(torch.zeros(1, 4, dtype=dtype), t, label)
            assert [rows for _, rows in d.levels] == [2 if inside else 1], sigma
        mixed = torch.tensor([low, high], dtype=F64)
        both = Condition({"label": torch.tensor([1, 1])}, {"label": torch.tensor([0])})
        t = levels.schedule.t_of(-mixed.log()).to(dtype)
        x = torch.zeros(2, 4, dtype=dtype)
        found, plain, strong = (g(x, t, both).x0 for g in (guided, d, CFG(2.0)(d)))
        assert torch.equal(found[0], plain[0]) and torch.equal(found[1], strong[1])


class TestGathered:
    """Check 8."""

    def test_parts_make_the_whole(self, draw) -> None:
        q, k = draw(12, 5), draw(12, 5)
        keys = F.normalize(k, dim=1)
        q.requires_grad_()
        whole = nce(q, k, 0.1)
        (gradient,) = torch.autograd.grad(whole, q)
        rows = [slice(4 * i, 4 * i + 4) for i in range(3)]
        parts = [nce(q[r], k[r], 0.1, gather=lambda own, r=r: (keys, r.start)) for r in rows]
        assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), abs=1e-12)
        (shared,) = torch.autograd.grad(torch.stack(parts).mean(), q)
        assert torch.allclose(shared, gradient, rtol=1e-9, atol=1e-12)
        alone = torch.stack([nce(q[r], k[r], 0.1) for r in rows]).mean()
        assert abs(alone.item() - whole.item()) > 0.1  # without the others' keys it is another loss
