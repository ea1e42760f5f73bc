"""PixelMan on models: ours and diffusers', in pixels and in latents; settings, plans and what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mezzotint as mz
from mezzotint.core import Cosine, EpsDenoiser, FlowDenoiser, Noise, X0Denoiser
from mezzotint.core.schedule import Flow
from mezzotint.edit import EditEnergy, PixelMan, plan_move, plan_paste
from mezzotint.edit.pixelman_branches import two_finest
from mezzotint.latent import AutoencoderKL, Identity
from mezzotint.model import Model
from mezzotint.nn import DiT, UNet
from mezzotint.nn.site import any_opened


def loud(module: nn.Module, seed: int = 7) -> nn.Module:
    """Random weights that say something: zero-initialised layers would hide what a test looks for."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * p[0].numel() ** -0.5)
    return module.eval()


def square(h: int, w: int, top: int, left: int, size: int) -> Tensor:
    mask = torch.zeros(h, w)
    mask[top : top + size, left : left + size] = 1
    return mask


def picture(h: int = 16, w: int = 16) -> Tensor:
    return Noise([3])("picture", 0, (3, h, w))[0].mul(0.4).clamp(-1, 1)


def unet() -> nn.Module:
    return loud(UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(2,), head_dim=4))


def pixel(net: nn.Module) -> Model:
    return Model(EpsDenoiser(net, Cosine()), Identity(3), size=(16, 16), name="tiny")


def latent() -> Model:
    autoencoder = loud(AutoencoderKL(channels=8, mult=(1, 2), latent=4))
    return Model(FlowDenoiser(loud(DiT(4, patch=1, width=16, depth=4, heads=2)), Flow()), autoencoder, size=(16, 16))


MODELS = {
    "unet": lambda: pixel(unet()),
    "dit": lambda: pixel(loud(DiT(3, patch=2, width=16, depth=4, heads=2))),
    "latent flow": latent,
}


