"""Stable Diffusion 3 and 3.5: a transformer over image and text tokens together, trained as a flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from mezzotint.core import Condition, Schedule
from mezzotint.io.diffusers.autoencoder import DiffusersKL
from mezzotint.io.diffusers.conditioner_sd3 import SD3Conditioner
from mezzotint.io.diffusers.denoiser import Backbone, denoiser_of
from mezzotint.io.diffusers.family import Pieces
from mezzotint.io.diffusers.prompts import required
from mezzotint.io.diffusers.schedulers import schedule_of
from mezzotint.io.diffusers.told import cut, tells_whole_steps

__all__ = ["StableDiffusion3"]


class _Net(Backbone):
    """SD3Transformer2DModel; told 1000 sigma, cut to a whole number where the scheduler's steps are."""

    def __init__(self, module: Any, channels: int, whole: bool) -> None:
        super().__init__(module, channels, module.config.patch_size)
        self.whole = whole

    def predict(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        text, pooled = required(c, "SD3", "text", "pooled")
        time = cut(time) if self.whole else time
        return self.module(x, text, pooled, time, return_dict=False)[0]


class StableDiffusion3:
    """Stable Diffusion 3 and 3.5 (arXiv 2403.03206), with or without T5; an image encoder (IP-Adapter) is not read."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline",)
    needs: ClassVar[tuple[str, ...]] = (
        "vae",
        "text_encoder",
        "text_encoder_2",
        "text_encoder_3",
        "tokenizer",
        "tokenizer_2",
        "tokenizer_3",
        "transformer",
        "scheduler",
    )
    optional: ClassVar[tuple[str, ...]] = ("text_encoder_3", "tokenizer_3")

    def build(self, parts: Mapping[str, Any], index: Mapping[str, Any]) -> Pieces:
        """See Family.build; text_encoder_3 may be None."""
        vae, config = DiffusersKL(parts["vae"]), parts["transformer"].config
        patch = config.patch_size

        def at(height: int, width: int) -> Schedule:
            return schedule_of(parts["scheduler"], (height // patch) * (width // patch)).schedule

        read = schedule_of(parts["scheduler"], (config.sample_size // patch) ** 2)
        conditioner = SD3Conditioner(
            [(parts["tokenizer"], parts["text_encoder"]), (parts["tokenizer_2"], parts["text_encoder_2"])],
            None if parts.get("text_encoder_3") is None else (parts["tokenizer_3"], parts["text_encoder_3"]),
            config.joint_attention_dim,
        )
        net = _Net(parts["transformer"], vae.spec.channels, tells_whole_steps(parts["scheduler"]))
        side = config.sample_size * vae.spec.factor
        return Pieces(
            denoiser_of(net, read.schedule, read.kind, at),
            vae,
            conditioner,
            (side, side),
            {"sampler": read.sampler, "steps": 28, "guidance": 7.0},
        )
