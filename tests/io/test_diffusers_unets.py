"""diffusers pipelines with a UNet, in and out: pixels (DDPM), Stable Diffusion and SDXL, against their own pipelines.

The models are tiny, of the real classes, with random weights; what is compared is the arithmetic of every part.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mezzotint as mz
from mezzotint.attention import rescale, reweight, save, swap, tap
from mezzotint.core import Condition, Discrete, Noise, Schedule
from mezzotint.guide import CFG
from mezzotint.io.diffusers import schedule_of, times_of
from mezzotint.io.diffusers.denoiser import denoiser_of
from mezzotint.model import Model
from mezzotint.nn.site import Call, Handler, find_sites, handling
from mezzotint.sample import DDIM, DPMSolverPP, Euler

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (extra [diffusers])")
transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra [diffusers])")

STEPS = 5
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PROMPTS = ["red fish", "a cat"]


@dataclass
class Case:
    """A pipeline of diffusers, its folder, and the Model that was loaded from it."""

    pipe: Any
    path: Path
    model: Model


def tokenizer(folder: Path) -> Any:
    """Letters and one word."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(c + "</w>" for c in letters), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    return transformers.CLIPTokenizer.from_pretrained(str(folder), model_max_length=16)


def text_config(width: int) -> Any:
    return transformers.CLIPTextConfig(
        vocab_size=56,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=8,
        bos_token_id=54,
        eos_token_id=55,
        pad_token_id=55,
    )


def vae(**options: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        sample_size=16,
        **options,
    )


def unet(**options: Any) -> Any:
    settings = {
        "block_out_channels": (4, 8),
        "layers_per_block": 1,
        "sample_size": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 2,
        "norm_num_groups": 2,
    }
    return diffusers.UNet2DConditionModel(**{**settings, **options})


