"""The denoiser of all levels: what its network is told, what it refuses, and what a checkpoint of it holds."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from mezzotint.core import (
    VE,
    VP,
    Condition,
    EDMDenoiser,
    Flow,
    FlowDenoiser,
    LevelDenoisers,
    MultiResDenoiser,
    ResolutionPyramid,
    pyramid_of,
    with_low,
)
from mezzotint.core.exact import Gaussian
from mezzotint.guide import CFG
from mezzotint.io.safe import load_into, save_state

PYRAMID = ResolutionPyramid((2, 4), scales=(0.5, 2.0))


class Told(nn.Module):
    """Keeps what it is told, and predicts zero."""

    def forward(self, x, time, c=None):
        self.c = c
        return torch.zeros_like(x)


@pytest.mark.parametrize(
    ("form", "gain"), [(lambda net: EDMDenoiser(net, VE(), 0.25), 4.0), (lambda net: FlowDenoiser(net, Flow()), 1.0)]
)
def test_the_level_below_comes_enlarged_in_the_units_of_the_level(form, gain, draw):
    net = Told()
    d = MultiResDenoiser(form(net), PYRAMID)
    low, t = draw(3, 1, 2, 2), torch.full((3,), 0.5).double()
    label = Condition({"label": torch.arange(3)})
    d(draw(3, 1, 4, 4), t, with_low(label, low, 0.2, torch.tensor([True, False, True])))
    assert torch.allclose(net.c["low"], gain * PYRAMID.lift(low, 1))
    assert net.c["low_given"].tolist() == [1, 0, 1] and net.c["low_aug"].tolist() == [0.2] * 3
    assert net.c["level"].tolist() == [1] * 3 and torch.equal(net.c["label"], label["label"])
    d(draw(3, 1, 2, 2), t, label)
    assert net.c["level"].tolist() == [0] * 3 and "low" not in net.c


def test_refusals(unchecked):
    d = MultiResDenoiser(EDMDenoiser(Told(), VE()), PYRAMID)
    t = torch.full((1,), 0.5)
    with pytest.raises(ValueError, match=r"trained for levels \[2, 4\], and got resolution 8x8"):
        d(torch.zeros(1, 1, 8, 8), t)
    with pytest.raises(ValueError, match="no level below"):
        d(torch.zeros(1, 1, 2, 2), t, with_low(None, torch.zeros(1, 1, 2, 2)))
    with pytest.raises(ValueError, match="expected .* of resolution 2"):
        d(torch.zeros(1, 1, 4, 4), t, with_low(None, torch.zeros(1, 1, 4, 4)))
    with pytest.raises(ValueError, match="Gaussian|ExactDenoiser was trained for one resolution"):
        pyramid_of(Gaussian(torch.zeros(2), std=1.0).denoiser(VP()))
    with pytest.raises(ValueError, match="1 denoisers for levels"):
        LevelDenoisers([d])


def test_a_wrapped_denoiser_keeps_its_pyramid():
    d = MultiResDenoiser(EDMDenoiser(Told(), VE()), PYRAMID)
    assert pyramid_of(CFG(2.0)(d)) is PYRAMID


@pytest.mark.parametrize(
    "other",
    [
        ResolutionPyramid((2, 4), scales=(0.6, 2.0)),
        ResolutionPyramid((1, 4), scales=(0.5, 2.0)),
        ResolutionPyramid((2, 4), scales=(0.5, 2.0), up="nearest"),
        ResolutionPyramid((2, 4, 8), scales=(0.5, 2.0, 2.0)),
    ],
)
def test_a_state_of_another_pyramid_is_refused(other, tmp_path):
    def made(pyramid: ResolutionPyramid) -> MultiResDenoiser:
        return MultiResDenoiser(EDMDenoiser(nn.Conv2d(1, 1, 1), VE()), pyramid)

    state = made(other).state_dict()
    made(other).load_state_dict(state)
    with pytest.raises(ValueError, match="another pyramid"):
        made(PYRAMID).load_state_dict(state)
    save_state(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="another pyramid|pyramid_facts has shape"):
        load_into(made(PYRAMID), tmp_path / "weights.safetensors")


def test_half_precision_keeps_the_pyramid():
    d = MultiResDenoiser(EDMDenoiser(nn.Conv2d(1, 1, 1), VE()), ResolutionPyramid((2, 4), scales=(0.777, 1.333)))
    d.load_state_dict({name: value.to(torch.bfloat16) for name, value in d.state_dict().items()})
    assert MultiResDenoiser(d.denoiser, d.config["pyramid"]).pyramid == d.pyramid


def test_a_folder_describes_it_and_builds_it_again(monkeypatch):
    from mezzotint.io.parts import PARTS, build, describe
    from mezzotint.nn import MultiResNetwork, UNet

    monkeypatch.setitem(PARTS["denoiser"], "MultiResDenoiser", "mezzotint.core")
    monkeypatch.setitem(PARTS["network"], "MultiResNetwork", "mezzotint.nn")
    net = MultiResNetwork(UNet(1, channels=8, blocks=1), (2, 4))
    d = MultiResDenoiser(EDMDenoiser(net, VE(), 0.4), PYRAMID)
    network = build("network", json.loads(json.dumps(describe("network", net))))
    network.load_state_dict(net.state_dict())
    again = build("denoiser", json.loads(json.dumps(describe("denoiser", d))), network, VE())
    assert again.pyramid == d.pyramid and again.gain == 2.5
    x, t = torch.ones(1, 1, 4, 4), torch.full((1,), 0.5)
    assert torch.equal(again(x, t).x0, d(x, t).x0)
