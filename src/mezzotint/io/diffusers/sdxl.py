"""Stable Diffusion XL: a larger UNet, two CLIP text encoders, and the picture's size as a condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.autoencoder import DiffusersKL
from mezzotint.io.diffusers.conditioner import CLIPTextPair
from mezzotint.io.diffusers.denoiser import denoiser_of
from mezzotint.io.diffusers.family import Pieces
from mezzotint.io.diffusers.schedulers import schedule_of
from mezzotint.io.diffusers.stable_diffusion import ConditionalUNet, latent_size

__all__ = ["StableDiffusionXL"]


class _Net(ConditionalUNet):
    """Also reads "pooled" and "time_ids" (b, 6): original height and width, crop top and left, target height and
    width; where the condition has none they are those of an uncropped picture of the size that is drawn."""

    def __init__(self, module: Any, channels: int, factor: int) -> None:
        super().__init__(module, channels)
        self.factor = factor

    def predict(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        if c is None or "text" not in c or "pooled" not in c:
            raise ValueError('this network reads "text" and "pooled"; encode prompts with model.conditioner first')
        if "time_ids" in c:
            ids = c["time_ids"]
        else:
            height, width = x.shape[-2] * self.factor, x.shape[-1] * self.factor
            ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=x.dtype, device=x.device)
            ids = ids.expand(len(x), -1)
        extra = {"text_embeds": c["pooled"], "time_ids": ids}
        return self.module(x, time, c["text"], added_cond_kwargs=extra, return_dict=False)[0]


class StableDiffusionXL:
    """Stable Diffusion XL, base (arXiv 2307.01952)."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline",)
    needs: ClassVar[tuple[str, ...]] = (
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "unet",
        "scheduler",
    )

    def build(self, parts: Mapping[str, Any], index: Mapping[str, Any]) -> Pieces:
        """See Family.build."""
        vae, read = DiffusersKL(parts["vae"]), schedule_of(parts["scheduler"])
        net = _Net(parts["unet"], vae.spec.channels, vae.spec.factor)
        if net.module.config.addition_embed_type != "text_time":
            raise ValueError(
                f"UNet with addition_embed_type {net.module.config.addition_embed_type!r}; SDXL has 'text_time'"
            )
        conditioner = CLIPTextPair(
            (parts["tokenizer"], parts["tokenizer_2"]),
            (parts["text_encoder"], parts["text_encoder_2"]),
            bool(index.get("force_zeros_for_empty_prompt", True)),
        )
        return Pieces(
            denoiser_of(net, read.schedule, read.kind),
            vae,
            conditioner,
            latent_size(net.module.config, vae.spec.factor),
            {"sampler": read.sampler, "guidance": 5.0},
        )