def loud(*modules: Any) -> None:
    """Random weights draw next to nothing: make the networks say something, so that a difference shows."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in modules:
            for p in module.parameters():
                if p.ndim > 1:
                    p.copy_(torch.randn(p.shape, generator=generator) * 1.2 * p[0].numel() ** -0.5)
            module.eval()


def case(pipe: Any, folder: Path) -> Case:
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    return Case(pipe, folder, mz.load(folder))


@pytest.fixture(scope="module")
def stable(tmp_path_factory) -> Case:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sd")
    net, autoencoder = unet(cross_attention_dim=8), vae(scaling_factor=0.5)
    text = transformers.CLIPTextModel(text_config(8))
    loud(net, autoencoder, text)
    pipe = diffusers.StableDiffusionPipeline(
        unet=net,
        vae=autoencoder,
        text_encoder=text,
        tokenizer=tokenizer(folder / "tokens"),
        scheduler=diffusers.DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return case(pipe, folder / "pipe")


@pytest.fixture(scope="module")
def xl(tmp_path_factory) -> Case:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("xl")
    net = unet(
        cross_attention_dim=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
    )
    autoencoder = vae(scaling_factor=0.5, latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 0.8, 1.2, 0.5])
    texts = (
        transformers.CLIPTextModel(text_config(6)),
        transformers.CLIPTextModelWithProjection(text_config(10)),
    )
    loud(net, autoencoder, *texts)
    pipe = diffusers.StableDiffusionXLPipeline(
        unet=net,
        vae=autoencoder,
        text_encoder=texts[0],
        text_encoder_2=texts[1],
        tokenizer=tokenizer(folder / "a"),
        tokenizer_2=tokenizer(folder / "b"),
        scheduler=diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )
    return case(pipe, folder / "pipe")


@pytest.fixture(scope="module")
def pixels(tmp_path_factory) -> Case:
    torch.manual_seed(2)
    net = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=2,
    )
    loud(net)
    pipe = diffusers.DDIMPipeline(unet=net, scheduler=diffusers.DDIMScheduler(clip_sample=False))
    return case(pipe, tmp_path_factory.mktemp("pixels") / "pipe")


SCHEDULERS = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}, DDIM()),
    "ddim trailing": ("DDIMScheduler", {"clip_sample": False, "timestep_spacing": "trailing"}, DDIM()),
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}, Euler()),
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {"final_sigmas_type": "zero"}, DPMSolverPP(order=2)),
}
V = {"prediction_type": "v_prediction"}
ZERO_SNR = {**V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
OTHERS = {
    "v": ("DDIMScheduler", {**V, "clip_sample": False}, DDIM()),
    "x0": ("DDIMScheduler", {"prediction_type": "sample", "clip_sample": False, "set_alpha_to_one": False}, DDIM()),
    "v, zero snr": ("DDIMScheduler", {**ZERO_SNR, "clip_sample": False}, DDIM()),
    "v, zero snr, 2m": ("DPMSolverMultistepScheduler", ZERO_SNR, DPMSolverPP(order=2)),
    "euler, karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, Euler()),
    "cosine": ("DDIMScheduler", {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}, DDIM()),
    "trained": (
        "DDIMScheduler",
        {"trained_betas": [0.01 + 0.0001 * i for i in range(100)], "clip_sample": False},
        DDIM(),
    ),
}


def scheduler_of(name: str) -> tuple[Any, Any]:
    cls, options, solver = {**SCHEDULERS, **OTHERS}[name]
    betas = {} if "trained_betas" in options else BETAS
    n = {"num_train_timesteps": 100} if "trained_betas" in options else {}
    return getattr(diffusers, cls)(**{**betas, **n, **options}), solver


def pipeline_image(pipe: Any, scheduler: Any, noise: Tensor, guidance: float, **options: Any) -> Tensor:
    pipe.scheduler = scheduler
    out = pipe(PROMPTS, num_inference_steps=STEPS, guidance_scale=guidance, latents=noise, output_type="pt", **options)
    return out.images * 2 - 1


def our_image(model: Model, scheduler: Any, solver: Any, noise: Tensor, guidance: float, negative: str = "") -> Tensor:
    """The same by our parts, on the grid of the scheduler."""
    read = schedule_of(scheduler)
    denoiser = denoiser_of(model.denoiser.net, read.schedule, read.kind)
    grid = times_of(scheduler, STEPS, read.schedule)
    assert model.conditioner is not None
    raw = model.conditioner.prepare(PROMPTS)
    if negative:
        raw = Condition(dict(raw), dict(model.conditioner.prepare([negative])))
    with torch.no_grad():
        start = noise * start_scale(scheduler, read.schedule, grid)
        z = solver(CFG(guidance)(denoiser), start, grid=grid, c=model.conditioner(raw))
        return model.autoencoder.decode(z).clamp(-1, 1)


def start_scale(scheduler: Any, schedule: Schedule, grid: Tensor) -> float:
    """A pipeline's first state in ours: Euler's is noise times init_noise_sigma, in x / alpha."""
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(STEPS)
    return float(own.init_noise_sigma * schedule.alpha(grid[:1])) if "Euler" in type(own).__name__ else 1.0


NOISE = Noise([0, 1])("x_T", 0, (4, 8, 8))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("family", ["stable", "xl"])
def test_pictures_equal_the_pipelines(family, name, request):
    case = request.getfixturevalue(family)
    scheduler, solver = scheduler_of(name)
    seen = []
    for guidance in (1.0, 5.0):
        theirs = pipeline_image(case.pipe, scheduler, NOISE, guidance)
        ours = our_image(case.model, scheduler, solver, NOISE, guidance)
        seen.append(theirs)
        assert (ours - theirs).abs().max() <= 1e-4
    assert (seen[0] - seen[1]).abs().max() > 0.05  # the prompt and the guidance are in the picture


@pytest.mark.parametrize("name", OTHERS)
def test_pictures_equal_the_pipelines_for_other_kinds_of_model(name, stable):
    scheduler, solver = scheduler_of(name)
    theirs = pipeline_image(stable.pipe, scheduler, NOISE, 3.0)
    assert theirs.abs().max() < 1 or (theirs.abs() == 1).float().mean() < 0.9
    assert (our_image(stable.model, scheduler, solver, NOISE, 3.0) - theirs).abs().max() <= 1e-4


@pytest.mark.parametrize("family", ["stable", "xl"])
def test_a_negative_prompt_is_the_pipelines(family, request):
    case = request.getfixturevalue(family)
    scheduler, solver = scheduler_of("ddim")
    theirs = pipeline_image(case.pipe, scheduler, NOISE, 5.0, negative_prompt=["red"] * 2)
    assert (our_image(case.model, scheduler, solver, NOISE, 5.0, negative="red") - theirs).abs().max() <= 1e-4
    assert (pipeline_image(case.pipe, scheduler, NOISE, 5.0) - theirs).abs().max() > 1e-3


def test_pixels_equal_the_pipelines(pixels):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    theirs = pixels.pipe(2, generator=torch.Generator().manual_seed(3), num_inference_steps=7, output_type="np").images
    grid = times_of(pixels.pipe.scheduler, 7, pixels.model.denoiser.schedule)
    with torch.no_grad():
        ours = DDIM()(pixels.model.denoiser, x, grid=grid).clamp(-1, 1)
    assert theirs.std() > 0.1
    assert (ours.permute(0, 2, 3, 1) / 2 + 0.5 - torch.from_numpy(theirs)).abs().max() <= 1e-4


def test_a_loaded_model_is_used_like_any_other(stable, xl, pixels):
    image = stable.model.sample("red fish", steps=3, seeds=[5], sampler="dpmpp-2m", guidance=2.0)
    both = stable.model.sample(["a cat", "red fish"], steps=3, seeds=[4, 5], sampler="dpmpp-2m", guidance=2.0)
    assert image.shape == (1, 3, 16, 16) and (image[0] - both[1]).abs().max() < 1e-4
    assert xl.model.sample("a cat", steps=2, size=(8, 24), guidance=2.0).shape == (1, 3, 8, 24)
    assert pixels.model.sample(steps=2, count=2).shape == (2, 3, 8, 8)
    assert (stable.model.defaults["sampler"], xl.model.defaults["sampler"]) == ("ddim", "euler")
    assert isinstance(stable.model.denoiser.schedule, Discrete) and stable.model.size == (16, 16)


def test_the_autoencoder_is_the_pipelines(stable, xl):
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        raw = stable.pipe.vae.encode(x).latent_dist
        assert torch.allclose(stable.model.autoencoder.encode(x), raw.mean * 0.5, atol=1e-6)
        variance = stable.model.autoencoder.moments(x)[1]
        assert variance is not None and torch.allclose(variance, raw.var)
        config, mean = xl.pipe.vae.config, xl.pipe.vae.encode(x).latent_dist.mean
        shift, spread = (torch.tensor(v)[:, None, None] for v in (config.latents_mean, config.latents_std))
        assert torch.allclose(xl.model.autoencoder.encode(x), (mean - shift) * 0.5 / spread, atol=1e-6)


@pytest.mark.parametrize("family", ["stable", "xl", "pixels"])
def test_what_is_saved_is_loaded_again_by_diffusers_and_by_us(family, tmp_path, request):
    case = request.getfixturevalue(family)
    path = case.model.save(tmp_path / "again", format="diffusers")
    theirs = type(case.pipe).from_pretrained(path, local_files_only=True)
    assert set(theirs.components) == set(case.pipe.components)
    for name, part in theirs.components.items():
        old = case.pipe.components[name]
        if isinstance(part, nn.Module):
            ours = part.state_dict()
            assert ours.keys() == old.state_dict().keys()
            assert all(torch.equal(v, ours[k]) for k, v in old.state_dict().items())
            assert type(part) is type(old)
    again = mz.load(case.model.save(path))  # a pipeline's model keeps its format, and a pipeline folder is replaced
    prompt = None if family == "pixels" else "red fish"
    assert torch.equal(again.sample(prompt, steps=2), case.model.sample(prompt, steps=2))


def test_a_network_that_was_trained_is_what_is_saved(pixels, tmp_path):
    model = mz.load(pixels.path)
    with torch.no_grad():
        next(model.denoiser.parameters()).add_(1.0)
    again = diffusers.UNet2DModel.from_pretrained(model.save(tmp_path / "m", format="diffusers") / "unet")
    assert torch.equal(next(again.parameters()), next(model.denoiser.parameters()))
    assert not torch.equal(next(again.parameters()), next(pixels.pipe.unet.parameters()))


def test_formats_that_do_not_fit_a_model_are_refused(pixels, tmp_path):
    with pytest.raises(ValueError, match="format='diffusers'"):
        pixels.model.save(tmp_path / "m", format="mezzotint")
    with pytest.raises(ValueError, match="loaded from diffusers"):
        mz.load("emoji").save(tmp_path / "m", format="diffusers")
    with pytest.raises(ValueError, match="dtype"):
        pixels.model.save(tmp_path / "m", dtype=torch.float16)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").touch()
    with pytest.raises(ValueError, match="other files"):
        pixels.model.save(tmp_path / "m")


def test_weights_come_in_the_dtype_that_is_asked_for(stable):
    model = mz.load(stable.path, dtype=torch.bfloat16)
    assert {p.dtype for p in model.denoiser.parameters()} == {torch.bfloat16}
    image = model.sample("red fish", steps=2, guidance=2.0)
    assert image.dtype == torch.float32
    assert (image - stable.model.sample("red fish", steps=2, guidance=2.0)).abs().mean() < 0.2
    half = mz.load(stable.path, dtype=torch.float16)
    assert next(half.denoiser.parameters()).dtype == torch.float16
    assert next(half.autoencoder.parameters()).dtype == torch.float32  # force_upcast: it overflows in fp16


def test_offloaded_weights_draw_the_same_picture(stable):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    expected = stable.model.sample("red fish", steps=2, guidance=2.0)
    for kind in ("model", "sequential"):
        model = mz.load(stable.path, device="cpu", offload=kind)
        assert model.device == torch.device("cpu")
        assert torch.equal(model.sample("red fish", steps=2, guidance=2.0), expected)
    model = mz.load(stable.path, device_map={"": "cpu"})
    assert torch.equal(model.sample("red fish", steps=2, guidance=2.0), expected)


# --- attention ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["stable", "xl", "pixels"])
def test_every_attention_layer_has_a_door(family, request):
    case = request.getfixturevalue(family)
    net, time = mz.load(case.path).denoiser.net, torch.tensor([499.0])
    x = torch.randn(1, net.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    c = None if family == "pixels" else case.model.conditioner(case.model.conditioner.prepare(["red"]))
    with torch.no_grad():
        closed = net(x, time, c)
        with tap(net, heads=True) as record:
            seen = net(x, time, c)
        assert torch.equal(net(x, time, c), closed)
        doors = find_sites(net)
        for door in doors.values():  # the same weights in the same memory, without any door
            layer = net.module.get_submodule(door.site.rpartition(".")[0])
            del layer.processor
            layer.processor = door.processor
        assert torch.equal(net(x, time, c), closed)
        theirs = network(case.pipe, x, c)
    assert torch.allclose(closed, theirs, atol=1e-6)
    assert torch.allclose(seen, theirs, atol=1e-5)
    names = (
        [name.removesuffix(".processor") for name in case.pipe.unet.attn_processors]
        if family != "pixels"
        else [name for name, layer in case.pipe.unet.named_modules() if hasattr(layer, "set_processor")]
    )
    assert len(names) >= (3 if family == "pixels" else 6)
    assert sorted(site.rpartition(".")[0] for site in record) == sorted(names)
    assert set(doors) == set(record)
    for site in record:
        assert torch.allclose(record[site].sum(-1), torch.ones(()), atol=1e-5)
        assert site.endswith(".cross" if "attn2" in site else ".self")


def network(pipe: Any, x: Tensor, c: Any) -> Tensor:
    """The pipeline's own network, called as its pipeline calls it."""
    if c is None:
        return pipe.unet(x, 499).sample
    extra = {}
    if "pooled" in c:
        ids = torch.tensor([[16.0, 16, 0, 0, 16, 16]])
        extra = {"added_cond_kwargs": {"text_embeds": c["pooled"], "time_ids": ids}}
    return pipe.unet(x, 499, encoder_hidden_states=c["text"], **extra).sample


