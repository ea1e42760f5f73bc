"""The three branches of PixelMan: source, pasted picture and target, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mezzotint.attention import as_map, decoder_places, decoder_sites, features, save, self_sites, swap
from mezzotint.core import Condition, Denoiser, Noise, Prediction
from mezzotint.core.known import mark_time
from mezzotint.edit.pixelman_leak import LeakProof, Similar
from mezzotint.edit.pixelman_plan import EditPlan
from mezzotint.guide import CFG
from mezzotint.nn.site import handling

if TYPE_CHECKING:
    from mezzotint.edit.pixelman import PixelMan

__all__ = ["Branches", "EditTrace", "blurred"]


@dataclass
class EditTrace:
    """What happened in an edit, step by step.

    Args:
        deltas: (b,) each, the norm of D_tgt - D_man before it is masked.
        similar: m_sim (b, i, j) each, as the next step uses it; empty without leak-proof attention.
        nfe: evaluations of the network a sample.
    """

    deltas: list[Tensor] = field(default_factory=list)
    similar: list[Bool[Tensor, "b i j"]] = field(default_factory=list)
    nfe: int = 0


class _Counted(Denoiser):
    """Counts the samples that go through the network."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.rows = denoiser, 0

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        self.rows += len(x_t)
        return self.denoiser(x_t, t, c)


class Branches:
    """One edit on its way: the target's z, and what its steps need."""

    def __init__(
        self,
        method: PixelMan,
        denoiser: Denoiser,
        plan: EditPlan,
        z_src: Tensor,
        z_man: Tensor,
        noise: Noise,
        c: Condition | None,
        w: float,
    ) -> None:
        self.method, self.noise, self.c = method, noise, c
        self.plan = plan.to("cpu")  # masks are looked at by the host, and sent to where they are used
        self.counted = _Counted(denoiser)
        self.guided: Any = self.counted if w == 1 else CFG(w)(self.counted)
        self.size: tuple[int, int] = (z_man.shape[2], z_man.shape[3])
        per_pixel = plan.size[0] // self.size[0]
        self.grid = (self.size[0] * min(2, per_pixel), self.size[1] * min(2, per_pixel))  # image / 4 at a factor of 8
        self.leaks = method.leak_proof != "none" and bool(plan.ipt.any())
        self.sites = handles(method, denoiser, self.leaks)
        self.z_src, self.z_man = (z.expand(len(noise), -1, -1, -1) for z in (z_src, z_man))
        self.z = self.z_man.clone()
        self.keep = 1 - blurred(self.plan.gen, self.size).to(z_man)
        self.times = method.times(denoiser.schedule)
        self.similar = self.plan.at("gud", self.size)[None].expand(len(noise), -1, -1)
        self.trace = EditTrace()
        self.draws = 0

    def step(self, i: int) -> None:
        """One step: z_out = z_man + M delta."""
        method, r = self.method, self.method.updates(i)
        t, alpha, sigma = self._level(self.times[i])
        for _ in range(max(1, r) if method.update == "noise" else 1):
            eps = self.noise("edit", self.draws, self.z.shape[1:], dtype=self.z.dtype, device=self.z.device)
            self.draws += 1
            target, source, anchor = (alpha * z + sigma * eps for z in (self.z, self.z_src, self.z_man))
            extra: Tensor | float = 0.0
            if method.update == "noise" and r:
                extra = sigma / alpha * self._gradient(target, anchor, t)
            elif method.update == "latents":
                for _ in range(r):
                    target = target - self._gradient(target, anchor, t)
            with self._keys(method.kv_from == "anchor") as kept:
                still = self.guided(anchor, t, self.c).x0
            if method.kv_from == "source":
                with self._keys(True) as kept:
                    self.guided(source, t, self.c)
            moved = self._target(target, t, kept)
            delta = moved - extra - still
            self.z = self.z_man + (delta if i >= method.steps - method.tail else delta * self.keep)
        self.trace.deltas.append(delta.flatten(1).norm(dim=1))
        if self.leaks:
            self.trace.similar.append(self.similar)

    def told(self) -> EditTrace:
        """What happened.

        Raises:
            ValueError: for a result that is not finite, naming the step.
        """
        if not bool(torch.isfinite(self.z).all()):
            bad = (i for i, d in enumerate(self.trace.deltas) if not bool(torch.isfinite(d).all()))
            step = next(bad, self.method.steps - 1)
            raise ValueError(f"the edit is not finite from step {step} on; lower the energy's scale, or the guidance")
        self.trace.nfe = self.counted.rows // len(self.noise)
        return self.trace

    def _level(self, time: float) -> tuple[Tensor, float, float]:
        schedule = self.counted.schedule
        at = torch.tensor(time, dtype=torch.float64)
        alpha, sigma = float(schedule.alpha(at)), float(schedule.sigma(at))
        t = torch.full((len(self.z),), time, dtype=self.z.dtype, device=self.z.device)
        return mark_time(t, time, (schedule, alpha, sigma)), alpha, sigma

    def _keys(self, wanted: bool) -> Any:
        return save(self.counted, "|".join(self.sites.decoder)) if wanted else nullcontext()

    def _target(self, x: Tensor, t: Tensor, kept: Any) -> Tensor:
        """D of the target, under the source's keys and values, and leak-proof; m_sim is found on the way."""
        with ExitStack() as stack:
            similar = None
            if kept is not None:
                stack.enter_context(swap(self.counted, kept, "|".join(self.sites.decoder)))
            if self.leaks:
                leak = LeakProof(self.plan, self.method.leak_proof, self.similar)
                stack.enter_context(handling(self.counted, leak, "|".join(self.sites.every)))
                similar = Similar(self.plan, self.size, len(self.z))
                stack.enter_context(handling(self.counted, similar, "|".join(self.sites.decoder[-3:])))
            made = self.guided(x, t, self.c).x0
        found = None if similar is None else similar.mask()
        if found is not None:
            self.similar = found
        return made

    def _gradient(self, x: Tensor, anchor: Tensor, t: Tensor) -> Tensor:
        """G, of evaluations without any edit of attention and without guidance."""
        with features(self.counted.denoiser, self.sites.places) as seen:
            self.counted(anchor, t, self.c)
        still = two_finest([as_map(f, *self.size) for f in seen.values()])
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            with features(self.counted.denoiser, self.sites.places, grad=True) as seen:
                self.counted(x, t, self.c)
            moved = two_finest([as_map(f, *self.size) for f in seen.values()])
            return self.method.energy.gradient(x, moved, still, self.plan, self.grid).detach()


