"""Peak memory of a run under a handle, in a process of its own: `python -m mezzotint.bench.taps_memory MODEL NAME`."""

from __future__ import annotations

import sys

__all__: list[str] = []


def _main(model: str, handle: str) -> None:
    """MiB at the peak of three runs' steps over what the process had before, after a run that brought in the code."""
    import torch

    from mezzotint.bench.peak import peak
    from mezzotint.bench.taps import MODELS, cases

    with torch.no_grad():
        case = MODELS[model]()
        opens = cases(case)[handle][0]
        before = peak(torch.device("cpu"), reset=True)
        with opens():
            case.run(3)
        print(round(peak(torch.device("cpu")) - before, 1))


if __name__ == "__main__":
    _main(*sys.argv[1:])
