"""CycleDiffusion: an image made again from its own noises by another model, or under another prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule, resolve_grid, trailing
from mezzotint.core.grid import Grid
from mezzotint.edit.cycle_models import check_pair, check_picture, scale_of, told
from mezzotint.guide import CFG
from mezzotint.model import Model
from mezzotint.sample.combine import combine
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.dpm_encoder import dpm_decode, encoded_steps
from mezzotint.sample.loop import OnStep, Sampler, State
from mezzotint.sample.noise_code import NoiseCode, Replayed, plan_of
from mezzotint.sample.plan import Plan, nodes_of
from mezzotint.sample.remembered import planned

__all__ = ["CycleDiffusion", "Cycled"]


@dataclass(frozen=True)
class Cycled:
    """What CycleDiffusion gives.

    Args:
        images: (n, c, h, w) in [-1, 1], one a seed.
        latents: (n, k, hz, wz).
        nfe: evaluations of a network a sample, of both models together.
        code: the noises, where they were kept.
    """

    images: Float[Tensor, "n c h w"]
    latents: Float[Tensor, "n k hz wz"]
    nfe: int
    code: NoiseCode | None = None


@dataclass(frozen=True)
class CycleDiffusion:
    """z ~ DPM-Encoder(z | x, source), y = G_target(z): the target draws with the noises from which the source draws x.

    Both runs advance together, so that memory does not grow with the steps:
        x_s, x_t = alpha x + sigma xi                         one noisy image, at the first time that is kept
        eps  = (x_s' - step(x_s | source, noise 0)) / s       the source's noise, x_s' ~ q(x' | x_s, x)
        x_t <- step(x_t | target, noise eps),   x_s <- x_s'
        y    = x_t + (x - x_s)                                what the source's last step does not say
    With one model and one prompt on both sides y = x, to rounding.

    Args:
        steps: n of the whole grid, >= 1.
        start: the share of the grid that is kept, in (0, 1]: less stays closer to the picture. The code's
            skip_steps = 30 of 100 is 0.7; for two domains it keeps 850 of 1000.
        guidance: towards the target's prompt, >= 0.
        source_guidance: towards the source's prompt; above 1 the noises are far from normal.
        sampler: that draws once a step: DDIM(eta > 0), DDPM, SDEDPMSolverPP. The larger eta, the more of the picture
            is in the noises.
        refine: the share of the grid, from the data, over which the result is noised and denoised again by the target
            (DDIM with eta = 1); removes what noise is left. The code's refine_steps = 100 of 1000 is 0.1.
        final: "residual", or "denoise" without x - x_s, as the published pixel models have it.
        grid: of the times; the integer steps of a discrete schedule by default, uniform on a continuous one.

    Raises:
        ValueError: for a setting out of range, or a sampler that draws no noise.

    Source: arXiv 2210.05559, sections 3.2 to 3.4 of the sheet (eta 0.1, 100 steps, guidance 1 and 1 to 5, 15 to 50 of
    100 steps skipped); start in place of a number of steps, and x - x_s, are our choices.

    >>> from mezzotint.core import Gaussian, VP
    >>> a, b = (Gaussian(torch.full((2,), m), std=0.5).denoiser(VP()) for m in (-2.0, 3.0))
    >>> y, _ = CycleDiffusion(steps=20, start=1.0).between(a, b, torch.full((1, 2), -1.5), Noise([0]))
    >>> bool((y > 2).all())
    True
    """

    steps: int = 100
    start: float | int = 0.7
    guidance: float | int = 3.0
    source_guidance: float | int = 1.0
    sampler: Sampler = DDIM(0.1)
    refine: float | int = 0.0
    final: Literal["residual", "denoise"] = "residual"
    grid: Grid = trailing

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= 100_000:
            raise ValueError(f"steps={self.steps!r}; expected a whole number from 1 to 100000")
        if not 0 < self.start <= 1 or not self.kept:
            raise ValueError(
                f"start={self.start:g} of {self.steps} steps; expected a share in (0, 1] that keeps a step (0.7 leaves "
                "out the noisiest 30 %)"
            )
        if not 0 <= self.refine < 1:
            raise ValueError(f"refine={self.refine:g}; expected a share in [0, 1) (0 does nothing)")
        if self.final not in ("residual", "denoise"):
            raise ValueError(f"final={self.final!r}; expected 'residual' or 'denoise'")
        if not self.sampler.stochastic:
            raise ValueError(
                f"{type(self.sampler).__name__} draws no noise: CycleDiffusion needs a stochastic sampler (DDIM with "
                "eta > 0, DDPM, SDEDPMSolverPP); use invert for a deterministic one"
            )
        for weight in (self.guidance, self.source_guidance):
            CFG(float(weight))  # refuses what is no weight

    @property
    def kept(self) -> int:
        """The number of steps that are taken."""
        return round(self.start * self.steps)

    @property
    def cleaned(self) -> int:
        """The number of steps of the clean-up."""
        return round(self.refine * self.steps)

    def nfe(self, *, source_prompt: bool = False, target_prompt: bool = False) -> int:
        """Evaluations of a network a sample: two a step, and one more for each guided side (weight other than 1 or 0).

        >>> CycleDiffusion(start=1.0).nfe(), CycleDiffusion().nfe(source_prompt=True, target_prompt=True)
        (200, 210)
        """
        a, b = (
            2 if prompt and w not in (0, 1) else 1
            for prompt, w in ((source_prompt, self.source_guidance), (target_prompt, self.guidance))
        )
        return self.kept * (a + b) + self.cleaned * b

    def times(self, schedule: Schedule) -> Float[Tensor, " n"]:
        """The times that are run, falling, (kept + 1,)."""
        return resolve_grid(self.grid, schedule, self.steps)[self.steps - self.kept :]

    def __call__(
        self,
        model: Model,
        image: Float[Tensor, "*n c h w"],
        seeds: Sequence[int] = (0,),
        *,
        source: str | int | None = None,
        target: str | int | None = None,
        onto: Model | None = None,
        keep: bool = False,
        on_step: OnStep | None = None,
    ) -> Cycled:
        """Edit a picture: under another prompt, by another model, or both.

        Args:
            model: in pixel or latent space; it says what the picture is.
            image: (c, h, w) in [-1, 1], or (n, c, h, w), one a seed.
            seeds: one a result; result i depends on its seed alone.
            source, target: words (or class numbers) for the picture and for the result; None asks for nothing.
            onto: the model that draws the result; None for the same. It has the same schedule and state space.
            keep: whether the noises are kept, as `code`.
            on_step: called as on_step(k, state) with the result's state after step k = 0, 1, ....

        Raises:
            ValueError: for models that do not belong together, a picture that does not suit them, or prompts that a
                model does not take.
            FloatingPointError: if the result is not finite.
        """
        target_model = model if onto is None else onto
        check_pair(model, target_model)
        x = check_picture(image, len(Noise(seeds)), model, target_model)
        with torch.inference_mode(False), torch.no_grad():
            noise = Noise(seeds)
            z0 = model.autoencoder.encode(x.to(model.device, torch.float32)).float()  # the mean, not a sample
            size = (int(z0.shape[2]), int(z0.shape[3]))
            a, c = told(model, source, self.source_guidance, len(noise), size)
            b, to = told(target_model, target, self.guidance, len(noise), size)
            z, code = self.between(a, b, z0, noise, c=c, to=to, keep=keep, on_step=on_step)
            images = target_model.autoencoder.decode(z).clamp(-1, 1)
        nfe = self.nfe(source_prompt=source is not None, target_prompt=target is not None)
        return Cycled(images, z, nfe, code if code is None else replace(code, scale=scale_of(model)))

    def replay(
        self,
        model: Model,
        code: NoiseCode,
        seeds: Sequence[int] | None = None,
        *,
        target: str | int | None = None,
        on_step: OnStep | None = None,
    ) -> Cycled:
        """The second half alone: noises that were kept, in memory or in a file, under a prompt of a model.

        Args:
            model: of the schedule and state space of the one that the noises came from.
            code: from `keep=True` or `NoiseCode.load`; rows are results.
            seeds: those of the first run, for the clean-up; needed if `refine` is not 0.
            target: words, or a class number.
            on_step: called as on_step(k, state).

        Raises:
            ValueError: for a code of other settings or another space, with both values; seeds that are missing.
        """
        if self.cleaned and (seeds is None or len(seeds) != len(code.x_T)):
            raise ValueError(
                f"refine={self.refine:g} draws noise anew; give the {len(code.x_T)} seeds of the first run"
            )
        spec = model.autoencoder.spec
        if code.x_T.ndim != 4 or code.x_T.shape[1] != spec.channels:
            raise ValueError(
                f"the code has states of {tuple(code.x_T.shape[1:])}; {model.name} works on {spec.channels} channels"
            )
        code.check_scale(scale_of(model))
        with torch.inference_mode(False), torch.no_grad():
            code = code.to(model.device)
            d, to = told(model, target, self.guidance, len(code.x_T), tuple(code.x_T.shape[2:]))  # type: ignore[arg-type]
            z = dpm_decode(self.sampler, d, code, c=to, on_step=on_step)
            if self.cleaned:
                z = self._refined(d, z, Noise(seeds or ()), to)
            images = model.autoencoder.decode(z).clamp(-1, 1)
        guided = target is not None and self.guidance not in (0, 1)
        return Cycled(images, z, (code.steps + self.cleaned) * (2 if guided else 1), code)

    def between(
        self,
        source: Denoiser,
        target: Denoiser,
        x0: Float[Tensor, "b *s"],
        noise: Noise,
        *,
        c: Condition | None = None,
        to: Condition | None = None,
        keep: bool = False,
        on_step: OnStep | None = None,
    ) -> tuple[Float[Tensor, "b *s"], NoiseCode | None]:
        """The same between two denoisers, on data or latents; gradients flow.

        Args:
            source, target: denoisers of one schedule, guided or not.
            x0: data, (b, *s).
            noise: one seed a sample; the encoder's purposes, and "refine x_T", "step" for the clean-up.
            c, to: conditions of the source and of the target, b rows.
            keep: whether the code is given too.
            on_step: called as on_step(k, state).

        Returns:
            y, float32 or wider, and the code or None.

        Raises:
            ValueError: for denoisers of different schedules, and what `dpm_encode` refuses.
            FloatingPointError: if the result is not finite.
        """
        times = self.times(source.schedule)
        run = encoded_steps(self.sampler, source, x0, noise=noise, grid=times, c=c)
        plan = self._plan(source, target, times)
        state, first, eps, last = State(x0), None, [], None
        for made in run:
            if first is None:
                first = state = made.before
                plan = plan.on(first.x, target.schedule)
            again = Replayed(noise.seeds, {made.k: made.eps})
            state = self.sampler.step(target, state, made.k, plan, to, again)
            last = made.after.x
            if keep:
                eps.append(made.eps)
            if on_step is not None:
                on_step(made.k, state)
        assert first is not None and last is not None  # a plan has steps
        rest = x0.to(last.dtype) - last if self.final == "residual" else torch.zeros_like(last)
        y = state.x + rest
        if not bool(torch.isfinite(y.detach().sum())):
            raise FloatingPointError(
                "the edit gave NaN or infinity; lower the guidance, take a larger eta, or look at the networks' outputs"
            )
        if self.cleaned:
            y = self._refined(target, y, noise, to)
        return y, NoiseCode(first.x, torch.stack(eps), rest, plan_of(plan)) if keep else None

    def _plan(self, source: Denoiser, target: Denoiser, times: Tensor) -> Plan:
        mine = plan_of(planned(self.sampler, source.schedule, times))
        none = torch.zeros(0)
        plan = planned(self.sampler, target.schedule, times)
        try:
            NoiseCode(none, none.expand(len(mine.rows), 0), none, mine).check(plan)
        except ValueError as error:
            raise ValueError(
                f"source and target have different noise schedules, {source.schedule} and {target.schedule}: {error}"
            ) from None
        return plan

    def _refined(self, target: Denoiser, y: Tensor, noise: Noise, to: Condition | None) -> Tensor:
        times = resolve_grid(self.grid, target.schedule, self.steps)[self.steps - self.cleaned :]
        node = nodes_of(target.schedule, times[:1])[0]
        xi = noise("refine x_T", 0, y.shape[1:], dtype=y.dtype, device=y.device)
        start = combine((node.alpha, y), (node.sigma, xi))
        return DDIM(1.0)(target, start, grid=times, c=to, noise=noise)
