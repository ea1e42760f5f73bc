"""Plans of recent runs: a plan is a pure function of sampler, schedule and times, and costs as much as ten steps.

Only what is compared by value is remembered: samplers whose parameters are plain numbers and words, schedules that
define their own equality. Anything else (a callable, a table, a schedule compared by identity, which may have changed
in between) is planned anew each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from mezzotint.core import Schedule
from mezzotint.sample.plan import Plan, check_apart

if TYPE_CHECKING:
    from mezzotint.sample.loop import Sampler

__all__ = ["forget_plans", "planned"]

_MOST = 32
_plans: dict[Any, Plan] = {}


def planned(sampler: Sampler, schedule: Schedule, times: Tensor) -> Plan:
    """sampler.plan(schedule, times), made once for equal arguments.

    Raises:
        ValueError: for times that are no grid of this schedule (see check_apart), or that the sampler refuses.
    """
    key = _key(sampler, schedule, times)
    if key is None:
        check_apart(schedule, times)
        return sampler.plan(schedule, times)
    plan = _plans.get(key)
    if plan is None:
        check_apart(schedule, times)
        plan = sampler.plan(schedule, times)
        while len(_plans) >= _MOST:
            _plans.pop(next(iter(_plans)), None)  # the oldest; another thread may have been quicker
        _plans[key] = plan
    return plan


def forget_plans() -> None:
    """Forget them all (a benchmark that counts the making of a plan)."""
    _plans.clear()


def _key(sampler: Sampler, schedule: Schedule, times: Tensor) -> Any | None:
    """Types as well as values: True and 1 are equal but need not mean the same."""
    chosen = tuple((name, type(value), value) for name, value in vars(sampler).items())
    if any(kind not in (bool, int, float, str, type(None)) for _, kind, _ in chosen):
        return None
    if type(schedule).__hash__ in (object.__hash__, None):
        return None
    try:
        key = (type(sampler), chosen, type(schedule), schedule, tuple(times.tolist()))
        hash(key)
    except TypeError:  # a schedule with a part that is not hashable
        return None
    return key
