"""Stable Diffusion 1.x and 2.x: UNet2DConditionModel on the latents of an AutoencoderKL, one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.autoencoder import DiffusersKL
from mezzotint.io.diffusers.conditioner import CLIPText
from mezzotint.io.diffusers.denoiser import Backbone, denoiser_of
from mezzotint.io.diffusers.family import Pieces
from mezzotint.io.diffusers.schedulers import schedule_of

__all__ = ["ConditionalUNet", "StableDiffusion", "latent_size"]


class ConditionalUNet(Backbone):
    """UNet2DConditionModel: cross-attends to "text".

    Raises:
        ValueError: for one that reads more than x, time and text (distilled guidance, inpainting, class labels).
    """

    def __init__(self, module: Any, channels: int) -> None:
        config = module.config
        if config.in_channels != channels:
            raise ValueError(f"the UNet takes {config.in_channels} channels but latents have {channels}; not supported")
        for key in ("time_cond_proj_dim", "class_embed_type", "num_class_embeds"):
            if config.get(key) is not None:
                raise ValueError(f"UNet2DConditionModel with {key}={config[key]!r} is not supported")
        super().__init__(module, channels)

    def predict(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        """See Backbone.predict."""
        return self.module(x, time, _text(c)["text"], return_dict=False)[0]


def _text(c: Condition | None) -> Condition:
    if c is None or "text" not in c:
        raise ValueError(
            'this network reads "text"; encode prompts first: model.conditioner(model.conditioner.prepare(...))'
        )
    return c


def latent_size(config: Any, factor: int) -> tuple[int, int]:
    """Pixels (height, width) of a network whose config states the size of its latents; 64 latents where none is."""
    size = config.sample_size or 64
    pair = (size, size) if isinstance(size, int) else size
    return int(pair[0]) * factor, int(pair[1]) * factor


class StableDiffusion:
    """Stable Diffusion 1.x, 2.x and fine-tunes of them (arXiv 2112.10752). The safety checker is not loaded."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline",)
    needs: ClassVar[tuple[str, ...]] = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")

    def build(self, parts: Mapping[str, Any], index: Mapping[str, Any]) -> Pieces:
        """See Family.build."""
        vae, read = DiffusersKL(parts["vae"]), schedule_of(parts["scheduler"])
        net = ConditionalUNet(parts["unet"], vae.spec.channels)
        if net.module.config.addition_embed_type is not None:
            raise ValueError(
                f"UNet with addition_embed_type {net.module.config.addition_embed_type!r} is not supported"
            )
        return Pieces(
            denoiser_of(net, read.schedule, read.kind),
            vae,
            CLIPText(parts["tokenizer"], parts["text_encoder"]),
            latent_size(net.module.config, vae.spec.factor),
            {"sampler": read.sampler, "guidance": 7.5},
        )
