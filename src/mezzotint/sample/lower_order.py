"""When the last steps of a run are taken with a lower order."""

from __future__ import annotations

from typing import Literal

__all__ = ["LowerFinal", "check_lower_final", "lowers"]

# True, False, a number of steps below which it is done, or "auto" for the default number
LowerFinal = bool | int | Literal["auto"]

# The official code's test (its docstring says 15, which is what diffusers does): arXiv 2211.01095.
_FEW_STEPS = 10


def check_lower_final(who: str, value: object) -> None:
    """Refuse what is no LowerFinal.

    Raises:
        ValueError: naming the sampler, the value and what is expected.
    """
    number = isinstance(value, int) and value >= 0  # bool is a whole number too, and both its values are meant
    if not number and value != "auto":
        raise ValueError(
            f"{who} got lower_order_final={value!r}; expected True, False, 'auto', or the number of steps below which "
            "the order is lowered (10 in the official code and for 'auto', 15 in diffusers)"
        )


def lowers(value: LowerFinal, steps: int) -> bool:
    """Whether a run of so many steps ends with lower orders.

    >>> lowers("auto", 9), lowers("auto", 10), lowers(15, 14), lowers(True, 50)
    (True, False, True, True)
    """
    if isinstance(value, bool):
        return value
    return steps < (_FEW_STEPS if value == "auto" else value)
