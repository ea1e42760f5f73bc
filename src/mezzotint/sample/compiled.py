"""Compilation by regions: the repeated blocks of a network are compiled, once a kind, and the rest runs as it is.

A transformer of 28 equal blocks is compiled in the time of one. A block is compiled where it stands, for the length of
a `with`: weights are shared, hooks and handlers of attention keep their layers, and outside nothing has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import nn

__all__ = ["compiled", "repeated_blocks"]

# Blocks of one class at several widths and sizes are compiled for each: more than torch's default of 8.
_RECOMPILE = 64


def repeated_blocks(net: nn.Module) -> list[nn.Module]:
    """The outermost modules whose class occurs at least twice and that hold at least two layers with weights.

    Where a part of the network names its own (`_repeated_blocks`, class names, as diffusers' models do), those. torch's
    own layers and containers are no blocks. Empty where nothing repeats.

    >>> from mezzotint.nn import DiT
    >>> [type(block).__name__ for block in repeated_blocks(DiT(3, width=8, depth=2, heads=2))]
    ['DiTBlock', 'DiTBlock']
    """
    named = {name for part in net.modules() for name in getattr(part, "_repeated_blocks", None) or ()}
    if named:
        return _outermost(net, lambda module: type(module).__name__ in named)
    count = Counter(type(module) for module in net.modules())
    return _outermost(net, lambda module: count[type(module)] > 1 and _is_block(module))


@contextmanager
def compiled(net: nn.Module, backend: str | Callable[..., Any] = "inductor", **options: Any) -> Iterator[int]:
    """`net` with its repeated blocks compiled (all of it where none repeats) for the length of the block.

    Shapes are fixed (`dynamic=False`): another size or batch compiles again, on its first call. What was compiled is
    kept by torch for the class of the block and serves the next `with`, and other networks of these blocks.

    Args:
        net: the network. A block whose `forward` somebody has replaced (offloading does) is left as it is.
        backend, options: of `torch.compile`.

    Returns:
        A context manager that gives the number of compiled blocks.
    """
    blocks = [block for block in repeated_blocks(net) or [net] if "forward" not in vars(block)]
    with ExitStack() as stack:
        stack.enter_context(_more_recompiles())
        for block in blocks:
            forward = _compiled(type(block).forward, backend, tuple(sorted(options.items())))
            setattr(block, "forward", partial(forward, block))  # noqa: B010 (a method to a type checker)
            stack.callback(vars(block).pop, "forward", None)
        yield len(blocks)


@cache
def _compiled(forward: Callable[..., Any], backend: Any, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    return torch.compile(forward, backend=backend, dynamic=False, **dict(options))


def _is_block(module: nn.Module) -> bool:
    if type(module).__module__.startswith("torch.nn."):
        return False
    holders = (part for part in module.modules() if part is not module and part._parameters)
    return sum(1 for _, _ in zip(holders, range(2))) == 2


def _outermost(net: nn.Module, wanted: Callable[[nn.Module], bool]) -> list[nn.Module]:
    found: list[nn.Module] = []
    waiting = list(net.children())
    while waiting:
        module = waiting.pop(0)
        if module not in found and wanted(module):
            found.append(module)
        else:
            waiting[:0] = module.children()
    return found


@contextmanager
def _more_recompiles() -> Iterator[None]:
    from torch._dynamo import config

    # the limit's name changed between versions of torch
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    with config.patch({name: max(_RECOMPILE, getattr(config, name))}):
        yield
