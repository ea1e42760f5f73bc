"""Tiny diffusers pipelines of the transformer families, with random weights, made without a network connection."""

from __future__ import annotations

import string
from types import SimpleNamespace
from typing import Any

import pytest
import torch

_LETTERS = string.ascii_lowercase + string.digits + ",.:'\"!?-"


def fill(module: Any, seed: int = 0) -> Any:
    """Random numbers in every parameter: zero-initialised layers would hide what a test looks for."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            scale = 0.1 if p.ndim == 1 else p[0].numel() ** -0.5
            p.copy_(torch.randn(p.shape, generator=generator) * scale + (p.ndim == 1) * 0.2)
    return module.eval()


def clip_tokenizer(length: int = 12) -> Any:
    from transformers import CLIPTokenizer

    pieces = [*_LETTERS, *(c + "</w>" for c in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[], model_max_length=length)


def clip_encoder(tokenizer: Any, width: int, seed: int, projection: int | None = None) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=projection or width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return fill((CLIPTextModelWithProjection if projection else CLIPTextModel)(config), seed)


def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in _LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def t5_encoder(tokenizer: Any, width: int, seed: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=width // 2,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    return fill(T5EncoderModel(config), seed)


def kl(channels: int, scale: float, shift: float | None = None) -> Any:
    from diffusers import AutoencoderKL

    return fill(
        AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=channels,
            norm_num_groups=4,
            sample_size=32,
            scaling_factor=scale,
            shift_factor=shift,
            use_quant_conv=shift is None,
            use_post_quant_conv=shift is None,
        ),
        9,
    )


def sd3(**scheduler: Any) -> Any:
    """The transformer of SD3.5: query and key norms, one block with dual attention."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    clip, t5 = clip_tokenizer(), t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=fill(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler}),
        vae=kl(4, 1.5, 0.06),
        text_encoder=clip_encoder(clip, 8, 1, 8),
        tokenizer=clip,
        text_encoder_2=clip_encoder(clip, 8, 2, 8),
        tokenizer_2=clip,
        text_encoder_3=t5_encoder(t5, 32, 3),
        tokenizer_3=t5,
    )


def flux(guidance_embeds: bool = True, **scheduler: Any) -> Any:
    """Flux: one block of two streams, one of a single stream."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    clip, t5 = clip_tokenizer(), t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=8,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )
    return FluxPipeline(
        transformer=fill(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, "use_dynamic_shifting": True, **scheduler}),
        vae=kl(4, 0.36, 0.1159),
        text_encoder=clip_encoder(clip, 8, 1),
        tokenizer=clip,
        text_encoder_2=t5_encoder(t5, 16, 3),
        tokenizer_2=t5,
    )


def dit(**scheduler: Any) -> Any:
    """DiT with a learned variance."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )
    defaults = {"clip_sample": False, "steps_offset": 0}
    names = {"0": "tench, Tinca tinca", "7": "cock"}
    pipeline = DiTPipeline(
        transformer=fill(transformer),
        vae=kl(4, 0.18215),
        scheduler=DDIMScheduler(**{**defaults, **scheduler}),
        id2label=names,
    )
    pipeline.register_to_config(id2label=names)  # as the index of the published models has it
    return pipeline


def pixart(sigma: bool = False, **scheduler: Any) -> Any:
    """PixArt, learned variance; alpha with the size conditions of its 1024 px model (sample_size 128 asks for them)."""
    from diffusers import (
        DPMSolverMultistepScheduler,
        PixArtAlphaPipeline,
        PixArtSigmaPipeline,
        PixArtTransformer2DModel,
    )

    t5 = t5_tokenizer()
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=24,
        sample_size=64 if sigma else 128,
        patch_size=2,
        caption_channels=16,
        use_additional_conditions=not sigma,
        interpolation_scale=1,
    )
    return (PixArtSigmaPipeline if sigma else PixArtAlphaPipeline)(
        tokenizer=t5,
        text_encoder=t5_encoder(t5, 16, 3),
        vae=kl(4, 0.13),
        transformer=fill(transformer),
        scheduler=DPMSolverMultistepScheduler(**scheduler),
    )


def sana(**scheduler: Any) -> Any:
    """Sana: linear attention within, softmax attention to the text."""
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n", *_LETTERS, *string.ascii_uppercase, *"()[]*`;/"]
    tokenizer = GemmaTokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[])
    encoder = Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=2,
        )
    )
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=8,
        patch_size=1,
    )
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=fill(encoder, 3),
        vae=fill(vae, 9),
        transformer=fill(transformer),
        scheduler=DPMSolverMultistepScheduler(**{**flow, **scheduler}),
    )


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """The makers of pipelines, by family."""
    return SimpleNamespace(sd3=sd3, flux=flux, dit=dit, pixart=pixart, sana=sana)
