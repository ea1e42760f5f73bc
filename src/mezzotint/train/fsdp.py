"""Training by several processes, each holding a part of every tensor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mezzotint.core.noise import Noise
from mezzotint.objective.batch import Loss
from mezzotint.sample.compiled import repeated_blocks
from mezzotint.train.checkpoint import write_checkpoint
from mezzotint.train.engine import fuse
from mezzotint.train.group import PeerFailed
from mezzotint.train.learner import Learner, LossOf
from mezzotint.train.several import LossModule, Several, average, send
from mezzotint.train.sharded import load_shards, save_shards
from mezzotint.train.state import STATE, facts_of
from mezzotint.train.statistics import average_statistics
from mezzotint.train.task import Task

__all__ = ["FSDP2"]

T = TypeVar("T")


@dataclass(frozen=True)
class FSDP2(Several):
    """Weights, gradients, averages and optimiser states divided among the processes (ZeRO stage 3).

    Every repeated block (a DiT block, a residual or attention block of a UNet) is gathered for its own forward and
    backward pass, the rest of the networks for the whole of a loss. With precision "bfloat16" the gathered weights are
    in it, and gradients are summed in float32. Only process 0 builds a recipe's network with weights; the others get
    their parts from it, so that the weights are those of one process.

    Checkpoints are one safetensors file a process, which any number of processes resumes from. A loss must use the
    same parameters in every process (torch divides the gradients of those it used).

    Args:
        single: device, threads, precision and compilation of each process; without channels_last, which cannot be
            divided.
        group: the processes.

    Source: arXiv 2304.11277; torch's `fully_shard`.
    """

    roots: WeakKeyDictionary[Any, Any] = field(default_factory=WeakKeyDictionary, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.single.channels_last:
            raise ValueError("FSDP2 divides contiguous tensors alone; give it Single(..., channels_last=False)")

    def builder(self, make: Callable[..., T]) -> Callable[..., T]:
        if self.rank == 0:
            return make

        def blank(*args: Any) -> T:
            try:
                with torch.device("meta"):
                    return make(*args)
            except (NotImplementedError, RuntimeError):  # it looks at its weights
                return make(*args)

        return blank

    def place(self, task: Task) -> None:
        single = self.single
        if single.threads is not None:
            torch.set_num_threads(single.threads)
        names = {id(p): name for name, p in task.modules.named_parameters()}
        whole = {name: p.detach() for name, p in task.modules.named_parameters()}
        root = self._shard(task)
        with torch.no_grad():
            for name, p in task.modules.named_parameters():
                _local(p).copy_(self._part(whole.pop(name), p))
            for buffer in (*task.modules.buffers(), *task.frozen.to(single.device).parameters()):
                send(buffer)
            for ema in task.ema.values():
                live = dict(ema.module.named_parameters())
                ema.rebind({name: self._whole(average, live[name]) for name, average in ema.averages.items()})
        _refuse_meta(task.modules)
        now = dict(task.modules.named_parameters())
        for optimiser in task.optimisers.values():
            for group in optimiser.param_groups:
                group["params"] = [now[names[id(p)]] for p in group["params"]]
            if single.device.type == "cuda":
                fuse(optimiser)
        with torch.no_grad():  # so that it, and no block, becomes the one that is gathered first
            root(lambda part, noise: Loss(torch.zeros(())), None, None)
        self.roots[task] = root

    def learner(self, parts: int, nonfinite: Literal["stop", "skip"]) -> Learner:
        return _Shards(parts, self.single.precision, nonfinite, roots=self.roots)

    def save(self, task: Task, root: Path, step: int, keep: int, facts: Mapping[str, Any]) -> Path:
        """Each process writes its parts; process 0 does the rest of the protocol, and all agree on how it ended."""
        if self.rank > 0:
            told = self.group.tell(None)
            if told[0] == "folder":
                self.group.all(lambda: save_shards(task, Path(told[1])))
                told = self.group.tell(None)
            if told[0] == "error":
                raise PeerFailed(told[1])
            return Path(told[1])
        together = False

        def write(folder: Path) -> None:
            nonlocal together
            self.group.tell(["folder", str(folder)])
            together = True
            self.group.all(lambda: save_shards(task, folder))
            together = False
            (folder / STATE).write_text(json.dumps(facts_of(task, facts), indent=1), encoding="utf-8")

        try:
            path = write_checkpoint(root, step, write, keep)
        except Exception as error:
            if not together:
                self.group.tell(["error", f"process 0: {error}"])
            raise
        self.group.tell(["path", str(path)])
        return path

    def load(self, task: Task, folder: Path) -> dict[str, Any]:
        return self.group.all(lambda: load_shards(task, folder))

    def _shard(self, task: Task) -> nn.Module:
        """Divide the modules; afterwards they are on the device, with weights where they had some."""
        device = self.single.device
        mesh = init_device_mesh(device.type, (self.world,))
        dtype = torch.bfloat16 if self.single.precision == "bfloat16" else None
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None)
        root = LossModule(task.modules)
        for module in task.modules.values():
            for block in repeated_blocks(module):
                fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(root, mesh=mesh, mp_policy=policy)
        for module in task.modules.values():  # called by itself, as a sampler does, and not inside a loss
            module.register_forward_pre_hook(partial(_gather, root))
            module.register_forward_hook(partial(_release, root), always_call=True)
        if any(t.is_meta for t in (*root.parameters(), *root.buffers())):
            root.to_empty(device=device)
        return root

    def _part(self, whole: Tensor, like: Tensor) -> Tensor:
        """This process's part of a tensor that process 0 has, laid out as a parameter is."""
        return _local(self._whole(whole, like))

    def _whole(self, whole: Tensor, like: Tensor) -> Tensor:
        device = self.single.device
        value = whole.to(device) if not whole.is_meta else torch.empty(whole.shape, dtype=whole.dtype, device=device)
        if isinstance(like, DTensor):
            return distribute_tensor(value.contiguous(), like.device_mesh, like.placements)
        send(value)
        return value


@dataclass(frozen=True)
class _Shards(Learner):
    """Gradients are averaged and divided during the last part's backward pass."""

    roots: Any = field(default=None, compare=False, repr=False)

    def run(self, task: Any, name: str, loss: LossOf, part: Any, noise: Noise) -> Loss:
        root = self.roots[task]
        return Loss(root(loss, part, noise), root.terms)

    @contextmanager
    def sharing(self, task: Any, name: str, *, last: bool) -> Iterator[None]:
        self.roots[task].set_requires_gradient_sync(last)
        yield
        if last:
            average_statistics(task.modules, average)

    def norms(self, gradients: list[Any]) -> Tensor:
        if not gradients:
            return torch.zeros(0)
        squares = torch.stack(torch._foreach_norm(self.own(gradients), 2.0)).square()
        dist.all_reduce(squares)
        return squares.sqrt()

    def own(self, tensors: list[Any]) -> list[Any]:
        return [_local(tensor) for tensor in tensors]


@torch.no_grad()
def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _gather(root: Any, *called: Any) -> None:
    if not root.running:
        root.unshard()


def _release(root: Any, *called: Any) -> None:
    if not root.running:
        root.reshard()


def _refuse_meta(modules: nn.Module) -> None:
    for name, module in modules.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_meta:
                raise ValueError(
                    f"{name}.{key} is a tensor but neither parameter nor buffer, so it cannot be had from process 0; "
                    "register it as a buffer"
                )
