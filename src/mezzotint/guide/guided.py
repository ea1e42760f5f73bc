"""What a guide is: a map from denoisers to denoisers. A sampler never knows that its denoiser is guided."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.core.known import spread_time

__all__ = ["Guide", "GuidedDenoiser", "spread_time"]


@runtime_checkable
class Guide(Protocol):
    """Anything that makes a denoiser of a denoiser."""

    def __call__(self, denoiser: Denoiser) -> Denoiser: ...


class GuidedDenoiser(Denoiser):
    """A denoiser that also gives the plain conditional prediction it started from, at no extra cost.

    Args:
        denoiser: the one that is guided.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser = denoiser

    @abstractmethod
    def pair(
        self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None
    ) -> tuple[Prediction, Prediction]:
        """The guided prediction and the conditional one."""

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """The guided prediction."""
        return self.pair(x_t, t, c)[0]
