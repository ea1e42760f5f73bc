"""The recipes of pixel-space emoji: from a pre-training run's folder to a network that starts there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.data import GROUPS, View
from mezzotint.latent import Identity
from mezzotint.model import load
from mezzotint.nn.conditioner import ClassConditioner
from mezzotint.train import Single, with_overrides
from mezzotint.train.recipes import RECIPES
from mezzotint.train.recipes.pixels import emoji_epg, emoji_pretraining

pytestmark = pytest.mark.filterwarnings("ignore:a contrastive loss over:UserWarning")
SMALL = {"size": "16", "width": "16", "depth": "1", "heads": "2"}


def test_one_command_after_the_other(tmp_path) -> None:
    pytest.importorskip("pyarrow")
    first = {f"encoder.{key}": value for key, value in SMALL.items()}
    first |= {"data.size": "16", "data.split": "val", "budget.steps": "2", "budget.batch": "8", "projector": "16,8"}
    first["optimiser.warmup"] = "0"
    recipe = with_overrides(emoji_pretraining(), first)
    assert recipe.run(tmp_path / "encoder", Single("cpu"), reporting=None).finished
    trained = recipe.trained(tmp_path / "encoder").encoder.state_dict()
    with pytest.raises(ValueError, match=r"budget\.steps"):  # the length shapes every step
        with_overrides(recipe, {"budget.steps": "3"}).run(tmp_path / "encoder", Single("cpu"))
    mirror, *_ = reversed(recipe.views)
    with pytest.raises(ValueError, match="views"):  # and so do the views' settings
        replace(recipe, views=(View(blur_p=0.5), recipe.views[1], mirror)).run(tmp_path / "encoder", Single("cpu"))

    second = {f"net.encoder.{key}": value for key, value in SMALL.items()}
    second |= {"data.size": "16", "data.split": "val", "denoiser.size": "16", "objective.times.resolution.height": "16"}
    second |= {"objective.weight.resolution.height": "16", "budget.steps": "1", "budget.batch": "8"}
    second |= {"net.pretrained": str(tmp_path / "encoder"), "optimiser.warmup": "0"}
    tuned = with_overrides(emoji_epg(), second)
    task, batches = tuned.start()
    net = task.denoiser.denoiser.net
    assert all(torch.equal(value, trained[key]) for key, value in net.encoder.state_dict().items())
    batch = batches(0)
    assert batch.x.shape == (8, 3, 16, 16) and batch.c.null_rows["label"].tolist() == [10]
    assert tuned.run(tmp_path / "tuned", Single("cpu"), reporting=None).finished

    other = with_overrides(tuned, {"net.encoder.depth": "2"})
    with pytest.raises(ValueError, match="19 of 32 encoder tensors match"):
        other.net(Identity(3).spec)
    with pytest.raises(ValueError, match="no checkpoint there"):
        with_overrides(tuned, {"net.pretrained": str(tmp_path)}).net(Identity(3).spec)


def test_the_named_recipe_ends_in_a_model_that_is_asked_for_a_group(tmp_path, unchecked) -> None:
    pytest.importorskip("pyarrow")
    from mezzotint.cli.main import run

    short = {f"net.encoder.{key}": value for key, value in SMALL.items() if key != "size"}
    short |= {"data.split": "val", "budget.steps": "3", "budget.batch": "4", "optimiser.warmup": "0"}
    short["optimiser.lr"] = "0.01"
    settings = [part for key, value in short.items() for part in ("--set", f"{key}={value}")]
    command = ["train", "emoji-epg", "--out", str(tmp_path / "run"), "--device", "cpu", "--json", "--pictures", "3"]
    assert run([*command, *settings]) == 0
    model = load(tmp_path / "run" / "model")
    assert isinstance(model.conditioner, ClassConditioner) and model.conditioner.config == {"classes": len(GROUPS)}
    trained = with_overrides(RECIPES["emoji-epg"](), short).trained(tmp_path / "run").denoiser
    x = Noise([0, 1])("x_T", 0, (3, 32, 32))
    c = model.conditioner.prepare([3, 7])
    with torch.no_grad():
        told = model.denoiser(x, torch.full((2,), 0.5), c).x0
        assert torch.equal(told, trained(x, torch.full((2,), 0.5), c).x0)
        null = model.denoiser(x, torch.full((2,), 0.5), c.null()).x0
    assert float((told - null).abs().amax(dim=(1, 2, 3)).min()) > 1e-6  # each group's embedding is read
    with pytest.raises(ValueError, match="from 0 to 9"):
        model.sample(len(GROUPS))