def test_maps_are_those_of_the_layer(stable):
    model, x = stable.model, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    c = model.conditioner(model.conditioner.prepare(["red"]))
    layer = stable.pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    kept = {}
    hook = layer.register_forward_hook(lambda m, args, kw, out: kept.update(x=args[0], **kw), with_kwargs=True)
    with torch.no_grad():
        network(stable.pipe, x, c)
        with tap(model.denoiser, "mid*cross", heads=True) as record:
            model.denoiser(x, torch.tensor([0.5]), c)
    hook.remove()
    q, k = layer.to_q(kept["x"]), layer.to_k(kept["encoder_hidden_states"])
    q, k = (part.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for part in (q, k))
    expected = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    [site] = record
    assert torch.allclose(record[site], expected, atol=1e-5)


def test_handlers_see_the_grid_and_the_kind(stable):
    seen = {}

    class Look(Handler):
        def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            seen[call.site] = (call.cross, call.grid, q.shape[-2])
            return q, k, v

    model = stable.model
    c = model.conditioner(model.conditioner.prepare(["red"]))
    with torch.no_grad(), handling(model.denoiser, Look()):
        model.denoiser(torch.zeros(1, 4, 8, 12), torch.tensor([0.5]), c)
    assert all(
        grid is not None and grid[0] * grid[1] == n and grid[1] * 2 == grid[0] * 3 for _, grid, n in seen.values()
    )
    assert {cross for site, (cross, *_) in seen.items() if "attn2" in site} == {True}
    assert {cross for site, (cross, *_) in seen.items() if "attn1" in site} == {False}


