"""The recipes of pixel-space emoji: from a pre-training run's folder to a network that starts there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mezzotint.data import View
from mezzotint.latent import Identity
from mezzotint.train import Single, with_overrides
from mezzotint.train.recipes.pixels import emoji_epg, emoji_pretraining

pytestmark = pytest.mark.filterwarnings("ignore:a contrastive loss over:UserWarning")
SMALL = {"size": "16", "width": "16", "depth": "1", "heads": "2"}


def test_one_command_after_the_other(tmp_path) -> None:
    pytest.importorskip("pyarrow")
    first = {f"encoder.{key}": value for key, value in SMALL.items()}
    first |= {"data.size": "16", "data.split": "val", "budget.steps": "2", "budget.batch": "8", "projector": "16,8"}
    first["optimiser.warmup"] = "0"
    recipe = with_overrides(emoji_pretraining(), first)
    assert recipe.run(tmp_path / "encoder", Single("cpu")).finished
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
    assert tuned.run(tmp_path / "tuned", Single("cpu")).finished

    other = with_overrides(tuned, {"net.encoder.depth": "2"})
    with pytest.raises(ValueError, match="19 of 32 encoder tensors match"):
        other.net(Identity(3).spec)
    with pytest.raises(ValueError, match="no checkpoint there"):
        with_overrides(tuned, {"net.pretrained": str(tmp_path)}).net(Identity(3).spec)
