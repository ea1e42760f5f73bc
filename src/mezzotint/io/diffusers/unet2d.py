"""Pixel pipelines: an unconditional UNet2DModel (DDPM, DDIM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.denoiser import Backbone, denoiser_of
from mezzotint.io.diffusers.family import Pieces
from mezzotint.io.diffusers.schedulers import schedule_of
from mezzotint.latent import Identity

__all__ = ["UNet2D"]


class _Net(Backbone):
    def predict(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        return self.module(x, time, return_dict=False)[0]


class UNet2D:
    """DDPM in pixels (arXiv 2006.11239).

    A scheduler with `clip_sample` clips each data prediction; wrap the denoiser in `guide.StaticThreshold` for that.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("DDPMPipeline", "DDIMPipeline")
    needs: ClassVar[tuple[str, ...]] = ("unet", "scheduler")

    def build(self, parts: Mapping[str, Any], index: Mapping[str, Any]) -> Pieces:
        """See Family.build."""
        unet, read = parts["unet"], schedule_of(parts["scheduler"])
        config = unet.config
        if config.class_embed_type is not None or config.num_class_embeds is not None:
            raise ValueError("UNet2DModel with class embeddings: no pipeline of this family tells it a class")
        size = config.sample_size
        if size is None:
            raise ValueError("UNet2DModel has no sample_size in its config; expected the size it draws")
        pair = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        net = _Net(unet, config.in_channels, 2 ** (len(config.block_out_channels) - 1))
        return Pieces(
            denoiser_of(net, read.schedule, read.kind),
            Identity(config.in_channels),
            None,
            pair,
            {"sampler": read.sampler, "guidance": 1.0},
        )
