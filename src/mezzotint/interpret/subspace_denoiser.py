"""A denoiser whose parameters are subspaces, and finding them by training it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core import Condition, Cosine, Denoiser, Noise, Prediction, Schedule
from mezzotint.interpret.subspace_fit import checked_samples

__all__ = ["LowRankDenoiser", "TrainedSubspaces", "low_rank_loss"]

Assignment = Literal["soft", "hard"]


class LowRankDenoiser(Denoiser):
    """D(x) = c sum_k w_k(x) U_k U_k^T x, c = alpha / (alpha^2 + sigma^2), U_k the orthonormal columns of A_k.

    w_k ~ exp(phi |U_k^T x|^2), phi = alpha^2 / (2 sigma^2 (alpha^2 + sigma^2)), the exact weights of equally likely
    subspaces; in the limit sigma = 0 the largest takes all. "hard": it takes all at every level.

    Args:
        bases: (k, n, d): the first A, any of full rank; a parameter.
        schedule: any.
        weights: "soft" or "hard".

    Raises:
        ValueError: for bases of another shape, or unknown weights.

    Source: arXiv 2409.02426, equation 9 and section 4; a QR decomposition in place of a constraint is our choice.

    >>> from mezzotint.core import VP
    >>> d = LowRankDenoiser(torch.eye(3, 1)[None], VP())
    >>> d(torch.ones(1, 3), torch.ones(1)).x0[0, 1:].abs().tolist()
    [0.0, 0.0]
    """

    def __init__(self, bases: Float[Tensor, "k n d"], schedule: Schedule, weights: Assignment = "soft") -> None:
        super().__init__(schedule)
        if bases.ndim != 3 or not 1 <= bases.shape[2] <= bases.shape[1]:
            raise ValueError(f"LowRankDenoiser got bases of shape {tuple(bases.shape)}; expected (k, n, d), d <= n")
        if weights not in ("soft", "hard"):
            raise ValueError(f"LowRankDenoiser got weights={weights!r}; expected 'soft' or 'hard'")
        self.raw, self.weights = nn.Parameter(bases.detach().clone()), weights

    @property
    def bases(self) -> Float[Tensor, "k n d"]:
        """U, orthonormal columns."""
        return torch.linalg.qr(self.raw)[0]

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        flat, wide = x_t.flatten(1).to(self.raw.dtype), t.double()
        alpha, sigma = self.schedule.alpha(wide).to(flat), self.schedule.sigma(wide).to(flat)
        x0 = _mixed(self.bases[None], flat, alpha, sigma, None if self.weights == "soft" else flat)[0]
        dtype = torch.promote_types(x_t.dtype, torch.float32)
        return Prediction("x0", x0.reshape(x_t.shape).to(dtype), x_t, t, self.schedule)


def _mixed(bases: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, judged: Tensor | None) -> Tensor:
    """D of r models at once, (r, b, n), for bases (r, k, n, d); hard weights go by `judged`, (b, n)."""
    inner = torch.einsum("rknd,bn->rkbd", bases, x)
    power, most = inner.square().sum(-1), alpha**2 + sigma**2
    if judged is None:
        noisy = torch.where(sigma > 0, sigma, 1.0)
        soft = (0.5 * alpha**2 / (noisy**2 * most) * power).softmax(1)
        w = torch.where(sigma > 0, soft, _largest(power))
    else:
        w = _largest(torch.einsum("rknd,bn->rkbd", bases, judged).square().sum(-1))
    return torch.einsum("rknd,rkbd->rbn", bases, (w * (alpha / most))[..., None] * inner)


def _largest(power: Tensor) -> Tensor:
    """One for the largest of k, (r, k, b), zero for the others."""
    k = torch.arange(power.shape[1], device=power.device)[:, None]
    return (power.argmax(1, keepdim=True) == k).to(power.dtype)


def low_rank_loss(
    bases: Float[Tensor, "r k n d"],
    x: Float[Tensor, "N n"],
    eps: Float[Tensor, "N n"],
    t: Float[Tensor, " N"],
    schedule: Schedule,
    assignment: Assignment = "soft",
    weight: Literal["inverse", "one"] = "inverse",
) -> Float[Tensor, " r"]:
    """mean_i weight(t_i) |D_U(alpha x_i + sigma eps_i) - x_i|^2 of r models at once.

    With one subspace this is const - kappa |U^T X|^2 in expectation, kappa = 2 c alpha - c^2 alpha^2 > 0. With hard
    weights (those of the clean x_i) training is K-subspaces; with soft ones, the denoiser's own, no theorem says so.

    Args:
        bases: (r, k, n, d), orthonormal columns.
        x, eps, t: data, noise and a time for each, 0 < t <= 1.
        schedule: any.
        assignment: "soft" (by x_t) or "hard" (by x).
        weight: "inverse": 1 / sigma^2; or "one".

    Source: arXiv 2409.02426, equations 10 and 13.
    """
    alpha, sigma = schedule.alpha(t.double()).to(x), schedule.sigma(t.double()).to(x)
    x_t = alpha[:, None] * x + sigma[:, None] * eps
    off = (_mixed(bases, x_t, alpha, sigma, None if assignment == "soft" else x) - x).square().sum(-1)
    return (off / sigma**2 if weight == "inverse" else off).mean(1)


@dataclass(frozen=True)
class TrainedSubspaces:
    """Bases by gradient descent on a low-rank denoiser: Adam, full batch, all restarts together, the best kept.

    Args:
        steps: of Adam, >= 1.
        restarts: from random bases, on the same noise, >= 1.
        lr, last_lr: the first and the last rate, geometric in between.
        assignment, weight: see `low_rank_loss`.
        schedule: of the noise; cos and sin of pi t / 2.
        ends: times are uniform between these.
        judged: draws of noise over which the last losses are averaged.

    Raises:
        ValueError: for numbers out of range.

    Source: the style of arXiv 2409.02426, whose code for it is not released: optimiser and counts are our choice.
    """

    steps: int = 3000
    restarts: int = 10
    lr: float = 1e-2
    last_lr: float = 1e-3
    assignment: Assignment = "soft"
    weight: Literal["inverse", "one"] = "inverse"
    schedule: Schedule = Cosine(0.0)
    ends: tuple[float, float] = (0.02, 0.98)
    judged: int = 32

    def __post_init__(self) -> None:
        low, high = self.ends
        if (
            min(self.steps, self.restarts, self.judged) < 1
            or not 0 < low < high <= 1
            or min(self.lr, self.last_lr) <= 0
        ):
            raise ValueError(f"{self}; expected counts >= 1, rates > 0 and times 0 < low < high <= 1")

    def __call__(self, x: Float[Tensor, "N n"], k: int, d: int, noise: Noise) -> Float[Tensor, "k n d"]:
        """The bases of the restart whose loss is least."""
        checked_samples(x, k, d)
        raw = noise("raw", 0, (self.restarts, k, x.shape[1], d), dtype=torch.float64)[0].to(x).requires_grad_()
        with torch.enable_grad():
            adam = torch.optim.Adam([raw], self.lr)
            for step in range(self.steps):
                adam.param_groups[0]["lr"] = self.lr * (self.last_lr / self.lr) ** (step / max(self.steps - 1, 1))
                loss = self._loss(torch.linalg.qr(raw)[0], x, noise, "train", step).sum()  # restarts share nothing
                (raw.grad,) = torch.autograd.grad(loss, raw)
                adam.step()
        with torch.no_grad():
            bases = torch.linalg.qr(raw)[0]
            losses = torch.stack([self._loss(bases, x, noise, "judge", i) for i in range(self.judged)]).mean(0)
            return bases[int(losses.argmin())].detach()

    def _loss(self, bases: Tensor, x: Tensor, noise: Noise, purpose: str, k: int) -> Tensor:
        low, high = self.ends
        t = low + (high - low) * noise.uniform(f"{purpose} t", k, (len(x),), dtype=torch.float64, device=x.device)[0]
        eps = noise(purpose, k, tuple(x.shape), dtype=x.dtype, device=x.device)[0]
        return low_rank_loss(bases, x, eps, t, self.schedule, self.assignment, self.weight)
