"""PixelMan: an object is moved by moving its pixels; a denoiser makes the difference to a picture that could be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.core.discrete import Discrete
from mezzotint.edit.pixelman_branches import Branches, EditTrace, handles
from mezzotint.edit.pixelman_energy import EditEnergy
from mezzotint.edit.pixelman_leak import Blocked
from mezzotint.edit.pixelman_plan import EditPlan
from mezzotint.model import Model, Resizes

__all__ = ["Edited", "PixelMan"]


@dataclass(frozen=True)
class Edited:
    """What an edit gives.

    Args:
        images: (n, c, h, w) in [-1, 1], one a seed.
        latents: (n, k, hz, wz).
        trace: how it went.
    """

    images: Float[Tensor, "n c h w"]
    latents: Float[Tensor, "n k hz wz"]
    trace: EditTrace

    @property
    def nfe(self) -> int:
        """Evaluations of the network a sample."""
        return self.trace.nfe


@dataclass(frozen=True)
class PixelMan:
    """Move, resize or paste an object: three branches that share their noise, and no inversion.

        at each time t, with fresh eps:  target  alpha z_out + sigma eps     source  alpha z_src + sigma eps
                                         anchor  alpha z_man + sigma eps
        target -= G                     (energy, in some steps; see EditEnergy)
        delta = D(target, with the source's keys and values, leak-proof) - D(anchor)
        z_out = z_man + M delta,        M = 1 - blur(m_gen), and 1 in the last two steps

    Args:
        steps: n.
        energy: weights and scale of the gradient.
        update: what the gradient moves: the noisy "latents", or the "noise" that is predicted, when the whole step is
            repeated for each gradient (an ablation of the paper), or "none".
        kv_from: whose keys and values the target's self-attention uses in the decoder: those of the "source", of the
            "anchor" (an ablation), or its own, "none".
        leak_proof: which keys the vacated region does not see: those of the object's new place, of what is similar to
            it, and of its old place ("gen|sim|gud", the paper); without the last ("gen|sim", the released code);
            "none".
        tail: how many of the last steps have M = 1.

    Raises:
        ValueError: for a setting out of range.

    Source: arXiv 2412.14283, sections 3.3 to 3.5 of the sheet.

    >>> [PixelMan(steps=n).nfe() for n in (16, 8, 50)]
    [64, 28, 206]
    """

    steps: int = 16
    energy: EditEnergy = EditEnergy()
    update: Literal["latents", "noise", "none"] = "latents"
    kv_from: Literal["source", "anchor", "none"] = "source"
    leak_proof: Blocked = "gen|sim|gud"
    tail: int = 2

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= 500:
            raise ValueError(f"steps={self.steps!r}; expected a whole number from 1 to 500")
        if self.tail < 0:
            raise ValueError(f"tail={self.tail}; expected 0 or more steps")
        for name, given, known in (
            ("update", self.update, ("latents", "noise", "none")),
            ("kv_from", self.kv_from, ("source", "anchor", "none")),
            ("leak_proof", self.leak_proof, ("gen|sim|gud", "gen|sim", "none")),
        ):
            if given not in known:
                raise ValueError(f"{name}={given!r}; expected one of {', '.join(known)}")

    def updates(self, i: int) -> int:
        """How many gradients step i takes: in the first 60 %, each step of the first fifth and every second later;
        three each from 40 % on."""
        n = self.steps
        if self.update == "none" or i >= int(0.6 * n) or not (i % 2 == 0 or i < int(0.2 * n)):
            return 0
        return 3 if int(0.4 * n) < i and i % 2 == 0 else 1

    def nfe(self, guided: bool = False) -> int:
        """Evaluations of the network a sample; guided: towards a prompt, which doubles the branches."""
        counts = [self.updates(i) for i in range(self.steps)]
        passes = sum(max(1, r) for r in counts) if self.update == "noise" else self.steps
        return passes * (3 if self.kv_from == "source" else 2) * (2 if guided else 1) + 2 * sum(counts)

    def times(self, schedule: Schedule) -> list[float]:
        """The times of the steps, falling: DDIM's leading spacing with an offset of 1, of 1000 steps where the schedule
        is continuous (our choice).

        Raises:
            ValueError: for more steps than the schedule has.
        """
        total = schedule.steps if isinstance(schedule, Discrete) else 1000
        apart = total // self.steps
        if apart * (self.steps - 1) + 2 > total:
            raise ValueError(f"steps={self.steps}; expected fewer than half of the {total} the schedule has")
        return [(apart * i + 2) / total for i in reversed(range(self.steps))]

    def __call__(
        self,
        model: Model,
        plan: EditPlan,
        seeds: Sequence[int] = (0,),
        *,
        prompt: str | int | None = None,
        guidance: float = 4.0,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Edited:
        """Edit a picture as planned.

        Args:
            model: in pixel or latent space, with self-attention.
            plan: from `plan_move` or `plan_paste`.
            seeds: one a result; result i depends on its seed alone.
            prompt: what the picture shows; None asks for nothing and takes no guidance.
            guidance: towards the prompt.
            on_step: called after each step with (i, z_out).

        Raises:
            ValueError: for a picture whose sides do not suit the model, or a model without self-attention.
        """
        self._check(model, plan)
        height, width = plan.size
        factor = model.autoencoder.spec.factor
        with torch.inference_mode(False), torch.no_grad():
            noise = Noise(seeds)
            plain = model.denoiser
            if isinstance(plain, Resizes):
                plain = plain.at(height // factor, width // factor)
            _, told = model.prior(prompt)
            c = None if told is None else told.rows([0] * len(noise))
            pair = torch.stack([plan.source, plan.image]).to(model.device, torch.float32)
            z_src, z_man = (model.autoencoder.encode(x[None]).float() for x in pair)  # the mean, not a sample
            w = 1.0 if prompt is None else float(guidance)
            z, trace = self.sample(plain, plan, z_src, z_man, noise, c, w=w, on_step=on_step)
            return Edited(model.autoencoder.decode(z).clamp(-1, 1), z, trace)

    @torch.no_grad()
    def sample(
        self,
        denoiser: Denoiser,
        plan: EditPlan,
        z_src: Float[Tensor, "1 k h w"],
        z_man: Float[Tensor, "1 k h w"],
        noise: Noise,
        c: Condition | None = None,
        *,
        w: float = 1.0,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> tuple[Float[Tensor, "b k h w"], EditTrace]:
        """Edit latents.

        Args:
            denoiser: any; without keys and values, leak-proof attention and energy ("none") one without a network.
            plan: with the masks.
            z_src, z_man: of the source and of the manipulated picture.
            noise: one seed a result; purpose "edit".
            c: a row a result.
            w: guidance; 1 is none.
            on_step: called after each step with (i, z_out).

        Returns:
            z_out and what happened.

        Raises:
            ValueError: for a denoiser without self-attention or without a known decoder where they are used, or a
                result that is not finite.
        """
        if torch.is_inference_mode_enabled():  # whose tensors the energy could not be differentiated by
            with torch.inference_mode(False), torch.no_grad():
                own = None if c is None else c.rows(list(range(c.batch)))
                return self.sample(denoiser, plan, z_src.clone(), z_man.clone(), noise, own, w=w, on_step=on_step)
        run = Branches(self, denoiser, plan, z_src, z_man, noise, c, w)
        for i in range(self.steps):
            run.step(i)
            if on_step is not None:
                on_step(i, run.z)
        return run.z, run.told()

    def _check(self, model: Model, plan: EditPlan) -> None:
        height, width = plan.size
        if height % model.multiple or width % model.multiple:
            fit = " x ".join(str(max(1, n // model.multiple) * model.multiple) for n in plan.size)
            raise ValueError(
                f"the picture is {height} x {width}; {model.name} needs multiples of {model.multiple}: crop or enlarge "
                f"it, to {fit} say"
            )
        if plan.source.shape[0] != model.autoencoder.image_channels:
            raise ValueError(
                f"the picture has {plan.source.shape[0]} channels; {model.name} takes "
                f"{model.autoencoder.image_channels}"
            )
        handles(self, model.denoiser, self.leak_proof != "none")