def test_edits_act_on_a_network_of_diffusers(stable):
    model, x = stable.model, torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    c = model.conditioner(model.conditioner.prepare(PROMPTS))
    t = torch.tensor([0.5, 0.5])

    def run() -> Tensor:
        with torch.no_grad():
            return model.denoiser(x, t, c).eps

    plain = run()
    with reweight(model.denoiser, {1: 1.0}):
        assert torch.allclose(run(), plain, atol=1e-5)
    with reweight(model.denoiser, {1: 4.0}):
        assert (run() - plain).abs().max() > 1e-3
    with rescale(model.denoiser, 1.0):
        assert torch.equal(run(), plain)  # still the fused kernel, inside the processor
    with save(model.denoiser, "*self") as saved:
        run()
    with swap(model.denoiser, saved, "*self"):
        assert torch.equal(run(), plain)
    first = {key: (k[:1], v[:1]) for key, (k, v) in saved.values.items()}
    saved.values = first
    with swap(model.denoiser, saved, "*self"):
        mixed = run()
    assert torch.allclose(mixed[0], plain[0], atol=1e-5) and (mixed[1] - plain[1]).abs().max() > 1e-4
    assert torch.equal(run(), plain)


def test_masks_of_floats_stay_under_handlers(stable):
    model, x = stable.model, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = model.conditioner(model.conditioner.prepare(["red"]))["text"]
    unet, mask = model.denoiser.net.module, torch.ones(1, 16)
    mask[:, 5:] = 0  # diffusers makes -10000 of it

    def run() -> Tensor:
        with torch.no_grad():
            return unet(x, 10, encoder_hidden_states=text, encoder_attention_mask=mask).sample

    plain = run()
    with tap(model.denoiser, "*cross") as record:
        assert torch.allclose(run(), plain, atol=1e-5)
    assert all((record[site][..., 5:] == 0).all() and (record[site][..., :5] > 0).all() for site in record)
    with rescale(model.denoiser, 1.0):
        assert torch.equal(run(), plain)
    mask[:] = 1
    assert (run() - plain).abs().max() > 1e-4


