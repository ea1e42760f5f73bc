"""Self-supervised pre-training on noisy images: contrast between views, agreement between noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core import Noise, fold
from mezzotint.nn.projector import ProjectedEncoder
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.contrastive import Gather, all_ranks, nce, warn_if_few
from mezzotint.objective.curriculum import Curriculum
from mezzotint.objective.resolution import ResolutionLevels
from mezzotint.objective.temperature import ConstantTau, Temperature

__all__ = ["Augmentation", "Representation", "RepresentationStep", "Twins", "represent"]


@runtime_checkable
class Augmentation(Protocol):
    """A random change of images that leaves what they show."""

    def __call__(self, x: Float[Tensor, "b c h w"], noise: Noise, name: str) -> Float[Tensor, "b c h w"]:
        """The changed images, each by its seed; `name` is the purpose of the random numbers."""
        ...


Views = tuple[Augmentation, Augmentation, Augmentation]


class Twins(NamedTuple):
    """The encoder in training, and its slow average, whose projections are the keys."""

    online: ProjectedEncoder
    target: ProjectedEncoder


def represent(
    net: nn.Module,
    x: Float[Tensor, "b c h w"],
    sigma: float,
    *,
    sigma_data: float = 0.5,
    scale: float = 250.0,
) -> Float[Tensor, "b d"]:
    """What an encoder says of images at one noise level: net(c_in x, scale ln sigma), c_in = 1/sqrt(sigma^2 + d^2).

    Args:
        net: called as net(x, time); a `ViTEncoder`, with or without its projector.
        x: noisy (or clean) images.
        sigma: their level, > 0; of images of another size than 64 pixels, the shifted one.
        sigma_data: standard deviation d of the data.
        scale: of ln sigma.
    """
    return net(*_scaled(x, sigma, sigma_data, scale))


def _scaled(x: Tensor, sigma: float, sigma_data: float, scale: float) -> tuple[Tensor, Tensor]:
    if not 0 < sigma < math.inf:
        raise ValueError(f"an encoder reads images at a noise level > 0, got sigma={sigma}")
    return x * (sigma**2 + sigma_data**2) ** -0.5, x.new_full((len(x),), scale * math.log(sigma))


@dataclass(frozen=True)
class RepresentationStep:
    """The loss of one step: three noise levels, one for the whole batch each, and a temperature.

        a = y1 + s_0 eps, b = y2 + s_0 eps;  y1, y2 two views of x, the same eps
        Lc = nce(g(E(a)), sg g'(E'(b)), tau_c) + nce(g(E(b)), sg g'(E'(a)), tau_c)
        u = E(x + s_high eps), v = sg E(x + s_low eps)                without projector, by the same weights
        Lr = nce(u, v, tau_r);    L = contrast Lc + consistency Lr

    One level for all: with a level of its own a sample could be told from the others by its noise alone. Between x and
    the two points of Lr is one eps, so that u and v lie near one path of the probability flow (on it only for a single
    image).

    Args:
        high, low, least: s_high > s_low and s_0, shifted by the resolution.
        tau_contrast, tau: temperatures of Lc and of Lr.
        contrast, consistency: weights; 0 leaves a term out, with its evaluations.
        views: y1, y2, and what x itself goes through (as `mezzotint.data.VIEWS`).
        sigma_data: standard deviation of the data.
        gather: brings the keys of the other processes.

    Source: arXiv 2510.12586, code (stage 1).
    """

    high: float
    low: float
    least: float
    views: Views
    tau_contrast: float = 0.2
    tau: float = 0.1
    contrast: float = 1.0
    consistency: float = 1.0
    sigma_data: float = 0.5
    gather: Gather = all_ranks

    def __call__(self, twins: Twins, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch; `noise` has one seed a sample.

        Returns:
            total and terms: "contrast" and "consistency" (those that are on), "tau", "level" (s_high).
        """
        x = batch.x
        if len(noise) != len(x):
            raise ValueError(f"noise has {len(noise)} seeds for {len(x)} samples; give one a sample")
        warn_if_few(len(x))
        eps = noise("eps", 0, x.shape[1:], dtype=x.dtype, device=x.device)
        *views, clean = (view(x, noise, f"view{i}") for i, view in enumerate(self.views))
        views = [view + self.least * eps for view in views]
        online, target = twins
        # one call of the encoder for all that needs a gradient; the projector sees each view by itself
        seen = [(view, self.least) for view in views] if self.contrast else []
        seen += [(clean + self.high * eps, self.high)] if self.consistency else []
        if not seen:
            raise ValueError("contrast=0 and consistency=0 leave nothing to learn; give one of them a weight")
        found = self._encode(online, seen)
        total, terms = x.new_zeros(()), {}
        if self.contrast:
            with torch.no_grad():
                keys = [target.project(h) for h in self._encode(target, seen[:2])]
            queries = [online.project(h) for h in found[:2]]
            pairs = ((queries[0], keys[1]), (queries[1], keys[0]))
            loss = sum((nce(q, k, self.tau_contrast, gather=self.gather) for q, k in pairs), x.new_zeros(()))
            total, terms["contrast"] = total + self.contrast * loss, loss.detach()
        if self.consistency:
            with torch.no_grad():
                (v,) = self._encode(online, [(clean + self.low * eps, self.low)])
            loss = nce(found[-1], v, self.tau, gather=self.gather)
            total, terms["consistency"] = total + self.consistency * loss, loss.detach()
        told = {"tau": self.tau, "level": self.high}
        return Loss(total, {**terms, **{name: x.new_full((), value) for name, value in told.items()}})

    def _encode(self, net: ProjectedEncoder, seen: list[tuple[Tensor, float]]) -> list[Tensor]:
        inputs = [_scaled(x, sigma, self.sigma_data, 250.0) for x, sigma in seen]
        h = net.encoder(torch.cat([x for x, _ in inputs]), torch.cat([time for _, time in inputs]))
        return list(h.chunk(len(seen)))


