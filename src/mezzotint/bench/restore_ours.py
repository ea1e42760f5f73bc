"""Our methods as `bench restore` runs them, and what is done without a prior."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mezzotint.bench.restore_case import Case, Prior
from mezzotint.core import Noise
from mezzotint.restore.names import METHODS, find_method
from mezzotint.restore.operators import LinearOperator, SpectralOperator
from mezzotint.restore.repaint import RePaint
from mezzotint.restore.total_variation import total_variation

__all__ = ["BASELINES", "guess", "least_variation", "restored", "suits"]

_VARIATION = 0.5  # weight over the measurement's std: our choice, one for all tasks


def suits(method: str, case: Case) -> str:
    """Why a method does not take the task's operator; empty where it does."""
    needs, operator = METHODS[method].operators, case.operator
    if needs == "picture":
        return "" if case.task in ("denoise", "jpeg") else "needs a measurement that is a picture"
    if needs != "any" and not isinstance(operator, LinearOperator):
        return "needs a linear operator"
    if needs == "spectral" and not isinstance(operator, SpectralOperator):
        return "needs a singular value decomposition"
    if method in ("repaint", "mcg") and case.task in ("sr4", "deblur"):
        return "needs an operator that selects"
    return ""


def restored(method: str, prior: Prior, case: Case, nfe: int, grid: Tensor | None = None) -> Tensor:
    """By the method of that name with its defaults, in `nfe` network calls, or over given times.

    RePaint goes back and forth less than by default, so that it has steps enough, and may make fewer calls.
    """
    made = find_method(method)
    if grid is not None:
        return made(prior, case.operator, case.y, Noise(case.seeds), std=case.std, grid=grid)
    steps = nfe
    if isinstance(made, RePaint):  # its own 10 and 10 would leave it 10 steps of 100 calls
        made = replace(made, jump=max(1, nfe // 25), times=5)
        steps = max([n for n in range(2, nfe + 1) if made.nfe(n) <= nfe], default=2)
    return made(prior, case.operator, case.y, Noise(case.seeds), std=case.std, steps=steps)


def guess(prior: Prior | None, case: Case, nfe: int) -> Tensor:
    """The operator's: the pseudo-inverse where it is linear; the measurement itself for JPEG."""
    return case.operator.guess(case.y)


def least_variation(prior: Prior | None, case: Case, nfe: int) -> Tensor:
    """`total_variation` with half of the noise's std as its weight."""
    if not isinstance(case.operator, LinearOperator):
        raise ValueError("total variation needs a linear operator")
    return total_variation(case.operator, case.y, _VARIATION * case.std, low=-1.0, high=1.0)


BASELINES = {"guess": guess, "total-variation": least_variation}
