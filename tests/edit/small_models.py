"""Small models of random weights that read words: ours in pixels and latents, and diffusers' pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import VP, Cosine, EpsDenoiser, Noise, VDenoiser
from mezzotint.latent import AutoencoderKL, Identity
from mezzotint.model import Model
from mezzotint.nn import DiT, UNet
from mezzotint.nn.conditioner import TextConditioner, train_vocabulary


def loud(module: nn.Module, seed: int = 7) -> Any:
    """Random weights that say something: zero-initialised layers would hide what a test looks for."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * p[0].numel() ** -0.5)
    return module.eval()


def words() -> TextConditioner:
    vocab = train_vocabulary(["a red heart", "a blue heart"], size=80, whole=1)
    return loud(TextConditioner(vocab, length=8, width=16, depth=1, heads=2))


def unet(seed: int = 7, channels: int = 3) -> Any:
    net = UNet(channels, channels=16, mult=(1, 2), blocks=1, attention=(2,), head_dim=8, context=16, pooled=16)
    return loud(net, seed)


def pixel(seed: int = 7, schedule: Any = None) -> Model:
    return Model(VDenoiser(unet(seed), schedule or Cosine()), Identity(3), words(), size=(8, 8), name=f"pixel {seed}")


def transformer(seed: int = 7) -> Model:
    net = loud(DiT(3, patch=2, width=16, depth=2, heads=2, context=16, pooled=16), seed)
    return Model(EpsDenoiser(net, VP()), Identity(3), words(), size=(8, 8), name="dit")


def latent(seed: int = 7) -> Model:
    coder = loud(AutoencoderKL(channels=8, mult=(1, 2), blocks=1, latent=4))
    return Model(VDenoiser(unet(seed, 4), VP()), coder, words(), size=(16, 16), name=f"latent {seed}")


def picture(h: int = 8, w: int = 8) -> Tensor:
    return Noise([3])("picture", 0, (3, h, w))[0].mul(0.4).clamp(-1, 1)


def _tokens(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs the extra [diffusers]")
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(c + "</w>" for c in letters), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    return transformers.CLIPTokenizer.from_pretrained(str(folder), model_max_length=16)


def _text(width: int, projection: bool = False) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=56, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=8, bos_token_id=54, eos_token_id=55, pad_token_id=55,
    )  # fmt: skip
    return loud((transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel)(config))


def pipeline(folder: Path, xl: bool) -> Any:
    diffusers = pytest.importorskip("diffusers", reason="needs the extra [diffusers]")
    widths = (4, 8, 8) if xl else (4, 8, 8, 8)  # SDXL has three levels, Stable Diffusion 1.5 four
    cross = ("CrossAttnDownBlock2D",) * (len(widths) - 1)
    down = ("DownBlock2D", *cross) if xl else (*cross, "DownBlock2D")
    extra = {
        "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 8, "transformer_layers_per_block": (1, 2, 2),
        "use_linear_projection": True,
    }  # fmt: skip
    net = diffusers.UNet2DConditionModel(
        block_out_channels=widths, layers_per_block=1, sample_size=16, down_block_types=down,
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        cross_attention_dim=16 if xl else 8, attention_head_dim=2, norm_num_groups=2, **(extra if xl else {}),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=2, sample_size=32, scaling_factor=0.5,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    parts: dict[str, Any] = {
        "unet": loud(net), "vae": loud(vae), "text_encoder": _text(6 if xl else 8), "tokenizer": _tokens(folder / "a"),
        "scheduler": scheduler,
    }  # fmt: skip
    if xl:
        parts |= {"text_encoder_2": _text(10, True), "tokenizer_2": _tokens(folder / "b"), "add_watermarker": False}
        return diffusers.StableDiffusionXLPipeline(**parts)
    parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return diffusers.StableDiffusionPipeline(**parts)
