"""compile=True: blocks that repeat are compiled once, and the step by tables equals the step by floats.

Compilation is tested with torch's eager backend, which traces as the others do; graphs are recorded on CUDA alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import VP, Condition, Denoiser, EDMDenoiser, EpsDenoiser, Flow, FlowDenoiser, Noise, VDenoiser
from mezzotint.guide import CFG, Interval, compose
from mezzotint.nn import DiT, Handler, UNet, handling
from mezzotint.sample import DDIM, DDPM, NAMED, DPMSolverPP, Heun, Sampler, sampler_named
from mezzotint.sample.compiled import compiled, repeated_blocks
from mezzotint.sample.graph import Replayed, replayable

F64 = torch.float64


class Counting:
    """A backend that runs what was traced as it is, and counts the graphs."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def _untraced(unchecked: None) -> None:
    """Nothing compiled by an earlier test, and no checks of shapes in what is traced."""
    torch._dynamo.reset()


def test_blocks_that_repeat() -> None:
    assert len(repeated_blocks(DiT(3, width=8, depth=3, heads=2))) == 3
    names = {type(block).__name__ for block in repeated_blocks(UNet(3, channels=16, context=8, blocks=1))}
    assert "ResBlock" in names and "Conv2d" not in names and "ModuleList" not in names
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []

    class Named(nn.Module):
        _repeated_blocks = ("Linear",)

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    assert [type(block) for block in repeated_blocks(nn.Sequential(Named()))] == [nn.Linear]


def test_equal_blocks_are_compiled_once(alive: Any, draw: Any) -> None:
    """Three blocks, one graph; the same numbers; and afterwards nothing is left behind."""
    net = alive(DiT(3, width=8, depth=3, heads=2))
    x, time = draw(2, 3, 4, 4), draw(2)
    backend = Counting()
    with torch.no_grad():
        before = net(x, time)
        for _ in range(2):
            with compiled(net, backend) as count:
                torch.testing.assert_close(net(x, time), before, rtol=1e-12, atol=1e-12)
        assert count == 3 and backend.graphs == 1
        with compiled(net, backend):  # fixed shapes: another size is another graph
            net(draw(2, 3, 6, 4), time)
        assert backend.graphs == 2
    assert not any("forward" in vars(part) for part in net.modules())


def test_a_network_without_blocks_is_compiled_whole(draw: Any) -> None:
    net, backend = nn.Linear(4, 4).double(), Counting()
    x = draw(2, 4)
    with compiled(net, backend) as count, torch.no_grad():
        torch.testing.assert_close(net(x), nn.functional.linear(x, net.weight, net.bias))
    assert count == 1 and backend.graphs == 1


