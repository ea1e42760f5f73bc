"""Two-stage training: resume across the stages, the seed of every stage, and the model that comes out."""

from __future__ import annotations

import pytest
import torch

import mezzotint as mz
from mezzotint.data.emoji import emoji_folder
from mezzotint.train import Single
from mezzotint.train.overrides import leaves, with_overrides
from mezzotint.train.recipes import RECIPES, emoji, emoji_pixel
from mezzotint.train.staged import trained_model


def _has_emoji() -> bool:
    try:
        return emoji_folder().is_dir()
    except ValueError:
        return False


needs_emoji = pytest.mark.skipif(
    not _has_emoji(), reason="the packed emoji are not here (they travel with the repository)"
)
SMALL = {
    "autoencoder.budget.steps": "4",
    "autoencoder.budget.batch": "2",
    "autoencoder.optimiser.warmup": "0",
    "diffusion.budget.steps": "4",
    "diffusion.budget.batch": "2",
    "diffusion.optimiser.warmup": "0",
    "diffusion.net.channels": "8",
    "diffusion.net.blocks": "1",
    "diffusion.net.text": "16",
    "diffusion.denoiser.text": "16",
    "diffusion.data.split": "val",
    "autoencoder.data.split": "val",
}


@needs_emoji
def test_stopped_in_either_stage_it_ends_in_the_same_model(tmp_path):
    recipe = with_overrides(emoji(), SMALL)
    engine = Single("cpu")
    assert recipe.run(tmp_path / "straight", engine).finished
    out = tmp_path / "stopped"
    for stage in ("autoencoder", "diffusion"):

        def interrupt(progress, begun=out / stage / "run.json"):
            if progress.step == 2 and begun.exists():
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            recipe.run(out, engine, on_step=interrupt)
        assert recipe.holds(out)
    assert recipe.run(out, engine).finished
    a, b = (trained_model(recipe, folder) for folder in (tmp_path / "straight", out))
    assert a is not None and b is not None
    assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))

    model = mz.load(a.save(tmp_path / "model"))
    assert model.size == (64, 64) and model.autoencoder.spec.factor == 8
    assert model.autoencoder.spec == a.autoencoder.spec
    images = model.sample("red heart", steps=2, guidance=2.0, seeds=[1])
    assert torch.equal(images, a.sample("red heart", steps=2, guidance=2.0, seeds=[1]))


@needs_emoji
def test_pixel_space_is_the_same_code(tmp_path):
    small = {"budget.steps": "2", "budget.batch": "2", "optimiser.warmup": "0", "data.split": "val", "net.depth": "1"}
    recipe = with_overrides(emoji_pixel(), small)
    recipe.run(tmp_path, Single("cpu"))
    model = trained_model(recipe, tmp_path)
    assert model is not None and model.autoencoder.spec.factor == 1
    assert model.sample("red heart", steps=1).shape == (1, 3, 32, 32)
    first = emoji()
    assert type(first.diffusion.objective) is type(recipe.objective)
    assert type(first.diffusion.data) is type(recipe.data)


def test_every_recipe_has_seeds_that_can_be_set_and_describes_itself():
    for make in RECIPES.values():
        recipe = make()
        seeds = [leaf for leaf in leaves(recipe) if leaf.split(".")[-1] == "seed"]
        assert seeds
        other = with_overrides(recipe, dict.fromkeys(seeds, "5"))
        assert other != recipe
