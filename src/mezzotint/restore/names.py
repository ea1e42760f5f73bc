"""The methods by the names that the command line takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mezzotint.restore.ddnm import DDNM
from mezzotint.restore.ddrm import DDRM
from mezzotint.restore.diffpir import DiffPIR
from mezzotint.restore.dps import DPS
from mezzotint.restore.expected import Expected
from mezzotint.restore.mcg import MCG
from mezzotint.restore.moment import MomentMatching
from mezzotint.restore.pigdm import PiGDM
from mezzotint.restore.reddiff import REDDiff
from mezzotint.restore.repaint import RePaint
from mezzotint.restore.restorer import Restorer

__all__ = ["METHODS", "Method", "find_method"]


@dataclass(frozen=True)
class Method:
    """A method with its usual settings.

    Args:
        make: () -> the restorer.
        operators: what it takes: "any" that has gradients, "linear", "spectral" (a singular value decomposition), or
            "picture" (whose measurement is a picture of the same size).
        passes: backward passes through the network, a step.
        paper: arXiv id, or where it was published.
        steps: where none are told.
    """

    make: Callable[[], Restorer]
    operators: str
    passes: str
    paper: str
    steps: int = 50


METHODS: dict[str, Method] = {
    "red-diff": Method(REDDiff, "any", "0", "2305.04391", steps=100),
    "dps": Method(DPS, "any", "1", "2209.14687"),
    "pigdm": Method(PiGDM, "linear", "1", "Song et al., ICLR 2023"),
    "moment": Method(lambda: MomentMatching(1), "linear", "1", "2405.13712"),
    "diffpir": Method(DiffPIR, "linear", "0", "2305.08995"),
    "ddnm": Method(DDNM, "linear", "0", "2212.00490"),
    "ddrm": Method(DDRM, "spectral", "0", "2201.11793"),
    "mcg": Method(MCG, "spectral", "1", "2206.00941"),
    "repaint": Method(RePaint, "spectral", "0", "2201.09865"),
    "expected": Method(Expected, "picture", "0", "Tweedie's formula", steps=1),
}


def find_method(name: str) -> Restorer:
    """The restorer of a name.

    Raises:
        ValueError: for an unknown one; names them all.

    >>> find_method("dps").zeta
    1.0
    """
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; the methods are {', '.join(METHODS)}")
    return METHODS[name].make()
