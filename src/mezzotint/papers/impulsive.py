"""Latents with outliers of known number and size, and an exact decoder: a test bed for robust losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise, fold
from mezzotint.latent import Autoencoder, LatentSpec, with_spread

__all__ = ["ImpulsiveLatents"]


class ImpulsiveLatents(Autoencoder):
    """A fixed random orthogonal transform of patches, whose rarest entries are multiplied: exact in both directions.

    y = (U patch - mean) / std channel by channel; raw = y where |y| <= q, and factor y beyond. q is exceeded by `share`
    of the entries of the images given. Decoding takes what lies between q and factor q for q. Latents are normalised
    to a spread of 0.5.

    Args:
        images: (n, 3, h, w) in [-1, 1], to which everything is fitted.
        patch: side; the latents have 3 patch^2 channels.
        factor: of the rare entries, >= 1; 1 for none.
        share: of the entries that are rare.
        seed: of U.
    """

    def __init__(
        self,
        images: Float[Tensor, "n 3 h w"],
        patch: int = 4,
        factor: float = 15.0,
        share: float = 0.005,
        seed: int = 0,
    ) -> None:
        if factor < 1 or not 0 < share < 1:
            raise ValueError(f"got factor={factor}, share={share}; expected a factor >= 1 and a share in (0, 1)")
        channels = 3 * patch * patch
        super().__init__(LatentSpec.unit(patch, channels), 3, {"patch": patch, "factor": factor, "share": share})
        self.patch, self.factor = patch, factor
        normal = Noise([fold(seed, "orthogonal")])("rows", 0, (channels, channels), dtype=torch.float64)[0]
        self.turn = torch.linalg.qr(normal).Q.float()
        y = self._turned(images)
        self.mean, self.std = (v[:, None, None] for v in (y.mean((0, 2, 3)), y.std((0, 2, 3))))
        sizes = ((y - self.mean) / self.std).abs().flatten()
        self.most = float(sizes.kthvalue(round((1 - share) * sizes.numel())).values)
        self.spec = with_spread(self.fit_statistics([images]), 0.5)

    def _turned(self, x: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", self.turn, F.pixel_unshuffle(x, self.patch))

    def moments(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, None]:
        """The raw latent, without variance."""
        y = (self._turned(x) - self.mean) / self.std
        return torch.where(y.abs() > self.most, self.factor * y, y), None

    def raw_decode(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """The image."""
        inner = z.clamp(-self.most, self.most)
        y = torch.where(z.abs() > self.factor * self.most, z / self.factor, inner)
        return F.pixel_shuffle(torch.einsum("ij,bihw->bjhw", self.turn, y * self.std + self.mean), self.patch)
