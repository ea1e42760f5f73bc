"""The Jacobian of a denoiser at a noisy sample, by its products with vectors: it is never built."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from mezzotint.core import Condition, Denoiser
from mezzotint.sample.ems_moments import Derivative

__all__ = ["DENSE_LIMIT", "Jacobian"]

DENSE_LIMIT = 4096  # elements of a sample up to which a matrix is built when asked for
Output = Callable[[Tensor], Tensor]


class Jacobian:
    """J = d f(D(x_t, t, c)) / dx_t of each sample of a batch, as v -> J v and w -> J^T w.

    J v is forward mode (double backward where an operation of the network has none), J^T w one backward pass. Vectors
    of all samples go through the network together, `rows` at a time. D may be guided, and latent: f, such as an
    autoencoder's `decode`, then tells in which space changes are seen.

    Args:
        d: the denoiser, float32 or wider, in eval mode.
        x_t: noisy samples, (b, *s).
        t: their time, 0 < t <= 1.
        c: the condition, b rows.
        mask: where changes of the output count, bool (or weights), of the output's sample shape or what spreads to
            it; None for everywhere.
        output: f, batch first; None for x0 itself.
        rows: rows of the network's batches: memory grows with it.

    Attributes:
        products: vectors of each sample that were multiplied so far, either way: the cost, in passes.

    Raises:
        ValueError: for an empty mask, a t out of range, half precision, dropout that is switched on.

    Source: arXiv 2409.02374 and its official code (mask, products in place of the matrix); f is our extension.

    >>> from mezzotint.core import Gaussian, Flow
    >>> j = Jacobian(Gaussian(torch.zeros(2), std=1.0).denoiser(Flow()), torch.zeros(1, 2), 0.5)
    >>> j.times(torch.eye(2)[None]).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """

    def __init__(
        self,
        d: Denoiser,
        x_t: Float[Tensor, "b *s"],
        t: float,
        c: Condition | None = None,
        *,
        mask: Tensor | None = None,
        output: Output | None = None,
        rows: int = 32,
    ) -> None:
        _checked(d, x_t, t, c, rows)
        self.x_t, self.t, self.c, self.rows = x_t.detach(), float(t), c, rows
        self._d, self._output = d, output
        # a net as training leaves it may be channels-last, in which torch's group norm has no forward mode
        # (told by its strides: a kernel of 1 x 1 is contiguous either way)
        self._plain = {
            name: p.detach().clone(memory_format=torch.contiguous_format)
            for name, p in d.named_parameters()
            if p.ndim == 4 and p.stride() != torch.empty(p.shape, device="meta").stride()
        }
        value = self._value(x_t.detach())
        self.shape, self.output_shape = tuple(x_t.shape[1:]), tuple(value.shape[1:])
        self._mask = None if mask is None else _mask(mask, value)
        self.products = 0
        self._forward_mode = True

    @property
    def n(self) -> int:
        """Number of columns: elements of a sample."""
        return math.prod(self.shape)

    @property
    def m(self) -> int:
        """Number of rows: elements of an output."""
        return math.prod(self.output_shape)

    @property
    def level(self) -> Tensor:
        """|x_t| / sqrt(n), (b,): the unit in which the length of a step is told."""
        return self.x_t.flatten(1).norm(dim=1) / self.n**0.5

    @torch.no_grad()
    def _value(self, x: Tensor) -> Tensor:
        return self._function(x, torch.full((len(x),), self.t, dtype=x.dtype, device=x.device), self.c)

    def _function(self, x: Tensor, t: Tensor, c: Condition | None) -> Tensor:
        x0 = (functional_call(self._d, self._plain, (x, t, c)) if self._plain else self._d(x, t, c)).x0
        return x0 if self._output is None else self._output(x0)

    def times(self, v: Float[Tensor, "b r *s"]) -> Float[Tensor, "b r *o"]:
        """J v of r vectors a sample."""
        return self._each(v, self.shape, self.output_shape, self._forward)

    def transposed(self, w: Float[Tensor, "b r *o"]) -> Float[Tensor, "b r *s"]:
        """J^T w of r vectors a sample."""
        return self._each(w, self.output_shape, self.shape, self._backward)

    def dense(self) -> Float[Tensor, "b m n"]:
        """The matrix, by its columns.

        Raises:
            ValueError: for samples of more than 4096 elements.
        """
        if self.n > DENSE_LIMIT:
            raise ValueError(
                f"a sample has {self.n} elements, and its Jacobian {self.n * self.m:.3g}; above {DENSE_LIMIT} elements "
                "take SubspaceIteration, which needs products only"
            )
        eye = torch.eye(self.n, dtype=self.x_t.dtype, device=self.x_t.device).reshape(self.n, *self.shape)
        columns = self.times(eye.expand(len(self.x_t), *eye.shape))
        return columns.reshape(len(self.x_t), self.n, self.m).transpose(1, 2)

    def _each(self, v: Tensor, told: tuple[int, ...], made: tuple[int, ...], product: Any) -> Tensor:
        b = len(self.x_t)
        if v.ndim < 2 or len(v) != b or tuple(v.shape[2:]) != told:
            raise ValueError(f"vectors have shape {tuple(v.shape)}; expected ({b}, r, {', '.join(map(str, told))})")
        r = v.shape[1]
        self.products += r
        flat, sample = v.detach().reshape(b * r, *told), torch.arange(b, device=v.device).repeat_interleave(r)
        parts = []
        for start in range(0, b * r, self.rows):
            where = sample[start : start + self.rows]
            x, c = self.x_t[where], None if self.c is None or not len(self.c) else self.c.rows(where)
            t = torch.full((len(x),), self.t, dtype=x.dtype, device=x.device)
            parts.append(product(x, t, c, flat[start : start + self.rows].to(x.dtype)))
        return torch.cat(parts).reshape(b, r, *made)

    def _forward(self, x: Tensor, t: Tensor, c: Condition | None, v: Tensor) -> Tensor:
        derivative = Derivative(lambda x, t: self._function(x, t, c))
        derivative.forward_mode = self._forward_mode  # one failure is enough
        out = derivative(x, t, v, torch.zeros_like(t))[1]
        self._forward_mode = derivative.forward_mode
        return out if self._mask is None else out * self._mask

    def _backward(self, x: Tensor, t: Tensor, c: Condition | None, w: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.requires_grad_()
            out = self._function(x, t, c)
            if not out.requires_grad:  # nothing depends on x, or a network that cuts its gradients
                raise RuntimeError(
                    "no gradient reaches x_t through this denoiser; take no_grad out of it, and inference_mode from "
                    "around this call"
                )
            (g,) = torch.autograd.grad(out, x, (w if self._mask is None else w * self._mask).to(out.dtype))
        return g


def _mask(mask: Tensor, value: Tensor) -> Tensor:
    shape = tuple(value.shape[1:])
    try:
        whole = mask.to(value.device).expand(shape)
    except RuntimeError:
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)}, which does not spread to an output of {shape}; for a latent "
            "denoiser give the mask at the latent's size, or output=autoencoder.decode"
        ) from None
    if not bool((whole != 0).any()):
        raise ValueError("the mask is empty: no place of the output counts; mark some with True")
    return whole.to(value.dtype)


def _checked(d: Denoiser, x_t: Tensor, t: float, c: Condition | None, rows: int) -> None:
    if not hasattr(d, "schedule"):
        raise ValueError(f"a Jacobian needs a Denoiser, which has a schedule; got {type(d).__name__}")
    if x_t.ndim < 2 or not x_t.numel() or x_t.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x_t is {x_t.dtype} of shape {tuple(x_t.shape)}; expected (b, *s) in float32 or float64")
    if not 0 < t <= 1:
        raise ValueError(f"the time t={t}; expected 0 < t <= 1: without noise the denoiser is the identity")
    if c is not None and len(c) and c.batch != len(x_t):
        raise ValueError(f"the condition has {c.batch} rows but x_t has {len(x_t)} samples; give one row a sample")
    if rows < 1:
        raise ValueError(f"rows={rows}; expected a number >= 1")
    for name, p in d.named_parameters():
        if p.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"the parameter {name} is {p.dtype}, in which derivatives are rounding; convert with .float()"
            )
    for name, module in d.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise ValueError(f"{name} drops out at random, so that there is no one Jacobian; call .eval() first")
