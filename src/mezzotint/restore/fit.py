"""How well an image explains a measurement: if it can at all, a first one that does, the misfit's gradient."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators import LinearOperator
from mezzotint.restore.operators.operator import ComposedLinear
from mezzotint.restore.problem import Problem
from mezzotint.restore.regularised import regularised

__all__ = ["check_fit", "first_image", "misfit_gradient"]


def first_image(problem: Problem) -> Float[Tensor, "b *s"]:
    """Where to start: the operator's guess, or, where that is a pseudo-inverse and y is noisy, A* (A A* + std^2)^-1 y.

    The second is the mean under a prior of unit variance, which does not blow the noise up as the pseudo-inverse of a
    blur does (our choice; the released operators of arXiv 2305.04391 leave small singular values out).

    >>> from mezzotint.core import Noise
    >>> from mezzotint.restore.operators import Matrix
    >>> faint = Problem.of(Matrix(0.01 * torch.eye(1)), torch.ones(1, 1), Noise([0]), std=0.01)
    >>> faint.guess.round().item(), first_image(faint).round().item()
    (100.0, 50.0)
    """
    operator = problem.operator
    plain = type(operator).guess is LinearOperator.guess or isinstance(operator, ComposedLinear)
    if not (plain and problem.std and isinstance(operator, LinearOperator)):
        return problem.guess
    return regularised(operator, problem.y, problem.std**2)


def check_fit(problem: Problem) -> None:
    """Refuse a measurement that this operator cannot have made, before any network call.

    An operator may state the range of its measurements as `value_range` = (least, greatest), `A @ B` has that of A; a
    measurement may leave it by as much as it is wide, and by six standard deviations of its noise (our choice).

    Raises:
        ValueError: for a shape that is not that of A(x), or values far outside of the range.
    """
    y = problem.y
    with torch.no_grad():
        made = problem.operator(problem.guess)
    if made.shape != y.shape:
        raise ValueError(
            f"the measurement has shape {tuple(y.shape)} but {type(problem.operator).__name__} makes "
            f"{tuple(made.shape)} of an image {tuple(problem.guess.shape)}; give y = A(x) of the same operator"
        )
    if problem.operator.value_range is None:
        return
    least, greatest = problem.operator.value_range
    slack = greatest - least + 6 * problem.std
    low, high = float(y.min()), float(y.max())
    if low < least - slack or high > greatest + slack:
        raise ValueError(
            f"the measurement lies in [{low:.4g}, {high:.4g}] but {type(problem.operator).__name__} measures in "
            f"[{least:g}, {greatest:g}]; bring it to the range of the model, as 2 v / 255 - 1 does with bytes v"
        )


def misfit_gradient(problem: Problem, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
    """The gradient of |y - A(x)|^2 / 2 with respect to x, each row's own: A*(A x - y) where A is linear.

    Raises:
        ValueError: for an operator through which no gradient comes.

    >>> from mezzotint.core import Noise
    >>> from mezzotint.restore.operators import conjugate_gradients
    >>> class Twice(LinearOperator):
    ...     forward = adjoint = lambda self, x: 2 * x
    >>> misfit_gradient(Problem.of(Twice(), torch.ones(1, 2), Noise([0])), torch.ones(1, 2)).tolist()
    [[2.0, 2.0]]
    """
    if isinstance(problem.operator, LinearOperator):
        return -problem.operator.adjoint(problem.residual(x))
    with torch.inference_mode(False), torch.enable_grad():
        x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
        misfit = 0.5 * problem.residual(x).square().sum()
        if not misfit.requires_grad:
            raise ValueError(
                f"{type(problem.operator).__name__} passes no gradient on, which this method needs; use an operator "
                "made of differentiable torch functions, or a surrogate of it"
            )
        return torch.autograd.grad(misfit, x)[0]
