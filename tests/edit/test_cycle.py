"""CycleDiffusion on models: ours and diffusers', in pixels and in latents; settings, choice, and what cannot be."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mezzotint as mz
from mezzotint.core import VE, VP, VDenoiser
from mezzotint.edit import BestOf, CycleDiffusion
from mezzotint.latent import Identity, LatentSpec
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.nn.conditioner import ClassConditioner
from mezzotint.sample import DDIM, DDPM, NoiseCode, SDEDPMSolverPP

_spec = importlib.util.spec_from_file_location("_small_models", Path(__file__).with_name("small_models.py"))
assert _spec is not None and _spec.loader is not None
_small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_small)
latent = _small.latent
loud = _small.loud
picture = _small.picture
pipeline = _small.pipeline
pixel = _small.pixel
transformer = _small.transformer


FEW = CycleDiffusion(steps=6, start=0.67)


def holds_on(model: Model, source: Any = "a red heart", target: Any = "a blue heart") -> None:
    """The same prompt gives the picture back, another one does not; rows, replay and evaluations."""
    x = picture(*model.size)
    calls: list[int] = []
    hook = model.denoiser.net.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        z = model.autoencoder.encode(x[None])
    same = FEW(model, x, [0, 5], source=source, target=source)
    assert len(calls) == 2 * FEW.kept == 8
    plain = CycleDiffusion(steps=6, start=0.67, guidance=1)(model, x, [0, 5], source=source, target=source, keep=True)
    torch.testing.assert_close(plain.latents, z.expand(2, -1, -1, -1), rtol=0, atol=1e-4)
    assert (same.latents - z).abs().max() > 1e-3  # the target is guided, the source is not
    calls.clear()
    made = FEW(model, x, [0, 5], source=source, target=target, keep=True)
    assert made.nfe == FEW.nfe(source_prompt=True, target_prompt=True) == 12 and len(calls) == 8
    hook.remove()
    assert made.images.shape == (2, 3, *model.size) and made.images.abs().max() <= 1
    assert (made.latents - z).abs().amax((1, 2, 3)).min() > 1e-3 and not torch.equal(*made.latents)
    alone = FEW(model, x, [5], source=source, target=target)
    torch.testing.assert_close(alone.latents[0], made.latents[1], rtol=0, atol=2e-4)
    assert made.code is not None and plain.code is not None and alone.code is None
    torch.testing.assert_close(made.code.eps, plain.code.eps, rtol=1e-5, atol=1e-5)  # noises are the source's
    again = FEW.replay(model, made.code, target=target)
    torch.testing.assert_close(again.images, made.images, rtol=0, atol=1e-5)
    assert again.nfe == 8


@pytest.mark.parametrize("build", [pixel, transformer, latent], ids=lambda build: build.__name__)
def test_it_holds_on_our_models(build) -> None:
    holds_on(build())


def test_classes_are_prompts_too() -> None:
    net = loud(UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(), classes=4))
    holds_on(Model(VDenoiser(net, VP()), Identity(3), ClassConditioner(4), size=(8, 8)), 1, 3)


@pytest.mark.parametrize("xl", [False, True], ids=["sd-1.5", "sdxl"])
def test_it_holds_on_diffusers_models(xl, tmp_path) -> None:
    pipeline(tmp_path, xl).save_pretrained(tmp_path / "pipe")
    model = mz.load(tmp_path / "pipe")
    holds_on(model, "red fish", "a dog")
    times = CycleDiffusion().times(model.denoiser.schedule)
    assert len(times) == 71 and float(times[0]) == 0.7 and float(times[-1]) == 0  # 30 of 100 steps of 10 are skipped


# two models


def test_another_model_draws_the_result_and_its_own_autoencoder_decodes_it() -> None:
    a, b = latent(), latent(8)
    with torch.no_grad():
        for p in b.autoencoder.parameters():
            p.mul_(0.9)
    x = picture(16, 16)
    made = FEW(a, x, [1], onto=b)
    torch.testing.assert_close(made.images, b.autoencoder.decode(made.latents).clamp(-1, 1).detach())
    assert (a.autoencoder.decode(made.latents).clamp(-1, 1) - made.images).abs().max() > 1e-3
    assert made.nfe == 8 and (made.latents - FEW(a, x, [1]).latents).abs().max() > 1e-2
    torch.testing.assert_close(FEW(a, x, [1]).latents, a.autoencoder.encode(x[None]).detach(), rtol=0, atol=1e-4)


def test_a_clean_up_changes_little_and_costs_its_steps() -> None:
    model, x = pixel(), picture()
    calls: list[int] = []
    model.denoiser.net.register_forward_hook(lambda *_: calls.append(1))
    method = CycleDiffusion(steps=10, start=0.6, refine=0.2)
    made = method(model, x, [4], keep=True)
    assert made.nfe == len(calls) == method.nfe() == 14
    assert made.code is not None
    again = method.replay(model, made.code, [4])
    torch.testing.assert_close(again.latents, made.latents, rtol=0, atol=1e-5)
    assert not torch.equal(method.replay(model, made.code, [5]).latents, made.latents)
    with pytest.raises(ValueError, match="give the 1 seeds"):
        method.replay(model, made.code)


def test_a_code_in_a_file_is_drawn_again(tmp_path) -> None:
    model, x = pixel(), picture()
    made = FEW(model, x, [0, 1], source="a red heart", target="a blue heart", keep=True)
    assert made.code is not None
    made.code.save(tmp_path / "code.safetensors")
    code = NoiseCode.load(tmp_path / "code.safetensors")
    torch.testing.assert_close(FEW.replay(model, code, target="a blue heart").images, made.images, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"weight .* is .* there and .* in this run"):
        CycleDiffusion(sampler=DDIM(0.5)).replay(model, code)
    with pytest.raises(ValueError, match=r"states of \(3, 8, 8\); latent 7 works on 4 channels"):
        FEW.replay(latent(), code)


def test_a_code_is_refused_by_latents_of_another_scale(tmp_path) -> None:
    model, x = latent(), picture(16, 16)
    made = FEW(model, x, [0], keep=True)
    assert made.code is not None
    made.code.save(tmp_path / "code.safetensors")
    code = NoiseCode.load(tmp_path / "code.safetensors")
    torch.testing.assert_close(FEW.replay(model, code).images, made.images, rtol=0, atol=1e-6)
    other = latent()
    other.autoencoder.spec = LatentSpec.scaled(2, 4, 0.5)
    with pytest.raises(ValueError, match="the std of channel 0 is 1 there and 2 here"):
        FEW.replay(other, code)


def test_noise_is_drawn_once_for_each_seed_and_pictures_may_differ() -> None:
    model = pixel()
    two = torch.stack([picture(), -picture()])
    made = FEW(model, two, [3, 3], source="a red heart", target="a blue heart")
    one = FEW(model, -picture(), [3], source="a red heart", target="a blue heart")
    torch.testing.assert_close(made.images[1:], one.images, rtol=0, atol=1e-4)


def test_one_step_and_inference_mode() -> None:
    model, x = pixel(), picture()
    outside = CycleDiffusion(steps=1, start=1)(model, x, target="a blue heart").images
    with torch.inference_mode():
        inside = CycleDiffusion(steps=1, start=1)(model, picture(), target="a blue heart").images
    assert torch.equal(outside, inside) and not outside.is_inference() and not outside.requires_grad


# the choice


def test_the_best_of_all_candidates_is_chosen_and_the_first_is_kept() -> None:
    model, x = pixel(), picture()
    told = {"source": "a red heart", "target": "a blue heart"}
    settings = (FEW, CycleDiffusion(steps=6, start=0.5))

    def score(edited: Tensor, original: Tensor) -> Tensor:
        return (edited - original).square().mean((1, 2, 3))

    chosen = BestOf(score, settings, 3)(model, x, [0, 7], keep=True, **told)
    assert chosen.scores.shape == (2, 6) and chosen.best.nfe == 3 * (settings[0].nfe(target_prompt=True) + 9)
    torch.testing.assert_close(score(chosen.best.images, x[None]).double(), chosen.scores.amax(1))
    assert torch.equal(chosen.index, chosen.scores.argmax(1)) and len(set(chosen.scores.flatten().tolist())) == 12
    assert torch.equal(chosen.first.images, FEW(model, x, [0, 7], **told).images)
    alone = BestOf(score, settings, 3)(model, x, [7], keep=True, **told)
    torch.testing.assert_close(alone.scores[0], chosen.scores[1], rtol=1e-4, atol=1e-5)
    assert alone.best.code is not None  # of the chosen one
    method = settings[int(alone.index) // 3]
    replayed = method.replay(model, alone.best.code, target="a blue heart")
    torch.testing.assert_close(replayed.images, alone.best.images, rtol=0, atol=1e-5)


def test_the_published_candidates_are_540() -> None:
    best = BestOf.published(lambda edited, original: edited.mean((1, 2, 3)))
    kept = {(m.kept, float(m.guidance)) for m in best.settings}
    assert len(kept) * best.trials == 540 and {k for k, _ in kept} == {85, 80, 75, 70, 60, 50}
    assert {w for _, w in kept} == {1.0, 1.5, 2.0, 3.0, 4.0, 5.0}
    assert all(m.sampler == DDIM(0.1) and m.source_guidance == 1 for m in best.settings)


# what cannot be


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"start": 0.0}, "start=0 of 100 steps"),
        ({"start": 0.01, "steps": 10}, "start=0.01 of 10 steps.*keeps a step"),
        ({"start": 1.5}, "start=1.5"),
        ({"refine": 1.0}, "refine=1"),
        ({"guidance": -1.0}, "guidance weight w=-1"),
        ({"source_guidance": float("nan")}, "guidance weight w=nan"),
        ({"final": "clip"}, "final='clip'"),
        ({"sampler": DDIM()}, "DDIM draws no noise.*eta > 0"),
    ],
)
def test_settings_out_of_range(unchecked, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        CycleDiffusion(**settings)


def test_models_that_do_not_belong_together() -> None:
    x = picture(16, 16)
    with pytest.raises(ValueError, match="do not share a state space: 4 and 3 channels"):
        FEW(latent(), x, onto=pixel())
    with pytest.raises(ValueError, match="different noise schedules.*alpha of node 0 is .* there and"):
        FEW(pixel(), x, onto=pixel(schedule=VP()))
    with pytest.raises(ValueError, match="different noise schedules"):
        FEW(pixel(schedule=VP()), x, onto=pixel(schedule=VE()))
    other = latent(8)
    other.autoencoder.spec = LatentSpec.scaled(2, 4, 0.5)
    with pytest.raises(ValueError, match="scale their latents differently: the std of channel 0 is 1 and 2"):
        FEW(latent(), x, onto=other)


def test_pictures_and_prompts_that_do_not_suit() -> None:
    model = pixel()
    with pytest.raises(ValueError, match="7 x 8; pixel 7 needs multiples of 2: .* 6 x 8"):
        FEW(model, picture(7, 8))
    with pytest.raises(ValueError, match="1 channels; pixel 7 takes 3"):
        FEW(model, picture()[:1])
    with pytest.raises(ValueError, match="2 pictures for 1 seeds"):
        FEW(model, picture().expand(2, -1, -1, -1))
    with pytest.raises(ValueError, match="NaN or infinity"):
        FEW(model, picture() / 0)
    with pytest.raises(ValueError, match="the prompt is empty"):
        FEW(model, picture(), target=" ")
    blind = Model(
        VDenoiser(loud(UNet(3, channels=8, mult=(1,), blocks=1, attention=())), VP()), Identity(3), size=(8, 8)
    )
    with pytest.raises(ValueError, match="unconditional and takes no prompt"):
        FEW(blind, picture(), target="a blue heart")
    with pytest.raises(ValueError, match="distilled to a few steps"):
        FEW(mz.load("emoji-fast"), picture(64, 64), target="a blue heart")


def test_a_sampler_that_draws_otherwise_is_refused_before_any_evaluation() -> None:
    from mezzotint.sample import Restart

    model = pixel()
    model.denoiser.net.register_forward_hook(lambda *_: pytest.fail("the network was called"))
    try:
        method = CycleDiffusion(sampler=Restart())
    except ValueError as error:
        assert "draws no noise" in str(error)
        return
    with pytest.raises(ValueError, match="exactly once in every step"):
        method(model, picture())


def test_other_samplers_reconstruct_too() -> None:
    model, x = pixel(), picture()
    for sampler in (DDPM(), DDIM(1.0), SDEDPMSolverPP(2)):
        made = CycleDiffusion(steps=6, start=0.67, sampler=sampler)(model, x)
        torch.testing.assert_close(made.images[0], x, rtol=0, atol=1e-5)
    lossy = CycleDiffusion(steps=6, start=0.67, final="denoise")(model, x)
    assert (lossy.images[0] - x).abs().max() > 1e-3


def test_a_network_that_fails_and_a_score_that_does_are_told() -> None:
    model = pixel()
    model.denoiser.net.register_forward_hook(lambda m, a, out: out * torch.nan)
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        FEW(model, picture())
    with pytest.raises(ValueError, match=r"expected \(1,\) finite numbers"):
        BestOf(lambda edited, original: edited.mean() * torch.nan, (FEW,), 1)(pixel(), picture())
    with pytest.raises(ValueError, match="trials=0"):
        BestOf(lambda edited, original: edited.mean((1, 2, 3)), (FEW,), 0)
    with pytest.raises(ValueError, match="no setting"):
        BestOf(lambda edited, original: edited.mean((1, 2, 3)), ())
