"""The objective of diffusion with forward models: the signal must explain what is denoised, and another view of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.core import Denoiser, Noise
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.times import TimeSampling, UniformTime
from mezzotint.restore.forward_model import ForwardModelDenoiser

__all__ = ["ForwardModelLoss", "crop_window"]


@dataclass(frozen=True)
class ForwardModelLoss:
    """E |F(S, phi) - y|^2 + w |F(S, phi_n) - o_n|^2 with S = G(y_t, t, c) and y_t = alpha y + sigma eps.

    The first is the denoising loss in x0 through F. The second shows the same signal from where it was not diffused,
    and makes it identifiable there: without it any G with the same F(., phi) is as good. Both are means over all
    elements, with no weight of the noise level.

    A batch is y, and a condition with "phi" (of y), "novel" (o_n) and "novel_phi", besides what G reads. Where the
    signal has an attribute `conditioning`, a rendering at phi made of the context alone, |conditioning - y|^2 is added
    (weight `conditioning`; 0 for rows whose context is dropped).

    Args:
        novel: weight w of the other view; 0 leaves the signal free off the target view.
        conditioning: weight of the deterministic rendering.
        patch: sizes of a window at a random place, the same for both views, in which the losses are taken; None:
            everywhere. Pixels at the border lie in fewer windows, so they weigh less.
        drop: probability that the condition becomes null, for guidance.
        times: the distribution of t.

    Raises:
        ValueError: for negative weights; when called, for a denoiser of another kind, or a missing entry.

    Source: arXiv 2306.11719, section 3 (unit weights, the patch and the drop from the released code; its perceptual,
    depth and distortion terms are left out).
    """

    novel: float = 1.0
    conditioning: float = 1.0
    patch: tuple[int, ...] | None = None
    drop: float = 0.0
    times: TimeSampling = UniformTime()

    def __post_init__(self) -> None:
        if min(self.novel, self.conditioning) < 0:
            raise ValueError(f"weights novel={self.novel}, conditioning={self.conditioning}; expected >= 0")
        if not 0 <= self.drop <= 1:
            raise ValueError(f"drop={self.drop}; expected a probability in [0, 1]")

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch; terms "target", "novel" and "conditioning", each without its weight."""
        if not isinstance(denoiser, ForwardModelDenoiser):
            raise ValueError(f"expected a ForwardModelDenoiser; got {type(denoiser).__name__}")
        y, c = batch.x, batch.c
        wanted = ("novel", "novel_phi") if self.novel else ()
        if c is None or (missing := [k for k in wanted if k not in c]):
            raise ValueError(
                f"the condition lacks {', '.join(missing) if c is not None else 'everything'}: another measured view "
                "of each signal; with novel=0 the signal is only constrained at the target view"
            )
        phi = denoiser.phi(c)
        dropped = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        told = c
        if self.drop:
            dropped = (noise.uniform("drop", 0) < self.drop).to(y.device)
            told = c.drop(dropped)
        t = self.times(noise, denoiser.schedule)
        shape = (-1, *[1] * (y.ndim - 1))
        alpha, sigma = (
            f(t).to(y.device, y.dtype).view(shape) for f in (denoiser.schedule.alpha, denoiser.schedule.sigma)
        )
        eps = noise("eps", 0, y.shape[1:], dtype=y.dtype, device=y.device)
        signal = denoiser.signal(alpha * y + sigma * eps, t.to(y.device, y.dtype), told)
        pairs = {"target": (denoiser.model(signal, phi), y, 1.0)}
        if self.novel:
            pairs["novel"] = (denoiser.model(signal, c["novel_phi"]), c["novel"], self.novel)
        errors: dict[str, tuple[Tensor, float]] = {}
        for name, (seen, truth, weight) in pairs.items():
            if seen.shape != truth.shape:
                raise ValueError(f"the {name} view is {tuple(seen.shape)} but its measurement {tuple(truth.shape)}")
            difference = (seen - truth).square()
            if self.patch is not None:
                difference = crop_window(difference, self.patch, noise)
            errors[name] = (difference.flatten(1).mean(1).mean(), weight)
        rendered = getattr(signal, "conditioning", None)
        if rendered is not None and self.conditioning:
            error = (rendered - y).square().flatten(1).mean(1)
            errors["conditioning"] = ((error * ~dropped).mean(), self.conditioning)
        total = sum(
            (weight * error for error, weight in errors.values()), torch.zeros((), dtype=y.dtype, device=y.device)
        )
        return Loss(total, {name: error.detach() for name, (error, _) in errors.items()})


def crop_window(x: Tensor, sizes: Sequence[int], noise: Noise) -> Tensor:
    """Of each row (b, c, *pixels) the window of these sizes at a random place, (b, c, *sizes).

    Raises:
        ValueError: where it is larger than the image, or has another number of axes.
    """
    pixels = x.shape[2:]
    if len(sizes) != len(pixels) or any(not 1 <= s <= p for s, p in zip(sizes, pixels, strict=False)):
        raise ValueError(f"a patch of {tuple(sizes)} does not fit into {tuple(pixels)} pixels")
    u = noise.uniform("patch", 0, (len(sizes),))
    for axis, (size, whole) in enumerate(zip(sizes, pixels, strict=True)):
        start = (u[:, axis] * (whole - size + 1)).long().clamp_max(whole - size).to(x.device)
        place = start[:, None] + torch.arange(size, device=x.device)
        view = [len(x), *[1] * (x.ndim - 1)]
        view[axis + 2] = size
        expand = [*x.shape[: axis + 2], size, *x.shape[axis + 3 :]]
        x = x.gather(axis + 2, place.view(view).expand(expand))
    return x
