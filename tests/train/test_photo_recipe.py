"""The crops that the prior for photographs is trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mezzotint.latent import Identity
from mezzotint.train import Single
from mezzotint.train.recipes.photo import PhotoCrops, PlainUNet, photo


@pytest.fixture
def folder(tmp_path):
    """Three pictures: red is the row, green the column, blue says which."""
    for k in range(3):
        row, column = np.mgrid[:40, :48]
        Image.fromarray(np.stack([row, column, np.full_like(row, 80 * k)], -1).astype(np.uint8)).save(
            tmp_path / f"{k}.png"
        )
    return str(tmp_path)


def whole(folder: str, step: int = 0, batch: int = 64, **settings) -> torch.Tensor:
    x = PhotoCrops(folder, size=8, first=2, **settings)(Identity(3), batch, 5)(step).x
    return ((x + 1) * 127.5).round()


def test_crops_are_pieces_of_the_first_pictures_alone(folder):
    x = whole(folder, scales=(1,))
    assert {float(v) for v in x[:, 2].unique()} == {0.0, 80.0}
    # rows and columns of neighbours differ by one, along one axis each, whichever way the crop is turned
    steps = torch.stack([x[:, :2].diff(dim=d).abs().mean((2, 3)) for d in (2, 3)])
    assert torch.equal(steps.sum(0), torch.ones(64, 2))
    assert len({tuple(row) for row in x[:, :2].amin((2, 3)).tolist()}) > 40  # at many places
    slopes = torch.stack([x[:, :2, 1, 0] - x[:, :2, 0, 0], x[:, :2, 0, 1] - x[:, :2, 0, 0]], 2)
    assert len(slopes.flatten(1).unique(dim=0)) == 8  # every turn and mirror


def test_smaller_scales_are_seen_as_often(folder):
    x = whole(folder, batch=400, scales=(1, 2))
    red = x[:, 0]  # the row: a step of one pixel is worth 1, and 2 where the picture is half as large
    step = torch.maximum(red.diff(dim=1).abs().amax((1, 2)), red.diff(dim=2).abs().amax((1, 2)))
    share = float((step > 1.5).float().mean())
    assert 0.4 < share < 0.6


def test_a_batch_is_a_function_of_its_step(folder):
    assert torch.equal(whole(folder, 3), whole(folder, 3)) and not torch.equal(whole(folder, 3), whole(folder, 4))
    assert torch.equal(whole(folder, 3, batch=4), whole(folder, 3)[:4])


def test_too_few_or_too_small_pictures_are_told(folder):
    with pytest.raises(ValueError, match="has 3 pictures; expected at least first=4"):
        PhotoCrops(folder, size=8, first=4)(Identity(3), 1, 0)
    with pytest.raises(ValueError, match="20 pixels a side after scaling; expected 32"):
        PhotoCrops(folder, size=32, first=2)(Identity(3), 1, 0)


def test_the_recipe_trains_an_unconditional_model(folder, tmp_path):
    recipe = photo()
    small = replace(
        recipe,
        data=PhotoCrops(folder, size=16, first=3, scales=(1,)),
        net=PlainUNet(channels=8, mult=(1, 2)),
        optimiser=replace(recipe.optimiser, warmup=0),
        budget=replace(recipe.budget, steps=2, batch=2),
    )
    assert small.run(tmp_path / "run", Single("cpu"), reporting=None).finished
