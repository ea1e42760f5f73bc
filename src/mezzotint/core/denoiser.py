"""Denoiser: all that samplers, guides, objectives and restorers know of a model; and how a network becomes one."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core.condition import Condition
from mezzotint.core.known import known_levels
from mezzotint.core.prediction import Prediction
from mezzotint.core.schedule import Schedule

__all__ = [
    "Denoiser",
    "EDMDenoiser",
    "EncodedDenoiser",
    "EpsDenoiser",
    "FlowDenoiser",
    "NetworkDenoiser",
    "ScaledDenoiser",
    "VDenoiser",
    "X0Denoiser",
]


class Denoiser(nn.Module):
    """D(x_t, t, c): given a noisy sample and its time, what the clean one is expected to be.

    Subclasses set `schedule` and write `forward`. Guides wrap a Denoiser into another one.
    """

    schedule: Schedule

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    @abstractmethod
    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """The prediction at x_t, (b, *s), for times t, (b,) in [0, 1], under the condition c."""


class NetworkDenoiser(Denoiser):
    """A network made a denoiser: net(x_t, 1000 t, c) predicts `kind`.

    The network runs in the dtype of its own parameters; the prediction is float32 or wider.

    Args:
        net: a module called as net(x, time, c) that returns a tensor of x's shape; time is a float (b,).
        schedule: the noise schedule.
        kind: "x0", "eps", "v", "flow" or "score": what the network's output means.

    >>> from mezzotint.core.schedule import VP
    >>> d = EpsDenoiser(lambda x, time, c: torch.zeros_like(x), VP())
    >>> d(torch.ones(2, 3), torch.tensor([0.5, 1.0])).eps.shape
    torch.Size([2, 3])
    """

    kind: ClassVar[str] = "x0"

    def __init__(self, net: Any, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.net = net

    @property
    def config(self) -> dict[str, Any]:
        """Constructor keywords besides the network and the schedule."""
        return {}

    def time(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """What the network is told of the time: 1000 t (our choice: the scale of DDPM steps)."""
        return 1000 * t

    def raw(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        """The network's output for an input x, in at least float32."""
        own = next(self.net.parameters(), None) if isinstance(self.net, nn.Module) else None
        dtype = own.dtype if own is not None else x.dtype
        if c is not None and own is not None:
            c = c.to(dtype=dtype)
        if dtype is x.dtype is time.dtype is torch.float32:  # the common case converts nothing
            return self.net(x, time, c).to(torch.float32)
        out = self.net(x.to(dtype), time.to(torch.promote_types(dtype, torch.float32)), c)
        return out.to(torch.promote_types(x.dtype, torch.float32))

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        return Prediction(self.kind, self.raw(x_t, self.time(t), c), x_t, t, self.schedule)


class X0Denoiser(NetworkDenoiser):
    """The network predicts the clean data."""

    kind = "x0"


class EpsDenoiser(NetworkDenoiser):
    """The network predicts the noise (arXiv 2006.11239). Not for schedules with alpha(1) = 0."""

    kind = "eps"


class VDenoiser(NetworkDenoiser):
    """The network predicts v = alpha eps - sigma x0 (arXiv 2202.00512)."""

    kind = "v"


class FlowDenoiser(NetworkDenoiser):
    """The network predicts the flow eps - x0 (arXiv 2209.03003)."""

    kind = "flow"