def test_a_processor_that_hides_its_attention_is_an_error(pixels):
    model = mz.load(pixels.path)
    for layer in find_sites(model.denoiser).values():
        layer.processor = diffusers.models.attention_processor.AttnProcessor()
    assert model.sample(steps=1).shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match="AttnProcessor at 'down_blocks"), tap(model.denoiser):
        model.sample(steps=1)


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"_class_name": "SomeScheduler"}, "SomeScheduler"),
        ({"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "noise"}, "prediction_type 'noise'"),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "continuous"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "tokens"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}, "invert_sigmas"),
    ],
)
def test_schedulers_outside_the_table_are_errors_that_name_them(config, told):
    with pytest.raises(ValueError, match=told):
        schedule_of(config)


@pytest.mark.parametrize("name", [*SCHEDULERS, *OTHERS])
def test_schedules_are_the_schedulers(name):
    scheduler, _ = scheduler_of(name)
    schedule = schedule_of(scheduler).schedule
    n = len(scheduler.alphas_cumprod)
    alpha = schedule.alpha(torch.arange(1, n + 1, dtype=torch.float64) / n)
    assert torch.allclose(alpha**2, scheduler.alphas_cumprod.double(), rtol=1e-4, atol=1e-7)


def test_dynamic_shifting_is_that_of_the_scheduler():
    for kind in ("exponential", "linear"):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind)
        schedule = schedule_of(scheduler, tokens=1024).schedule
        mu = 0.5 + 0.65 * (1024 - 256) / (4096 - 256)
        scheduler.set_timesteps(sigmas=[1.0, 0.7, 0.3], mu=mu)
        ours = schedule.sigma(torch.tensor([1.0, 0.7, 0.3, 0.0]))
        assert torch.allclose(ours, scheduler.sigmas, atol=1e-6)
        grid = times_of(scheduler, 3, schedule, sigmas=[1.0, 0.7, 0.3], mu=mu)
        assert torch.allclose(grid, torch.tensor([1.0, 0.7, 0.3, 0.0], dtype=torch.float64), atol=1e-6)


