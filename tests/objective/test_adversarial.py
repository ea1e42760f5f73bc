"""Check 2 of the sheet of 2112.10752 (adaptive weight), hinge losses and the patch discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mezzotint.core import Noise
from mezzotint.objective.adversarial import (
    DiscriminatorLoss,
    PatchDiscriminator,
    adaptive_weight,
    generator_hinge,
    hinge,
)


def _known() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses of a linear last layer whose gradients have the norms 50 and 2000 exactly."""
    w = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    a = torch.tensor([[30.0, 40.0], [0.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[0.0, 1200.0], [1600.0, 0.0]], dtype=torch.float64)
    return (w * a).sum(), (w * b).sum(), w


def test_weight_is_the_ratio_of_the_gradients_and_carries_none() -> None:
    nll, g, w = _known()
    lam = adaptive_weight(nll, g, w, weight=1.0)
    assert float(lam) == pytest.approx(50 / 2000, abs=1e-6) and not lam.requires_grad
    assert float(adaptive_weight(nll, g, w, weight=0.5)) == pytest.approx(0.5 * 50 / 2000, abs=1e-6)
    assert float(adaptive_weight(nll, g, w, eps=1000.0, weight=1.0)) == pytest.approx(50 / 3000, abs=1e-9)
    (lam * g).backward()  # the graphs are still there
    torch.testing.assert_close(w.grad.norm(), torch.tensor(50.0).double(), atol=1e-4, rtol=0)


def test_ten_times_the_adversarial_loss_has_a_tenth_of_the_weight() -> None:
    nll, g, w = _known()
    ratio = adaptive_weight(nll, g, w) / adaptive_weight(nll, 10 * g, w)
    assert float(ratio) == pytest.approx(10.0, rel=1e-6)


def test_no_gradient_of_g_meets_the_clamp() -> None:
    nll, _, w = _known()
    assert float(adaptive_weight(nll, (0.0 * w).sum(), w, weight=0.75)) == pytest.approx(0.75e4)
    assert float(adaptive_weight(0.0 * nll, nll, w)) == 0.0


def test_without_gradients_it_says_so() -> None:
    nll, g, w = _known()
    with pytest.raises(ValueError, match="gradients enabled"):
        adaptive_weight(nll.detach(), g, w)
    with pytest.raises(ValueError, match="last_layer"):
        adaptive_weight(nll, torch.ones((), dtype=torch.float64, requires_grad=True) * 2, w)


def test_hinge_of_known_logits() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0])
    assert float(hinge(real, fake)) == pytest.approx(0.5 * ((0 + 0.5 + 2) / 3 + (0 + 1) / 2))
    assert float(generator_hinge(fake)) == pytest.approx(1.0)


def test_a_patch_sees_what_patchgan_sees() -> None:
    """The receptive field of three strided layers is 70 pixels (arXiv 1611.07004, appendix)."""
    net = PatchDiscriminator(3, 2, 3).double().eval()
    x = Noise([0])("x", 0, (3, 160, 160), dtype=torch.float64).requires_grad_()
    logits = net(x)
    assert logits.shape == (1, 1, 18, 18)
    logits[0, 0, 9, 9].backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_initial_weights_and_widths() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = PatchDiscriminator(3, 16, 4)
    convs = [m for m in net.body if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [16, 32, 64, 128, 128, 1]
    assert [c.stride[0] for c in convs] == [2, 2, 2, 2, 1, 1] and [c.bias is None for c in convs[1:-1]] == [True] * 4
    assert float(convs[3].weight.std()) == pytest.approx(0.02, rel=0.03)
    norms = [m for m in net.body if isinstance(m, nn.BatchNorm2d)]
    scale = torch.cat([m.weight for m in norms]).detach()
    assert float(scale.mean()) == pytest.approx(1.0, abs=0.01) and float(scale.std()) == pytest.approx(0.02, rel=0.3)


def test_it_learns_to_tell_and_only_after_its_start() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = PatchDiscriminator(1, 4, 1)
    loss = DiscriminatorLoss(net, start=1)
    real = Noise(range(8))("real", 0, (1, 12, 12))
    fake = real.mean((2, 3), keepdim=True).expand_as(real).requires_grad_()
    assert float(loss(real, fake, step=0).total) == 0.0
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(1, 40):
        out = loss(real, fake, step)
        optimiser.zero_grad()
        out.total.backward()
        optimiser.step()
    assert float(out.total.detach()) < 0.2 and fake.grad is None
    assert float(out.terms["real"]) > 0 > float(out.terms["fake"])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_bad_sizes_raise(layers: int) -> None:
    net = PatchDiscriminator(3, 2, layers).eval()
    assert net(torch.zeros(1, 3, net.smallest, net.smallest)).numel() >= 1
    with pytest.raises(ValueError, match="fewer layers"):
        net(torch.zeros(1, 3, net.smallest, net.smallest - 1))
    with pytest.raises(ValueError, match="at least 1"):
        PatchDiscriminator(3, 2, 0)
