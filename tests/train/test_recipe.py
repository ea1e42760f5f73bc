from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from mezzotint.core import Cosine
from mezzotint.core.denoiser import VDenoiser
from mezzotint.core.noise import fold
from mezzotint.latent import Identity, LatentSpec
from mezzotint.objective import Denoise
from mezzotint.objective.batch import Batch
from mezzotint.train import AdamW, Budget, Recipe, Single, newest_checkpoint, read_log, with_overrides
from mezzotint.train.__main__ import find_recipe, main


class _Net(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, channels, 1))

    def forward(self, x, time, c=None):
        return self.layers(x)


@dataclass(frozen=True)
class _Build:
    width: int = 4

    def __call__(self, spec: LatentSpec) -> nn.Module:
        return _Net(spec.channels, self.width)


@dataclass(frozen=True)
class _Stripes:
    size: int = 8

    def __call__(self, autoencoder, batch: int, seed: int):
        def batches(step: int) -> Batch:
            generator = torch.Generator().manual_seed(fold(seed, "data", step))
            rows = torch.rand(batch, 3, self.size, 1, generator=generator) * 2 - 1
            return Batch(autoencoder.encode(rows.expand(-1, -1, -1, self.size).contiguous()))

        return batches


def _denoiser(net):
    return VDenoiser(net, Cosine())


def stripes() -> Recipe:
    return Recipe(
        name="stripes",
        data=_Stripes(),
        latent=Identity,
        net=_Build(),
        denoiser=_denoiser,
        objective=Denoise("v"),
        optimiser=AdamW(lr=1e-2, schedule="cosine", warmup=2),
        ema=0.9,
        budget=Budget(steps=6, batch=4, log=2, save=2),
        seed=0,
    )


def test_a_recipe_trains_resumes_and_is_read_back_with_averaged_weights(tmp_path):
    report = stripes().run(tmp_path, Single("cpu"))
    assert report.finished and [r["step"] for r in read_log(tmp_path / "log.jsonl")] == [2, 4, 6]
    assert stripes().run(tmp_path, Single("cpu")).resumed == 6
    averaged, own = stripes().trained(tmp_path), stripes().trained(tmp_path, averaged=False)
    a, b = (t.modules["denoiser"].net.layers[0].weight for t in (averaged, own))
    assert torch.equal(a, own.ema["denoiser"].averages["net.layers.0.weight"]) and not torch.equal(a, b)
    assert not averaged.modules.training


def test_initial_weights_are_a_function_of_the_seed_alone():
    before = torch.get_rng_state()
    weights = [r.start()[0].denoiser.net.layers[0].weight for r in (stripes(), stripes(), replace(stripes(), seed=1))]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"net.width": "5"}, "net.width: 4 there, 5 now"),
        ({"objective.drop": "0.2"}, "objective.drop"),
        ({"seed": "1"}, "seed: 0 there, 1 now"),
        ({"optimiser.lr": "0.1"}, "optimiser.lr"),
        ({"budget.batch": "5"}, "budget.batch"),
        ({"budget.steps": "7"}, "budget.steps: 6 there, 7 now"),  # it shapes a cosine
    ],
)
def test_a_changed_recipe_does_not_go_on_in_the_folder(change, told, tmp_path):
    stripes().run(tmp_path, Single("cpu"))
    with pytest.raises(ValueError, match=f"belongs to another run .*{told}"):
        with_overrides(stripes(), change).run(tmp_path, Single("cpu"))


def test_what_does_not_change_the_numbers_may_change(tmp_path):
    constant = with_overrides(stripes(), {"optimiser.schedule": "constant"})
    constant.run(tmp_path, Single("cpu"))
    longer = with_overrides(constant, {"budget.steps": "8", "budget.log": "4", "budget.save": "8"})
    assert longer.run(tmp_path, Single("cpu")).resumed == 6


def test_the_plain_entry(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "stripes_recipes", sys.modules[__name__])
    arguments = ["stripes_recipes:stripes", "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*arguments, "budget.steps=4", "optimiser.schedule=constant"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["step"] for r in rows] == [2, 4, 4] and rows[-1]["ended"] == "finished"
    assert newest_checkpoint(tmp_path / "run" / "checkpoints").name == "step-00000004"
    assert main([*arguments, "--show", "net.width=7"]) == 0
    assert "net.width=7\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "error: unknown recipe 'nothing'; known: "),
        (["no.such.module:x"], "error: recipe 'no.such.module:x': No module named"),
        (["stripes_recipes:absent"], "error: recipe 'stripes_recipes:absent'"),
        (["stripes_recipes:stripes", "lr=1"], "error: unknown setting 'lr'; the settings are: name, optimiser.lr"),
        (["stripes_recipes:stripes", "lr"], "error: expected key=value, got 'lr'"),
        (["stripes_recipes:stripes", "--out", "OUT", "--device", "gpu"], "error: unknown device 'gpu'"),
    ],
)
def test_bad_input_is_one_line_and_status_two(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "stripes_recipes", sys.modules[__name__])
    assert main([a.replace("OUT", str(tmp_path / "run")) for a in arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith(message) and told.count("\n") == 1


def test_named_recipes_are_found():
    assert find_recipe("emoji-pixel").name == "emoji-pixel"
