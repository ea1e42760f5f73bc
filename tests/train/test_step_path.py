"""Between two log rows a training step hands no number of the device to Python, and compiled blocks learn alike."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mezzotint.core import Condition, Cosine, FlowDenoiser, VDenoiser
from mezzotint.nn import DiT, UNet
from mezzotint.objective import Batch, Denoise
from mezzotint.train import DenoisingTask, Single, fit
from mezzotint.train.engine import fuse
from mezzotint.train.power_ema import Power

READS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique")


class Watch(TorchDispatchMode):
    """An operator that hands a number to Python fails at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen += 1
        if func._schema.name.split("::")[-1] in READS:
            raise AssertionError(f"{func._schema.name} on the step path waits for the device")
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Fused(Single):
    """As on a GPU, where Adam is one kernel whose step counts stay on the device."""

    def place(self, task) -> None:
        super().place(task)
        for optimiser in task.optimisers.values():
            fuse(optimiser)


NETS = {
    "dit": lambda: VDenoiser(DiT(3, patch=4, width=16, depth=2, heads=2, pooled=8), Cosine()),
    "unet": lambda: FlowDenoiser(UNet(3, channels=8, mult=(1, 2), blocks=1, head_dim=8, pooled=8), Cosine()),
}


def _task(kind, ema=0.9):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = NETS[kind]()
        for p in denoiser.parameters():
            if not p.any():
                nn.init.normal_(p, std=0.02)
    target = "v" if kind == "dit" else "flow"
    return DenoisingTask(denoiser, Denoise(target, drop=0.2), lr=1e-3, clip=1.0, ema=ema)


def _batches(step):
    draw = torch.Generator().manual_seed(step)
    # no labels: on a CPU alone the networks look at the range of theirs
    pooled = Condition({"pooled": torch.randn(4, 8, generator=draw)}, null={"pooled": torch.zeros(1, 8)})
    return Batch(torch.randn(4, 3, 8, 8, generator=draw).clamp(-1, 1), pooled)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("kind", NETS)
def test_no_read_back_between_two_log_rows(kind, parts, tmp_path):
    watch, inside = Watch(), ExitStack()

    def on_step(progress):
        if progress.step == 2:
            inside.enter_context(watch)
        elif progress.step == 5:
            inside.close()

    task = _task(kind, (0.9, 0.99) if parts == 1 else Power((0.05, 0.1)))
    with inside:
        fit(task, _batches, steps=6, seed=0, out=tmp_path, engine=Fused("cpu"), parts=parts, log_every=6,
            save_every=6, on_step=on_step)  # fmt: skip
    assert watch.seen > 1000


def test_the_watch_sees_what_it_must():
    for read in (lambda x: x.sum().item(), lambda x: float(x[0]), lambda x: bool((x > 0).all())):
        with pytest.raises(AssertionError, match="waits for the device"), Watch():
            read(torch.ones(2))


@pytest.mark.parametrize("kind", NETS)
def test_the_fused_optimiser_is_the_same(kind, tmp_path):
    states = []
    for engine in (Single("cpu"), Fused("cpu")):
        task = _task(kind)
        fit(task, _batches, steps=3, seed=0, out=tmp_path / type(engine).__name__, engine=engine)
        states.append(task.modules.state_dict())
    assert all(torch.allclose(states[0][k], v, atol=1e-6) for k, v in states[1].items())


@pytest.mark.parametrize("kind", NETS)
def test_compiled_blocks_learn_alike_and_are_as_before_afterwards(kind, tmp_path, unchecked):
    torch._dynamo.reset()  # and no checks of shapes in what is traced
    states = []
    for backend in (None, "eager"):
        task = _task(kind)
        seen = []

        def on_step(progress, task=task, seen=seen):
            seen.append(sum("forward" in vars(m) for m in task.modules.modules()))

        engine = Single("cpu", compile=backend)
        fit(task, _batches, steps=3, seed=0, out=tmp_path / str(backend), engine=engine, on_step=on_step)
        assert (min(seen) >= 2) == (backend is not None)
        assert not any("forward" in vars(m) for m in task.modules.modules())
        states.append(task.modules.state_dict())
    assert all(torch.allclose(states[0][k], v, atol=1e-6) for k, v in states[1].items())
