from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mezzotint.train import EMA, Single, fit, with_overrides
from mezzotint.train.power_ema import (
    Power,
    PowerEMA,
    averages,
    combination,
    exponent,
    reconstruct,
    relative_length,
    save_snapshot,
)


def _net():
    return nn.Linear(3, 2, bias=False, dtype=torch.float64)


def _walk(steps):
    """Weights of a random walk, (steps, 2, 3)."""
    return torch.randn(steps, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(0)


def _run(ema, net, walk, folder=None, every=10**9):
    for i, value in enumerate(walk, 1):
        net.weight.data.copy_(value)
        ema.update()
        if i % every == 0:
            save_snapshot(ema, folder, "net")


def _exact(walk, gamma):
    """The profile's integral over a piecewise constant path."""
    n = len(walk)
    edges = np.arange(n + 1) / n
    weights = torch.from_numpy(np.diff(edges ** (gamma + 1)))
    return (weights[:, None, None] * walk).sum(0)


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.25])
def test_the_length_is_the_profiles_standard_deviation(length):
    gamma = exponent(length)
    tau = (np.arange(2_000_000) + 0.5) / 2_000_000
    p = (gamma + 1) * tau**gamma
    mean = (p * tau).mean()
    assert math.sqrt((p * (tau - mean) ** 2).mean()) == pytest.approx(length, rel=1e-5)
    assert relative_length(gamma) == pytest.approx(length, rel=1e-12)


def test_a_plain_mean_is_the_longest():
    assert exponent(12**-0.5) == pytest.approx(0.0, abs=1e-7)
    net, walk = _net(), _walk(30)
    ema = PowerEMA(net, 12**-0.5)
    _run(ema, net, walk)
    assert torch.allclose(ema.averages["weight"], walk.mean(0), atol=1e-6)
    for wrong in (0.0, 0.3, -1.0):
        with pytest.raises(ValueError, match="share of the training"):
            exponent(wrong)


@pytest.mark.parametrize("length", [0.05, 0.1])
def test_updates_are_the_integral_of_the_profile(length):
    net, walk = _net(), _walk(137)
    ema = PowerEMA(net, length)
    _run(ema, net, walk)
    assert torch.allclose(ema.averages["weight"], _exact(walk, ema.gamma), atol=1e-12)


def test_inner_products_by_quadrature():
    from mezzotint.train.power_ema import _product

    tau = (np.arange(1_000_000) + 0.5) / 1_000_000 * 8
    for (g, s), (h, t) in [((3.0, 8.0), (6.5, 5.0)), ((17.0, 8.0), (7.0, 8.0)), ((0.5, 2.0), (4.0, 8.0))]:
        p = (g + 1) * tau**g / s ** (g + 1) * (tau <= s)
        q = (h + 1) * tau**h / t ** (h + 1) * (tau <= t)
        assert _product((g, s), (h, t)) == pytest.approx((p * q).mean() * 8, rel=1e-4)


def test_a_profile_that_is_there_is_found_and_weights_of_others_are_not_zero_sum():
    have = [(exponent(length), t) for length in (0.05, 0.1) for t in (20.0, 40.0, 60.0, 80.0)]
    for i, goal in enumerate(have):
        assert combination(have, goal) == pytest.approx([float(i == j) for j in range(len(have))], abs=1e-6)
    assert sum(combination(have, (exponent(0.08), 80.0))) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("length", "step"), [(0.05, None), (0.075, None), (0.13, None), (0.08, 96)])
def test_any_length_is_reconstructed_from_snapshots_of_two(length, step, tmp_path):
    net, walk = _net(), _walk(128)
    for kept in (0.05, 0.1):
        _run(PowerEMA(net, kept), net, walk, tmp_path, every=8)
    found = reconstruct(tmp_path, "net", length, step)["weight"]
    exact = _exact(walk[: step or 128], exponent(length))
    other = _exact(walk[: step or 128], exponent(length * 1.5))
    assert (found - exact).abs().max() < 0.02 * (other - exact).abs().max()
    with pytest.raises(ValueError, match="no snapshot of 'net' there up to step 7"):
        reconstruct(tmp_path, "net", length, 7)


def test_several_averages_each_equal_to_one_alone():
    net, walk = _net(), _walk(20)
    several = averages(net, "net", (0.9, 0.99))
    assert list(several) == ["net", "net@0.99"] and [type(e) for e in several.values()] == [EMA, EMA]
    alone = {key: EMA(net, ema.length) for key, ema in several.items()}
    for value in walk:
        net.weight.data.copy_(value)
        for ema in (*several.values(), *alone.values()):
            ema.update()
    for key, ema in several.items():
        assert torch.equal(ema.averages["weight"], alone[key].averages["weight"])
    assert averages(net, "net", None) == {} and list(averages(net, "net", Power())) == ["net", "net@0.1"]
    for wrong, words in (((), "at least one"), ((0.9, 0.9), "once")):
        with pytest.raises(ValueError, match=words):
            averages(net, "net", wrong)


def test_a_run_keeps_and_resumes_several_and_tells_them_apart(denoising, tmp_path):
    def task():
        made, batches = denoising()
        made.ema = averages(made.denoiser, "denoiser", Power((0.05, 0.1)))
        return made, batches

    settings = dict(seed=0, save_every=4, engine=Single("cpu"))
    whole, batches = task()
    fit(whole, batches, steps=12, out=tmp_path / "whole", **settings)
    cut, batches = task()
    fit(cut, batches, steps=8, out=tmp_path / "cut", **settings)
    again, batches = task()
    assert fit(again, batches, steps=12, out=tmp_path / "cut", **settings).resumed == 8
    for key, ema in whole.ema.items():
        assert ema.updates == 12
        assert all(torch.equal(v, again.ema[key].averages[k]) for k, v in ema.averages.items())
    names = [[p.name for p in sorted((tmp_path / out / "averages").iterdir())] for out in ("whole", "cut")]
    assert names[0] == names[1] and len(names[0]) == 6 and "denoiser@0.05.step-00000012.safetensors" in names[0]
    rebuilt = reconstruct(tmp_path / "whole" / "averages", "denoiser", 0.1)
    for key, value in whole.ema["denoiser@0.1"].averages.items():
        assert torch.allclose(rebuilt[key], value, atol=1e-6)


def test_recipes_take_them_from_text_and_give_back_the_one_asked_for(tmp_path):
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("_recipes", Path(__file__).with_name("distributed_checks.py"))
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["_recipes"] = module
    spec.loader.exec_module(module)
    recipe = with_overrides(module.recipe(3), {"ema": "0.1, 0.9"})
    assert recipe.ema == (0.1, 0.9) and with_overrides(recipe, {"ema": "0.25"}).ema == 0.25
    assert with_overrides(recipe, {"ema": "none"}).ema is None
    power = replace(recipe, ema=Power())
    assert with_overrides(power, {"ema.lengths": "0.02,0.2"}).ema == Power((0.02, 0.2))
    recipe.run(tmp_path, Single("cpu"), reporting=None)
    told = json.loads((tmp_path / "run.json").read_text())
    assert told["ema"] == [0.1, 0.9]
    key = "denoiser.net.head.weight"
    first, named, last, live = (
        recipe.trained(tmp_path, averaged=which).modules.state_dict()[key] for which in (True, 0.1, 0.9, False)
    )
    assert torch.equal(first, named) and not torch.equal(first, last) and not torch.equal(first, live)
    with pytest.raises(ValueError, match=r"no average of 0.7; there are \[0.1, 0.9\]"):
        recipe.trained(tmp_path, averaged=0.7)
