"""Averages whose length is a share of the training so far, and any other length afterwards from snapshots of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mezzotint.io.safe import read_state, save_state
from mezzotint.train.ema import EMA

__all__ = [
    "Averaging",
    "Power",
    "PowerEMA",
    "averages",
    "chosen",
    "exponent",
    "keep_snapshots",
    "reconstruct",
    "relative_length",
    "save_snapshot",
]

_NAME = re.compile(r"(.+)@([0-9.e-]+)\.step-(\d+)\.safetensors")


def relative_length(gamma: float) -> float:
    """Standard deviation of the profile tau^gamma on [0, 1]: sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)).

    The profile is the Beta(gamma + 1, 1) distribution. Source: arXiv 2312.02696, section 3.1.

    >>> round(relative_length(16.97), 4)
    0.05
    """
    return math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3))


def exponent(length: float) -> float:
    """gamma of a relative length s: the largest root of (gamma + 2)^2 (gamma + 3) s^2 = gamma + 1.

    Args:
        length: in (0, 12^-1/2], the length of gamma = 0, a plain mean.

    Raises:
        ValueError: for a length out of range.

    Source: arXiv 2312.02696, section 3.1.

    >>> round(exponent(0.05), 2), round(exponent(0.1), 2)
    (16.97, 6.94)
    """
    if not 0 < length <= 12**-0.5 + 1e-12:
        raise ValueError(f"the length is a share of the training, above 0 and at most 0.2886 (a plain mean): {length}")
    inverse = length**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(max(roots[abs(roots.imag) < 1e-6].real))


class PowerEMA(EMA):
    """Average of the trained parameters of a module over a share of all updates so far.

        w_n = b_n w_(n-1) + (1 - b_n) theta_n,   b_n = (1 - 1/n)^(gamma + 1),

    so that update k weighs (k^(gamma+1) - (k-1)^(gamma+1)) / n^(gamma+1): the profile tau^gamma, which stretches with
    the training and has forgotten the initial weights after one update.

    Args:
        module: what to follow.
        length: standard deviation of the profile as a share of the training, such as 0.05 or 0.1.

    Source: arXiv 2312.02696, section 3.1.

    >>> net = nn.Linear(1, 1, bias=False); _ = nn.init.zeros_(net.weight)
    >>> ema = PowerEMA(net, 0.1)
    >>> _ = nn.init.ones_(net.weight); ema.update()
    >>> ema.averages["weight"].item()
    1.0
    """

    def __init__(self, module: nn.Module, length: float = 0.05) -> None:
        self.gamma = exponent(length)
        super().__init__(module, 0.0)
        self.length = length

    def decay_at(self, update: int) -> float:
        """b_n of update n = 1, 2, ..."""
        return (1.0 - 1.0 / update) ** (self.gamma + 1.0)


@dataclass(frozen=True)
class Power:
    """Averages of relative lengths, kept at once; the first is the one that is used. For `Recipe(ema=...)`.

    Args:
        lengths: of `PowerEMA`. Two are enough to reconstruct any other afterwards.
    """

    lengths: tuple[float, ...] = (0.05, 0.1)

    def __post_init__(self) -> None:
        for length in self.lengths:
            exponent(length)


Averaging = float | tuple[float, ...] | Power | None  # largest decay, several of them, relative lengths, or none


def save_snapshot(
    ema: PowerEMA,
    folder: str | Path,
    name: str,
    dtype: torch.dtype | None = None,
    averages: Mapping[str, Tensor] | None = None,
) -> Path:
    """Keep an average for a later reconstruction, as NAME@LENGTH.step-UPDATES.safetensors.

    Args:
        ema: an average after at least one update.
        folder: is made if absent.
        name: of the module.
        dtype: of the file, such as torch.float16; None keeps float32.
        averages: of `ema`, where it holds a part of them only.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}@{ema.length}.step-{ema.updates:08d}.safetensors"
    save_state(ema.averages if averages is None else averages, path, dtype)
    return path


