from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from mezzotint.data.scenes import COLOURS, SHAPES, TEXTURES, Scenes, _texture


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(size=32, count=300, seed=0)


def test_image_i_depends_on_seed_and_i_alone(scenes: Scenes) -> None:
    few = Scenes(size=32, count=7, seed=0)
    assert torch.equal(few.images, scenes.images[:7]) and few.captions == scenes.captions[:7]
    assert not torch.equal(Scenes(size=32, count=7, seed=1).images, few.images)


def test_golden_scenes() -> None:
    made = Scenes(size=16, count=4, seed=1)
    assert made.captions[1] == "a blue striped cross on a purple ground"
    assert hashlib.sha256(made.images.numpy().tobytes()).hexdigest()[:16] == "642cb7d808e4c600"


def test_captions_say_what_the_labels_say(scenes: Scenes) -> None:
    names = list(COLOURS)
    for i, caption in enumerate(scenes.captions):
        front, back = scenes.attributes[i].tolist()
        assert f"{names[front[1]]} {TEXTURES[front[2]]} {SHAPES[front[0]]}" in caption.split(" in front of ")[0]
        assert (" in front of " in caption) == (back[0] >= 0)
        assert caption.endswith(f"{names[int(scenes.grounds[i])]} ground")
        assert scenes[i].label == front[0]


def test_colours_are_where_the_caption_says() -> None:
    scenes = Scenes(size=32, count=300, seed=0)
    palette = torch.tensor(list(COLOURS.values()))
    corner = scenes.images[:, :, 0, :4].float().mean(2) / 255  # a shape reaches the top row only now and then
    alone = scenes.attributes[:, 1, 0] < 0
    right = (corner - palette[scenes.grounds]).abs().amax(1) < 0.1
    assert right[alone].float().mean() > 0.97
    plain = alone & (scenes.attributes[:, 0, 2] == 0) & (scenes.labels != SHAPES.index("ring"))
    pixels = scenes.images[plain].float().flatten(2) / 255
    wanted = 0.78 * palette[scenes.attributes[plain, 0, 1]]
    near = ((pixels - wanted[:, :, None]).abs().amax(1) < 0.05).float().mean(1)
    assert (near > 0.04).all()  # every plain shape covers some of the picture in its own colour


def test_every_kind_occurs_about_equally(scenes: Scenes) -> None:
    assert scenes.labels is not None
    counts = torch.bincount(scenes.labels, minlength=len(SHAPES))
    assert len(counts) == len(SHAPES) and counts.min() > 25
    assert 0.4 < (scenes.attributes[:, 1, 0] >= 0).float().mean() < 0.6


@pytest.mark.parametrize("size", [32, 64])
def test_averaging_by_four_loses_nearly_all_of_a_texture(size: int) -> None:
    u = np.random.Generator(np.random.Philox(0)).random((2, 60))
    kind = np.arange(60) % 3
    brightness = _texture(kind, u[0], u[1], size)
    assert np.ptp(brightness[kind == 0]) == 0
    for texture in (1, 2):
        waves = brightness[kind == texture]
        coarse = waves.reshape(len(waves), size // 4, 4, size // 4, 4).mean((2, 4))
        assert (waves.std((1, 2)) > 0.06).all() and waves.max() <= 1
        assert coarse.var((1, 2)).mean() < 0.1 * waves.var((1, 2)).mean()


@pytest.mark.parametrize("arguments", [{"size": 4}, {"count": 0}, {"seed": -1}])
def test_bad_arguments(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="Scenes got"):
        Scenes(**({"count": 2} | arguments))
