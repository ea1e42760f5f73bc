"""diffusers pipelines with a transformer, in and out: SD3, Flux, DiT, PixArt and Sana, against their own pipelines.

The models are tiny, of the real classes, with random weights (conftest.py); what is compared is the arithmetic
of every part: tokens, encoders, the network and what it is told of the time, guidance, steps, autoencoder.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mezzotint as mz
from mezzotint.attention import add_mask, rescale, reweight, tap
from mezzotint.core import Condition, Flow, Noise, Shifted
from mezzotint.guide import CFG
from mezzotint.io.diffusers.conditioner_flux import Distilled
from mezzotint.io.diffusers.flux import pack, unpack
from mezzotint.io.diffusers.schedulers import schedule_of, shift_mu, times_of
from mezzotint.model import Model
from mezzotint.nn.site import find_sites
from mezzotint.sample import DDIM, DPMSolverPP, Euler

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (extra [diffusers])")
pytest.importorskip("transformers", reason="transformers is not installed (extra [diffusers])")

STEPS = 4
PROMPTS = ["red fish", "A cat "]
NOISE = Noise([0, 1])("x_T", 0, (4, 8, 8))
EVEN = np.linspace(1, 1 / STEPS, STEPS).tolist()
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}


@dataclass
class Case:
    """A pipeline of diffusers, its folder, the Model loaded from it, and how its kind is called.

    `options` are keywords of the pipeline; `grid` those of `times_of`.
    """

    pipe: Any
    path: Path
    model: Model
    solver: Any
    options: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    prompts: list[Any] = field(default_factory=lambda: list(PROMPTS))

    def theirs(self, guidance: float, pipe: Any = None, **options: Any) -> tuple[Tensor, Tensor]:
        """Latents and images in [-1, 1] of the pipeline."""
        pipe = pipe or self.pipe
        kept: list[Tensor] = []
        decode = type(pipe.vae).decode
        pipe.vae.decode = lambda z, *args, **kw: (kept.append(z), decode(pipe.vae, z, *args, **kw))[1]
        try:
            keywords = {"num_inference_steps": STEPS, "output_type": "pt", "guidance_scale": guidance}
            images = pipe(self.prompts, **{**keywords, **self.options, **options}).images
        finally:
            del pipe.vae.decode
        return kept[0], images * 2 - 1

    def ours(self, guidance: float, *, negative: str = "") -> tuple[Tensor, Tensor]:
        """The same by our parts, on the grid of the pipeline's scheduler; latents raw, as the pipeline decodes them."""
        model, scheduler = self.model, self.pipe.scheduler
        denoiser = model.denoiser
        raw = model.conditioner.prepare(self.prompts)
        if negative:
            raw = model.conditioner.with_negative(raw, negative)
        grid = times_of(scheduler, STEPS, denoiser.schedule, **self.grid)
        with torch.no_grad():
            z = self.solver(CFG(guidance)(denoiser), NOISE, grid=grid, c=model.conditioner(raw))
            return model.autoencoder.denormalise(z), model.autoencoder.decode(z).clamp(-1, 1)


def case(pipe: Any, folder: Path, solver: Any, **more: Any) -> Case:
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    return Case(pipe, folder, mz.load(folder), solver, **more)


@pytest.fixture(scope="module")
def sd3(tiny, tmp_path_factory) -> Case:
    options = {"latents": NOISE, "height": 16, "width": 16}
    return case(tiny.sd3(), tmp_path_factory.mktemp("sd3") / "pipe", Euler(), options=options)


@pytest.fixture(scope="module")
def flux(tiny, tmp_path_factory) -> Case:
    pipe = tiny.flux()
    options = {"latents": pipe._pack_latents(NOISE, 2, 4, 8, 8), "height": 16, "width": 16, "max_sequence_length": 40}
    grid = {"sigmas": np.linspace(1, 1 / STEPS, STEPS), "mu": shift_mu(pipe.scheduler.config, 16)}
    made = case(pipe, tmp_path_factory.mktemp("flux") / "pipe", Euler(), options=options, grid=grid)
    assert made.model.conditioner.length == 512
    made.model.conditioner.length = 40
    return made


@pytest.fixture(scope="module")
def dit(tiny, tmp_path_factory) -> Case:
    return case(tiny.dit(), tmp_path_factory.mktemp("dit") / "pipe", DDIM(), prompts=[3, 7])


