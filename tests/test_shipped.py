"""The models that are shipped: each loads, samples as its card says, and has a card that says all."""

from __future__ import annotations

import pytest
import torch

import mezzotint as mz
from mezzotint.core import Noise
from mezzotint.metric import psnr
from mezzotint.model import WEIGHTS
from mezzotint.restore.match import denoise

NAMES = sorted(p.parent.name for p in WEIGHTS.glob("*/config.json") if "denoiser" in p.read_text())


def test_the_list_is_what_readme_tells():
    assert {"emoji", "emoji-fast", "emoji-pixel"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_names_data_licence_recipe_hardware_and_what_was_measured(name):
    card = (WEIGHTS / name / "README.md").read_text()
    for word in ("Data", "Licence", f"mezzotint train {name}", "seed 0", "Hardware", "minutes", "Frechet", "Limits"):
        assert word in card, word
    assert (WEIGHTS / name / "grid.png").is_file()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("emoji")])
def test_defaults_give_a_picture(name):
    model = mz.load(name)
    x = model.sample("a red heart", count=2)
    assert x.shape == (2, 3, *model.size) and bool(torch.isfinite(x).all())
    # a heart on white: red in the middle, white at the corners
    middle = x[:, :, model.size[0] // 2 - 2 : model.size[0] // 2 + 2, model.size[1] // 2 - 2 : model.size[1] // 2 + 2]
    red, green, blue = middle.mean((0, 2, 3)).tolist()
    assert red > max(green, blue) + 0.3
    assert float(x[:, :, 0, 0].mean()) > 0.7


def test_the_distilled_model_takes_its_two_steps_and_any_weight_inside_its_range():
    model = mz.load("emoji-fast")
    assert model.defaults["steps"] == 2 and model.defaults["sampler"] == "distilled"
    one, two = (model.sample("a cat", steps=2, guidance=w, seeds=[3]) for w in (1.0, 5.0))
    assert float((one - two).abs().mean()) > 0.02
    with pytest.raises(ValueError, match="distilled to N = 2"):
        model.sample("a cat", steps=3)
    with pytest.raises(ValueError, match="1 to 5|outside|range"):
        model.sample("a cat", guidance=9.0)


def test_the_prior_for_photographs_removes_noise_from_what_it_has_not_seen():
    """A ramp with an edge, noise of 25 / 255: ten decibels and more, and another seed is another picture."""
    d, c = mz.load("photo").prior()
    row, column = torch.linspace(-0.6, 0.6, 64)[:, None], torch.linspace(-0.4, 0.4, 64)
    x = (row + column + 0.4 * (column > 0.1)).clamp(-1, 1).expand(1, 3, 64, 64)
    y = x + 50 / 255 * Noise([0])("measured", 0, (3, 64, 64))
    with torch.no_grad():
        made = denoise(d, y, 50 / 255, c=c)
    assert float(psnr(made, x) - psnr(y, x)) > 10
    with pytest.raises(ValueError, match="unconditional"):
        mz.load("photo").sample("a house")
