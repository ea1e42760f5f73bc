"""Encoding and decoding images too large for one piece."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.window import Windows
from mezzotint.latent.autoencoder import Autoencoder

__all__ = ["Tiled"]


class Tiled(Autoencoder):
    """An autoencoder run on overlapping windows, blended as :class:`mezzotint.core.window.Windows` says.

    Windows of the image and of the latent correspond, one ``factor`` times the other. Encoding blends the
    posterior's mean and variance and then draws one sample of the whole, so the seed contract holds. Equal to the
    plain autoencoder where that works pixel by pixel, and for images no larger than a window. Wrap at use time,
    after the statistics are fitted: the spec is copied.

    Args:
        autoencoder: what runs on the windows.
        window: side of a window in image pixels, a multiple of the factor.
        stride: step between windows in image pixels, a multiple of the factor, at most window.
        batch: most windows in one call; None for all at once.

    Raises:
        ValueError: for sizes that do not fit the factor, or, when called, an image border left uncovered.

    Source: arXiv 2112.10752, released code (``df`` and ``uf``).

    >>> from mezzotint.latent.identity import Identity
    >>> Tiled(Identity(), window=4, stride=2).decode(torch.ones(1, 3, 6, 6)).mean()
    tensor(1.)
    """

    def __init__(self, autoencoder: Autoencoder, window: int, stride: int, batch: int | None = None) -> None:
        factor = autoencoder.spec.factor
        if window < 1 or not 1 <= stride <= window or window % factor or stride % factor:
            raise ValueError(
                f"window and stride must be multiples of {factor} with 1 <= stride <= window, got {window}, {stride}"
            )
        if batch is not None and batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        config = {"window": window, "stride": stride, "batch": batch}
        super().__init__(autoencoder.spec, autoencoder.image_channels, config)
        self.autoencoder, self.window, self.stride, self.batch = autoencoder, window, stride, batch

    def moments(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor | None]:
        """Blended mean and variance."""
        image = self._layout(x, 1)
        latent = image.scaled(down=self.spec.factor)
        pieces = self._pieces(lambda piece: self.autoencoder.moments(piece), image.unfold(x))
        mean = latent.blend(torch.cat([m for m, _ in pieces]))
        variances = [v for _, v in pieces if v is not None]
        return mean, latent.blend(torch.cat(variances)) if variances else None

    def raw_decode(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """Blended images."""
        latent = self._layout(z, self.spec.factor)
        pieces = self._pieces(self.autoencoder.raw_decode, latent.unfold(z))
        return latent.scaled(up=self.spec.factor).blend(torch.cat(pieces))

    def _layout(self, x: Tensor, factor: int) -> Windows:
        window, stride = self.window // factor, self.stride // factor
        return Windows((x.shape[-2], x.shape[-1]), (window, window), (stride, stride))

    def _pieces(self, run: Callable, pieces: Tensor) -> list:
        step = self.batch or len(pieces)
        return [run(pieces[i : i + step]) for i in range(0, len(pieces), step)]