def test_replaced_forwards_hooks_and_handlers_stay(alive: Any, draw: Any) -> None:
    """Offloading replaces a block's forward: left alone. Hooks run, and handlers of attention see their layers."""
    net = alive(DiT(3, width=8, depth=2, heads=2))
    x, time = draw(1, 3, 4, 4), draw(1)
    seen: list[str] = []
    own = net.blocks[0].forward
    net.blocks[0].forward = own
    net.blocks[1].register_forward_hook(lambda *_: seen.append("hook"))

    class Look(Handler):
        def tokens(self, call: Any, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            seen.append(call.site)
            return q, k, v

    with torch.no_grad(), compiled(net, "eager") as count:
        net(x, time)
        assert count == 1 and seen == ["hook"]
        with handling(net, Look()):
            net(x, time)
    assert len(seen) == 4 and vars(net.blocks[0])["forward"] == own


class Tanh(nn.Module):
    """A network without weights of its own that depends on everything it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=F64), requires_grad=False)

    def forward(self, x: Tensor, time: Tensor, c: Condition | None = None) -> Tensor:
        shift = 0.0 if c is None else c["label"].to(x.dtype).view(-1, *[1] * (x.ndim - 1))
        return self.scale * torch.tanh(x + shift) + 1e-4 * time.view(-1, *[1] * (x.ndim - 1))


LABELS = Condition({"label": torch.tensor([1, 2])}, null={"label": torch.tensor([0])})
KINDS = [EpsDenoiser(Tanh(), VP()), VDenoiser(Tanh(), VP()), FlowDenoiser(Tanh(), Flow()), EDMDenoiser(Tanh(), VP())]


def both(
    sampler: Any, replayed: Replayed, d: Denoiser, steps: int, c: Condition | None = None
) -> tuple[Tensor, Tensor]:
    x = Noise([0, 1])("x_T", 0, (3, 4), dtype=F64)
    grid = torch.linspace(0.98, 0, steps + 1, dtype=F64)
    with torch.no_grad():
        plain, by_table = (s(d, x, grid=grid, c=c, noise=Noise([5, 6])) for s in (sampler, replayed))
    return by_table, plain


@pytest.mark.parametrize("name", [name for name in sorted(NAMED) if replayable(sampler_named(name))])
def test_the_table_gives_what_the_floats_give(name: str) -> None:
    sampler = sampler_named(name)
    torch.testing.assert_close(*both(sampler, Replayed(sampler), KINDS[0], 7), rtol=1e-10, atol=1e-10)  # type: ignore


@pytest.mark.parametrize("d", KINDS, ids=lambda d: d.kind + type(d).__name__)
def test_every_prediction_and_guidance(d: Denoiser) -> None:
    replayed = Replayed(DPMSolverPP(order=3))
    for guided in (d, CFG(3.0)(d), compose(CFG(3.0), lambda e: Interval(CFG(2.0), 0.2, 0.6)(d))(d)):
        torch.testing.assert_close(*both(DPMSolverPP(order=3), replayed, guided, 9, LABELS), rtol=1e-10, atol=1e-10)


def test_one_step_serves_other_grids_and_conditions() -> None:
    """Buffers are used again for other steps, times, labels and a guide made anew; another weight or shape is another
    step; weights that have moved are noticed."""
    d, sampler = KINDS[1], DPMSolverPP(order=2)
    replayed = Replayed(sampler)
    other = Condition({"label": torch.tensor([3, 0])}, null={"label": torch.tensor([4])})
    for steps, c in ((5, LABELS), (20, LABELS), (5, other)):
        torch.testing.assert_close(*both(sampler, replayed, CFG(3.0)(d), steps, c), rtol=1e-10, atol=1e-10)
    assert len(replayed._steps) == 1
    torch.testing.assert_close(*both(sampler, replayed, CFG(2.0)(d), 5, LABELS), rtol=1e-10, atol=1e-10)
    assert len(replayed._steps) == 2
    d.net.scale = nn.Parameter(torch.tensor(0.1, dtype=F64), requires_grad=False)
    torch.testing.assert_close(*both(sampler, replayed, CFG(2.0)(d), 5, LABELS), rtol=1e-10, atol=1e-10)
    assert len(replayed._steps) == 3


def test_more_steps_than_the_table_holds() -> None:
    replayed = Replayed(DDIM())
    for steps in (3, 70, 4):
        torch.testing.assert_close(*both(DDIM(), replayed, KINDS[0], steps), rtol=1e-10, atol=1e-10)
    assert [len(made.clock) for made in replayed._steps.values()] == [128]


def test_states_handed_out_are_kept() -> None:
    x = Noise([0])("x_T", 0, (3,), dtype=F64)
    states: list[Any] = []
    with torch.no_grad():
        Replayed(DDPM())(KINDS[1], x, steps=4, noise=Noise([1]), on_step=lambda k, s: states.append(s))
        plain = list(DDPM().trajectory(KINDS[1], x, steps=4, noise=Noise([1])))
    for ours, theirs in zip(states, plain, strict=True):
        torch.testing.assert_close(ours.x, theirs.x, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(ours.x0, theirs.x0, rtol=1e-10, atol=1e-10)


def test_what_is_not_replayed() -> None:
    """Samplers of several evaluations are refused; gradients flow, as the floats run then; a NaN still has its step."""
    with pytest.raises(ValueError, match="Heun"):
        Replayed(Heun())  # type: ignore[arg-type]
    x = Noise([0])("x_T", 0, (3,), dtype=F64).requires_grad_()
    (gradient,) = torch.autograd.grad(Replayed(DDIM())(KINDS[1], x, steps=3).sum(), x)
    assert bool((gradient != 0).all())

    class Late(VDenoiser):
        def time(self, t: Tensor) -> Tensor:
            return torch.where(t < 0.5, torch.nan, super().time(t))

    with torch.no_grad(), pytest.raises(FloatingPointError, match="x0 at step 3 of 4"):
        Replayed(DDIM())(Late(Tanh(), VP()), x.detach(), steps=4)


def test_model_sample_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch of Model.sample, with a backend that costs nothing."""
    from mezzotint import Model
    from mezzotint.latent import Identity
    from mezzotint.nn.conditioner import ClassConditioner
    from mezzotint.sample import compiled as module

    backend = Counting()
    monkeypatch.setattr(module, "compiled", lambda net: compiled(net, backend))
    net = DiT(3, patch=2, width=8, depth=2, heads=2, classes=5)
    model = Model(FlowDenoiser(net, Flow()), Identity(3), ClassConditioner(5), size=(8, 8)).eval()
    for i, p in enumerate(model.parameters()):
        p.data = 0.2 * Noise([i])("w", 0, p.shape)[0]
    plain = model.sample([2], steps=2, seeds=[1])
    torch.testing.assert_close(model.sample([2], steps=2, seeds=[1], compile=True), plain, rtol=0, atol=1e-5)
    assert backend.graphs == 1


@pytest.mark.slow
def test_inductor(alive: Any, draw: Any) -> None:
    """The real compiler, on the smallest network."""
    net = alive(DiT(1, width=4, depth=2, heads=1)).float()
    x, time = draw(1, 1, 2, 2).float(), draw(1).float()
    with torch.no_grad(), compiled(net):
        fast = net(x, time)
    with torch.no_grad():
        torch.testing.assert_close(fast, net(x, time), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and torch finds none here")
@pytest.mark.parametrize("name", ["dpmpp-2m", "ddpm"])
def test_graph_on_cuda(name: str) -> None:
    sampler: Sampler = sampler_named(name)
    d = CFG(3.0)(EpsDenoiser(Tanh(), VP())).cuda()
    x = Noise([0, 1])("x_T", 0, (3, 4), dtype=F64, device="cuda")
    c = LABELS.to("cuda")
    grid = torch.linspace(0.98, 0, 9, dtype=F64)
    replayed = Replayed(sampler)  # type: ignore[arg-type]
    with torch.no_grad():
        plain = sampler(d, x, grid=grid, c=c, noise=Noise([5, 6]))
        for _ in range(2):
            torch.testing.assert_close(replayed(d, x, grid=grid, c=c, noise=Noise([5, 6])), plain, rtol=1e-9, atol=1e-9)
    (made,) = replayed._steps.values()
    assert made._graph is not None
