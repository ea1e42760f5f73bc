"""The chart of `bench accuracy`: error against network evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mezzotint.bench.accuracy import Measured, slopes
from mezzotint.bench.ours import OURS
from mezzotint.bench.problem import Problem

__all__ = ["draw"]


def draw(problem: Problem, rows: Sequence[Measured], path: str | Path) -> Path:
    """The chart, error against evaluations on logarithmic axes: ours in colour, peers dashed and grey.

    A solver that computes what another computes is left out.

    Raises:
        ValueError: where matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ValueError("the chart needs matplotlib: pip install 'mezzotint[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from mezzotint.io.atomic import atomic_file

    measured, lines = slopes(rows), _lines(rows)
    ours = [who for who in lines if who[0] == OURS]
    figure, axes = plt.subplots(figsize=(11, 7), dpi=110)
    colours = dict(zip(ours, plt.colormaps["tab20"].colors * 2))  # type: ignore[attr-defined]
    marks = dict(zip(dict.fromkeys(library for library, _ in lines), (".", "s", "^", "v", "D", "x")))
    for who in [*ours, *(who for who in lines if who[0] != OURS)]:
        x, y = [row.nfe for row in lines[who]], [row.rmse for row in lines[who]]
        slope = f"  {measured[who]:.2f}" if who in measured else ""
        if who[0] == OURS:
            axes.loglog(x, y, ".-", color=colours[who], lw=1.7, label=f"{who[1]}{slope}")
        else:
            label = f"{who[0]} {who[1]}{slope}"
            axes.loglog(x, y, marks[who[0]], ls="--", color="0.55", lw=0.9, ms=4, label=label)
    axes.set(xlabel="network evaluations", ylabel="root mean square error", title=f"{problem.name}: error and slope")
    axes.grid(True, which="both", lw=0.3, alpha=0.5)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), title="ours, then the peers' that differ")
    figure.tight_layout()
    with atomic_file(Path(path)) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.lstrip(".") or "png")
    plt.close(figure)
    return Path(path)


def _lines(rows: Sequence[Measured]) -> dict[tuple[str, str], list[Measured]]:
    """One line a solver, without those that lie under another line of ours."""
    lines: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        lines.setdefault((row.library, row.solver), []).append(row)
    kept: dict[tuple[str, str], list[Measured]] = {}
    for who, line in lines.items():
        numbers = [(row.nfe, f"{row.rmse:.3g}") for row in line]
        same = any([(row.nfe, f"{row.rmse:.3g}") for row in other] == numbers for other in kept.values())
        if not same and not any(row.apart is not None and row.apart < 1e-5 for row in line):
            kept[who] = line
    return kept
