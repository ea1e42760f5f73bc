"""diffusers' AutoencoderKL as an autoencoder of ours."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.latent import Autoencoder, LatentSpec

__all__ = ["DiffusersKL", "latent_spec"]


def latent_spec(config: Any, factor: int, channels: int) -> LatentSpec:
    """The latent statistics that a configuration states, as ours: z = (raw - mean) / std.

    diffusers: z = (raw - shift_factor) scaling_factor, or, with latents_mean and latents_std,
    z = (raw - latents_mean) scaling_factor / latents_std.

    Raises:
        ValueError: for statistics of another length than channels, or a scale that is not positive.
    """
    scale = float(getattr(config, "scaling_factor", None) or 1.0)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or std is None:
        shift = float(getattr(config, "shift_factor", None) or 0.0)
        mean, std = [shift] * channels, [1.0] * channels
    return LatentSpec(factor, channels, tuple(mean), tuple(s / scale for s in std))


class DiffusersKL(Autoencoder):
    """The autoencoder of Stable Diffusion and its kin, in diffusers' own module.

    It runs in the dtype of its weights and gives float32. fp16 weights that say `force_upcast` overflow in fp16:
    they are brought to float32 here, as the pipelines do around each call.

    Args:
        module: an AutoencoderKL of diffusers.

    Source: arXiv 2112.10752; statistics as in `latent_spec`.
    """

    def __init__(self, module: Any) -> None:
        config = module.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        super().__init__(latent_spec(config, factor, config.latent_channels), config.in_channels, {})
        self.module = module
        if config.force_upcast and module.dtype == torch.float16:
            nn.Module.to(module, torch.float32)  # diffusers' own warns of nothing here

    def moments(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor | None]:
        """Mean and variance of the posterior."""
        posterior = self.module.encode(x.to(self.module.dtype)).latent_dist
        return posterior.mean.float(), posterior.var.float()

    def raw_decode(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """Images of raw latents."""
        return self.module.decode(z.to(self.module.dtype), return_dict=False)[0].float()
