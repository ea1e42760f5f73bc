"""Feature taps: what chosen modules of a network put out, its decoder's activations first of all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mezzotint.attention.places import decoder_places
from mezzotint.attention.rows import Rows, alone

__all__ = ["Features", "features"]

Keep = Literal["last", "mean", "every"]
Reduce = Callable[[str, Tensor], Tensor]


class Features(Mapping[str, Tensor]):
    """The activations that a feature tap has seen: a mapping from a module's name to its output.

    Args:
        keep: "last", the latest call's; "mean", a running mean over calls, so that memory does not grow with them;
            "every", all of them, stacked first.
        grad: keep the autograd graph; else outputs are detached.
        rows: of the batch.
        reduce: (name, output) -> what is kept of it.
    """

    def __init__(
        self, *, keep: Keep = "last", grad: bool = False, rows: Rows = None, reduce: Reduce | None = None
    ) -> None:
        if keep not in ("last", "mean", "every"):
            raise ValueError(f"keep={keep!r}; expected 'last', 'mean' or 'every'")
        self.keep, self.grad, self.rows, self.reduce = keep, grad, rows, reduce
        self.calls: dict[str, int] = {}
        self._kept: dict[str, Tensor] = {}
        self._every: dict[str, list[Tensor]] = {}

    def see(self, name: str, output: Tensor) -> None:
        """Take in one output."""
        if self.rows is not None:
            output = output[self.rows]
        kept = output if self.grad else output.detach()
        if self.reduce is not None:
            kept = self.reduce(name, kept)
        kept = kept if self.grad else alone(kept)
        self.calls[name] = n = self.calls.get(name, 0) + 1
        if self.keep == "every":
            self._every.setdefault(name, []).append(kept)
        elif self.keep == "last" or n == 1:
            wide = self.keep == "mean" and kept.dtype in (torch.float16, torch.bfloat16)
            self._kept[name] = kept.float() if wide else kept
        else:
            mean = self._kept[name]
            if mean.shape != kept.shape:
                raise ValueError(
                    f"the feature tap averages over calls, but {name!r} went from {tuple(mean.shape)} to "
                    f"{tuple(kept.shape)}; open one tap for each size and batch, or keep='every'"
                )
            self._kept[name] = mean + (kept.to(mean.dtype) - mean) / n

    def __getitem__(self, name: str) -> Tensor:
        """Return what was kept of a module.

        Raises:
            ValueError: nothing was seen there.
        """
        if name not in self.calls:
            raise ValueError(f"no activation was seen at {name!r}; seen: {', '.join(self.calls) or 'none'}")
        return torch.stack(self._every[name]) if self.keep == "every" else self._kept[name]

    def __contains__(self, name: object) -> bool:
        return name in self.calls

    def __iter__(self) -> Iterator[str]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)


@contextmanager
def features(
    root: nn.Module,
    places: str | Sequence[str] | None = None,
    *,
    keep: Keep = "last",
    grad: bool = False,
    rows: Rows = None,
    reduce: Reduce | None = None,
) -> Iterator[Features]:
    """Record the outputs of modules for the length of the block, in this thread alone; attention stays fused.

    Args:
        root: a backbone, or anything that holds one.
        places: module names below `root`, or a glob over them (`"up.*.0"`, several joined by `|`); None for the
            decoder's activations, as `decoder_places` tells.
        keep: "last" call, running "mean" over calls, or "every".
        grad: keep the autograd graph, also for a second derivative (with `explicit` attention).
        rows: of the batch, a slice or numbers.
        reduce: (name, output) -> what is kept.

    Returns:
        A context manager that gives the `Features`; they can be read inside the block and after it. Tokens (b, n, c)
        become maps by `as_map`.

    Raises:
        ValueError: no module has such a name.

    >>> from mezzotint.nn import UNet
    >>> net = UNet(4, channels=16, blocks=1)
    >>> with features(net, "up.*.2") as seen:
    ...     y = net(torch.zeros(1, 4, 8, 8), torch.zeros(1))
    >>> {name: tuple(f.shape) for name, f in seen.items()}
    {'up.1.2': (1, 32, 8, 8)}
    """
    chosen = decoder_places(root) if places is None else _named(root, places)
    seen, owner = Features(keep=keep, grad=grad, rows=rows, reduce=reduce), threading.get_ident()
    backward = torch._C._current_graph_task_id()  # what checkpointing computes again in another one is no call

    def hook_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def see(module: nn.Module, inputs: Any, output: Any) -> None:
            if threading.get_ident() == owner and torch._C._current_graph_task_id() == backward:
                seen.see(name, _tensor(name, output))

        return see

    handles = [module.register_forward_hook(hook_of(name)) for name, module in chosen.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _named(root: nn.Module, places: str | Sequence[str]) -> dict[str, nn.Module]:
    modules = {name: module for name, module in root.named_modules() if name}
    globs = [glob.strip() for glob in places.split("|")] if isinstance(places, str) else list(places)
    found = {name: m for name, m in modules.items() if any(fnmatchcase(name, glob) for glob in globs)}
    idle = [name for name, module in found.items() if isinstance(module, (nn.ModuleList, nn.ModuleDict))]
    found = {name: module for name, module in found.items() if name not in idle}
    missing = [glob for glob in globs if not any(fnmatchcase(name, glob) for name in found)]
    if missing:
        near = ", ".join(name for name in modules if name.count(".") < 2)
        only = f" ({', '.join(idle)} only holds others and puts out nothing)" if idle else ""
        raise ValueError(f"no module called {' or '.join(map(repr, missing))} to tap{only}; there are: {near}, ...")
    return found


def _tensor(name: str, output: Any) -> Tensor:
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    first = getattr(first, "sample", first)
    if not isinstance(first, Tensor):
        raise ValueError(f"{name!r} puts out {type(first).__name__}, no tensor; tap a module inside it")
    return first
