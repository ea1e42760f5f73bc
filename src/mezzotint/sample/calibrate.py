"""Calibration: the empirical statistics of one model, for DPM-Solver-v3. Made once, minutes to hours."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule, fold
from mezzotint.io.atomic import write_text
from mezzotint.io.safe import read_state, save_state
from mezzotint.sample.ems import EMS, ems_grid, prediction_of, schedule_mark
from mezzotint.sample.ems_moments import MOMENTS, Derivative, fit, observe, prediction, rate_of
from mezzotint.sample.plan import nodes_of

__all__ = ["calibrate_ems"]

Data = Tensor | Callable[[Sequence[int]], Tensor]

_BLOCK = 64  # samples that share one stream of noise
_NUDGE = 1e-6  # of lambda, for dt/dlambda


def calibrate_ems(
    denoiser: Denoiser,
    data: Data,
    *,
    levels: int = 120,
    per_level: int = 1024,
    t_start: float | None = None,
    t_end: float = 1e-3,
    seed: int = 0,
    l: Literal["fit", "ones"] = "fit",
    c: Condition | None = None,
    batch: int = 64,
    out: str | Path | None = None,
    on_level: Callable[[int, int], Any] | None = None,
) -> EMS:
    """Estimate l, s and b of a model on a grid of levels + 1 noise levels, uniform in lambda.

    At each level per_level samples x = alpha x0 + sigma n with fresh n are evaluated, with two derivatives in forward
    mode: one along a Rademacher probe (for l), one along the probability flow, in x and t jointly (for s and b). The
    cost is about five evaluations a sample. All sums are float64, per coordinate, in one pass (`ems_moments`).

    Args:
        denoiser: the model without guidance, in eval mode, float32 or wider.
        data: clean samples as the denoiser sees them (normalised latents, not images): a tensor (n, *s), drawn from in
            shuffled order; or a function of a list of sample numbers, which gives their (len(list), *s). Sample number
            i of level j is j per_level + i. Where no training set is at hand, the model's own samples do.
        levels: N, >= 2; the paper takes 120 to 1200.
        per_level: K, >= 2; the paper takes 1024 to 4096; counts more than N.
        t_start, t_end: the interval; see `ems_grid`.
        seed: of the noise, the probes and the order of the data.
        l: "ones" sets l = 1, as the authors do for guided ImageNet, and saves half the cost.
        c: for a conditional model: a condition whose first row is used, with its nulls (the unconditional branch).
        batch: samples at once.
        out: the file for the result. Beside it, in `<out>.partial`, every finished level is kept; the same call goes
            on from there after an interruption, to the same bits, and removes the folder at the end.
        on_level: called as on_level(levels done, levels in all).

    Returns:
        The statistics, in the dtype of the data (float32 or float64).

    Raises:
        ValueError: for arguments out of range, a model that drops out or is in half precision, data of no use, or a
            partial calibration by another call.
        FloatingPointError: if the model gives NaN or infinity; names the level.

    Source: arXiv 2310.13268, appendix C.1.1; one pass instead of two is our choice.

    >>> from mezzotint.core import VP, Gaussian
    >>> exact, x = Gaussian(torch.zeros(2), std=0.5), Noise([0])("data", 0, (64, 2), dtype=torch.float64)[0] / 2
    >>> ems = calibrate_ems(exact.denoiser(VP()), x, levels=4, per_level=8)
    >>> [round(float(v), 3) for v in (ems.l[0, 0], ems.l[-1, 0])]
    [1.0, 0.0]
    """
    _check(denoiser, levels, per_level, seed, l, batch)
    schedule = denoiser.schedule
    lam, t = ems_grid(schedule, levels, t_start, t_end)
    nodes, curve = nodes_of(schedule, t), schedule.curve
    rates = [rate_of(curve, node) for node in nodes]
    speeds = _speeds(schedule, lam)
    source = _source(data, seed)
    first = source([0])
    shape, dtype = tuple(first.shape[1:]), torch.promote_types(first.dtype, torch.float32)
    own = next(denoiser.parameters(), None)
    device = first.device if own is None else own.device
    null = None if c is None else c.rows([0]).null().to(device)
    about = {"levels": levels, "per_level": per_level, "seed": seed, "l": l, "batch": batch}
    settings = about | {
        "shape": list(shape),
        "dtype": str(dtype),
        "schedule": schedule_mark(schedule),
        "interval": [float(t[0]), float(t[-1])],
        "prediction": prediction_of(denoiser),
        "weights": _digest(dict(denoiser.state_dict())),
        "data": _digest({"data": data}) if isinstance(data, Tensor) else "a function",
        "condition": None if null is None else _digest(dict(null)),
    }
    partial = None if out is None else _Partial(Path(out), settings)
    sums: list[dict[str, Tensor]] = []
    for j, node in enumerate(nodes):
        found = None if partial is None else partial.read(j, shape)
        if found is None:
            noise = Noise([fold(seed, "ems", j)])
            found = {name: torch.zeros(shape, dtype=torch.float64, device=device) for name in MOMENTS}
            for a in range(0, per_level, batch):
                rows = range(a, min(a + batch, per_level))
                x0 = _checked(source([j * per_level + i for i in rows]), len(rows), shape).to(device, dtype)
                n, v = (_drawn(noise, purpose, rows, shape, x0) for purpose in ("noise", "probe"))
                told = None if null is None else null.rows([0] * len(rows))
                derivative = Derivative(prediction(denoiser, told))
                x = node.alpha * x0 + node.sigma * n
                for name, value in observe(derivative, x, node, rates[j], speeds[j], v if l == "fit" else None).items():
                    found[name] += value
            _check_finite(found, j, node.t)
            if partial is not None:
                partial.write(j, found)
        sums.append(found)
        if on_level is not None:
            on_level(j + 1, len(nodes))
    means = {name: torch.stack([level[name].cpu() for level in sums]) / per_level for name in MOMENTS}
    linear, scale, bias = (value.to(dtype) for value in fit(lam, means, ones=l == "ones"))
    ems = EMS(lam, t, linear, scale, bias, schedule_mark(schedule), prediction_of(denoiser), about)
    if partial is not None:
        ems.save(partial.out)
        partial.remove()
    return ems


class _Partial:
    """The finished levels of a calibration that is under way, a file each."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out, self.folder = out, out.with_name(out.name + ".partial")
        if not out.parent.is_dir():
            raise ValueError(f"{out}: there is no folder {out.parent}; make it first")
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "settings.json"
        if not file.exists():
            write_text(file, json.dumps(settings))
            return
        try:
            before = dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, OSError) as error:
            raise ValueError(f"{file} is not readable; remove {self.folder} to begin anew") from error
        if other := [key for key in settings if before.get(key) != settings[key]]:
            told = "; ".join(f"{key} was {before.get(key)!r:.80}, now {settings[key]!r:.80}" for key in other)
            raise ValueError(
                f"{self.folder} holds a calibration by another call ({told}); repeat that call, or remove the folder"
            )

    def _file(self, j: int) -> Path:
        return self.folder / f"level-{j:05d}.safetensors"

    def read(self, j: int, shape: tuple[int, ...]) -> dict[str, Tensor] | None:
        if not self._file(j).exists():
            return None
        found = read_state(self._file(j))
        good = sorted(found) == sorted(MOMENTS) and all(
            v.shape == shape and v.dtype == torch.float64 for v in found.values()
        )
        if not good:
            raise ValueError(f"{self._file(j)} does not hold the moments of a level; remove it to make them again")
        return found

    def write(self, j: int, sums: dict[str, Tensor]) -> None:
        save_state(sums, self._file(j))

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def _check(denoiser: Denoiser, levels: int, per_level: int, seed: int, l: str, batch: int) -> None:
    bounds = {"levels": (levels, 2), "per_level": (per_level, 2), "batch": (batch, 1), "seed": (seed, 0)}
    for name, (value, least) in bounds.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"calibrate_ems got {name}={value!r}; expected a whole number >= {least}")
    if l not in ("fit", "ones"):
        raise ValueError(f"calibrate_ems got l={l!r}; expected 'fit' or 'ones'")
    if any(p.is_floating_point() and p.element_size() < 4 for p in denoiser.parameters()):
        raise ValueError("the model is in half precision, whose derivatives are too coarse; calibrate model.float()")
    loose = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._BatchNorm)
    if any(isinstance(m, loose) and m.training and getattr(m, "p", 1.0) > 0 for m in denoiser.modules()):
        raise ValueError("the model is in training mode (dropout or batch statistics); call denoiser.eval() first")


