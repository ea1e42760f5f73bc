"""Networks that are told the degraded picture and the state of a process, made denoisers."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, NetworkDenoiser, Prediction
from mezzotint.restore.bridge.i2sb import I2SB
from mezzotint.restore.bridge.process import Process, check_ends

__all__ = ["BlindBridgeDenoiser", "BridgeDenoiser", "EpsBridgeDenoiser", "I2SBDenoiser"]


class BridgeDenoiser(NetworkDenoiser):
    """F(x_t, y, t) -> x, as a denoiser of z_t = x_t - b(t) y under the condition "concat" = y.

    The network is called as net(x_t, 1000 t, c). Any sampler and objective of denoisers takes it: they see z_t, whose
    schedule the process is. Channels of "concat" beyond those of x are for the network alone.

    Args:
        net: called as net(x, time, c), for example `UNet(3, concat=3)`.
        process: leads from x to y.

    Raises:
        ValueError: for another schedule, or a process with other ends; when called, without a "concat".

    Source: arXiv 2307.12348 and 2303.11435 (the network predicts x); as a change of variables, our choice.

    >>> import torch; from mezzotint.restore.bridge import InDI
    >>> d, c = BridgeDenoiser(lambda x, time, c: x, InDI()), Condition({"concat": torch.ones(1, 2)})
    >>> d(torch.zeros(1, 2), torch.tensor([0.5]), c).x0.tolist()
    [[0.5, 0.5]]
    """

    kind = "x0"

    def __init__(self, net: Any, process: Process) -> None:
        if not isinstance(process, Process):
            raise ValueError(
                f"expected a Process, such as ResShift(); got {type(process).__name__}. For a schedule of noise alone "
                "take X0Denoiser, EpsDenoiser or VDenoiser: they read the condition as well"
            )
        check_ends(process)
        super().__init__(net, process)
        self.process = process

    def read(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The value of `kind` from the network's output; t is (b, 1, ...)."""
        return out

    def told(self, c: Condition) -> Condition | None:
        """What the network is told."""
        return c

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward; x_t is z_t."""
        if c is None or "concat" not in c:
            raise ValueError("a bridge needs the degraded picture; give Condition({'concat': y}), in the shape of x")
        y = c["concat"][:, : x_t.shape[1]] if x_t.ndim > 1 else c["concat"]
        if y.shape != x_t.shape:
            raise ValueError(
                f"the degraded picture is {tuple(c['concat'].shape)} for x of {tuple(x_t.shape)}; give "
                "operator.guess(y), which has the shape of x"
            )
        column = t.view(-1, *[1] * (x_t.ndim - 1))
        state = x_t + self.process.shift(column).to(x_t.dtype) * y.to(x_t.dtype)
        value = self.read(self.raw(state, self.time(t), self.told(c)), state, column)
        return Prediction(self.kind, value, x_t, t, self.schedule)


class EpsBridgeDenoiser(BridgeDenoiser):
    """The network predicts the noise: x = (x_t - b y - c F) / a, for processes with a(1) > 0.

    Source: arXiv 2301.11699 (IR-SDE).
    """

    kind = "eps"


class BlindBridgeDenoiser(BridgeDenoiser):
    """F(x_t, t) -> x: the network sees x_t alone and not y.

    Source: arXiv 2303.11435 (InDI), 2302.05872 (I2SB).
    """

    def told(self, c: Condition) -> Condition | None:
        """All but "concat"; None where nothing is left."""
        rest = c.without("concat")
        return rest if len(rest) else None


class I2SBDenoiser(BridgeDenoiser):
    """The network predicts (x_t - x) / sqrt(p(t)): x = x_t - sqrt(p) F.

    Raises:
        ValueError: for another process than I2SB.

    Source: arXiv 2302.05872, equation 12.
    """

    def __init__(self, net: Any, process: I2SB) -> None:
        if not isinstance(process, I2SB):
            raise ValueError(f"I2SBDenoiser is for I2SB; for {type(process).__name__} take BridgeDenoiser")
        super().__init__(net, process)

    def read(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """x."""
        assert isinstance(self.process, I2SB)
        return x_t - self.process.past(t).sqrt().to(out.dtype) * out