@pytest.fixture(scope="module")
def alpha(tiny, tmp_path_factory) -> Case:
    return pixart_case(tiny.pixart(), tmp_path_factory.mktemp("alpha") / "pipe")


@pytest.fixture(scope="module")
def sigma(tiny, tmp_path_factory) -> Case:
    return pixart_case(tiny.pixart(sigma=True), tmp_path_factory.mktemp("sigma") / "pipe")


def pixart_case(pipe: Any, folder: Path) -> Case:
    options = {"latents": NOISE, "height": 16, "width": 16, "use_resolution_binning": False, "clean_caption": False}
    return case(pipe, folder, DPMSolverPP(order=2), options=options)


@pytest.fixture(scope="module")
def sana(tiny, tmp_path_factory) -> Case:
    short = {
        "complex_human_instruction": ["Draw:", " - so: "],
        "max_sequence_length": 40,
    }  # the usual one is 1300 letters
    options = {"latents": NOISE, "height": 16, "width": 16, "use_resolution_binning": False, **short}
    made = case(tiny.sana(), tmp_path_factory.mktemp("sana") / "pipe", DPMSolverPP(order=2), options=options)
    usual = signature(diffusers.SanaPipeline.__call__).parameters["complex_human_instruction"].default
    text = made.model.conditioner
    assert text.length == 300 and list(text.instruction) == usual
    text.instruction, text.length = ("Draw:", " - so: "), 40
    return made


@pytest.fixture(autouse=True)
def latents_of_dit(monkeypatch):
    """DiT's pipeline takes no latents: it draws them."""
    import diffusers.pipelines.dit.pipeline_dit as module

    monkeypatch.setattr(module, "randn_tensor", lambda *args, **kw: NOISE)


@pytest.fixture(autouse=True)
def sizes_of_sana(monkeypatch):
    """Sana's pipeline takes multiples of 32 only, for its own autoencoder."""
    monkeypatch.setattr(diffusers.SanaPipeline, "check_inputs", lambda *args, **kw: None)


FAMILIES = ["sd3", "flux", "dit", "alpha", "sigma", "sana"]


@pytest.fixture(params=FAMILIES)
def any_case(request) -> Case:
    return request.getfixturevalue(request.param)