def _source(data: Data, seed: int) -> Callable[[Sequence[int]], Tensor]:
    """Sample numbers to samples; a tensor is gone through again and again in one shuffled order."""
    if not isinstance(data, Tensor):
        return data
    if data.ndim < 1 or len(data) == 0 or not data.is_floating_point() or not bool(torch.isfinite(data).all()):
        raise ValueError(f"data is {tuple(data.shape)} of {data.dtype}; expected (n, *s) finite floating-point samples")
    keys = Noise([fold(seed, "ems order")]).uniform("order", 0, (len(data),), dtype=torch.float64)[0]
    order = keys.argsort(stable=True)
    return lambda numbers: data[order[torch.tensor(list(numbers)) % len(order)].to(data.device)]


def _checked(x0: Tensor, count: int, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(x0, Tensor) or tuple(x0.shape) != (count, *shape):
        got = tuple(x0.shape) if isinstance(x0, Tensor) else type(x0).__name__
        raise ValueError(f"data gave {got} for {count} sample numbers; expected {(count, *shape)}")
    return x0


def _drawn(noise: Noise, purpose: str, rows: range, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The noise or the probes (+-1) of some samples of a level: the same for every batch size."""
    blocks = range(rows[0] // _BLOCK, rows[-1] // _BLOCK + 1)
    place: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
    if purpose == "noise":
        drawn = [noise("ems noise", k, (_BLOCK, *shape), **place)[0] for k in blocks]
    else:
        drawn = [noise.uniform("ems probe", k, (_BLOCK, *shape), **place)[0] for k in blocks]
        drawn = [torch.where(u < 0.5, -1.0, 1.0).to(like.dtype) for u in drawn]
    start = rows[0] - _BLOCK * blocks[0]
    return torch.cat(drawn)[start : start + len(rows)]


def _speeds(schedule: Schedule, lam: Tensor) -> list[float]:
    """dt/dlambda, negative, by differences: exact derivatives vanish at the corners and ends of tabulated schedules."""
    floor = schedule.half_log_snr(torch.ones((), dtype=torch.float64))
    low, high = (lam - _NUDGE).maximum(floor), lam + _NUDGE
    return ((schedule.t_of(high) - schedule.t_of(low)) / (high - low)).tolist()


def _digest(tensors: dict[str, Tensor]) -> str:
    """A hash of names, shapes and a few values: tells one model from another, not a proof of equality."""
    text = hashlib.blake2b(digest_size=8)
    for name, value in tensors.items():
        some = value.detach().flatten()[:: max(1, value.numel() // 16)].to("cpu", torch.float64).tolist()
        text.update(f"{name} {tuple(value.shape)} {some}".encode())
    return text.hexdigest()


def _check_finite(sums: dict[str, Tensor], j: int, t: float) -> None:
    if not all(bool(torch.isfinite(value).all()) for value in sums.values()):
        raise FloatingPointError(
            f"the model or its derivative gave NaN or infinity at level {j} (t = {t:.6g}); check its output there"
        )
