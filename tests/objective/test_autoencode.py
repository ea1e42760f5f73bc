"""The autoencoder losses equal their formulas, in the sum and in the mean convention, and train."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.latent import AutoencoderKL, AutoencoderVQ, AutoencoderVQEMA
from mezzotint.objective.adversarial import DiscriminatorLoss, PatchDiscriminator
from mezzotint.objective.autoencode import (
    KLGenerator,
    LegacyVQLoss,
    PlainAutoencode,
    PlainQuantise,
    VQGenerator,
    VQLoss,
)
from mezzotint.objective.batch import Batch
from mezzotint.objective.perceptual import Perceptual, RandomFeatures

SMALL = {"channels": 8, "mult": (1, 2), "latent": 4, "groups": 4}


def _build(kind: type, **options: object) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(**options)


def _batch(n: int = 2, side: int = 16) -> Batch:
    flat = Noise(range(n)).uniform("colour", 0, (3, 2, 2)) * 1.6 - 0.8
    return Batch(flat.repeat_interleave(side // 2, 2).repeat_interleave(side // 2, 3))


NOISE = Noise([0, 1])


def test_plain_loss_is_the_summed_one_divided_by_the_pixels() -> None:
    net, batch, d = _build(AutoencoderKL, **SMALL), _batch(), Perceptual(RandomFeatures())
    plain = PlainAutoencode(kl_weight=0.01, perceptual=d, perceptual_weight=0.5)(net, batch, NOISE)
    full = KLGenerator(_build(PatchDiscriminator, channels=4, layers=2), d, kl_weight=0.01, perceptual_weight=0.5)
    summed = full(net, batch, NOISE, step=0)
    assert float(plain.total.detach()) == pytest.approx(float(summed.total.detach()) / (3 * 16 * 16), rel=1e-5)
    posterior = net.posterior(batch.x)
    x_hat = net.raw_decode(posterior.sample(NOISE))
    assert float(plain.terms["l1"]) == pytest.approx(float((batch.x - x_hat).abs().mean()), rel=1e-6)
    assert float(plain.terms["kl"]) == pytest.approx(float(posterior.kl().mean()), rel=1e-6)
    without = PlainAutoencode(kl_weight=0.0)(net, batch, NOISE)
    assert float(without.total) == float(without.terms["l1"]) and "perceptual" not in without.terms


def test_kl_generator_is_the_papers_sum() -> None:
    net, batch, s = _build(AutoencoderKL, **SMALL), _batch(), 0.3
    d, disc = Perceptual(RandomFeatures()), _build(PatchDiscriminator, channels=4, layers=2).eval()
    objective = KLGenerator(disc, d, disc_start=10, log_variance=s, kl_weight=1e-3)
    posterior = net.posterior(batch.x)
    x_hat = net.raw_decode(posterior.sample(NOISE))
    r = (batch.x - x_hat).abs() + d(batch.x, x_hat).view(2, 1, 1, 1)
    nll = (r / math.exp(s) + s).sum() / 2
    before = objective.loss(net.last_layer, batch.x, x_hat, posterior, step=9)
    assert float(before.total) == pytest.approx(float(nll + 1e-3 * posterior.kl().mean()), rel=1e-6)
    assert float(before.terms["lambda"]) == 0.0
    after = objective.loss(net.last_layer, batch.x, x_hat, posterior, step=10)
    g = -disc(x_hat).mean()
    norms = [torch.autograd.grad(v, net.last_layer, retain_graph=True)[0].norm() for v in (nll, g)]
    lam = 0.5 * float((norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4))
    assert float(after.terms["lambda"]) == pytest.approx(lam, rel=1e-5) and lam > 0
    assert float(after.total) == pytest.approx(float(before.total) + lam * float(g), rel=1e-5)
    after.total.backward()
    assert net.encoder.conv_in.weight.grad is not None and disc.body[0].weight.grad is not None


def test_vq_generator_is_the_papers_mean() -> None:
    net, batch = _build(AutoencoderVQ, **SMALL, codes=8), _batch()
    disc = _build(PatchDiscriminator, channels=4, layers=2).eval()
    q = net.quantised(batch.x)
    x_hat = net.decode_quantised(q.z)
    for vq in (VQLoss(0.25), LegacyVQLoss(0.25)):
        out = VQGenerator(disc, vq=vq, codebook_weight=2.0)(net, batch, NOISE)
        nll, g = (batch.x - x_hat).abs().mean(), -disc(x_hat).mean()
        expected = nll + 2.0 * vq(q) + out.terms["lambda"] * g
        assert float(out.total) == pytest.approx(float(expected), rel=1e-5) and float(out.terms["lambda"]) > 0
    late = VQGenerator(disc, disc_start=5)(net, batch, NOISE, step=4)
    assert float(late.terms["lambda"]) == 0.0 and float(late.terms["g"]) == 0.0


def test_evaluation_without_gradients_has_no_adversarial_term() -> None:
    net, disc = _build(AutoencoderVQ, **SMALL, codes=8).eval(), _build(PatchDiscriminator, channels=4, layers=2)
    with torch.no_grad():
        out = VQGenerator(disc)(net, _batch(), NOISE)
    assert float(out.terms["lambda"]) == 0.0 and math.isfinite(float(out.total))


@pytest.mark.parametrize("kind", [AutoencoderKL, AutoencoderVQ, AutoencoderVQEMA])
def test_training_reconstructs_two_images(kind: type) -> None:
    options = {AutoencoderKL: {}, AutoencoderVQ: {"codes": 16}, AutoencoderVQEMA: {"codes": 16, "decay": 0.8}}[kind]
    net, batch = _build(kind, **SMALL, **options).train(), _batch(side=8)
    objective = PlainAutoencode() if kind is AutoencoderKL else PlainQuantise()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    errors = []
    for step in range(40):
        loss = objective(net, batch, Noise([2 * step, 2 * step + 1]))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        errors.append(float(loss.terms["l1"].detach()))
    assert min(errors[-5:]) < 0.4 * errors[0], (errors[0], errors[-1])


def test_a_heavy_divergence_empties_the_latent() -> None:
    net, batch = _build(AutoencoderKL, **SMALL).train(), _batch(side=8)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(30):
        loss = PlainAutoencode(kl_weight=1e3)(net, batch, Noise([2 * step, 2 * step + 1]))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        first = first if step else float(loss.terms["kl"].detach())
    assert float(loss.terms["kl"].detach()) < 0.02 * first


def test_an_adversarial_step_trains_both_sides() -> None:
    net, batch = _build(AutoencoderKL, **SMALL), _batch()
    disc = _build(PatchDiscriminator, channels=4, layers=2)
    posterior = net.posterior(batch.x)
    x_hat = net.raw_decode(posterior.sample(NOISE))
    KLGenerator(disc, disc_start=0).loss(net.last_layer, batch.x, x_hat, posterior, 0).total.backward()
    disc.zero_grad()
    before = [p.grad.clone() for p in net.parameters()]
    DiscriminatorLoss(disc)(batch.x, x_hat, 0).total.backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(before, net.parameters()))
    assert all(float(p.grad.abs().max()) > 0 for p in disc.parameters() if p.ndim > 1)


@pytest.mark.parametrize("name", ["kl_weight", "perceptual_weight"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_bad_weights_raise(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 0"):
        PlainAutoencode(**{name: value})