def both(case: Case, w: float) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Their latents and images, and ours; Flux is told a guidance of 6 and guided besides."""
    if "mu" not in case.grid:
        return case.theirs(w), case.ours(w)
    told, plain = [Distilled(prompt, 6.0) for prompt in PROMPTS], {}
    if w > 1:
        plain = {"negative_prompt": ["", ""], "true_cfg_scale": w}
    theirs = case.theirs(6.0, **plain)
    return theirs, replace(case, prompts=told).ours(w)


def test_pictures_equal_the_pipelines(any_case):
    seen = []
    for w in (1.0, 4.0):
        (z, theirs), (raw, ours) = both(any_case, w)
        assert (ours - theirs).abs().max() <= 1e-4 and (raw - z).abs().max() <= 1e-5 * z.abs().max()
        seen.append(z)
    assert theirs.std() > 0.02 and (seen[0] - seen[1]).abs().max() > 1e-3 * seen[0].abs().max()


def test_the_time_that_networks_are_told_is_the_pipelines(any_case):
    told: dict[str, list[Tensor]] = {}
    modules = {"theirs": any_case.pipe.transformer, "ours": any_case.model.denoiser.net.module}
    hooks = []
    for name, module in modules.items():
        form = signature(type(module).forward)

        def keep(module, args, keywords, name=name, form=form):
            time = form.bind(module, *args, **keywords).arguments["timestep"]
            told.setdefault(name, []).append(time.double())

        hooks.append(module.register_forward_pre_hook(keep, with_kwargs=True))
    both(any_case, 1.0)
    for hook in hooks:
        hook.remove()
    theirs, ours = torch.stack(told["theirs"]), torch.stack(told["ours"])
    assert theirs.shape == (STEPS, 2)
    if isinstance(any_case.solver, Euler):  # SD3: 1000 sigma, Flux: sigma, both float32
        assert torch.allclose(ours, theirs, rtol=3e-7, atol=0)
    else:
        assert torch.equal(ours, theirs) and torch.equal(theirs, theirs.round())


OTHERS = {
    "sd3, 2m": ("sd3", "DPMSolverMultistepScheduler", FLOW, DPMSolverPP(order=2)),
    "sd3, no shift": ("sd3", "FlowMatchEulerDiscreteScheduler", {"shift": 1.0}, Euler()),
    "dit, 2m": ("dit", "DPMSolverMultistepScheduler", {}, DPMSolverPP(order=2)),
    "dit, euler": ("dit", "DDIMScheduler", {"clip_sample": False, "timestep_spacing": "trailing"}, Euler()),
    "alpha, ddim": ("alpha", "DDIMScheduler", {"clip_sample": False}, DDIM()),
    "sigma, scaled": ("sigma", "DPMSolverMultistepScheduler", {"beta_schedule": "scaled_linear"}, DPMSolverPP(order=2)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_pictures_equal_the_pipelines_under_other_schedulers(name, request, monkeypatch, tmp_path):
    family, cls, options, solver = OTHERS[name]
    usual = request.getfixturevalue(family)
    before = usual.theirs(3.0)[1]
    monkeypatch.setattr(usual.pipe, "scheduler", getattr(diffusers, cls)(**options))
    usual.pipe.save_pretrained(tmp_path)
    other = replace(usual, model=mz.load(tmp_path), solver=solver)
    (z, theirs), (raw, ours) = other.theirs(3.0), other.ours(3.0)
    assert (ours - theirs).abs().max() <= 1e-4 and (raw - z).abs().max() <= 1e-5 * z.abs().max()
    assert (theirs - before).abs().max() > 1e-3


def test_a_negative_prompt_is_the_pipelines(any_case):
    if any_case.prompts == [3, 7]:
        pytest.skip("DiT's pipeline has no negative class")
    flux = "mu" in any_case.grid
    more = {"negative_prompt": ["blue"] * 2, **({"true_cfg_scale": 3.0} if flux else {})}
    z, _ = any_case.theirs(6.0 if flux else 3.0, **more)
    told = [Distilled(prompt, 6.0) for prompt in PROMPTS] if flux else PROMPTS
    raw, _ = replace(any_case, prompts=told).ours(3.0, negative="blue")
    assert (raw - z).abs().max() <= 1e-5 * z.abs().max()
    plain, _ = replace(any_case, prompts=told).ours(3.0)
    assert (plain - z).abs().max() > 1e-4 * z.abs().max()


def test_what_is_saved_draws_the_same_in_diffusers(any_case, tmp_path):
    path = any_case.model.save(tmp_path / "again", format="diffusers")
    again = diffusers.DiffusionPipeline.from_pretrained(path, local_files_only=True)
    again.set_progress_bar_config(disable=True)
    assert type(again) is type(any_case.pipe)
    assert torch.equal(any_case.theirs(3.0, again)[1], any_case.theirs(3.0)[1])
    if any_case.prompts == [3, 7]:
        assert again.get_label_ids(["cock"]) == [7]


# --- attention ---------------------------------------------------------------------------------------------------


def single(case: Case) -> tuple[Tensor, Tensor, Condition]:
    """A state, a time and a condition for one evaluation."""
    model = case.model
    return NOISE[:1], torch.tensor([0.5]), model.conditioner(model.conditioner.prepare(case.prompts[:1]))


def sites_of(case: Case) -> set[str]:
    blocks = "transformer_blocks"
    return {
        "SD3": {f"{blocks}.0.attn.joint", f"{blocks}.0.attn2.self", f"{blocks}.1.attn.joint"},
        "Flux": {f"{blocks}.0.attn.joint", f"single_{blocks}.0.attn.joint"},
        "DiT": {f"{blocks}.{i}.attn1.self" for i in range(2)},
        "PixArt": {f"{blocks}.{i}.{name}" for i in range(2) for name in ("attn1.self", "attn2.cross")},
        "Sana": {f"{blocks}.{i}.attn2.cross" for i in range(2)},  # self-attention is linear: it has no maps
    }[type(case.model.denoiser.net.module).__name__.partition("Transformer")[0]]


@torch.no_grad()
def test_taps_see_every_softmax_attention_layer(any_case):
    denoiser, (x, t, c) = any_case.model.denoiser, single(any_case)
    plain = denoiser(x, t, c).value
    calls = []
    real = F.scaled_dot_product_attention
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", lambda *a, **kw: (calls.append(1), real(*a, **kw))[1])
        assert torch.equal(denoiser(x, t, c).value, plain)
    assert set(find_sites(denoiser)) == sites_of(any_case)
    with tap(denoiser, heads=True) as record:
        seen = denoiser(x, t, c).value
    assert set(record) == sites_of(any_case) and len(calls) == len(record)
    assert (seen - plain).abs().max() <= 1e-5 * plain.abs().max()
    for site in record:
        maps = record[site]
        assert torch.allclose(maps.sum(-1), torch.ones(()), atol=1e-5)
        if site.endswith("cross"):  # the prompt is short, its padding is seen by nobody
            real_keys = c["text_mask"][0]
            assert maps.shape[-1] == len(real_keys) > real_keys.sum() and bool((maps[..., ~real_keys] == 0).all())
    assert torch.equal(denoiser(x, t, c).value, plain)  # closed again


@torch.no_grad()
def test_edits_change_every_family(any_case):
    denoiser, (x, t, c) = any_case.model.denoiser, single(any_case)
    plain = denoiser(x, t, c).value
    with rescale(denoiser, 1.0):
        assert torch.equal(denoiser(x, t, c).value, plain)
    with reweight(denoiser, {0: 5.0}, "*"):
        assert (denoiser(x, t, c).value - plain).abs().max() > 1e-4
    with rescale(denoiser, 0.0), tap(denoiser) as record:
        denoiser(x, t, c)
    flat = record[next(iter(record))][0, 0]
    assert torch.allclose(flat[flat > 0], 1 / (flat > 0).sum(), atol=1e-6)


def test_joint_attention_holds_image_and_text_in_the_order_of_the_network(sd3, flux):
    for case, image_first in ((sd3, True), (flux, False)):
        denoiser, (x, t, c) = case.model.denoiser, single(case)
        with torch.no_grad(), tap(denoiser, "transformer_blocks.*.attn.joint") as record:
            denoiser(x, t, c)
        assert record["transformer_blocks.0.attn.joint"].shape[-1] == 16 + c["text"].shape[1]
        mask = torch.zeros(1, 16 + c["text"].shape[1])
        mask[:, slice(16, None) if image_first else slice(0, -16)] = -torch.inf  # hide the text
        other = Condition({**c, "text": torch.randn_like(c["text"])})
        with torch.no_grad(), add_mask(denoiser, mask, "*joint"):
            hidden = [denoiser(x, t, text).value for text in (c, other)]
        assert torch.allclose(*hidden, atol=1e-6)
        assert (denoiser(x, t, c).value - denoiser(x, t, other).value).abs().max() > 1e-3


# --- what is particular to a family ------------------------------------------------------------------------------


def test_sd3_and_flux_are_sampled_like_any_other_model(sd3, flux):
    """On a shifted flow the default grid is the pipelines' for evenly spaced sigmas, at the size that is drawn."""
    x = Noise([5, 6])("x_T", 0, (4, 8, 8))
    _, theirs = sd3.theirs(3.0, latents=x, sigmas=EVEN)
    ours = sd3.model.sample(PROMPTS, seeds=[5, 6], steps=STEPS, guidance=3.0, size=16)
    assert (ours - theirs).abs().max() <= 1e-4
    assert sd3.model.defaults == {"sampler": "euler", "steps": 28, "guidance": 7.0} and sd3.model.size == (32, 32)
    for size, tokens in ((16, 16), (24, 36)):
        x = Noise([5, 6])("x_T", 0, (4, size // 2, size // 2))
        options = {"latents": pack(x), "height": size, "width": size, "max_sequence_length": 40}
        _, theirs = flux.theirs(6.0, **options)
        told = [Distilled(prompt, 6.0) for prompt in PROMPTS]
        ours = flux.model.sample(told, seeds=[5, 6], steps=STEPS, size=size)
        assert (ours - theirs).abs().max() <= 1e-4
        shift = math.exp(shift_mu(flux.pipe.scheduler.config, tokens))
        assert flux.model.denoiser.at(size // 2, size // 2).schedule == Shifted(Flow(), shift)


def test_sd3_with_dynamic_shifting(sd3, tmp_path, monkeypatch):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_shift=2.0)
    monkeypatch.setattr(sd3.pipe, "scheduler", scheduler)
    sd3.pipe.save_pretrained(tmp_path)
    model, x = mz.load(tmp_path), Noise([5, 6])("x_T", 0, (4, 12, 12))
    _, theirs = sd3.theirs(3.0, latents=x, sigmas=EVEN, height=24, width=24)
    ours = model.sample(PROMPTS, seeds=[5, 6], steps=STEPS, guidance=3.0, size=24)
    assert (ours - theirs).abs().max() <= 1e-4
    usual = sd3.model.sample(PROMPTS, seeds=[5, 6], steps=STEPS, guidance=3.0, size=24)
    assert (ours - usual).abs().max() > 1e-3


def test_sd3_without_t5_reads_zeros_in_its_place(sd3, tmp_path):
    def leave_out(index: dict) -> None:
        index.update(text_encoder_3=[None, None], tokenizer_3=[None, None])

    model = mz.load(edited(sd3, tmp_path / "less", "model_index.json", leave_out))
    absent = {"text_encoder_3": None, "tokenizer_3": None}  # diffusers wants to be told
    pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(model.save(tmp_path / "again"), **absent)
    c = model.conditioner(model.conditioner.prepare(PROMPTS))
    text, null, pooled, null_pooled = pipe.encode_prompt(PROMPTS, None, None, negative_prompt="")
    for ours, theirs in ((c["text"], text), (c["pooled"], pooled)):
        assert torch.allclose(ours, theirs, atol=1e-6)
    empty = c.null()
    assert torch.allclose(empty["text"], null, atol=1e-6) and torch.allclose(empty["pooled"], null_pooled, atol=1e-6)
    assert bool((c["text"][:, 12:] == 0).all()) and c["text"].shape[1] == 12 + 256


@pytest.mark.parametrize("family", ["dit", "alpha"])
def test_published_folders_name_the_network_by_its_old_class(family, request, tmp_path):
    case = request.getfixturevalue(family)

    def old(entry: dict) -> None:
        entry["transformer"] = ["diffusers", "Transformer2DModel"]

    folder = edited(case, tmp_path / "old", "model_index.json", old)
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "Transformer2DModel"}))
    prompt = case.prompts[:1]
    assert torch.equal(mz.load(folder).sample(prompt, steps=1, size=16), case.model.sample(prompt, steps=1, size=16))


