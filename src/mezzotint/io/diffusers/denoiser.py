"""diffusers' own networks as denoisers of ours.

Their networks are told the integer step of training (i of N at t = (i + 1) / N) or, for flows, 1000 sigma, and take
their condition by keyword; `Backbone` adapters, one a family, translate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core import (
    Condition,
    Discrete,
    EpsDenoiser,
    FlowDenoiser,
    NetworkDenoiser,
    Schedule,
    VDenoiser,
    X0Denoiser,
)
from mezzotint.core.known import known_time
from mezzotint.io.diffusers.attention import ProcessorDoor, drawing, kind_of, open_doors

__all__ = ["Backbone", "denoiser_of"]


class Backbone(nn.Module):
    """A network of diffusers, called as ours: net(x, time, c). A family writes `predict`.

    Args:
        module: the network; its attention layers get doors here.
        channels: of x; where the network puts out twice as many, the second half is a variance and is cut off.
        multiple: height and width of x must be multiples of this.
    """

    doors: ClassVar[Mapping[str, type[ProcessorDoor]]] = {}  # class name of a processor -> a door of its own

    def __init__(self, module: Any, channels: int, multiple: int = 1) -> None:
        super().__init__()
        self.module = module
        self.channels, self.multiple = int(channels), int(multiple)
        open_doors(module, self.kind_of, self.doors)

    @property
    def device(self) -> torch.device:
        """Where it computes; with offloading its weights may be elsewhere."""
        first = next(self.module.parameters()).device
        if not hasattr(self.module, "_hf_hook"):  # of accelerate
            return first
        hooks = (getattr(module, "_hf_hook", None) for module in self.module.modules())
        devices = (getattr(hook, "execution_device", None) for hook in hooks)
        return next((torch.device(device) for device in devices if device is not None), first)

    def kind_of(self, name: str, layer: Any) -> str:
        """ "self", "cross" or "joint": the kind of an attention layer."""
        return kind_of(name, layer)

    def predict(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        """What the module says, (b, channels or twice that, h, w).

        Args:
            x: (b, channels, h, w), in the dtype of the module.
            time: (b,) floats: the step i, or 1000 sigma for a flow.
            c: the condition in the dtype of the module.
        """
        raise NotImplementedError

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, " b"], c: Condition | None = None
    ) -> Float[Tensor, "b c h w"]:
        """The prediction, without a learned variance."""
        with drawing(x.shape[-2], x.shape[-1]):
            out = self.predict(x, time, c)
        return out[:, : self.channels] if out.shape[1] == 2 * self.channels else out


class _Told(NetworkDenoiser):
    """Tells the network its time as diffusers does."""

    steps: float = 1000.0
    schedule_at: Callable[[int, int], Schedule] | None = None

    def at(self, height: int, width: int) -> NetworkDenoiser:
        """The same network with the schedule for latents of this size (dynamic shifting); mostly itself."""
        if self.schedule_at is None:
            return self
        return denoiser_of(self.net, self.schedule_at(height, width), self.kind, self.schedule_at)

    def time(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The step t N - 1, exact at the integers, for a table of N betas; else 1000 sigma(t)."""
        if not isinstance(self.schedule, Discrete):
            return (self.steps * self.schedule.sigma(t.double())).to(t.dtype)
        if (known := known_time(t)) is not None:
            step = known * self.schedule.steps - 1
            return torch.full_like(t, round(step) if abs(step - round(step)) < 1e-3 else step)
        step = self.schedule.timestep(t.double())
        near = step.round()
        # t is mostly float32, where (i + 1) / N is off by up to 6e-8 N
        return torch.where((step - near).abs() < 1e-3, near, step).to(t.dtype)


class _Eps(_Told, EpsDenoiser):
    pass


class _V(_Told, VDenoiser):
    pass


class _X0(_Told, X0Denoiser):
    pass


class _Flow(_Told, FlowDenoiser):
    pass


_KINDS: dict[str, type[_Told]] = {"eps": _Eps, "v": _V, "x0": _X0, "flow": _Flow}


def denoiser_of(
    net: Backbone, schedule: Schedule, kind: str, at: Callable[[int, int], Schedule] | None = None
) -> NetworkDenoiser:
    """The denoiser of a diffusers network.

    Args:
        net: the adapted network.
        schedule: what `schedule_of` read from the scheduler.
        kind: "eps", "v", "x0" or "flow".
        at: (height, width) of the latents -> schedule, where it depends on them; `schedule` is for the usual size.
    """
    denoiser = _KINDS[kind](net, schedule)
    denoiser.schedule_at = at
    return denoiser
