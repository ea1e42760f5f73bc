"""The weight as an input: what the branch adds and how smoothly, whatever else the network reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import (
    Condition,
    Denoiser,
    Flow,
    FlowDenoiser,
    Gaussian,
    GaussianMixture,
    Noise,
    Prediction,
    WConditioned,
)
from mezzotint.nn import DiT, GuidanceBranch, GuidedNetwork, UNet, guided_student, halved_student
from mezzotint.objective import Batch, GuidedDistillation, guided_target

RANGE = (1.0, 5.0)


def _nets() -> dict[str, nn.Module]:
    small = {"channels": 8, "mult": (1, 2), "blocks": 1, "attention": (2,), "head_dim": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "plain unet": UNet(3, **small),
            "text unet": UNet(3, **small, context=6),  # "pooled" may come along unread
            "text and pooled unet": UNet(3, **small, context=6, pooled=5),
            "class dit": DiT(3, patch=2, width=16, depth=1, heads=2, classes=4),
            "pooled dit": DiT(3, patch=2, width=16, depth=1, heads=2, pooled=5),
        }


def _condition(name: str, draw) -> dict[str, Tensor]:
    c = {"text": draw(2, 3, 6), "pooled": draw(2, 5)} if "text" in name else {}
    c |= {"label": torch.tensor([1, 4])} if "class" in name else {}
    return c | ({"pooled": draw(2, 5)} if name == "pooled dit" else {})


@pytest.mark.parametrize("name", _nets())
def test_the_weight_is_added_to_the_time_embedding(name: str, alive, draw) -> None:
    plain = alive(_nets()[name])
    x, time, c, w = (
        draw(2, 3, 4, 4),
        torch.tensor([30.0, 900.0]).double(),
        _condition(name, draw),
        torch.tensor([2.0, 4.5]),
    )
    before = plain(x, time, c)
    net = GuidedNetwork(plain, RANGE).double()
    assert torch.equal(net(x, time, {**c, "guidance": w.double()}), before)  # as yet it adds nothing

    branch = net.base.embed.branch
    nn.init.normal_(branch.last.weight, std=0.3)
    after = net(x, time, {**c, "guidance": w.double()})
    added = branch(w.double())
    handle = net.base.embed.plain.register_forward_hook(lambda module, given, out: out + added)
    nn.init.zeros_(branch.last.weight)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(net(x, time, {**c, "guidance": w.double()}), after, rtol=0, atol=1e-12)
    handle.remove()
    # a sample's weight is its own
    nn.init.normal_(branch.last.weight, std=0.3)
    both = net(x, time, {**c, "guidance": w.double()})
    other = net(x, time, {**c, "guidance": torch.tensor([2.0, 1.0]).double()})
    assert torch.equal(both[0], other[0]) and not torch.allclose(both[1], other[1])


def test_keys_and_shapes_are_refused_as_before(alive, draw) -> None:
    net = GuidedNetwork(alive(_nets()["text and pooled unet"]), RANGE).double()
    x, time, w = draw(2, 3, 4, 4), torch.zeros(2).double(), torch.ones(2).double()
    with pytest.raises(ValueError, match='"guidance"'):
        net(x, time, {"text": draw(2, 3, 6), "pooled": draw(2, 5)})
    with pytest.raises(ValueError, match="pooled"):
        net(x, time, {"text": draw(2, 3, 6), "guidance": w})
    with pytest.raises(ValueError, match="plain UNet or DiT"):
        GuidedNetwork(nn.Linear(2, 2), RANGE)
    with pytest.raises(ValueError, match="plain UNet or DiT"):
        GuidedNetwork(net.base, RANGE)  # a second branch
    with pytest.raises(ValueError, match="low < high"):
        GuidanceBranch(4, (5.0, 1.0))


def test_features_are_those_of_the_formula() -> None:
    branch = GuidanceBranch(8, (1.0, 5.0), features=6).double()
    with torch.no_grad():
        branch.first.weight.copy_(torch.eye(8, 6))
        branch.first.bias.zero_()
        branch.last.weight.copy_(torch.eye(8))
    w = torch.tensor([1.0, 2.5, 5.0], dtype=torch.float64)
    u = (w - 1) / 4
    f = torch.stack([g(2 * torch.pi * b * u) for g in (torch.cos, torch.sin) for b in (0.25, 0.5**0.5, 2.0)], 1)
    torch.testing.assert_close(branch(w)[:, :6], nn.functional.silu(f), rtol=0, atol=1e-12)


def test_dropout_is_off_in_students_and_on_in_the_teacher() -> None:
    teacher = FlowDenoiser(UNet(3, channels=8, mult=(1,), blocks=1, attention=(), dropout=0.5), Flow())
    student = guided_student(teacher, RANGE, parent="abc")
    for made in (student, halved_student(student, 4, parent="def")):
        assert {m.p for m in made.modules() if isinstance(m, nn.Dropout)} == {0.0}
    assert {m.p for m in teacher.modules() if isinstance(m, nn.Dropout)} == {0.5}
    assert not any(isinstance(m, GuidedNetwork) for m in teacher.modules())
    halved = halved_student(student, 4, 8, parent="def")
    assert (halved.steps, halved.starts, halved.parent, halved.w_range) == (4, 8, "def", RANGE)
    with pytest.raises(ValueError, match="inside already"):
        guided_student(student, RANGE)
    with pytest.raises(ValueError, match="inside already"):
        WConditioned(student, RANGE)


class _Two(Denoiser):
    """Two Gaussians by label, their mixture without."""

    def __init__(self) -> None:
        super().__init__(Flow())
        m = torch.full((1, 2, 2), 0.6)
        self.parts = [Gaussian(mean, std=0.5).denoiser(self.schedule) for mean in (m, -m)]
        self.parts.append(GaussianMixture(torch.stack([m, -m]), torch.tensor([0.5, 0.5])).denoiser(self.schedule))

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        assert c is not None
        x0 = torch.stack([d(x_t, t).x0 for d in self.parts])[c["label"], torch.arange(len(x_t))]
        return Prediction.from_x0(x0, x_t, t, self.schedule)


def test_nearby_weights_give_nearby_networks() -> None:
    """After 120 steps a student lies within 10 % of the chord between weights 0.5 apart, and near what it was shown."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = guided_student(FlowDenoiser(DiT(1, patch=2, width=32, depth=1, heads=2, classes=2), Flow()), RANGE)
    teacher, b, steps = _Two(), 32, 120
    objective, optimiser = GuidedDistillation(teacher, RANGE, "flow"), torch.optim.Adam(student.parameters())
    c = Condition({"label": torch.arange(b) % 2}, {"label": torch.tensor([2])})
    mean = torch.tensor([0.6, -0.6])[c["label"]].view(-1, 1, 1, 1)
    for step in range(steps):
        noise = Noise(range(step * b, (step + 1) * b))
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        optimiser.zero_grad()
        objective(student, Batch(mean + 0.5 * noise("data", 0, (1, 2, 2)), c), noise).total.backward()
        optimiser.step()

    w, t = torch.linspace(1, 5, 81), torch.full((81,), 0.6)  # ten places in each half
    z = Noise([5])("z", 0, (1, 2, 2)).expand(81, -1, -1, -1)
    c = Condition({"label": torch.zeros(81, dtype=torch.int64)}, {"label": torch.tensor([2])})
    with torch.no_grad():
        got = student(z, t, c.updated({"guidance": w})).x0.mean((1, 2, 3))
        shown = guided_target(teacher, z, t, c, w, "x0").mean((1, 2, 3))
    place = torch.linspace(0, 1, 11)
    for start in range(0, 80, 10):
        part = got[start : start + 11]
        assert float((part - torch.lerp(part[0], part[-1], place)).abs().max()) < 0.1 * float(part.abs().max())
    assert float((got - shown).abs().max()) < 0.25 * float(shown[-1] - shown[0])
