"""Peak memory of one loop, in a process of its own: `python -m mezzotint.bench.train_memory NET SIDE BATCH DEVICE`."""

from __future__ import annotations

import sys

from mezzotint.bench.peak import peak, told

__all__ = ["memory_of"]

_STEPS = 4


def memory_of(net: str, side: str, batch: int, device: str) -> float | None:
    """MiB that a loop's first steps take at their peak over what the process had before it was made.

    On a GPU what torch allocated; on Linux the resident set; elsewhere None.
    """
    return told("train_memory", [net, side, str(batch), device], device)


def _main(net: str, side: str, batch: str, device: str) -> None:
    import torch

    from mezzotint.bench.train import SIDES
    from mezzotint.bench.train_side import problem

    make = SIDES[side][0]
    what = problem(net, int(batch), device=device)
    make(what).close()  # what a library imports when it is first used is none of the loop's
    before = peak(torch.device(device), reset=True)
    loop = make(what)
    loop.advance(_STEPS)
    print(round(peak(torch.device(device)) - before, 1))
    loop.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
