"""A denoiser whose last layer is a forward model: diffusion over observations that yields signals."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction, Schedule
from mezzotint.restore.forward_model.model import ForwardModel

__all__ = ["ForwardModelDenoiser"]


class ForwardModelDenoiser(Denoiser):
    """D(y_t, t, c) = F(G(y_t, t, c), phi): the network predicts a signal, and its observation is the prediction.

    Every sampler, guide and schedule works unchanged on the observations y; `signal` gives what they are of.

    Args:
        net: G, called as net(y_t, t, c) with t in [0, 1]; returns a signal that `model` takes.
        model: F.
        schedule: of the diffusion over observations.
        key: the entry of the condition that holds phi of the observation that is diffused, (b, *p).

    Raises:
        ValueError: when called without that entry.

    Source: arXiv 2306.11719, section 3.

    >>> import torch
    >>> from mezzotint.core import Cosine
    >>> from mezzotint.restore.forward_model import LinearModel
    >>> d = ForwardModelDenoiser(lambda y, t, c: y, LinearModel(), Cosine())
    >>> d(torch.ones(1, 2), torch.tensor([0.5]), Condition({"phi": torch.eye(2)[None]})).x0.tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, net: Any, model: ForwardModel, schedule: Schedule, key: str = "phi") -> None:
        super().__init__(schedule)
        self.net, self.model, self.key = net, model, key

    def phi(self, c: Condition | None) -> Tensor:
        """How the diffused observation looks at its signal."""
        if c is None or self.key not in c:
            raise ValueError(
                f"the condition has no {self.key!r}, which says how the signal is looked at; give "
                f"c=Condition({{{self.key!r}: phi, ...}})"
            )
        return c[self.key]

    def signal(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Any:
        """G(y_t, t, c): the expected signal."""
        self.phi(c)
        return self.net(x_t, t, c)

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        seen = self.model(self.signal(x_t, t, c), self.phi(c))
        return Prediction("x0", seen, x_t, t, self.schedule)