def test_the_size_that_is_drawn_decides_the_schedule(pixels):
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}

    def at(height: int, width: int) -> Schedule:
        return schedule_of(config, tokens=height * width).schedule

    net = pixels.model.denoiser.net
    model = Model(denoiser_of(net, at(8, 8), "flow", at), pixels.model.autoencoder, size=(8, 8))
    other = denoiser_of(net, at(16, 24), "flow")
    noise = Noise([0])("x_T", 0, (3, 16, 24))
    expected = Euler()(other, noise, steps=3).clamp(-1, 1)
    assert torch.equal(model.sample(steps=3, sampler="euler", size=(16, 24)), expected)
    assert (Euler()(model.denoiser, noise, steps=3).clamp(-1, 1) - expected).abs().max() > 1e-3


@contextmanager
def changed(path: Path, to: Path, **entries: Any) -> Iterator[Path]:
    """A copy of a pipeline folder with some entries of its index changed."""
    shutil.copytree(path, to)
    file = to / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))
    yield to


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"_class_name": "StableVideoDiffusionPipeline"}, "StableVideoDiffusionPipeline"),
        ({"_class_name": ["my_pipeline", "Mine"]}, "custom pipeline"),
        ({"_class_name": None}, "None"),
        ({"unet": ["my_unet", "MyUNet"]}, "MyUNet"),
        ({"unet": ["diffusers", "DiffusionPipeline"]}, "DiffusionPipeline"),
        ({"unet": ["os", "system"]}, "system"),
        ({"unet": [None, None]}, "needs 'unet'"),
        ({"scheduler": ["diffusers", "UnCLIPScheduler"]}, "UnCLIPScheduler"),
        ({"unet": ["diffusers", "AutoencoderKL"]}, "unet"),
    ],
)
def test_what_no_table_knows_is_refused_by_name(entries, told, pixels, tmp_path):
    with changed(pixels.path, tmp_path / "m", **entries) as path, pytest.raises(ValueError, match=told):
        mz.load(path)


def test_pickles_need_an_explicit_word(pixels, tmp_path):
    with changed(pixels.path, tmp_path / "m") as path:
        weights = path / "unet" / "diffusion_pytorch_model.safetensors"
        torch.save(pixels.pipe.unet.state_dict(), weights.with_suffix(".bin"))
        weights.unlink()
        with pytest.raises(ValueError, match="allow_pickle"):
            mz.load(path)
        weights = mz.load(path, allow_pickle=True).denoiser.state_dict()
        assert all(torch.equal(v, weights[k]) for k, v in pixels.model.denoiser.state_dict().items())


