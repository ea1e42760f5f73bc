"""The step of every process: from t to s, towards what the network says x is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Schedule
from mezzotint.restore.bridge.process import Process
from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.plan import Node, Plan, nodes_of

__all__ = ["BridgeSampler"]


@dataclass(frozen=True)
class BridgeSampler(Multistep):
    """x_s = a_s F + b_s y + k (x_t - a_t F - b_t y) + n z, with n = eta sqrt(c_s^2 - carry^2 c_t^2).

    k = sqrt(c_s^2 - n^2) / c_t, which is the process's own `carry` at eta = 1: the step of each paper. With eta = 0
    no noise is drawn after the start. With the exact F and many steps the results are samples of x | y for every eta
    in (0, 1], and for eta = 0 where the start has noise (IRSDE, ResShift, InDI with noise). Where it has none, eta = 0
    gives one picture: the mean (InDI; I2SB where x | y is Gaussian), and I2SB with an eta between needs many more
    steps. InDI draws none at any eta.

    Args:
        eta: in [0, 1].

    Raises:
        ValueError: for eta outside [0, 1]; when planned, for a schedule that is no Process.

    Source: arXiv 2307.12348, equation 7; 2303.11435, equation 10; 2302.05872, equation 4; in the style of 2010.02502,
    equation 12, for other eta.

    >>> from mezzotint.restore.bridge import ResShift
    >>> BridgeSampler().plan(ResShift(), torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)).rows[-1]
    (0.0, 0.0, 1.0)
    """

    order = 1
    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"BridgeSampler got eta={self.eta}; expected a number in [0, 1]: 1 is the process's own")

    @property
    def stochastic(self) -> bool:
        """True unless eta = 0."""
        return self.eta > 0

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan."""
        if not isinstance(schedule, Process):
            raise ValueError(
                f"BridgeSampler needs a BridgeDenoiser, whose schedule is a Process; this one is "
                f"{type(schedule).__name__}, for which DDIM() or any other sampler is right"
            )
        times = grid.detach().to("cpu", torch.float64)
        nodes, carry = nodes_of(schedule, times), schedule.carry(times[1:], times[:-1]).tolist()
        made = [self._row(t, s, kept) for t, s, kept in zip(nodes, nodes[1:], carry)]
        rows = tuple((row.x, row.noise, *row.m) for row in made)
        return Plan(nodes, ("x", "noise", "m0"), rows, tuple((node.t,) for node in nodes[:-1]))

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """Refused: the step of a process depends on more than its nodes; see `plan`."""
        raise ValueError(
            "BridgeSampler cannot be part of another solver; for that take DDIM(), which runs processes too"
        )

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """Refused, as `row`."""
        return self.row(nodes, k).m[0]

    def _row(self, t: Node, s: Node, carry: float) -> Row:
        own = max(s.sigma**2 - (carry * t.sigma) ** 2, 0.0)
        if own < 1e-14 * s.sigma**2:  # one draw, scaled: nothing is drawn anew
            own = 0.0
        fresh = self.eta * math.sqrt(own)
        if self.eta == 1 or own == 0:
            kept = carry
        else:
            kept = math.sqrt(s.sigma**2 - fresh**2) / t.sigma if t.sigma > 0 else 0.0
        return Row(kept, (s.alpha - kept * t.alpha,), fresh)
