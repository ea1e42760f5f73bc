"""Flux: a flow over latents packed into patches, distilled so that guidance is told and not computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mezzotint.core import Condition, Schedule
from mezzotint.io.diffusers.attention import kind_of, open_doors
from mezzotint.io.diffusers.autoencoder import DiffusersKL
from mezzotint.io.diffusers.conditioner_flux import FluxConditioner
from mezzotint.io.diffusers.denoiser import Backbone, denoiser_of
from mezzotint.io.diffusers.family import Pieces
from mezzotint.io.diffusers.prompts import required
from mezzotint.io.diffusers.schedulers import schedule_of

__all__ = ["Flux", "pack", "unpack"]

_SIDE = 128  # latents a side that the pipeline draws by default; no configuration states it


def pack(x: Tensor) -> Tensor:
    """(b, c, h, w) to tokens (b, h/2 w/2, 4 c): channels first, then the patch's rows and columns.

    >>> x = torch.arange(32.0).view(1, 2, 4, 4)
    >>> torch.equal(unpack(pack(x), 4, 4), x)
    True
    """
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, (h // 2) * (w // 2), 4 * c)


def unpack(tokens: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `pack`."""
    b, _, c = tokens.shape
    return tokens.view(b, h // 2, w // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, h, w)


class _Net(Backbone):
    """FluxTransformer2DModel on unpacked latents; told sigma, a guidance where it reads one, and where tokens lie."""

    def __init__(self, module: Any, channels: int) -> None:
        # blocks of a single stream hold text and image tokens too, and do not say so
        open_doors(module, lambda name, layer: "joint" if "single" in name else kind_of(name, layer))
        super().__init__(module, channels, 2)

    def predict(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        text, pooled = required(c, "Flux", "text", "pooled")
        guidance = required(c, "Flux", "guidance")[0] if self.module.config.guidance_embeds else None
        h, w = x.shape[-2:]
        place = torch.zeros(h // 2, w // 2, 3, dtype=x.dtype, device=x.device)
        place[..., 1] += torch.arange(h // 2, device=x.device)[:, None]
        place[..., 2] += torch.arange(w // 2, device=x.device)
        out = self.module(
            hidden_states=pack(x),
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=time.to(x.dtype) / 1000,  # rounded as in the pipeline: half precision rounds the step
            img_ids=place.flatten(0, 1),
            txt_ids=place.new_zeros(text.shape[1], 3),
            guidance=guidance,
            return_dict=False,
        )[0]
        return unpack(out, h, w)


class Flux:
    """FLUX.1 dev and schnell.

    The shift of a scheduler with dynamic shifting is that of 1024 x 1024 pixels; `denoiser.at(height, width)` has that
    of another size, and `Model.sample(size=)` uses it.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)
    needs: ClassVar[tuple[str, ...]] = (
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "transformer",
        "scheduler",
    )

    def build(self, parts: Mapping[str, Any], index: Mapping[str, Any]) -> Pieces:
        """See Family.build."""
        vae, config = DiffusersKL(parts["vae"]), parts["transformer"].config
        if config.in_channels != 4 * vae.spec.channels:
            raise ValueError(
                f"FluxTransformer2DModel takes {config.in_channels} channels but packed latents have "
                f"{4 * vae.spec.channels}; variants that read an image or a mask are not supported"
            )

        def at(height: int, width: int) -> Schedule:
            return schedule_of(parts["scheduler"], (height // 2) * (width // 2)).schedule

        read = schedule_of(parts["scheduler"], (_SIDE // 2) ** 2)
        distilled = bool(config.guidance_embeds)
        conditioner = FluxConditioner(
            (parts["tokenizer"], parts["text_encoder"]), (parts["tokenizer_2"], parts["text_encoder_2"]), distilled
        )
        side = _SIDE * vae.spec.factor
        return Pieces(
            denoiser_of(_Net(parts["transformer"], vae.spec.channels), read.schedule, read.kind, at),
            vae,
            conditioner,
            (side, side),
            {"sampler": read.sampler, "steps": 28 if distilled else 4, "guidance": 1.0},
        )