def test_flux_is_told_a_guidance_and_knows_its_size(flux):
    x, t, c = single(flux)
    seen = []
    with torch.no_grad():
        for g in (1.0, 3.5, 6.0):
            told = c.updated({"guidance": torch.tensor([g])})
            seen.append(flux.model.denoiser(x, t, told).value)
        assert torch.equal(seen[1], flux.model.denoiser(x, t, c).value)  # 3.5 unless said
    assert (seen[0] - seen[2]).abs().max() > 1e-3
    pipe = flux.pipe
    assert torch.equal(pack(NOISE), pipe._pack_latents(NOISE, 2, 4, 8, 8))
    assert torch.equal(unpack(pack(NOISE), 8, 8), NOISE)
    assert flux.model.denoiser.schedule == schedule_of(pipe.scheduler, 4096).schedule
    assert flux.model.multiple == 4 and flux.model.defaults["guidance"] == 1.0
    with pytest.raises(ValueError, match="multiples of 4"):
        flux.model.sample("a cat", size=18)


def test_flux_without_a_told_guidance(tiny, tmp_path):
    case_ = case(tiny.flux(guidance_embeds=False, use_dynamic_shifting=False, shift=1.0), tmp_path / "pipe", Euler())
    c = case_.model.conditioner.prepare(["a cat"])
    assert "guidance" not in c and case_.model.defaults["steps"] == 4
    with pytest.raises(ValueError, match="not guidance-distilled"):
        case_.model.conditioner.prepare([Distilled("a cat", 2.0)])
    with pytest.raises(ValueError, match="finite number >= 0"):
        Distilled("a cat", -1.0)


