"""Spatial-temporal attention control: objects of a caption at their places, with weights optimised for one image."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Prediction, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.edit.spacetime_places import Places, placed
from mezzotint.edit.spacetime_score import Scorer, faithfulness_loss
from mezzotint.guide import CFG, SpaceTime
from mezzotint.guide.guided import GuidedDenoiser
from mezzotint.guide.spacetime import Mode, Regions, read_contexts
from mezzotint.model import Model, Resizes
from mezzotint.nn.recompute import recomputed
from mezzotint.sample.loop import Sampler
from mezzotint.sample.names import sampler_named

__all__ = ["Faithful", "SpaceTimeAttention"]


@dataclass(frozen=True)
class Faithful:
    """What spatial-temporal attention gives.

    Args:
        images: (b, c, h, w) in [-1, 1]; of a bare denoiser the latents.
        latents: (b, *s), of the last round (or each row's best one).
        weights: (b, k, n), those it was drawn with: one a sample, object and step.
        losses: (rounds, b), of every round's image; empty where nothing was scored.
        nfe: evaluations of the network a sample, forward.
        regions: of each object.
    """

    images: Float[Tensor, "b *chw"]
    latents: Float[Tensor, "b *s"]
    weights: Float[Tensor, "b k n"]
    losses: Float[Tensor, "r b"]
    nfe: int
    regions: Regions = ()


@dataclass(frozen=True)
class SpaceTimeAttention:
    """`SpaceTime` guidance whose weights are optimised on the image they give:

        for each round:  x = sample(x_T; w),   L(x) = 1 - s(x, caption) + 5 sum_k (1 - s(crop_k, phrase_k)),
                         w <- Adam(w, dL/dw)                                  through the whole sampler

    from the same x_T and noise in every round. The image is that of the last round, after rounds - 1 updates. With the
    published settings a weight moves by about 0.01 in all, so most of the effect is that of the first weights.

    Args:
        scorer: (images in [-1, 1], captions) -> (b,) cosines, differentiable, as `TextScore.cosine`; None for one
            round with the first weights.
        mode: "convex", the paper's formula (w = sigmoid of what is optimised, our choice), or "boost", its code's.
        init: of every weight; None is 0.5 (convex, our choice) or 5 / objects (boost).
        rounds: >= 1.
        lr: of Adam.
        over: "steps", a weight for each object and step, or "objects", one for all steps.
        radius: of the discs where the layout gives centres.
        crops: weight of the objects' crops in L.
        through: gradients flow through the last so many steps only (less work, a deviation); None for all.
        keep: "last" image, or each row's "best" by L.
        template: of an object's caption.

    Every evaluation is computed again for its gradient, so that memory grows with the steps by one latent each.

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 2304.03869, sheet sections 3.1 to 3.3. Its sampler is PLMS with 50 steps; any of ours serves.
    """

    scorer: Scorer | None = None
    mode: Mode = "convex"
    init: float | int | None = None
    rounds: int = 3
    lr: float = 5e-3
    over: Literal["steps", "objects"] = "steps"
    radius: float = 0.2
    crops: float | int = 5.0
    through: int | None = None
    keep: Literal["last", "best"] = "last"
    template: str = "a photo of {}"

    def __post_init__(self) -> None:
        if self.mode not in ("convex", "boost") or self.over not in ("steps", "objects"):
            raise ValueError(
                f"mode={self.mode!r}, over={self.over!r}; expected 'convex' or 'boost', and 'steps' or 'objects'"
            )
        if self.keep not in ("last", "best"):
            raise ValueError(f"keep={self.keep!r}; expected 'last' or 'best'")
        if self.rounds < 1 or not 0 < self.lr < math.inf or not self.crops >= 0:
            raise ValueError(f"rounds={self.rounds}, lr={self.lr}, crops={self.crops}; expected >= 1, > 0 and >= 0")
        if self.scorer is None and self.rounds > 1:
            raise ValueError("nothing to optimise the weights by: give a scorer, or rounds=1 for the first weights")
        if self.through is not None and self.through < 1:
            raise ValueError(f"through={self.through}; expected a number of steps >= 1, or None for all")
        if self.init is not None and not (
            0 < self.init < 1 or ((self.mode == "boost" or self.rounds == 1) and math.isfinite(self.init))
        ):
            raise ValueError(f"init={self.init}; weights of the convex mode are between 0 and 1 (sigmoid)")
        if self.template.count("{}") != 1:
            raise ValueError(f"template {self.template!r} needs one {{}}, where the object's words go")

    def __call__(
        self,
        model: Model,
        caption: str,
        layout: Places,
        *,
        steps: int | None = None,
        guidance: float | int | None = None,
        seeds: Sequence[int] = (0,),
        sampler: str | Sampler | None = None,
        grid: Grid | Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Faithful:
        """Images of a caption with its objects in their places.

        Args:
            model: whose network has cross-attention, in pixel or latent space.
            caption: with every phrase of the layout in it.
            layout: {phrase: region}, or pairs of them where a phrase comes twice; a region, or the centre (x, y) of a
                disc, shares of width and height from the upper left. None at all is plain sampling, with a notice.
            steps, guidance, sampler, grid, size: as of `Model.sample`, whose defaults they have.
            seeds: one an image.

        Raises:
            ValueError: for a phrase that is not in the caption or oftener than there, a centre outside the image,
                words or sizes that the model does not take, or a model without cross-attention.
        """
        places = placed(caption, layout, self.radius)
        phrases = [self.template.format(phrase) for phrase, _ in places]
        guidance = float(model.defaults["guidance"] if guidance is None else guidance)
        sampler = model.defaults["sampler"] if sampler is None else sampler
        solver = sampler_named(sampler) if isinstance(sampler, str) else sampler
        noise, n = Noise(seeds), len(seeds)
        height, width = model.size if size is None else size
        if height % model.multiple or width % model.multiple:
            raise ValueError(f"size {height} x {width}; {model.name} needs multiples of {model.multiple}")
        with torch.inference_mode(False), torch.no_grad():
            c, *told = (model.prior(words_)[1] for words_ in (caption, *phrases))
            spec = model.autoencoder.spec
            shape = (spec.channels, height // spec.factor, width // spec.factor)
            d = model.denoiser.at(*shape[1:]) if isinstance(model.denoiser, Resizes) else model.denoiser
            if steps is None and not isinstance(grid, Tensor):
                steps = model.defaults["steps"]
            times = resolve_grid(grid, d.schedule, steps)
            x_T = float(d.schedule.sigma(times[:1])) * noise("x_T", 0, shape, device=model.device)
        assert c is not None
        regions = [region for _, region in places]
        decode = lambda z: model.autoencoder.decode(z).clamp(-1, 1)  # noqa: E731

        def loss(z: Tensor) -> Tensor:
            assert self.scorer is not None
            return faithfulness_loss(
                self.scorer, decode(z), [caption] * n, [phrases] * n, [regions] * n, self.crops
            )  # fmt: skip

        made = self.optimised(
            d, x_T, solver, times, c=c.rows([0] * n), locals=[t for t in told if t is not None], regions=regions,
            w=guidance, loss=None if self.scorer is None else loss, noise=noise,
        )  # fmt: skip
        with torch.no_grad():
            images = decode(made.latents)
        return replace(made, images=images)

    def optimised(
        self,
        d: Denoiser,
        x_T: Float[Tensor, "b *s"],
        sampler: Sampler,
        times: Float[Tensor, " n"],
        *,
        c: Condition,
        locals: Sequence[Condition],
        regions: Regions,
        w: float | int = 7.5,
        loss: Callable[[Tensor], Tensor] | None = None,
        noise: Noise | None = None,
    ) -> Faithful:
        """The same on a denoiser.

        Args:
            d: not guided.
            x_T: the state at times[0].
            sampler: any, in which gradients flow.
            times: (n + 1,) falling.
            c: the caption's condition, b rows.
            locals, regions: as of `SpaceTime`.
            w: guidance weight.
            loss: (b, *s) -> (b,), differentiable; needed for more than one round.
            noise: for a sampler that draws.

        Raises:
            ValueError: as `SpaceTime`; or a loss without a gradient.
            FloatingPointError: for a loss that is not finite.
        """
        if loss is None and self.rounds > 1:
            raise ValueError("nothing to optimise the weights by: give a loss, or rounds=1 for the first weights")
        if w == 0 and self.rounds > 1 and locals:
            raise ValueError(
                "guidance of 0 draws the null half, in which weights have no part; give another, or rounds=1"
            )
        n, b, k = len(times) - 1, len(x_T), len(locals)
        evaluations = sampler.plan(d.schedule, times).nfe * (1 if w in (0, 1) else 2)
        if not k:
            warnings.warn("the layout has no objects: this is plain sampling", stacklevel=3)
            with torch.no_grad():
                x = sampler(CFG(w)(d), x_T, grid=times, c=c, noise=noise)
                return Faithful(x, x, x.new_zeros(b, 0, n), x.new_zeros(0, b), evaluations)
        with torch.inference_mode(False):
            contexts = [read_contexts(d, x_T, times[:1].to(x_T).expand(b), local) for local in locals]
            start = self._start(k)
            exact = torch.promote_types(x_T.dtype, torch.float32)  # an update of lr would be lost in half precision
            free = x_T.new_full((b, k, n if self.over == "steps" else 1), start, dtype=exact).requires_grad_()
            adam = torch.optim.Adam([free], lr=self.lr)
            losses: list[Tensor] = []
            kept: tuple[Tensor, Tensor] | None = None
            for r in range(self.rounds):
                last = r == self.rounds - 1
                with torch.set_grad_enabled(not last):
                    table = self._weights(free).expand(b, k, n)
                    guide = SpaceTime(contexts, regions, table, times, w, self.mode)
                    later = None if self.through is None else float(times[max(n - self.through, 0)])
                    run = guide(d) if last else _Recomputed(guide(d), later)
                    x = sampler(run, x_T, grid=times, c=c, noise=noise)
                    found = None if loss is None else loss(x)
                now = (x.detach(), table.detach().clone())
                if found is None:
                    kept = now
                    continue
                _check_loss(found, b, last)
                better = torch.ones(b, dtype=torch.bool, device=x.device)
                if kept is not None and self.keep == "best":
                    better = found.detach() < torch.stack(losses).amin(0)
                kept = now if kept is None else _chosen(better, now, kept)
                losses.append(found.detach())
                if not last:
                    (free.grad,) = torch.autograd.grad(found.sum(), free)
                    adam.step()
        assert kept is not None
        scored = torch.stack(losses) if losses else x_T.new_zeros(0, b)
        return Faithful(kept[0], *kept, scored, self.rounds * evaluations + k, regions)

    def _start(self, objects: int) -> float:
        init = self.init if self.init is not None else 0.5 if self.mode == "convex" else 5.0 / objects
        return math.log(init / (1 - init)) if self.mode == "convex" and self.rounds > 1 else float(init)

    def _weights(self, free: Tensor) -> Tensor:
        return free.sigmoid() if self.mode == "convex" and self.rounds > 1 else free


class _Recomputed(GuidedDenoiser):
    """The same denoiser, whose activations are computed again in the backward pass; before a time, no gradients."""

    def __init__(self, denoiser: GuidedDenoiser, later: float | None) -> None:
        super().__init__(denoiser)
        self.later = later

    def pair(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> tuple[Prediction, Prediction]:
        if self.later is not None and float(t[0]) > self.later + 1e-6:
            with torch.no_grad():
                x0 = self.denoiser(x_t, t, c).x0
        else:
            x0 = recomputed(lambda x: self.denoiser(x, t, c).x0, x_t)
        made = Prediction.from_x0(x0, x_t, t, self.schedule)
        return made, made


def _check_loss(found: Tensor, b: int, last: bool) -> None:
    if found.shape != (b,):
        raise ValueError(f"the loss gave {tuple(found.shape)} for {b} samples; expected one number each")
    if not bool(torch.isfinite(found.detach()).all()):
        raise FloatingPointError("the loss is NaN or infinite; look at the scorer and at the first weights")
    if not last and not found.requires_grad:
        raise ValueError("no gradient comes from the loss to the weights: the scorer must be differentiable")


def _chosen(
    better: Tensor, now: tuple[Tensor, Tensor], kept: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(better.view(-1, *[1] * (a.ndim - 1)), a, b)

    return pick(now[0], kept[0]), pick(now[1], kept[1])
