"""Sana: linear attention over few, large latents, softmax attention to a small language model, trained as a flow."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, ClassVar

from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.attention import ProcessorDoor
from mezzotint.io.diffusers.autoencoder_dc import DiffusersDC
from mezzotint.io.diffusers.conditioner_gemma import GemmaConditioner
from mezzotint.io.diffusers.denoiser import Backbone, denoiser_of
from mezzotint.io.diffusers.family import Pieces
from mezzotint.io.diffusers.prompts import required
from mezzotint.io.diffusers.schedulers import schedule_of
from mezzotint.io.diffusers.told import cut, tells_whole_steps

__all__ = ["Sana"]


class _Net(Backbone):
    """SanaTransformer2DModel; told 1000 sigma, cut to a whole number where the scheduler's steps are.

    Its self-attention is linear: no softmax, so no maps, and no site for taps and edits.
    """

    def __init__(self, module: Any, channels: int, whole: bool) -> None:
        super().__init__(module, channels, module.config.patch_size)
        self.whole = whole
        for layer in module.modules():
            door = getattr(layer, "processor", None)
            if isinstance(door, ProcessorDoor) and "Linear" in type(door.processor).__name__:
                del layer.processor
                layer.processor = door.processor

    def predict(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        text, mask = required(c, "Sana", "text", "text_mask")
        time = cut(time) if self.whole else time
        scale = self.module.config.timestep_scale
        return self.module(x, text, time * scale, encoder_attention_mask=mask.to(x.dtype), return_dict=False)[0]


class Sana:
    """Sana (arXiv 2410.10629), not its consistency-distilled Sprint.

    The size asked for is the size drawn: what the pipeline calls resolution binning is off.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("SanaPipeline",)
    needs: ClassVar[tuple[str, ...]] = ("vae", "text_encoder", "tokenizer", "transformer", "scheduler")

    def build(self, parts: Mapping[str, Any], index: Mapping[str, Any]) -> Pieces:
        """See Family.build."""
        from diffusers import SanaPipeline

        vae, config, read = DiffusersDC(parts["vae"]), parts["transformer"].config, schedule_of(parts["scheduler"])
        if config.guidance_embeds:
            raise ValueError("SanaTransformer2DModel with guidance_embeds (Sana-Sprint) is not supported")
        whole = tells_whole_steps(parts["scheduler"])
        instruction = signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
        side = config.sample_size * vae.spec.factor
        return Pieces(
            denoiser_of(_Net(parts["transformer"], config.in_channels, whole), read.schedule, read.kind),
            vae,
            GemmaConditioner(parts["tokenizer"], parts["text_encoder"], instruction),
            (side, side),
            {"sampler": read.sampler, "steps": 20, "guidance": 4.5},
        )
