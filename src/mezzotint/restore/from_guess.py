"""From a guess with noise on it: the sampler's last part alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.restore.fit import first_image
from mezzotint.restore.operators import LinearOperator, Operator
from mezzotint.restore.problem import Problem
from mezzotint.restore.restorer import Restorer, SampledRestorer
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import OnStep, Sampler

__all__ = ["FromGuess"]


@dataclass(frozen=True)
class FromGuess(Restorer):
    """x_t0 = alpha_t0 guess(y) + sigma_t0 z, and then a sampler from t0 down: SDEdit; around a method, CCDF.

    Alone the measurement is used in the guess only: the result is near it, and natural, but explains y no longer
    (SDEdit). With a method that knows the measurement (DDNM, ILVR, ...) it is that one with a later start, which needs
    fewer network calls for the same fineness of the grid (CCDF). `steps` are those taken, over the grid's shape
    shrunk to [0, t0].

    Args:
        start: t0, in (0, 1].
        method: a SampledRestorer, or a sampler that knows nothing of the measurement.

    Raises:
        ValueError: for a start outside of this range, or another kind of method.

    Source: arXiv 2108.01073, algorithm 1; arXiv 2112.05146, section 3.

    >>> import torch; from mezzotint.core import VP, Gaussian
    >>> from mezzotint.restore.operators import Matrix
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> FromGuess(0.3)(d, Matrix(torch.ones(1, 2)), torch.ones(1, 1), Noise([0]), steps=3).shape
    torch.Size([1, 2])
    """

    start: float = 0.5
    method: SampledRestorer | Sampler = field(default_factory=DDIM)

    def __post_init__(self) -> None:
        if not 0 < self.start <= 1:
            raise ValueError(f"FromGuess got start={self.start}; expected a time in (0, 1], about 0.5")
        if not isinstance(self.method, (SampledRestorer, Sampler)):
            raise ValueError(
                f"FromGuess got {self.method!r}; expected a sampler, as DDIM(), or a method that samples, as ILVR()"
            )

    @property
    def spread(self) -> bool:
        """As the method's; alone it samples no posterior."""
        return isinstance(self.method, SampledRestorer) and self.method.spread

    def __call__(
        self,
        d: Denoiser,
        operator: Operator,
        y: Float[Tensor, "_ *m"],
        noise: Noise,
        *,
        std: float = 0.0,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *s"]:
        """See Restorer; a tensor of times is taken as it is, and its first one is t0."""
        problem = Problem.of(operator, y, noise, std)
        if isinstance(grid, Tensor):
            times = resolve_grid(grid, d.schedule, steps)
        else:
            times = self.start * resolve_grid(grid, d.schedule, 100 if steps is None else steps)
        run, informed = self.method, d
        if isinstance(run, SampledRestorer):
            if run.linear and not isinstance(operator, LinearOperator):
                raise ValueError(f"{type(run).__name__} needs a linear operator and {type(operator).__name__} is none")
            run, informed = run.sampler(problem), run.informed(d, problem)
        like = first_image(problem)
        z = noise("x_T", 0, tuple(like.shape[1:]), dtype=like.dtype, device=like.device)
        alpha, sigma = float(d.schedule.alpha(times[:1])), float(d.schedule.sigma(times[:1]))
        return run(informed, alpha * like + sigma * z, grid=times, c=c, noise=noise, on_step=on_step).to(y.dtype)
