"""A model with each of the conditions of latent diffusion: sampled, saved, loaded, sampled again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mezzotint as mz
from mezzotint.core import Discrete, EpsDenoiser, Noise
from mezzotint.latent import AutoencoderKL, AutoencoderVQEMA
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.nn.conditioner import (
    ClassConditioner,
    InpaintConditioner,
    Layout,
    LayoutConditioner,
    SemanticMapConditioner,
    SuperResolutionConditioner,
)

IMAGES = Noise([0, 1]).uniform("image", 0, (3, 16, 16)) * 2 - 1
HOLE = torch.zeros(16, 16)
HOLE[4:12, 4:12] = 1
SMALL = {"channels": 8, "mult": (1, 1, 1), "latent": 4, "groups": 4}

# what the conditioner is, what the network reads, two things to ask for
CONDITIONS: dict[str, tuple[Any, dict[str, Any], list[Any]]] = {
    "class": (lambda: ClassConditioner(5), {"classes": 5}, [3, 1]),
    "layout": (
        lambda: LayoutConditioner(2, vocab=12, length=8, width=8, depth=1, heads=2),
        {"context": 8},
        [Layout([(0.0, 0.0, 1.0, 0.5, 1)]), Layout([(0.5, 0.0, 1.0, 1.0, 0)])],
    ),
    "semantic": (
        lambda: SemanticMapConditioner(5),
        {"concat": 3},
        [torch.zeros(16, 16, dtype=torch.long), torch.full((16, 16), 4)],
    ),
    "super-resolution": (
        lambda: SuperResolutionConditioner(),
        {"concat": 3},
        [torch.zeros(3, 4, 4), torch.ones(3, 4, 4)],
    ),
    "inpainting": (lambda: InpaintConditioner(), {"concat": 5}, [(IMAGES[0], HOLE), (IMAGES[1], HOLE)]),
}


def _model(name: str, autoencoder: type = AutoencoderKL, **options: Any) -> Model:
    conditioner, reads, _ = CONDITIONS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet(4, channels=16, blocks=1, **reads)
        for layer in net.modules():  # nothing starts at zero, so that the condition is heard
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                nn.init.normal_(layer.weight, std=0.1)
        return Model(
            EpsDenoiser(net, Discrete.scaled_linear()), autoencoder(**SMALL, **options), conditioner(), size=(16, 16)
        ).eval()


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_heard_and_survives_saving(name: str, tmp_path: Path) -> None:
    model, prompts = _model(name), CONDITIONS[name][2]
    images = model.sample(prompts, steps=2, seeds=[7, 7])
    assert images.shape == (2, 3, 16, 16) and not torch.equal(images[0], images[1])
    model.save(tmp_path / "model")
    again = mz.load(tmp_path / "model")
    assert torch.equal(again.sample(prompts, steps=2, seeds=[7, 7]), images)


@pytest.mark.parametrize("name", ["semantic", "super-resolution", "inpainting"])
def test_without_a_null_the_default_is_no_guidance_and_asking_for_some_is_refused(name: str) -> None:
    model, prompts = _model(name), CONDITIONS[name][2]
    plain = model.sample(prompts, steps=2, seeds=[7, 8])
    assert torch.equal(plain, model.sample(prompts, steps=2, seeds=[7, 8], guidance=1.0))
    with pytest.raises(ValueError, match="null"):
        model.sample(prompts, steps=2, seeds=[7, 8], guidance=3.0)


def test_an_averaged_codebook_survives_saving(tmp_path: Path) -> None:
    model = _model("class", AutoencoderVQEMA, codes=16, decay=0.5)
    images = model.sample([3, 1], steps=2, seeds=[7, 8])
    model.save(tmp_path / "model")
    again = mz.load(tmp_path / "model")
    assert torch.equal(again.sample([3, 1], steps=2, seeds=[7, 8]), images)
    assert type(again.autoencoder) is AutoencoderVQEMA and again.autoencoder.quantiser.decay == 0.5