def test_dit_takes_names_of_classes_and_draws_squares(dit):
    model = dit.model
    by_name = model.conditioner.prepare(["cock", "Tinca tinca", 7])
    assert by_name["label"].tolist() == [7, 0, 7] and by_name.null()["label"].tolist() == [1000] * 3
    assert torch.equal(model.sample("cock", steps=2), model.sample([7], steps=2))
    with pytest.raises(ValueError, match="no class is named 'cat'; .*Tinca tinca"):
        model.sample("cat")
    with pytest.raises(ValueError, match="squares only"):
        model.sample(7, size=(16, 32), steps=1)


def test_pixart_is_told_the_size_of_the_picture_where_it_asks(alpha, sigma):
    text = alpha.model.conditioner
    c = text(text.prepare(["a cat"]))
    assert c["text"].shape[1] == 120 and sigma.model.conditioner.length == 300
    assert alpha.pipe.transformer.use_additional_conditions and not sigma.pipe.transformer.use_additional_conditions
    options = {"height": 16, "width": 24, "latents": NOISE[:1].repeat(2, 1, 1, 2)[..., :12]}
    z, _ = alpha.theirs(1.0, **options)
    with torch.no_grad():
        grid = times_of(alpha.pipe.scheduler, STEPS, alpha.model.denoiser.schedule)
        c = text(text.prepare(PROMPTS))
        ours = DPMSolverPP(order=2)(alpha.model.denoiser, options["latents"], grid=grid, c=c)
    assert (alpha.model.autoencoder.denormalise(ours) - z).abs().max() <= 1e-5 * z.abs().max()


