"""How far every restorer's samples are from the posterior, where it is known: Gaussian data and mixtures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.core import VP, Condition, Denoiser, Gaussian, GaussianMixture, Noise, Prediction, Schedule, fold
from mezzotint.core.grid import Grid
from mezzotint.restore import DDNM, DDRM, DPS, ILVR, MCG, DiffPIR, MomentMatching, PiGDM, REDDiff, RePaint, Restorer
from mezzotint.restore.exact_posterior import ExactPosterior, exact_posterior
from mezzotint.restore.operators import AveragePool, Blur, Identity, LinearOperator, Mask

__all__ = ["METHODS", "OPERATORS", "PRIORS", "STDS", "PosteriorRow", "posterior_report", "posterior_table"]

SHAPE = (1, 2, 4)  # of an image
STDS = (0.05, 0.5)
EXACT = "exact samples"
OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "denoise": Identity,
    "mask": lambda: Mask(torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0]])),
    "means": lambda: AveragePool(2),
    "blur": lambda: Blur(torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64)),
}
# as they are by default, but for DPS and MCG: zeta = 1 is for images, and overshoots with so few numbers
METHODS: dict[str, Restorer] = {
    "PiGDM": PiGDM(data_std=0.5),
    "MomentMatching": MomentMatching(iterations=8),
    "DDRM": DDRM(),
    "DDNM": DDNM(),
    "DiffPIR": DiffPIR(),
    "DPS": DPS(zeta=0.3),
    "MCG": MCG(zeta=0.3),
    "RePaint": RePaint(),
    "ILVR": ILVR(),
    "REDDiff": REDDiff(),
}


class _Whole(Gaussian):
    """With the batch in one product, where a row need not be the same bits alone."""

    def along(self, x: Tensor) -> Tensor:
        return x if self.vectors is None else x @ self.vectors

    def back(self, z: Tensor) -> Tensor:
        return z if self.vectors is None else z @ self.vectors.T


def _smooth() -> Gaussian:
    """Neighbours alike: covariance 0.25 exp(-distance / 1.5), so that directions are known very unequally."""
    place = torch.stack(torch.meshgrid(torch.arange(SHAPE[1]), torch.arange(SHAPE[2]), indexing="ij"), -1)
    place = place.reshape(-1, 2).double()
    return _Whole(_mean(0), 0.25 * (-torch.cdist(place, place) / 1.5).exp())


def _mean(k: int) -> Tensor:
    return 0.5 * Noise([fold(0, "bench posterior", k)])("mean", 0, SHAPE, dtype=torch.float64)[0]


PRIORS: dict[str, Callable[[], Gaussian | GaussianMixture]] = {
    "round Gaussian": lambda: _Whole(_mean(0), std=0.5),
    "smooth Gaussian": _smooth,
    "mixture": lambda: GaussianMixture(
        torch.stack([_mean(k) for k in range(3)]), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.3, 0.2])
    ),
}


@dataclass(frozen=True)
class PosteriorRow:
    """One method on one problem; root mean squares over measurements.

    Args:
        method, prior, operator, std: which.
        nfe: network calls a sample.
        mean_error: |mean of the samples - exact mean| / sqrt(tr C), C the exact covariance: in posterior widths.
        cov_error: |covariance of the samples - C| / |C|, Frobenius norms; 1 for a point estimate.
        spread: sqrt(tr covariance of the samples / tr C); 1 where samples are as far apart as they should be.
        samples: a measurement. With so many even exact ones have a mean_error of 1 / sqrt(samples), and the cov_error
            that the rows of "exact samples" show.
    """

    method: str
    prior: str
    operator: str
    std: float
    nfe: int
    mean_error: float
    cov_error: float
    spread: float
    samples: int


def posterior_table(
    *,
    samples: int = 1000,
    measurements: int = 4,
    steps: int = 100,
    seed: int = 0,
    methods: Mapping[str, Restorer] | None = None,
    priors: Iterable[str] = tuple(PRIORS),
    operators: Iterable[str] = tuple(OPERATORS),
    stds: Sequence[float] = STDS,
    schedule: Schedule | None = None,
    grid: Grid | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[PosteriorRow]:
    """The table: every method that takes the operator, over exact denoisers, and exact samples beside them.

    Args:
        samples: of each measurement.
        measurements: drawn from the prior, by the seed.
        steps: of every method; RePaint takes more network calls for them.
        methods: `METHODS` if None.
        priors, operators, stds: which of `PRIORS` and `OPERATORS`, and the measurement's noise.
        schedule: VP() if None.
        grid: uniform in t if None, whose last step is long where std is small: see the spreads.
        say: told each row.
    """
    methods = METHODS if methods is None else methods
    noise = _Remembered([fold(seed, "sample", i) for i in range(samples * measurements)])
    drawn = Noise([fold(seed, "measurement", i) for i in range(measurements)])
    rows = []
    for name in priors:
        prior = PRIORS[name]()
        x = prior.sample(drawn)
        for measured in operators:
            operator = OPERATORS[measured]()
            for std in stds:
                y = operator(x)
                y = y + std * drawn("measured", 0, tuple(y.shape[1:]), dtype=torch.float64)
                if isinstance(operator, Mask):
                    y = operator(y)
                exact = [exact_posterior(prior, operator, row[None], std) for row in y]
                one = torch.cat([e.sample(noise.rows(slice(i, None, measurements))) for i, e in enumerate(exact)])
                found = [(EXACT, 0, one.unflatten(0, (measurements, samples)))]
                for who, method in methods.items():
                    d = _Counted(prior.denoiser(VP() if schedule is None else schedule))
                    if who == "RePaint" and measured not in ("mask", "denoise"):
                        continue  # it takes selections alone
                    made = method(d, operator, y.repeat_interleave(samples, 0), noise, std=std, steps=steps, grid=grid)
                    found.append((who, d.calls, made.unflatten(0, (measurements, samples))))
                for who, calls, made in found:
                    rows.append(PosteriorRow(who, name, measured, std, calls, *_errors(made, exact), samples))
                    say(_line(rows[-1]))
    return rows


def posterior_report(rows: Sequence[PosteriorRow], *, measurements: int, steps: int, seed: int) -> dict[str, Any]:
    """The table as JSON, with what it was made by."""
    from mezzotint.papers.setting import hardware, versions

    return {
        "format": "mezzotint-posterior-1",
        "problem": "images of 8 numbers, VP, float64, steps uniform in t",
        "samples": rows[0].samples,
        "measurements": measurements,
        "steps": steps,
        "seed": seed,
        "versions": versions(),
        "hardware": hardware("cpu"),
        "rows": [asdict(row) for row in rows],
    }


def _line(row: PosteriorRow) -> str:
    return (
        f"{row.prior}, {row.operator}, std {row.std:g}: {row.method} ({row.nfe} calls) mean {row.mean_error:.3f}, "
        f"covariance {row.cov_error:.3f}, spread {row.spread:.3f}"
    )


def _errors(made: Tensor, exact: Sequence[ExactPosterior]) -> tuple[float, float, float]:
    """See PosteriorRow; made is (p, n, *s)."""
    means, covs, spreads = [], [], []
    for rows, known in zip(made.flatten(2), exact, strict=True):
        cov, wide = torch.cov(rows.T), known.cov.trace()
        means.append((rows.mean(0) - known.mean.flatten()).square().sum() / wide)
        covs.append((cov - known.cov).square().sum() / known.cov.square().sum())
        spreads.append(cov.trace() / wide)
    return tuple(math.sqrt(float(torch.stack(q).mean())) for q in (means, covs, spreads))  # type: ignore[return-value]


class _Remembered(Noise):
    """Draws are kept: every method and problem asks for the same ones."""

    def __init__(self, seeds: Sequence[int]) -> None:
        super().__init__(seeds)
        self._kept: dict[Any, Tensor] = {}

    def __call__(self, purpose: str, k: int, shape: Sequence[int], **options: Any) -> Tensor:
        key = (purpose, k, tuple(shape), *sorted(options.items(), key=str))
        if key not in self._kept:
            self._kept[key] = super().__call__(purpose, k, shape, **options)
        return self._kept[key]


class _Counted(Denoiser):
    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.calls = denoiser, 0

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.calls += 1
        return self.denoiser(x_t, t, c)