@dataclass(frozen=True)
class Representation:
    """The pre-training loss over training: `at(k)` draws one index n ~ U{0 .. N_k - 2} for the whole batch.

        s_high, s_low, s_0 = (grid[n], grid[n + 1], grid[N_k - 1]) H / 64

    n depends on (seed, k) alone, so that every process, part of a batch and resumed run has the same.

    Args:
        resolution: the levels, and the height of the images.
        count: step -> N_k; `CeilDoubling(steps)` in the paper.
        views: y1, y2, and what x itself goes through (as `mezzotint.data.VIEWS`).
        tau: of the consistency term.
        tau_contrast, contrast, consistency, sigma_data, gather: see `RepresentationStep`.
        seed: of n.

    Source: arXiv 2510.12586, code (stage 1). The paper's temperature falls by a cosine (`CosineTau`); the released
    configuration has it constant, as here.

    >>> from mezzotint.objective.curriculum import CeilDoubling
    >>> objective = Representation(ResolutionLevels(32), CeilDoubling(1000), views=(lambda x, noise, name: x,) * 3)
    >>> objective.at(3) == objective.at(3), objective.at(3).least
    (True, 0.001)
    """

    resolution: ResolutionLevels
    count: Curriculum
    views: Views
    tau: Temperature = ConstantTau(0.1)
    tau_contrast: float = 0.2
    contrast: float = 1.0
    consistency: float = 1.0
    sigma_data: float = 0.5
    gather: Gather = all_ranks
    seed: int = 0

    def at(self, step: int) -> RepresentationStep:
        """The loss of step `step`."""
        count = self.count(step)
        u = float(Noise([fold(self.seed, "level of a step", step)]).uniform("n", 0, (), dtype=torch.float64))
        n = min(int(u * (count - 1)), count - 2)
        own, levels = self.resolution.levels, self.resolution.levels(count).tolist()
        fraction = (levels[n] - own.sigma_min) / (own.sigma_max - own.sigma_min)
        shift = self.resolution.shift
        return RepresentationStep(
            levels[n] * shift,
            levels[n + 1] * shift,
            levels[-1] * shift,
            self.views,
            self.tau_contrast,
            self.tau(step, fraction),
            self.contrast,
            self.consistency,
            self.sigma_data,
            self.gather,
        )