def test_the_deep_compression_autoencoder_is_the_pipelines(sana):
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        z = sana.model.autoencoder.encode(x)
        assert torch.allclose(z, sana.pipe.vae.encode(x).latent * 0.41407, rtol=1e-5, atol=1e-6)
        assert torch.equal(sana.model.autoencoder.encode(x, Noise([0])), z)  # it has no posterior


@pytest.mark.parametrize("family", ["sd3", "dit", "alpha", "sana"])
def test_half_precision_weights_predict_nearly_the_same(family, request):
    case = request.getfixturevalue(family)
    model = mz.load(case.path, dtype=torch.bfloat16)
    x, t, c = single(case)
    assert {p.dtype for p in model.denoiser.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        half, whole = model.denoiser(x, t, c).value, case.model.denoiser(x, t, c).value
    assert half.dtype == torch.float32 and (half - whole).abs().max() <= 0.1 * whole.abs().max()


def test_flux_in_half_precision_is_told_the_rounded_time_of_its_pipeline(flux):
    """bfloat16 keeps 8 bits: 759.5 becomes 760. What differs is the state, in float32 here and bfloat16 there."""
    half = replace(flux, model=mz.load(flux.path, dtype=torch.bfloat16))
    half.model.conditioner.length = flux.model.conditioner.length
    half.pipe = diffusers.FluxPipeline.from_pretrained(flux.path, torch_dtype=torch.bfloat16)
    half.pipe.set_progress_bar_config(disable=True)
    (z, _), (raw, _) = both(half, 1.0)
    wide, _ = replace(flux, prompts=[Distilled(prompt, 6.0) for prompt in PROMPTS]).ours(1.0)
    assert (raw - z).abs().max() <= 0.1 * z.abs().max() and (raw - z).abs().max() < (wide - z).abs().max()


# --- what is refused ---------------------------------------------------------------------------------------------


def edited(case: Case, folder: Path, file: str, change: Callable[[dict], None]) -> Path:
    """A copy of the pipeline's folder with a JSON file changed."""
    shutil.copytree(case.path, folder)
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    return folder


def test_unknown_schedulers_and_predictions_are_refused_by_name(sd3, alpha, sana, tmp_path):
    index, config = "model_index.json", "scheduler/scheduler_config.json"
    unknown = edited(sd3, tmp_path / "a", index, lambda d: d.update(scheduler=["diffusers", "FlowMatchLCMScheduler"]))
    with pytest.raises(ValueError, match="FlowMatchLCMScheduler"):
        mz.load(unknown)
    with pytest.raises(ValueError, match="'telepathy'"):
        mz.load(edited(alpha, tmp_path / "b", config, lambda d: d.update(prediction_type="telepathy")))
    with pytest.raises(ValueError, match="invert_sigmas"):
        mz.load(edited(sd3, tmp_path / "c", config, lambda d: d.update(invert_sigmas=True)))
    with pytest.raises(ValueError, match="flow_prediction"):
        mz.load(edited(sana, tmp_path / "d", config, lambda d: d.update(prediction_type="epsilon")))


def test_a_network_without_its_condition_says_what_it_needs(any_case, unchecked):
    with pytest.raises(ValueError, match="model.conditioner.prepare"):
        any_case.model.denoiser(NOISE, torch.ones(2), None)
    with pytest.raises(ValueError, match=r"lacks \['"):
        any_case.model.denoiser(NOISE, torch.ones(2), Condition({"other": torch.ones(2)}))


@pytest.mark.parametrize("family", ["sd3", "flux", "alpha", "sana"])
def test_prompts_are_checked_and_cut_with_a_word(family, request):
    text = request.getfixturevalue(family).model.conditioner
    with pytest.raises(ValueError, match="put them in a list"):
        text.prepare("a cat")
    with pytest.raises(ValueError, match="must be a str, got int"):
        text.prepare([3])
    with pytest.warns(UserWarning, match="was cut to"):
        text.prepare(["cat " * 400])