def reconstruct(folder: str | Path, name: str, length: float, step: int | None = None) -> dict[str, Tensor]:
    """An average of any length, from snapshots: their combination whose profile is nearest.

        min_x |p - sum_i x_i p_i|^2 over the training time:   A x = b with A_ij = <p_i, p_j>, b_i = <p_i, p>,
        p_i = (gamma_i + 1) tau^gamma_i / t_i^(gamma_i + 1) on [0, t_i]

    Args:
        folder: of `save_snapshot`.
        name: of the module.
        length: relative length wanted.
        step: the training time wanted; None for the last snapshot's. Later snapshots are left out.

    Returns:
        Parameter name -> average, float32, or float64 where the snapshots are.

    Raises:
        ValueError: where there is no snapshot of that name up to the step.

    Source: arXiv 2312.02696, section 3.2.
    """
    found = []
    for path in sorted(Path(folder).glob("*.safetensors")):
        match = _NAME.fullmatch(path.name)
        if match and match[1] == name and (step is None or int(match[3]) <= step):
            found.append((exponent(float(match[2])), int(match[3]), path))
    if not found:
        until = "" if step is None else f" up to step {step}"
        raise ValueError(f"{folder}: no snapshot of {name!r} there{until}; expected {name}@0.05.step-*.safetensors")
    step = max(t for _, t, _ in found) if step is None else step
    weights = combination([(gamma, float(t)) for gamma, t, _ in found], (exponent(length), float(step)))
    total: dict[str, Tensor] = {}
    for weight, (_, _, path) in zip(weights, found, strict=True):
        for key, value in read_state(path).items():
            wide = weight * value.double()
            total[key] = total[key] + wide if key in total else wide
    kinds = {key: value.dtype for key, value in read_state(found[0][2]).items()}
    return {key: value.to(torch.promote_types(kinds[key], torch.float32)) for key, value in total.items()}


def combination(snapshots: Sequence[tuple[float, float]], goal: tuple[float, float]) -> list[float]:
    """Weights of profiles (gamma, t) whose sum is nearest to another, in the mean square over the training time.

    >>> [round(x, 9) for x in combination([(3.0, 10.0), (7.0, 10.0)], (7.0, 10.0))]
    [0.0, 1.0]
    """
    a = np.array([[_product(p, q) for q in snapshots] for p in snapshots])
    b = np.array([_product(p, goal) for p in snapshots])
    scale = np.sqrt(np.diag(a))  # profiles of length 1: the best condition that scaling gives
    return (np.linalg.lstsq(a / np.outer(scale, scale), b / scale, rcond=1e-14)[0] / scale).tolist()


def _product(p: tuple[float, float], q: tuple[float, float]) -> float:
    """int p q dtau over [0, min(t_p, t_q)]; in ratios of times, as the powers alone overflow."""
    (g, s), (h, t) = p, q
    low = min(s, t)
    return (g + 1) * (h + 1) / (g + h + 1) * (low / s) ** g * (low / t) ** h * low / (s * t)


def averages(module: nn.Module, name: str, ema: Averaging) -> dict[str, EMA]:
    """The averages of a module by their names: NAME is the first, NAME@LENGTH each further one.

    Args:
        module: what to follow.
        name: of the module in its task.
        ema: largest decay, several of them, or `Power` lengths; None for none.

    >>> list(averages(nn.Linear(1, 1), "denoiser", (0.999, 0.9999)))
    ['denoiser', 'denoiser@0.9999']
    """
    if ema is None:
        return {}
    lengths = ema.lengths if isinstance(ema, Power) else ema if isinstance(ema, tuple) else (ema,)
    if not lengths:
        raise ValueError("no length of the average is given; expected at least one, or None for no average")
    kind = PowerEMA if isinstance(ema, Power) else EMA
    names = [name if i == 0 else f"{name}@{length}" for i, length in enumerate(lengths)]
    if len(set(lengths)) < len(lengths):
        raise ValueError(f"each length of the average once, got {lengths}")
    return {key: kind(module, length) for key, length in zip(names, lengths, strict=True)}


def chosen(ema: Mapping[str, EMA], which: bool | float) -> list[EMA]:
    """Of a task's averages the first of each module, or those of a decay or length.

    Raises:
        ValueError: where none has that decay or length.
    """
    if isinstance(which, bool):
        return [average for name, average in ema.items() if which and "@" not in name]
    found = [average for average in ema.values() if average.length == which]
    if not found:
        raise ValueError(f"no average of {which}; there are {[average.length for average in ema.values()]}")
    return found


def keep_snapshots(ema: Mapping[str, EMA], folder: Path, lead: Callable[[Callable[[], Any]], Any]) -> None:
    """Keep every power-function average of a task; each process calls this.

    Args:
        ema: of the task.
        folder: is made if absent.
        lead: what process 0 does alone (`Engine.lead`).
    """
    for name, average in ema.items():
        if isinstance(average, PowerEMA):
            whole = {key: _whole(value) for key, value in average.averages.items()}
            lead(partial(_write, average, whole, folder, name.partition("@")[0]))


def _write(ema: PowerEMA, averages: Mapping[str, Tensor], folder: Path, name: str) -> str:
    return str(save_snapshot(ema, folder, name, averages=averages))


def _whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be divided among several processes."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[attr-defined]