class ScaledDenoiser(NetworkDenoiser):
    """A network whose input, and whose output where subclasses keep that, is scaled by the noise level.

    x0 = c_skip x_t + c_out F(c_in x_t, c_noise). Subclasses give the weights and the time of a level.
    """

    @abstractmethod
    def weights(self, alpha: Any, sigma: Any) -> tuple[Any, ...]:
        """c_in, c_skip, c_out (or c_in alone), of numbers or of tensors."""

    @abstractmethod
    def code(self, lam: Any) -> Any:
        """c_noise of lambda = log(alpha / sigma), not clamped, of a number or of a tensor."""

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """Least and largest c_noise, since lambda is infinite at the ends."""

    def time(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """c_noise."""
        least, most = self.ends
        known = known_levels(t, self.schedule)
        if known is not None:
            alpha, sigma = known
            lam = math.log(alpha / sigma) if alpha and sigma else math.copysign(math.inf, alpha - sigma)
            return torch.full_like(t, min(max(self.code(lam), least), most))
        return self.code(self.schedule.half_log_snr(t)).clamp(least, most)

    def scaled(self, x_t: Tensor, t: Tensor) -> tuple[tuple[Any, ...], Tensor]:
        """The weights, as numbers where the levels are known and else as columns beside x_t, and the time."""
        known = known_levels(t, self.schedule)
        if known is not None:
            return self.weights(*known), self.time(t)
        wide = t.to(torch.float64)
        dtype = torch.promote_types(x_t.dtype, torch.float32)
        weights = self.weights(self.schedule.alpha(wide), self.schedule.sigma(wide))
        shape = (-1, *[1] * (x_t.ndim - 1))
        return tuple(q.to(dtype).view(shape) for q in weights), self.time(wide).to(dtype)

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        (c_in, c_skip, c_out), time = self.scaled(x_t, t)
        out = self.raw(c_in * x_t, time, c)
        if isinstance(c_out, Tensor):
            return Prediction("x0", c_skip * x_t + c_out * out, x_t, t, self.schedule)
        # numbers: two kernels besides the network's input
        return Prediction("x0", torch.add(c_skip * x_t, out, alpha=c_out), x_t, t, self.schedule)


class EDMDenoiser(ScaledDenoiser):
    """EDM's preconditioning, for any schedule.

    x0 = c_skip x_t + c_out F(c_in x_t, c_noise), with k = alpha^2 s^2 + sigma^2 (s = sigma_data):
    c_in = 1/sqrt(k), c_skip = alpha s^2 / k, c_out = sigma s / sqrt(k), c_noise = -lambda / 4 (so log(sigma)/4 at
    alpha = 1; clamped to +-20, our choice, since lambda is infinite at the ends).

    Args:
        net: as for NetworkDenoiser; receives c_noise as its time.
        schedule: any; EDM itself is VE.
        sigma_data: standard deviation of the data, > 0.

    Raises:
        ValueError: if sigma_data is not positive.

    Source: arXiv 2206.00364, table 1.
    """

    def __init__(self, net: Any, schedule: Schedule, sigma_data: float = 0.5) -> None:
        super().__init__(net, schedule)
        if not sigma_data > 0:
            raise ValueError(f"EDMDenoiser got sigma_data={sigma_data}; expected the data's standard deviation, > 0")
        self.sigma_data = float(sigma_data)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor keywords besides the network and the schedule."""
        return {"sigma_data": self.sigma_data}

    def code(self, lam: Any) -> Any:
        """-lambda / 4."""
        return -0.25 * lam

    @property
    def ends(self) -> tuple[float, float]:
        """Our choice."""
        return -20.0, 20.0

    def weights(self, alpha: Any, sigma: Any) -> tuple[Any, ...]:
        """c_in, c_skip, c_out."""
        k = alpha * alpha * self.sigma_data**2 + sigma * sigma
        return k**-0.5, alpha * self.sigma_data**2 / k, sigma * self.sigma_data * k**-0.5


class EncodedDenoiser(Denoiser):
    """A denoiser that first encodes its condition: conditioner(c) -> what the network reads.

    Used in training, where a text encoder learns jointly; when sampling, a condition is encoded once before the loop.

    Args:
        denoiser: reads the encoded condition.
        conditioner: a module, Condition -> Condition.
    """

    def __init__(self, denoiser: Denoiser, conditioner: nn.Module) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.conditioner = denoiser, conditioner

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward; c is raw (token numbers, labels)."""
        return self.denoiser(x_t, t, None if c is None else self.conditioner(c))
