"""PixArt-alpha and PixArt-sigma: a transformer that cross-attends to T5, and also predicts a variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.autoencoder import DiffusersKL
from mezzotint.io.diffusers.conditioner_t5 import T5Conditioner
from mezzotint.io.diffusers.denoiser import Backbone, denoiser_of
from mezzotint.io.diffusers.family import Pieces
from mezzotint.io.diffusers.prompts import required
from mezzotint.io.diffusers.schedulers import schedule_of

__all__ = ["PixArt"]


class _Net(Backbone):
    """PixArtTransformer2DModel; told the integer step and, at 1024 pixels of alpha, the picture's size."""

    def __init__(self, module: Any, channels: int, factor: int) -> None:
        super().__init__(module, channels, module.config.patch_size)
        self.factor = factor

    def predict(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        text, mask = required(c, "PixArt", "text", "text_mask")
        sizes: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.module.use_additional_conditions:
            h, w = x.shape[-2] * self.factor, x.shape[-1] * self.factor
            sizes["resolution"] = torch.tensor([[h, w]], dtype=x.dtype, device=x.device).expand(len(x), -1)
            sizes["aspect_ratio"] = torch.tensor([[h / w]], dtype=x.dtype, device=x.device).expand(len(x), -1)
        return self.module(x, text, time, sizes, encoder_attention_mask=mask.to(x.dtype), return_dict=False)[0]


class PixArt:
    """PixArt-alpha (arXiv 2310.00426) and PixArt-sigma (arXiv 2403.04692).

    The size asked for is the size drawn: what the pipelines call resolution binning is off.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")
    needs: ClassVar[tuple[str, ...]] = ("vae", "text_encoder", "tokenizer", "transformer", "scheduler")

    def build(self, parts: Mapping[str, Any], index: Mapping[str, Any]) -> Pieces:
        """See Family.build."""
        vae, config, read = DiffusersKL(parts["vae"]), parts["transformer"].config, schedule_of(parts["scheduler"])
        length = 300 if index.get("_class_name") == "PixArtSigmaPipeline" else 120
        side = config.sample_size * vae.spec.factor
        return Pieces(
            denoiser_of(_Net(parts["transformer"], config.in_channels, vae.spec.factor), read.schedule, read.kind),
            vae,
            T5Conditioner(parts["tokenizer"], parts["text_encoder"], length, clean_caption),
            (side, side),
            {"sampler": read.sampler, "steps": 20, "guidance": 4.5},
        )


def clean_caption(prompt: str) -> str:
    """A prompt as PixArt was trained to read it: by diffusers' own cleaning, which without bs4 and ftfy is only
    lower case without space at its ends."""
    from diffusers import PixArtAlphaPipeline
    from diffusers.utils import is_bs4_available, is_ftfy_available

    if not (is_bs4_available() and is_ftfy_available()):
        return prompt.lower().strip()
    cleaner = object.__new__(PixArtAlphaPipeline)  # the cleaning is a method that needs no pipeline
    return cleaner._clean_caption(cleaner._clean_caption(prompt))
