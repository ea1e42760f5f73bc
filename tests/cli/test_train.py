"""`train`: starts, refuses to mix runs, resumes, and reads overrides."""

from __future__ import annotations

import json

import pytest

RECIPE = """
from dataclasses import dataclass
import torch
from mezzotint.core import Cosine, VDenoiser
from mezzotint.latent import Identity
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise
from mezzotint.train.recipe import AdamW, Budget, Recipe

@dataclass(frozen=True)
class Net:
    channels: int = 16
    def __call__(self, spec):
        return UNet(spec.channels, channels=self.channels, mult=(1,), blocks=1, attention=())

def data(autoencoder, batch, seed):
    return lambda step: Batch(torch.full((batch, 3, 8, 8), (step % 3 - 1) / 2), None)

def grey():
    return Recipe(
        name="grey", optimiser=AdamW(lr=1e-3), budget=Budget(steps=4, batch=2, log=2, save=2), seed=0, data=data,
        latent=Identity, net=Net(), denoiser=lambda net: VDenoiser(net, Cosine()), objective=Denoise("v"), ema=None,
    )
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "grey_recipe.py").write_text(RECIPE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return "grey_recipe:grey"


def test_a_run_then_a_longer_one(cli, recipe, tmp_path):
    status, out, err = cli("train", recipe, "--out", "run", "--json", "--device", "cpu")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert (report["step"], report["resumed"], report["ended"]) == (4, 0, "finished")

    status, _, err = cli("train", recipe, "--out", "run", "--device", "cpu")
    assert status == 2 and "holds a run already" in err

    longer = ["--set", "budget.steps=6"]
    status, out, _ = cli("train", recipe, "--out", "run", "--resume", *longer, "--json", "--device", "cpu")
    report = json.loads(out)
    assert status == 0 and (report["step"], report["resumed"]) == (6, 4)

    status, _, err = cli("train", recipe, "--out", "run", "--resume", "--set", "net.channels=8", "--device", "cpu")
    assert status == 2 and "net.channels" in err and err.count("\n") == 1


def test_show_tells_overridden_settings(cli, recipe):
    status, out, _ = cli("train", recipe, "--show", "--json", "--set", "optimiser.lr=3e-4", "--seed", 9)
    settings = json.loads(out)
    assert status == 0 and settings["optimiser.lr"] == 3e-4 and settings["seed"] == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "optimiser.lr=fast"], "optimiser.lr=fast: expected a number"),
        (["--set", "colour=red"], "unknown setting 'colour'"),
        (["--resume", "--out", "nothing"], "holds no run to resume"),
    ],
)
def test_wrong_settings(cli, recipe, options, message):
    status, _, err = cli("train", recipe, *options)
    assert status == 2 and message in err and err.count("\n") == 1