def test_damaged_folders_are_errors_that_name_the_part(pixels, tmp_path):
    from safetensors.torch import load_file, save_file

    with changed(pixels.path, tmp_path / "a") as path:
        weights = path / "unet" / "diffusion_pytorch_model.safetensors"
        state = load_file(weights)
        name, value = state.popitem()
        save_file(state, weights)
        with pytest.raises(ValueError, match=f"unet.*lack.*{name}"):
            mz.load(path)
        save_file({**state, name: value[..., None]}, weights)
        with pytest.raises(ValueError, match="unet"):
            mz.load(path)
        weights.write_bytes(weights.read_bytes()[:100])
        with pytest.raises(ValueError, match="unet"):
            mz.load(path)
        weights.unlink()
        with pytest.raises(ValueError, match="unet"):
            mz.load(path)
        shards = path / "unet" / "diffusion_pytorch_model.safetensors.index.json"
        shards.write_text(json.dumps({"metadata": {}, "weight_map": {name: "../../secret.safetensors"}}))
        with pytest.raises(ValueError, match="outside"):
            mz.load(path)
        shutil.rmtree(path / "unet")
        with pytest.raises(ValueError, match="no such folder"):
            mz.load(path)
        (path / "model_index.json").write_text("{")
        with pytest.raises(ValueError, match=r"model_index\.json"):
            mz.load(path)


def test_loading_leaves_the_callers_generator_alone(pixels):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    mz.load(pixels.path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_configurations_that_hold_anything_are_errors_of_the_folder(pixels, tmp_path):
    values = [None, True, "x", -1, 0, 1.5, [], {}, [[1]]]
    for part, key in (("unet", "sample_size"), ("unet", "in_channels"), ("scheduler", "num_train_timesteps")):
        with changed(pixels.path, tmp_path / f"{part}-{key}") as path:
            file = path / part / ("config.json" if part == "unet" else "scheduler_config.json")
            good = json.loads(file.read_text())
            for value in values:
                file.write_text(json.dumps({**good, key: value}))
                with pytest.raises(ValueError, match=re.escape(str(path))):
                    mz.load(path)


def test_loading_and_saving_draw_no_bars(stable, tmp_path, capsys):
    transformers.utils.logging.enable_progress_bar()
    capsys.readouterr()
    mz.load(stable.path).save(tmp_path / "m")
    assert "%" not in "".join(capsys.readouterr())
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_options_are_checked(pixels):
    with pytest.raises(ValueError, match="trust_remote_code"):
        mz.load(pixels.path, trust_remote_code=True)
    with pytest.raises(ValueError, match="folder of ours"):
        mz.load("emoji", dtype=torch.float16)
    with pytest.raises(ValueError, match="device_map"):
        mz.load(pixels.path, "cpu", device_map={"": "cpu"})
    with pytest.raises(ValueError, match="needs the device"):
        mz.load(pixels.path, offload="model")


def test_without_diffusers_the_message_says_what_to_install(pixels, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"mezzotint\[diffusers\]"):
        mz.load(pixels.path)


def test_a_hub_id_fetches_what_its_family_needs_and_no_code(pixels, monkeypatch):
    import huggingface_hub

    asked: dict[str, Any] = {}

    def snapshot(repo: str, *, allow_patterns: list[str], **options: Any) -> str:
        asked.update(repo=repo, patterns=allow_patterns, **options)
        return str(pixels.path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, file, **_: str(pixels.path / file))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    model = mz.load("someone/ddpm", revision="main")
    assert model.name == "someone/ddpm" and torch.equal(model.sample(steps=1), pixels.model.sample(steps=1))
    files = [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/model.py",
        "safety_checker/model.safetensors",
        "v1-5-pruned.ckpt",
        "model_index.json",
        "scheduler/scheduler_config.json",
    ]
    fetched = [f for f in files if any(fnmatchcase(f, p) for p in asked["patterns"])]
    assert fetched == [files[0], files[1], files[3], files[8], files[9]] and asked["revision"] == "main"

    def offline(repo: str, file: str, **options: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ValueError, match="someone/else.*no network"):
        mz.load("someone/else")


def test_a_learned_variance_is_cut_off(tmp_path):
    net = diffusers.UNet2DModel(
        sample_size=8,
        out_channels=6,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
    )
    loud(net)
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=False)
    diffusers.DDPMPipeline(unet=net, scheduler=scheduler).save_pretrained(tmp_path)
    model, x = mz.load(tmp_path), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = model.denoiser(x, torch.tensor([0.25])).value
        assert torch.allclose(ours, net(x, 249).sample[:, :3], atol=1e-6)
    assert model.defaults["sampler"] == "ddpm"
