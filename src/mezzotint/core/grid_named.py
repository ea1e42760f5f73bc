"""Time grids by the names that people type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from mezzotint.core.grid import Grid, karras, quadratic, uniform_lambda, uniform_t
from mezzotint.core.grid_discrete import leading, linspace, trailing
from mezzotint.core.grid_levels import beta, beta_levels, exponential, karras_own

__all__ = ["GRIDS", "NAMED_GRIDS", "NamedGrid", "grid_named"]


@dataclass(frozen=True)
class NamedGrid:
    """One line of the list of grids: its name, the grid, its paper ("" for none), what it is."""

    name: str
    grid: Grid
    paper: str
    about: str


NAMED_GRIDS: dict[str, NamedGrid] = {
    entry.name: entry
    for entry in (
        NamedGrid("uniform-t", uniform_t, "", "equal steps in time; what samplers take if nothing is said"),
        NamedGrid("uniform-lambda", uniform_lambda, "2206.00927", "equal steps in log(alpha/sigma), then 0"),
        NamedGrid("quadratic", quadratic, "2010.02502", "equal steps in the square root of time"),
        NamedGrid("karras", karras_own, "2206.00364", "EDM's rule over the model's own noise levels"),
        NamedGrid("edm", karras, "2206.00364", "EDM's rule down to a noise level of 0.002"),
        NamedGrid("exponential", exponential, "2206.00927", "uniform in log noise level over the model's own"),
        NamedGrid("beta", beta, "2407.12173", "quantiles of the beta distribution as times"),
        NamedGrid("beta-levels", beta_levels, "2407.12173", "quantiles of the beta distribution as noise levels"),
        NamedGrid("trailing", trailing, "2305.08891", "integer steps from the last one down"),
        NamedGrid("leading", leading, "2305.08891", "integer steps from 0 up"),
        NamedGrid("leading-1", partial(leading, offset=1), "2305.08891", "leading, offset by 1: Stable Diffusion"),
        NamedGrid("linspace", linspace, "2305.08891", "integer steps from the last one to 0"),
        NamedGrid("linspace-solver", partial(linspace, drop_last=True), "", "linspace as diffusers' DPM-Solver has it"),
        NamedGrid("leading-solver", partial(leading, drop_last=True), "", "leading as diffusers' DPM-Solver has it"),
    )
}
GRIDS: dict[str, Grid] = {name: entry.grid for name, entry in NAMED_GRIDS.items()}


def grid_named(name: str) -> Grid:
    """The grid of that name.

    Raises:
        ValueError: for an unknown name; lists the known ones.

    >>> from mezzotint.core import VP
    >>> grid_named("uniform-t")(VP(), 2).tolist()
    [1.0, 0.5, 0.0]
    """
    if name not in GRIDS:
        raise ValueError(f"unknown time grid {name!r}; expected one of {', '.join(GRIDS)}")
    return GRIDS[name]