def every_part_acts(method: PixelMan, model: Model) -> None:
    """What all models are tested for: each part of the method acts, and results are reproducible row by row."""
    h, w = model.size
    plan = plan_move(picture(h, w), square(h, w, h // 8, w // 8, h // 4), (w // 2, h // 4))
    made = method(model, plan, [0, 5])
    assert made.images.shape == (2, 3, h, w) and made.nfe == method.nfe()
    assert bool(torch.isfinite(made.images).all()) and not torch.equal(made.images[0], made.images[1])
    alone = method(model, plan, [5])
    torch.testing.assert_close(alone.latents[0], made.latents[1], rtol=0, atol=1e-3)
    for other in ({"kv_from": "none"}, {"leak_proof": "none"}, {"update": "none"}, {"kv_from": "anchor"}):
        changed = PixelMan(steps=method.steps, **other)(model, plan, [0, 5])
        assert (changed.latents - made.latents).abs().max() > 1e-5, other
    assert not any_opened()


@pytest.mark.parametrize("name", MODELS)
def test_every_part_acts_on_our_models(name) -> None:
    every_part_acts(PixelMan(steps=4), MODELS[name]())


def test_a_pasted_object_is_blended_and_nothing_is_blocked() -> None:
    model = pixel(unet())
    plan = plan_paste(picture(), -picture(24, 20), square(24, 20, 4, 4, 6), at=(8, 7), scale=0.7)
    assert not bool(plan.ipt.any()) and not bool(plan.gud.any()) and plan.placement is None
    made = PixelMan(steps=4)(model, plan)
    plain = PixelMan(steps=4, leak_proof="none")(model, plan)
    assert torch.equal(made.images, plain.images) and made.trace.similar == []


def test_no_shift_leaves_nothing_to_block() -> None:
    plan = plan_move(picture(), square(16, 16, 4, 4, 5))
    made = PixelMan(steps=4)(pixel(unet()), plan)
    assert bool(torch.isfinite(made.images).all()) and made.trace.similar == []


def test_the_energy_lowers_itself_on_the_latent() -> None:
    """A small step against the gradient of E_edit lowers E_edit, which has one sign only."""
    from mezzotint.attention import features

    model = pixel(unet())
    plan = plan_move(picture(), square(16, 16, 2, 2, 5), (8, 6))
    t = torch.tensor([0.4])
    z, anchor = Noise([1])("z", 0, (3, 16, 16)), Noise([2])("z", 0, (3, 16, 16))
    energy = EditEnergy(scale=1.0, content=0.0, contrast=0.0, inpaint=0.0)

    def seen(x: Tensor, grad: bool = False) -> list[Tensor]:
        with features(model.denoiser, grad=grad) as found:
            model.denoiser(x, t)
        return two_finest(list(found.values()))

    with torch.no_grad():
        still = seen(anchor)
    x = z.clone().requires_grad_()
    gradient = energy.gradient(x, seen(x, True), still, plan, (16, 16))
    with torch.no_grad():
        before, after = (
            float(energy.of_object(seen(v), still, plan, (16, 16))) for v in (z, z - 0.05 * gradient / gradient.norm())
        )
    assert after < before - 1e-6


def test_works_in_inference_mode_and_leaves_no_gradients() -> None:
    model = pixel(unet())
    plan = plan_move(picture(), square(16, 16, 2, 2, 5), (8, 6))
    outside = PixelMan(steps=2)(model, plan).images
    with torch.inference_mode():
        inside = PixelMan(steps=2)(model, plan_move(picture(), square(16, 16, 2, 2, 5), (8, 6))).images
    assert torch.equal(outside, inside) and all(p.grad is None for p in model.parameters())
    z_src, z_man = plan.source[None], plan.image[None]
    method, noise = PixelMan(steps=2), Noise([0])
    with torch.no_grad():
        outside = method.sample(model.denoiser, plan, z_src, z_man, noise)[0]
    with torch.inference_mode():
        inside = method.sample(model.denoiser, plan, z_src.clone(), z_man.clone(), noise)[0]
    assert torch.equal(outside, inside) and not inside.is_inference()


def test_handlers_are_closed_after_an_error() -> None:
    model = pixel(unet())
    plan = plan_move(picture(), square(16, 16, 2, 2, 5), (8, 6))

    def stop(i: int, z: Tensor) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        PixelMan(steps=2)(model, plan, on_step=stop)
    assert not any_opened() and not any(m._forward_hooks for m in model.modules())


# diffusers: SD-1.5-shaped and SDXL-shaped, random weights


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
        vocab_size=56,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=8,
        bos_token_id=54,
        eos_token_id=55,
        pad_token_id=55,
    )
    return loud((transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel)(config))


def _pipeline(folder: Path, xl: bool) -> Any:
    diffusers = pytest.importorskip("diffusers", reason="needs the extra [diffusers]")
    widths = (4, 8, 8) if xl else (4, 8, 8, 8)  # SDXL has three levels, Stable Diffusion 1.5 four
    cross = ("CrossAttnDownBlock2D",) * (len(widths) - 1)
    down = ("DownBlock2D", *cross) if xl else (*cross, "DownBlock2D")
    up = tuple(name.replace("Down", "Up") for name in reversed(down))
    extra = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 8,
        "transformer_layers_per_block": (1, 2, 2),
        "use_linear_projection": True,
    }
    net = diffusers.UNet2DConditionModel(
        block_out_channels=widths,
        layers_per_block=1,
        sample_size=16,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=16 if xl else 8,
        attention_head_dim=2,
        norm_num_groups=2,
        **(extra if xl else {}),
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        sample_size=32,
        scaling_factor=0.5,
    )
    parts: dict[str, Any] = {
        "unet": loud(net),
        "vae": loud(vae),
        "text_encoder": _text(6 if xl else 8),
        "tokenizer": _tokens(folder / "a"),
        "scheduler": diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
    }
    if xl:
        parts |= {"text_encoder_2": _text(10, True), "tokenizer_2": _tokens(folder / "b"), "add_watermarker": False}
        return diffusers.StableDiffusionXLPipeline(**parts)
    parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return diffusers.StableDiffusionPipeline(**parts)


