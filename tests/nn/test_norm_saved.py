"""Networks without gains come back from model folders, alone and inside others."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import mezzotint as mz
from mezzotint.core import VE, BoundaryDenoiser, Cosine, Noise, VDenoiser, at_sigmas
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.nn import (
    DiT,
    EncoderDecoderViT,
    MultiResNetwork,
    NonScalingGroupNorm,
    NonScalingLayerNorm,
    UNet,
    guided_student,
    without_gains,
)
from mezzotint.nn.conditioner import ClassConditioner
from mezzotint.sample import Consistency

SMALL: dict[str, Any] = {"channels": 8, "mult": (1, 2), "blocks": 1, "attention": (2,)}
NORMS = (
    2 * (2 + 2 + 4) + (1 + 1 + 2) + 1
)  # of the residual blocks down, in the middle and up; of attention; the output's


def gainless(net):
    return sum(isinstance(m, (NonScalingGroupNorm, NonScalingLayerNorm)) for m in net.modules())


def same(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("where", ["all", "output"])
def test_a_consistency_model_is_the_same_after_it_was_saved(where, alive, tmp_path):
    net = alive(without_gains(UNet(3, **SMALL), where)).float()
    model = Model(BoundaryDenoiser(net, VE()), Identity(3), size=(8, 8)).eval()
    back = mz.load(model.save(tmp_path / "model"))
    assert json.loads((tmp_path / "model" / "config.json").read_text())["network"]["config"]["gainless"] == where
    assert gainless(back.denoiser.net) == gainless(net) == (1 if where == "output" else NORMS)
    same(back.denoiser.net.state_dict(), net.state_dict())
    call = {"sampler": Consistency(), "grid": at_sigmas([80.0, 1.0]), "steps": 2, "seeds": [3]}
    images = model.sample(**call)
    assert torch.equal(back.sample(**call), images) and float(images.std()) > 0.01


@pytest.mark.parametrize(("kind", "settings"), [(UNet, SMALL), (DiT, {"width": 16, "depth": 1, "heads": 2})])
def test_the_constructor_builds_what_the_conversion_makes(kind, settings):
    made = []
    for build in (lambda c: without_gains(kind(4, **c)), lambda c: kind(4, **c, gainless="all")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made.append(build({**settings, "context": 8}))
    converted, built = made
    assert converted.config == built.config == kind(**built.config).config
    assert gainless(built) > 0
    same(converted.state_dict(), built.state_dict())


def test_inside_other_networks_the_settings_tell_of_it(alive, tmp_path):
    teacher = VDenoiser(without_gains(UNet(3, **SMALL, classes=4)), Cosine())
    student = guided_student(teacher, (1.0, 5.0))
    model = Model(student, Identity(3), ClassConditioner(4), size=(8, 8)).eval()
    alive(model).float()
    back = mz.load(model.save(tmp_path / "model"))
    same(back.denoiser.net.state_dict(), student.net.state_dict())
    assert torch.equal(back.sample(1, steps=2, guidance=2.0), model.sample(1, steps=2, guidance=2.0))
    outside: Any = without_gains(MultiResNetwork(UNet(3, **SMALL), (4, 8)))
    assert outside.base.config["gainless"] == "all" and gainless(outside) == NORMS
    x = Noise([0])("x", 0, (3, 8, 8))
    assert outside(x, torch.ones(1)).shape == x.shape


def test_what_could_not_be_had_back_is_refused(tmp_path, unchecked):
    some: Any = "some"
    with pytest.raises(ValueError, match="expected a UNet or a DiT"):
        without_gains(EncoderDecoderViT(3, size=8, width=16, depth=1, heads=2))
    with pytest.raises(ValueError, match="expected all or output"):
        UNet(4, **SMALL, gainless=some)
    with pytest.raises(ValueError, match="norm before its output"):
        DiT(4, width=16, depth=1, heads=2, gainless="output")
    saved = Model(VDenoiser(UNet(3, **SMALL), Cosine()), Identity(3), size=(8, 8)).save(tmp_path / "model")
    config = json.loads((saved / "config.json").read_text())
    assert config["network"]["config"].pop("gainless") == "none"  # folders of before the setting was there
    (saved / "config.json").write_text(json.dumps(config))
    assert gainless(mz.load(saved).denoiser.net) == 0
    config["network"]["config"]["gainless"] = "all"
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="norm"):
        mz.load(saved)
