"""The families that are read: an explicit list, each imported when one of its pipelines is loaded."""

from __future__ import annotations

from importlib import import_module

from mezzotint.io.diffusers.family import Family

__all__ = ["FAMILIES", "family_of"]

# _class_name of a pipeline -> (module below this package, class)
FAMILIES: dict[str, tuple[str, str]] = {
    "DDPMPipeline": ("unet2d", "UNet2D"),
    "DDIMPipeline": ("unet2d", "UNet2D"),
    "StableDiffusionPipeline": ("stable_diffusion", "StableDiffusion"),
    "StableDiffusionXLPipeline": ("sdxl", "StableDiffusionXL"),
    "DiTPipeline": ("dit", "DiT"),
    "PixArtAlphaPipeline": ("pixart", "PixArt"),
    "PixArtSigmaPipeline": ("pixart", "PixArt"),
    "SanaPipeline": ("sana", "Sana"),
    "StableDiffusion3Pipeline": ("sd3", "StableDiffusion3"),
    "FluxPipeline": ("flux", "Flux"),
}


def family_of(pipeline: object, source: object = "model_index.json") -> Family:
    """The family that reads a pipeline class.

    Raises:
        ValueError: for a pipeline that no family reads; names it and lists those that are.

    >>> type(family_of("DDPMPipeline")).__name__
    'UNet2D'
    """
    if not isinstance(pipeline, str) or pipeline not in FAMILIES:
        raise ValueError(f"{source}: no family reads the pipeline {pipeline!r:.80}; known: {', '.join(FAMILIES)}")
    module, name = FAMILIES[pipeline]
    return getattr(import_module(f"mezzotint.io.diffusers.{module}"), name)()