@dataclass(frozen=True)
class Sites:
    """Where an edit takes hold of a network.

    Args:
        every: all self-attention.
        decoder: that of the decoder.
        places: modules whose outputs are the decoder's features.
    """

    every: tuple[str, ...] = ()
    decoder: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


def handles(method: PixelMan, denoiser: Denoiser, leaks: bool) -> Sites:
    """What a method needs of a network.

    Raises:
        ValueError: the network does not have it.
    """
    attends = leaks or method.kv_from != "none"
    return Sites(
        self_sites(denoiser) if attends else (),
        decoder_sites(denoiser) if attends else (),
        tuple(decoder_places(denoiser)) if method.update != "none" else (),
    )


def two_finest(maps: Sequence[Float[Tensor, "b _c _i _j"]]) -> list[Float[Tensor, "b _c _i _j"]]:
    """Of the decoder's features the first at each resolution, and of these the two finest: those of blocks 1 and 2 of
    Stable Diffusion, 0 and 1 of SDXL. Where all are at one resolution, the first and the middle one (our choice).

    >>> [tuple(f.shape[2:]) for f in two_finest([torch.zeros(1, 2, n, n) for n in (2, 4, 8, 8)])]
    [(4, 4), (8, 8)]
    """
    first: dict[int, Tensor] = {}
    for f in maps:
        first.setdefault(f.shape[-2] * f.shape[-1], f)
    if len(first) > 1:
        return list(first.values())[-2:]
    return [maps[0], maps[len(maps) // 2]] if len(maps) > 1 else list(maps)


def blurred(mask: Bool[Tensor, "h w"], size: tuple[int, int]) -> Float[Tensor, "i j"]:
    """A mask on the latent's grid, its edge soft: bicubic, then a Gaussian of 9 cells and standard deviation 1.7.

    Exactly 1 where all that the Gaussian sees is inside.

    >>> blurred(torch.ones(32, 32, dtype=torch.bool), (8, 8)).min().item()
    1.0
    """
    soft = F.interpolate(mask[None, None].double(), size, mode="bicubic", antialias=True).clamp(0, 1)
    places = torch.arange(-4, 5, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (places / 1.7) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(soft, (4, 4, 4, 4), mode="replicate")
    made = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, 9)), kernel.view(1, 1, 9, 1))[0, 0].clamp(0, 1)
    return torch.where(made > 1 - 1e-9, 1.0, torch.where(made < 1e-9, 0.0, made))
