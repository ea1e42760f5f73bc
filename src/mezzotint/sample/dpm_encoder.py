"""DPM-Encoder: the noises from which a stochastic sampler draws a given image, exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Prediction, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.sample.combine import combine
from mezzotint.sample.loop import OnStep, Sampler, State, _check_informed, _check_start
from mezzotint.sample.multistep import Multistep
from mezzotint.sample.noise_code import NoiseCode, Replayed, plan_of
from mezzotint.sample.plan import Plan
from mezzotint.sample.remembered import planned

__all__ = ["EncodedStep", "dpm_decode", "dpm_encode", "encoded_steps"]

Final = Literal["residual", "denoise"]


@dataclass(frozen=True)
class EncodedStep:
    """One step of an encoding.

    Args:
        k: the step.
        eps: (b, *s), the noise with which the sampler makes this step of the trajectory.
        before, after: its states there, before and after the step.
    """

    k: int
    eps: Tensor
    before: State
    after: State


def encoded_steps(
    sampler: Sampler,
    d: Denoiser,
    x0: Float[Tensor, "b *s"],
    *,
    noise: Noise,
    steps: int | None = None,
    grid: Grid | Tensor | None = None,
    skip: int = 0,
    c: Condition | None = None,
) -> Iterator[EncodedStep]:
    """The steps of `dpm_encode` one by one, for edits that advance two runs in lock step and keep no noise.

    Arguments as for `dpm_encode`; they are checked at once, not at the first step.
    """
    return _steps(_Encoding.of(sampler, d, x0, noise, steps, grid, skip, c))


def dpm_encode(
    sampler: Sampler,
    d: Denoiser,
    x0: Float[Tensor, "b *s"],
    *,
    noise: Noise,
    steps: int | None = None,
    grid: Grid | Tensor | None = None,
    skip: int = 0,
    c: Condition | None = None,
    final: Final = "residual",
    on_step: OnStep | None = None,
) -> NoiseCode:
    """A latent code (x_T, eps_0, eps_1, ..., r) of x0 from which `dpm_decode` makes it again, to rounding.

        x_T = alpha x0 + sigma xi
        x'  = step(x | data x0, noise xi')            a draw of the posterior q(x' | x, x0)
        eps = (x' - step(x | d, noise 0)) / s         s = the step's weight of noise
        x  <- step(x | d, noise eps);                 r = x0 - x at the end

    Every step is the sampler's own, made once with x0 in place of the denoiser's data prediction and once with the
    prediction itself. The state goes on from where replaying will be, so that errors do not add up: reconstruction is
    exact to the rounding of one sum. Where the last step draws noise (a grid that stops above t = 0) its target is x0
    itself and r is rounding. The encoded noises are no standard normal ones where data is: with little eta the last
    grow to tens.

    Args:
        sampler: stochastic, one draw a step: DDPM, DDIM(eta > 0), SDEDPMSolverPP.
        d: the denoiser, guided or not; one that clips must clip in decoding too.
        x0: data, (b, *s).
        noise: one seed a sample, for xi and xi' (drawn apart from those of a sampling run of these seeds).
        steps, grid: as in Sampler.__call__.
        skip: leave out so many of the noisiest steps: the code is then closer to the image, and an edit smaller.
        c: the condition, b rows.
        final: "residual", or "denoise" for r = 0: the published code's pixel models, which lose what the last step to
            sigma = 0 does not say.
        on_step: called as on_step(k, state) after step k = 0, 1, ....

    Returns:
        The code, float32 or wider. One evaluation a step.

    Raises:
        ValueError: for a sampler that draws no noise or otherwise than once a step, and what Sampler.__call__ refuses.
        FloatingPointError: if a noise is not finite; names the step.

    Source: arXiv 2210.05559, equations of DPM-Encoder; r is our choice, which makes any schedule exact.

    >>> from mezzotint.core import Gaussian, VP; from mezzotint.sample import DDPM
    >>> d, x = Gaussian(torch.zeros(2), std=0.5).denoiser(VP()), torch.ones(1, 2, dtype=torch.float64)
    >>> code = dpm_encode(DDPM(), d, x, noise=Noise([0]), steps=10)
    >>> bool((dpm_decode(DDPM(), d, code) - x).abs().max() < 1e-12)
    True
    """
    if final not in ("residual", "denoise"):
        raise ValueError(f"final={final!r}; expected 'residual' or 'denoise'")
    run = _Encoding.of(sampler, d, x0, noise, steps, grid, skip, c)
    state, eps = run.start, []
    for made in _steps(run):
        state = made.after
        eps.append(made.eps)
        if on_step is not None:
            on_step(made.k, state)
    finite = torch.isfinite(torch.stack([e.detach().sum() for e in eps])).tolist()
    if not all(finite):
        k = finite.index(False)
        where = f"the noise of step {k} of {run.plan.steps} (t = {run.plan.nodes[k].t:.6g})"
        raise FloatingPointError(
            f"encoding gave NaN or infinity: {where}. "
            "Check the network's output there, and take a larger eta or fewer steps near t = 0"
        )
    rest = run.x0 - state.x if final == "residual" else torch.zeros_like(state.x)
    return NoiseCode(run.start.x, torch.stack(eps), rest, plan_of(run.plan))


def dpm_decode(
    sampler: Sampler,
    d: Denoiser,
    code: NoiseCode,
    *,
    c: Condition | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b *s"]:
    """G(z): run the sampler from the code's x_T with its noises, and add its residual.

    Args:
        sampler: the encoder's, or one of an equal plan (DDPM for DDIM(eta=1)).
        d: the encoder's denoiser, or another one of the same schedule: that is the edit.
        code: as encoded, edited or read from a file.
        c: the condition, b rows: the encoder's, or another.
        on_step: called as on_step(k, state) after step k = 0, 1, ....

    Returns:
        The image, (b, *s), in the code's dtype.

    Raises:
        ValueError: for another plan than the code's, saying in what they differ; what Sampler.__call__ refuses.

    Source: arXiv 2210.05559, section 3.1 of the sheet.
    """
    if not hasattr(d, "schedule"):
        raise ValueError(f"decoding needs a Denoiser, which has a schedule; got {type(d).__name__}")
    _check_sampler(sampler)
    code.check(planned(sampler, d.schedule, code.times))
    x = sampler(d, code.x_T, grid=code.times, c=c, noise=code.noise(), on_step=on_step)
    return x + code.residual


class _Known(Denoiser):
    """Says that the data is x0, whatever it is shown."""

    def __init__(self, d: Denoiser, x0: Tensor) -> None:
        super().__init__(d.schedule)
        self.x0 = x0

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        return Prediction.from_x0(self.x0, x_t, t, self.schedule)


class _Once(Denoiser):
    """Asks a denoiser once and says the same again: a step can then be made twice for one evaluation."""

    def __init__(self, d: Denoiser) -> None:
        super().__init__(d.schedule)
        self.d = d
        self.said: Prediction | None = None

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        said = self.said = self.d(x_t, t, c) if self.said is None else self.said
        return said


class _Apart(Noise):
    """The same seeds under other purposes."""

    def __call__(self, purpose: str, k: int, shape: Sequence[int], **options: Any) -> Tensor:
        """See Noise."""
        return super().__call__(f"encode {purpose}", k, shape, **options)


@dataclass(frozen=True)
class _Encoding:
    """Arguments that were checked."""

    sampler: Sampler
    d: Denoiser
    x0: Tensor
    start: State
    noise: Noise
    plan: Plan
    c: Condition | None

    @classmethod
    def of(
        cls,
        sampler: Sampler,
        d: Denoiser,
        x0: Tensor,
        noise: Noise,
        steps: int | None,
        grid: Grid | Tensor | None,
        skip: int,
        c: Condition | None,
    ) -> _Encoding:
        _check_sampler(sampler)
        if not hasattr(d, "schedule"):
            raise ValueError(f"encoding needs a Denoiser, which has a schedule; got {type(d).__name__}")
        _check_start(x0)
        sampler._check_noise(noise, len(x0))
        if c is not None and len(c) and c.batch != len(x0):
            raise ValueError(f"the condition has {c.batch} rows but x0 has {len(x0)} samples; give one row a sample")
        times = resolve_grid(grid, d.schedule, steps)
        if isinstance(skip, bool) or not isinstance(skip, int) or not 0 <= skip < len(times) - 1:
            raise ValueError(f"skip={skip!r} of {len(times) - 1} steps; expected a whole number from 0 that leaves one")
        times = times[skip:]
        _check_informed(d, times)
        x = x0.to(torch.promote_types(x0.dtype, torch.float32))
        plan, apart = planned(sampler, d.schedule, times).on(x, d.schedule), _Apart(noise.seeds)
        first = plan.nodes[0]
        xi = apart("x_T", 0, x.shape[1:], dtype=x.dtype, device=x.device)
        start = State(combine((first.alpha, x), (first.sigma, xi)))
        return cls(sampler, d, x, start, apart, plan, c)


def _steps(run: _Encoding) -> Iterator[EncodedStep]:
    known, place = _Known(run.d, run.x0), run.plan.columns.index("noise")
    state = run.start
    for k in range(run.plan.steps):
        asked, spread = _Once(run.d), run.plan.rows[k][place]
        args = (k, run.plan, run.c)
        mean = run.sampler.step(asked, state, *args)  # without noise: the mean
        if spread == 0:  # to sigma = 0
            yield EncodedStep(k, torch.zeros_like(state.x), state, mean)
            state = mean
            continue
        last = k == run.plan.steps - 1
        told = replace(state, history=tuple(run.x0 for _ in state.history))
        target = run.x0 if last else run.sampler.step(known, told, *args, run.noise).x
        eps = (target - mean.x) / spread
        after = run.sampler.step(asked, state, *args, Replayed(run.noise.seeds, {k: eps}))
        yield EncodedStep(k, eps, state, after)
        state = after


def _check_sampler(sampler: Sampler) -> None:
    name = type(sampler).__name__
    if not sampler.stochastic:
        raise ValueError(
            f"{name} draws no noise, and only x_T would be its code; the encoder needs a stochastic sampler (DDPM, "
            "DDIM with eta > 0, SDEDPMSolverPP with eta > 0), or use invert"
        )
    own = (type(sampler).step, type(sampler).trajectory, type(sampler)._run)
    if not isinstance(sampler, Multistep) or own != (Multistep.step, Sampler.trajectory, Sampler._run):
        raise ValueError(
            f"{name} does not draw exactly once in every step, so that its noises cannot be solved for; take DDPM, "
            "DDIM(eta > 0) or SDEDPMSolverPP"
        )