@pytest.mark.parametrize("xl", [False, True], ids=["sd-1.5", "sdxl"])
def test_every_part_acts_on_diffusers_models(xl, tmp_path) -> None:
    pipe = _pipeline(tmp_path, xl)
    pipe.save_pretrained(tmp_path / "pipe")
    model = mz.load(tmp_path / "pipe")
    every_part_acts(PixelMan(steps=2), model)
    h, w = model.size
    plan = plan_move(picture(h, w), square(h, w, 4, 4, 8), (w // 2, 6))
    prompted = PixelMan(steps=1, update="none")(model, plan, prompt="red fish")
    assert prompted.nfe == 6 and not torch.equal(prompted.images, PixelMan(steps=1, update="none")(model, plan).images)


def test_features_are_those_of_the_sheet_on_the_shapes_of_both(tmp_path) -> None:
    """Of Stable Diffusion blocks 1 and 2, at a half and the whole of the latent; of SDXL 0 and 1."""
    from mezzotint.attention import features

    for xl, expected in ((False, (1, 2)), (True, (0, 1))):
        pipe = _pipeline(tmp_path / str(xl), xl)
        x = torch.zeros(1, 4, 16, 16)
        extra = {"text_embeds": torch.zeros(1, 8), "time_ids": torch.zeros(1, 6)} if xl else None
        with features(pipe.unet) as seen, torch.no_grad():
            pipe.unet(x, 1, torch.zeros(1, 2, 16 if xl else 8), added_cond_kwargs=extra)
        values = list(seen.values())
        chosen = two_finest(values)
        assert [next(i for i, v in enumerate(values) if v is f) for f in chosen] == list(expected)
        assert [tuple(f.shape[2:]) for f in chosen] == [(8, 8), (16, 16)]


# what cannot be


class Pointwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, time: Tensor, c: Any = None) -> Tensor:
        return self.factor * x


def test_models_that_do_not_suit_are_told_before_any_evaluation() -> None:
    plan = plan_move(picture(), square(16, 16, 2, 2, 5), (8, 6))
    with pytest.raises(ValueError, match="no self-attention"):
        PixelMan()(Model(X0Denoiser(Pointwise(), Cosine()), Identity(3), size=(16, 16)), plan)
    odd = plan_move(picture(16, 15), square(16, 15, 2, 2, 5), (6, 6))
    with pytest.raises(ValueError, match="16 x 15; tiny needs multiples of 2: .* 16 x 14"):
        PixelMan()(pixel(unet()), odd)
    grey = plan_move(picture()[:1], square(16, 16, 2, 2, 5), (8, 6))
    with pytest.raises(ValueError, match="1 channels; tiny takes 3"):
        PixelMan()(pixel(unet()), grey)


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        (torch.zeros(16, 16), {"shift": (1, 1)}, "the mask is empty"),
        (torch.ones(16, 16), {"shift": (1, 1)}, "covers 100 % of the image, more than 60 %"),
        (torch.ones(8, 16), {"shift": (1, 1)}, "the mask is 8 x 16 but the image 16 x 16"),
        (torch.ones(2, 16, 16), {"shift": (1, 1)}, "the mask is 2 x 16 x 16"),
        (square(16, 16, 2, 2, 5), {"shift": (16, 0)}, "nothing of the object would be inside the frame"),
        (square(16, 16, 2, 2, 1), {"scale": 0.1}, "nothing of its mask is left at this size"),
        (square(16, 16, 2, 2, 5), {"scale": 17.0}, "scale=17; expected a factor from 1/16 to 16"),
        (square(16, 16, 4, 4, 8), {"scale": 3.0}, "covers the whole image"),
        (square(16, 16, 2, 2, 5), {"about": "corner"}, "about='corner'"),
        (square(16, 16, 2, 2, 5), {"shift": (1.5, 0)}, "expected two whole numbers of pixels"),
    ],
)
def test_plans_that_cannot_be(unchecked, mask, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        plan_move(picture(), mask, **options)


def test_several_pictures_or_whole_numbers_are_refused(unchecked) -> None:
    with pytest.raises(ValueError, match="one picture"):
        plan_move(picture().expand(2, -1, -1, -1), square(16, 16, 2, 2, 5), (1, 1))
    with pytest.raises(ValueError, match="expected floats"):
        plan_move(torch.zeros(3, 16, 16, dtype=torch.uint8), square(16, 16, 2, 2, 5), (1, 1))
    with pytest.raises(ValueError, match="1 channels|3 channels"):
        plan_paste(picture(), picture()[:1], square(16, 16, 2, 2, 5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": 501}, "steps=501"),
        ({"tail": -1}, "tail=-1"),
        ({"update": "eps"}, "update='eps'; expected one of latents, noise, none"),
        ({"kv_from": "target"}, "kv_from='target'"),
        ({"leak_proof": "all"}, "leak_proof='all'"),
    ],
)
def test_settings_out_of_range(unchecked, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        PixelMan(**settings)


def test_weights_out_of_range() -> None:
    for weights in ({"edit": -1.0}, {"scale": float("inf")}, {"content": float("nan")}):
        with pytest.raises(ValueError, match="expected a finite number of 0 or more"):
            EditEnergy(**weights)


def test_an_edit_that_is_not_finite_names_its_step() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.calls = unet(), 0

        def forward(self, x: Tensor, time: Tensor, c: Any = None) -> Tensor:
            self.calls += 1
            return self.net(x, time, c) * (torch.nan if self.calls > 6 else 1.0)

    plan = plan_move(picture(), square(16, 16, 2, 2, 5), (8, 6))
    with pytest.raises(ValueError, match="not finite from step 2 on"):
        PixelMan(steps=4, update="none")(pixel(Broken()), plan)
