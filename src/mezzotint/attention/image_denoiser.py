"""A denoiser with image conditions: tokens looked at beside the text, and channels beside the noisy image."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.attention.image_prompt import DecoupledAttention, image_prompt
from mezzotint.core import Condition, Denoiser, NetworkDenoiser, Prediction

__all__ = ["ImagePrompted", "Strength"]

Strength = float | int | Tensor | Callable[[Tensor], float | int | Tensor]


class ImagePrompted(Denoiser):
    """net(x_t, t, C_t, beta C_s, alpha C_c): text tokens c["text"], image tokens c["image"], channels c["concat"].

    Each cross-attention gives Attn(Q, K_t, V_t) + beta Attn(Q, K_s, V_s); the channels beside x_t are alpha C_c. A
    strength of 0 leaves no trace of its condition, bit for bit. A condition without "image" or "concat" is taken as
    the network takes it.

    Args:
        denoiser: of a network with cross-attention.
        attention: keys and values of image tokens, made for it; None for a network that sees none.
        alpha, beta: numbers, tensors of one number or one a sample (guidance, which runs a batch twice, has them
            twice), or functions of the times (b,) in [0, 1] that give a number or one a row.

    Source: arXiv 2404.13263, sheet section 3.1; channels in place of ControlNet's residuals, and strengths that are
    functions of t, are our choice.

    >>> from mezzotint.core import VDenoiser, VP
    >>> from mezzotint.nn import UNet
    >>> net = UNet(3, channels=16, context=8, concat=3)
    >>> d = ImagePrompted(VDenoiser(net, VP()), DecoupledAttention(net, 6), beta=lambda t: 1 - t)
    >>> c = {"text": torch.zeros(1, 1, 8), "image": torch.ones(1, 4, 6), "concat": torch.zeros(1, 3, 8, 8)}
    >>> d(torch.zeros(1, 3, 8, 8), torch.ones(1), Condition(c)).x0.shape
    torch.Size([1, 3, 8, 8])
    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        attention: DecoupledAttention | None = None,
        *,
        alpha: Strength = 1.0,
        beta: Strength = 1.0,
    ) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.attention = denoiser, attention
        self.alpha, self.beta = alpha, beta

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward.

        Raises:
            ValueError: for image tokens without attention that reads them.
        """
        if c is None:
            return self.denoiser(x_t, t, None)
        if "concat" in c:
            c = c.updated({"concat": _scaled(c["concat"], _strength(self.alpha, t))})
        if "image" not in c:
            return self.denoiser(x_t, t, c)
        if self.attention is None:
            raise ValueError('the condition has "image", but this denoiser got no attention to read it with')
        beta = _strength(self.beta, t)
        nothing = isinstance(beta, (float, int)) and beta == 0
        seen = nullcontext() if nothing else image_prompt(self.denoiser.net, self.attention, c["image"], beta)
        with seen:
            return self.denoiser(x_t, t, c.without("image"))


def _strength(of: Strength, t: Tensor) -> float | int | Tensor:
    """The strength now, of each row; of a batch that runs twice, as guidance does, the samples' own come twice."""
    if callable(of):
        return of(t)
    if not isinstance(of, Tensor) or of.numel() == 1:
        return of
    if len(t) % len(of):
        raise ValueError(f"strengths of {len(of)} samples for {len(t)} rows; give one for all, or one a sample")
    return of.repeat(len(t) // len(of))


def _scaled(x: Tensor, strength: float | int | Tensor) -> Tensor:
    if isinstance(strength, Tensor):
        return x * (strength.to(x).view(-1, *[1] * (x.ndim - 1)) if strength.ndim else strength.to(x))
    if strength == 1:
        return x
    return torch.zeros_like(x) if strength == 0 else strength * x
