"""`mezzotint models samplers` and `mezzotint models grids`: what a model can be sampled with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mezzotint.cli.options import Parser, print_json

__all__ = ["LISTS"]


def _samplers(arguments: Sequence[str]) -> int:
    """The samplers of `--sampler` and `Model.sample(sampler=...)`."""
    parser = Parser("models samplers", "Samplers by name: order of accuracy, network evaluations, paper.")
    parser.epilog = "besides these, dpm-v3:FILE is DPM-Solver-v3 with the statistics that `mezzotint calibrate` wrote"
    parser.json_option()
    told = parser.parse_args(arguments)
    from mezzotint.sample.names import NAMED

    rows = [
        {
            "name": entry.name,
            "order": entry.order,
            "nfe": entry.nfe,
            "stochastic": entry.stochastic,
            "paper": entry.paper,
            "about": entry.about,
        }
        for entry in NAMED.values()
    ]
    _show(rows, told.json)
    return 0


def _grids(arguments: Sequence[str]) -> int:
    """The time grids of `--grid` and `Model.sample(grid=...)`."""
    parser = Parser("models grids", "Time grids by name: where the steps of a sampler lie.")
    parser.json_option()
    told = parser.parse_args(arguments)
    from mezzotint.core.grid_named import NAMED_GRIDS

    rows = [{"name": entry.name, "paper": entry.paper, "about": entry.about} for entry in NAMED_GRIDS.values()]
    _show(rows, told.json)
    return 0


def _show(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    table = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "-"


LISTS: dict[str, Callable[[Sequence[str]], int]] = {"samplers": _samplers, "grids": _grids}
