"""Training on a process: the loss where the best network is known, the papers' own targets, pairs by the seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import VP, Condition, EpsDenoiser, Flow, Noise, X0Denoiser, fold
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise
from mezzotint.objective.bridge import Bridge
from mezzotint.objective.degraded import Degraded, Regress, level
from mezzotint.restore.bridge import (
    I2SB,
    IRSDE,
    BridgeDenoiser,
    EpsBridgeDenoiser,
    I2SBDenoiser,
    InDI,
    OneCall,
    Process,
    ResShift,
    TrainedRestorer,
)
from mezzotint.restore.measure import GaussianNoise
from mezzotint.restore.operators import AveragePool, Identity, Mask, random_pixels
from mezzotint.train import DenoisingTask

F64 = torch.float64
PROCESSES = [IRSDE(), ResShift(), InDI(0.3), I2SB()]


def batch(count: int, shape: tuple[int, ...] = (3,)) -> Batch:
    noise = Noise(range(count))
    return Batch(noise("x", 0, shape, dtype=F64), Condition({"concat": noise("y", 0, shape, dtype=F64)}))


def bent(x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
    assert c is not None
    return (2 * x).tanh() + c["concat"] + time[:, None] / 1000


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_it_is_the_denoising_loss_of_what_is_left_without_y(process):
    """x_t = a x + b y + c eps by hand, and the same number as Denoise gives of the same denoiser."""
    pairs, noise = batch(6), Noise(range(10, 16))
    d = BridgeDenoiser(bent, process)
    t = (1 - noise.uniform("t", 0, (), dtype=F64))[:, None]
    y, eps = pairs.c["concat"], noise("eps", 0, (3,), dtype=F64)
    x_t = process.alpha(t) * pairs.x + process.shift(t) * y + process.sigma(t) * eps
    error = bent(x_t, 1000 * t[:, 0], pairs.c) - pairs.x
    assert float(Bridge()(d, pairs, noise).total) == pytest.approx(float(error.square().mean()), rel=1e-12)
    assert float(Bridge("l1")(d, pairs, noise).total) == pytest.approx(float(error.abs().mean()), rel=1e-12)
    same = Denoise("x0", drop=0.0)(d, pairs, noise).total
    assert float(Bridge()(d, pairs, noise).total) == pytest.approx(float(same), rel=1e-12)


def test_own_weights_are_the_errors_of_the_papers_targets():
    pairs, noise = batch(6), Noise(range(20, 26))
    t = (1 - noise.uniform("t", 0, (), dtype=F64))[:, None]
    y, eps = pairs.c["concat"], noise("eps", 0, (3,), dtype=F64)

    def out(p: Process) -> Tensor:
        return bent(p.alpha(t) * pairs.x + p.shift(t) * y + p.sigma(t) * eps, 1000 * t[:, 0], pairs.c)

    ir = IRSDE()  # the network predicts eps
    got = float(Bridge(weight="own")(EpsBridgeDenoiser(bent, ir), pairs, noise).total)
    assert got == pytest.approx(float((out(ir) - eps).square().mean()), rel=1e-9)
    sb = I2SB()  # (x_t - x) / sqrt(p)
    x_t = sb.alpha(t) * pairs.x + sb.shift(t) * y + sb.sigma(t) * eps
    got = float(Bridge(weight="own")(I2SBDenoiser(bent, sb), pairs, noise).total)
    want = (out(sb) - (x_t - pairs.x) / sb.past(t).sqrt()).square().mean()
    assert got == pytest.approx(float(want), rel=1e-9)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_no_network_has_less_loss_than_the_known_best(process):
    """x and y independent and standard: E[x | x_t, y] = a z / (a^2 + c^2); any other slope has more."""
    pairs, noise = batch(4000, (1,)), Noise(range(4000))

    def loss(factor: float) -> float:
        def net(x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
            t = time[:, None] / 1000
            a, s = process.alpha(t), process.sigma(t)
            return factor * a / (a**2 + s**2).clamp(min=1e-12) * (x - process.shift(t) * c["concat"])

        return float(Bridge()(BridgeDenoiser(net, process), pairs, noise).total)

    assert loss(1.0) < min(loss(0.9), loss(1.1))  # of the same draws


def test_a_samples_loss_depends_on_its_seed_alone():
    pairs, noise = batch(4), Noise([5, 6, 7, 8])
    objective = Degraded(Identity(), GaussianNoise(0.1), Bridge(), augment=0.2)

    def net(x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        return x * c["concat"][:, 3:] + c["concat"][:, :3]

    d = BridgeDenoiser(net, ResShift())
    x = pairs.x[:, :, None, None].expand(4, 3, 2, 2)
    whole = objective(d, Batch(x), noise).total
    apart = [objective(d, Batch(x[i : i + 1]), noise.rows([i])).total for i in range(4)]
    torch.testing.assert_close(whole, torch.stack(apart).mean(), rtol=1e-12, atol=0)
    assert len({round(float(q), 9) for q in apart}) == 4


def test_pairs_are_the_operators_with_its_noise_and_a_mask_for_each():
    x = Noise(range(3))("x", 0, (2, 4, 4))
    noise = Noise([1, 2, 3])
    made = Degraded(AveragePool(2), GaussianNoise(0.1)).pairs(Batch(x, Condition({"label": torch.arange(3)})), noise)
    operator = AveragePool(2)
    assert torch.equal(made.c["concat"], operator.guess(GaussianNoise(0.1)(operator(x), noise)))
    assert torch.equal(made.c["label"], torch.arange(3)) and made.x is x
    masks = Degraded(lambda noise: Mask(random_pixels(noise, 4, 4, 0.5))).pairs(Batch(x), noise).c["concat"]
    assert torch.equal(masks, x * random_pixels(noise, 4, 4, 0.5)) and not torch.equal(masks[0] == 0, masks[1] == 0)


def test_augmentation_has_the_level_that_it_tells():
    x = torch.zeros(2000, 1, 3, 3)
    told = Degraded(Identity(), augment=0.5).pairs(Batch(x), Noise(range(2000))).c["concat"]
    guess, u = told[:, :1], told[:, 1:]
    assert torch.equal(u, u[..., :1, :1].expand_as(u)) and 0 <= float(u.min()) and float(u.max()) < 1
    scaled = guess / (0.5 * u.clamp(min=1e-3))
    assert float(scaled.std()) == pytest.approx(1, abs=0.02)
    assert torch.equal(level(x[:2], 0.25), torch.full((2, 1, 3, 3), 0.25))


@pytest.mark.parametrize(
    ("build", "objective", "restorer"),
    [
        (lambda net: BridgeDenoiser(net, ResShift()), Bridge(), TrainedRestorer()),
        (lambda net: I2SBDenoiser(net, I2SB()), Bridge(weight="own"), TrainedRestorer()),
        (lambda net: X0Denoiser(net, Flow()), Regress(), OneCall()),
        (lambda net: X0Denoiser(net, VP()), Denoise("x0", drop=0.0), None),
    ],
    ids=["ResShift", "I2SB", "regression", "SR3"],
)
def test_a_unet_learns_a_constant_shift(build, objective, restorer):
    """y = x - 0.3: the training task, the wrapper and the network fit together, and the loss falls."""

    class Darker(Identity):
        def forward(self, x: Tensor) -> Tensor:
            return x - 0.3

        def guess(self, y: Tensor) -> Tensor:
            return y

    with torch.random.fork_rng():
        torch.manual_seed(0)
        d = build(UNet(1, channels=8, mult=(1,), blocks=1, attention=(), concat=1, head_dim=8))
    task = DenoisingTask(d, Degraded(Darker(), objective=objective), lr=1e-2, ema=None)
    x = Noise(range(8))("x", 0, (1, 4, 4)) * 0.3
    for step in range(25):
        told = task.step(Batch(x), step, Noise([fold(step, i) for i in range(8)]))
    d.eval()
    assert float(told["mse"]) < 0.03  # 0.09 is that of y itself
    if restorer is not None:
        with torch.no_grad():
            made = restorer(d, x - 0.3, Noise(range(8)), steps=5)
        assert float((made - x).square().mean()) < 0.08  # nearer than y


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Bridge("l3"), "expected l1 or l2"),
        (lambda: Bridge(least=0.0), r"in \(0, 1\)"),
        (lambda: Bridge()(EpsDenoiser(bent, VP()), batch(2), Noise([0, 1])), "for which Denoise is right"),
        (lambda: Bridge()(BridgeDenoiser(bent, InDI()), Batch(torch.zeros(2, 3)), Noise([0, 1])), "wrap in Degraded"),
        (lambda: Bridge()(BridgeDenoiser(bent, InDI()), batch(2), Noise([0])), "1 seeds for 2 samples"),
        (lambda: Degraded(Identity(), augment=-1.0), "a standard deviation >= 0"),
        (lambda: Degraded(Flat()).pairs(Batch(torch.zeros(1, 1, 2, 2)), Noise([0])), r"the guess of the operator is"),
    ],
)
def test_bad_input_is_one_line(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


class Flat(Identity):
    """Its guess has another shape."""

    def guess(self, y: Tensor) -> Tensor:
        return y.flatten(1)


def test_the_network_is_part_of_the_denoiser():
    net = nn.Linear(2, 2)
    assert list(BridgeDenoiser(net, InDI()).parameters()) == list(net.parameters())
