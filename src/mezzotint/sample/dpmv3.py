"""DPM-Solver-v3: a multistep exponential predictor-corrector whose linear part, scaling and bias suit the model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.core.grid import Grid, uniform_t
from mezzotint.sample.ems import EMS
from mezzotint.sample.ems_plan import EMSPlan, Update, as_data, to_data
from mezzotint.sample.ems_weights import Transition, transition
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan, nodes_of

__all__ = ["DPMSolverV3"]

_ALL_NOISE = -5.0  # below this lambda x is all noise: a grid may begin at t = 1 where the statistics begin later
_STRONG = 12.0  # guidance weight from which on statistics of the unguided model are out of their tested range


@dataclass(frozen=True)
class DPMSolverV3(Sampler):
    """x_t = alpha_t [A x_s / alpha_s - int K B dlam - sum_k g^(k) int K (lam - lam_s)^k / k! dlam].

    A, K and B are integrals of the model's statistics l, s, b (see `ems_weights.transition`); g is what they leave
    unexplained of the noise prediction. With a corrector, the evaluation at a node also redoes the transition that
    led there; N = sigma eps - l x stays as it was evaluated, so this costs no evaluation either. The last transition
    is never corrected.

    Nodes are moved to the nearest ones of the statistics' grid, and times outside the calibrated interval are refused;
    but a grid may begin at t = 1 where the statistics begin at less (Flow, Cosine: x_T is rescaled to their first
    level, which is all noise), and end at t = 0, as the default grid does (uniform in t, the library's): the last step
    leads to the statistics' t_end, and on to the data prediction that the step foretells there (`ems_plan.to_data`;
    our choice: the official code stops at t_end). That costs no evaluation, so n steps are n evaluations; from
    statistics that are wrong at t_end it is of first order. A grid that visits t_end before 0 spends an evaluation
    there instead.

    Args:
        ems: the statistics of this model: `EMS.load(path)`, or what `calibrate_ems` returned.
        order: of the predictor: 1, 2 or 3.
        corrector: "full"; "half", only where `half_region` says (for strong guidance); None.
        corrector_order: at most this order, 2 to order + 1. None is the paper's rule: the order of the predictor that
            is corrected, and one more with corrector_pseudo; order 1 is not corrected.
        corrector_pseudo, predictor_pseudo: whether the k-th derivative uses the nearest k points only: better at few
            steps, but a predictor of order 3 is then of second order. The defaults, with order 2, are the authors'
            for latent and for guided models; for pixels they take order 3 and a true corrector.
        half_region: the paper's text has "t<=0.5", its code "t>0.5".
        lower_order_final: whether the last steps fall back to orders 2 and 1.

    Raises:
        ValueError: for values other than these. When called, before any evaluation: for a denoiser or samples that
            the statistics are not of, times outside their interval, more steps than their grid tells apart.

    Source: arXiv 2310.13268, section 3.3 and appendices B and C.

    >>> from mezzotint.core import VP, Gaussian
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DPMSolverV3(EMS.fixed(VP(), (2,)), order=2)(d, torch.ones(1, 2), steps=5).shape
    torch.Size([1, 2])
    """

    ems: EMS
    _: KW_ONLY
    order: int = 2  # type: ignore[misc]  # an instance's choice here, a constant of the class elsewhere
    corrector: Literal["full", "half"] | None = "full"
    corrector_order: int | None = None
    corrector_pseudo: bool = True
    predictor_pseudo: bool = False
    half_region: Literal["t<=0.5", "t>0.5"] = "t<=0.5"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.ems, EMS):
            raise ValueError(f"DPMSolverV3 got ems={self.ems!r:.80}; expected EMS.load(path) or calibrate_ems(...)")
        if isinstance(self.order, bool) or self.order not in (1, 2, 3):
            raise ValueError(f"DPMSolverV3 got order={self.order!r}; expected 1, 2 or 3")
        if self.corrector not in ("full", "half", None):
            raise ValueError(f"DPMSolverV3 got corrector={self.corrector!r}; expected 'full', 'half' or None")
        if self.corrector_order is not None and self.corrector_order not in range(2, self.order + 2):
            raise ValueError(
                f"DPMSolverV3 got corrector_order={self.corrector_order!r}; expected None or 2 to {self.order + 1}, "
                f"as order={self.order}"
            )
        if self.half_region not in ("t<=0.5", "t>0.5"):
            raise ValueError(f"DPMSolverV3 got half_region={self.half_region!r}; expected 't<=0.5' or 't>0.5'")

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """Raises ValueError: the weight is no number here, but one a coordinate."""
        raise ValueError("the first-order weight of DPM-Solver-v3 is a tensor; correct another, such as dpmpp-2m")

    def default_grid(self, schedule: Schedule, steps: int) -> Float[Tensor, " n"]:
        """Uniform in t, from 1 (from t_start where that is not all noise) to 0."""
        return uniform_t(schedule, steps) * (1.0 if self._from_noise else self.ems.t_start)

    @property
    def _from_noise(self) -> bool:
        return float(self.ems.lam[0]) <= _ALL_NOISE

    def trajectory(
        self,
        d: Denoiser,
        x_T: Float[Tensor, "b *s"],
        *,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        noise: Noise | None = None,
    ) -> Iterator[State]:
        """See Sampler.trajectory; the statistics are held against the denoiser and the samples first."""
        if isinstance(d, Denoiser) and isinstance(x_T, Tensor) and x_T.ndim:
            self.ems.check(d, tuple(x_T.shape[1:]))
            _warn_of_guidance(d)
        return super().trajectory(
            d, x_T, steps=steps, grid=self.default_grid if grid is None else grid, c=c, noise=noise
        )

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> EMSPlan:
        """See Sampler.plan; columns are the orders of predictor and corrector (0: none)."""
        self.ems.check_schedule(schedule)
        given = nodes_of(schedule, grid)
        places = self._places(given)
        nodes = nodes_of(schedule, self.ems.t[places])
        steps, ends_at_0 = len(nodes) - 1, given[-1].t == 0
        orders, keep, predict, correct = [], [], [], []
        for k in range(steps):
            p = min(self.order, k + 1, steps - k if self.lower_order_final else self.order)
            n_c = self._corrector_order(nodes[k].t, orders[-1][0]) if k else 0
            if ends_at_0 and k == steps - 1:
                predict.append(self._to_data(nodes, places, p))
            else:
                predict.append(Update.of(self._predictor(places, k, p), nodes[k], nodes[k + 1]))
            correct.append(Update.of(self._corrector(places, k, n_c), nodes[k - 1], nodes[k]) if n_c else None)
            keep.append((self.ems.l[places[k]].to("cpu", torch.float64) - 1) / nodes[k].alpha)
            orders.append((p, n_c))
        return EMSPlan(
            nodes=(*nodes[:-1], given[-1] if ends_at_0 else nodes[-1]),
            columns=("predictor", "corrector"),
            rows=tuple((float(p), float(n_c)) for p, n_c in orders),
            calls=tuple((node.t,) for node in nodes[:-1]),
            keep=tuple(keep),
            predict=tuple(predict),
            correct=tuple(correct),
            start=nodes[0].sigma / given[0].sigma if given[0].t == 1 else 1.0,
        )

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step; the history holds F of the last nodes, newest first, and then x of the last one.

        Raises:
            ValueError: if the state's history is shorter than this step of the plan needs.
        """
        assert isinstance(plan, EMSPlan)
        predict, correct = plan.predict[k], plan.correct[k]
        x = state.x * plan.start if k == 0 and plan.start != 1 else state.x
        m = self.predict(d, x, k, plan, c)
        *older, x_before = state.history or (x,)
        seen = (torch.addcmul(m, x, plan.keep[k]), *older)
        if len(seen) < max(len(update.w) for update in (predict, correct or predict)):
            raise ValueError(
                f"step {k} needs predictions of earlier nodes but the history holds {len(older)}; "
                "a run that is cut or edited starts again with a plan of its own"
            )
        if correct is not None:
            x = correct(x_before, seen)
        return State(predict(x, seen), k + 1, m, (*seen[: plan.depth - 1], x))

    def _places(self, given: Sequence[Node]) -> list[int]:
        """Indices of the statistics' grid, one a node; the ends t = 1 and t = 0 stand for its own ends."""
        ems, places = self.ems, [self.ems.place(node.t, node.lam) for node in given[1:-1]]
        first = 0 if given[0].t == 1 and self._from_noise else ems.place(given[0].t, given[0].lam)
        last = ems.levels if given[-1].t == 0 else ems.place(given[-1].t, given[-1].lam)
        places = [first, *places, last]
        for i, (a, b) in enumerate(zip(places, places[1:])):
            free = i == len(places) - 2 and given[-1].t == 0 and i > 0
            if a > b or (a == b and not free):
                raise ValueError(
                    f"EMS grid too coarse: times {given[i].t:.6g} and {given[i + 1].t:.6g} fall on one of its "
                    f"{ems.levels} levels; take fewer steps or another grid, or calibrate with more levels"
                )
        return places

    def _predictor(self, places: list[int], k: int, order: int) -> Transition:
        past = [places[k - j] for j in range(1, order)]
        return transition(self.ems, places[k], places[k + 1], past, self.predictor_pseudo)

    def _to_data(self, nodes: Sequence[Node], places: list[int], order: int) -> Update:
        if places[-2] == places[-1]:
            return as_data(self.ems, places[-1], nodes[-1])
        return to_data(self.ems, self._predictor(places, len(places) - 2, order), places[-2], nodes[-2])

    def _corrector_order(self, t: float, predicted: int) -> int:
        """The order in which the node at t is corrected that was reached by order `predicted`; 0 for not at all."""
        if self.corrector is None or (self.corrector == "half" and (t <= 0.5) != (self.half_region == "t<=0.5")):
            return 0
        if self.corrector_order is not None:
            return min(self.corrector_order, predicted + 1)
        wanted = predicted + (1 if self.corrector_pseudo else 0)
        return wanted if wanted > 1 else 0

    def _corrector(self, places: list[int], k: int, order: int) -> Transition:
        points = [places[k], *(places[k - j] for j in range(2, order))]
        made = transition(self.ems, places[k - 1], places[k], points, self.corrector_pseudo)
        at_source, at_target, *older = made.w
        return Transition(made.a, (at_target, at_source, *older), made.const)  # newest first


def _warn_of_guidance(d: Any) -> None:
    while isinstance(d, Denoiser):
        w = getattr(d, "w", None)
        if isinstance(w, float) and w >= _STRONG:
            warnings.warn(
                f"guidance w={w:g} is beyond what DPM-Solver-v3's statistics were tested at (about 7.5); "
                "corrector='half' or None may help",
                stacklevel=4,
            )
        d = getattr(d, "denoiser", None)
