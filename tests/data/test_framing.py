from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mezzotint.core import Noise
from mezzotint.data import Cover, resize

FILTERS = ("box", "bilinear", "bicubic", "lanczos")
NONE = Noise([0])


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("size", [(3, 5), (16, 16), (37, 61)])
def test_a_constant_stays_constant(filter: str, size: tuple[int, int]) -> None:
    for value in (0, 1, 77, 255):
        out = resize(torch.full((3, 16, 20), value, dtype=torch.uint8), size, filter)
        assert out.shape == (3, *size) and (out == value).all()


@pytest.mark.parametrize("filter", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("width", [9, 30, 100])
def test_a_ramp_stays_a_ramp_inside(filter: str, width: int) -> None:
    """x -> 4 x at the centres of the new pixels: no shift by half a pixel, no change of slope."""
    ramp = (4 * torch.arange(60)).to(torch.uint8).expand(3, 8, 60).contiguous()
    out = resize(ramp, (8, width), filter)[0, 4].double()
    expected = 4 * ((torch.arange(width) + 0.5) * 60 / width - 0.5)
    reach = 4 * {"bilinear": 1, "bicubic": 2, "lanczos": 3}[filter] * max(60 / width, 1)  # where the kernel is whole
    inside = (expected >= reach) & (expected <= 236 - reach)
    # normalised taps of a sampled kernel have a mean that is off by a part of a pixel where there are few of them
    assert inside.sum() >= 3 and (out - expected)[inside].abs().max() <= 0.8


@pytest.mark.parametrize("filter", FILTERS)
def test_what_the_new_grid_cannot_hold_is_removed(filter: str) -> None:
    """Stripes of two pixels, shrunk five times: an interpolator without a filter would alias them to full contrast."""
    stripes = torch.where(torch.arange(80) % 4 < 2, 0, 200).to(torch.uint8).expand(3, 80, 80).contiguous()
    out = resize(stripes, (16, 16), filter).double()[:, 3:-3, 3:-3]
    naive = F.interpolate(stripes[None].float(), (16, 16), mode="nearest")[0]
    assert naive.std() > 90  # the test can tell
    assert (out.mean() - 100).abs() < 2 and out.std() < (25 if filter in ("box", "bilinear") else 8)


@pytest.mark.parametrize("size", [(10, 13), (40, 70)])
@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_equal_to_torchs_antialiased_filter(size: tuple[int, int], filter: str) -> None:
    # little contrast: Pillow clips to 8 bits between its two passes, where the cubic's overshoot would leave them
    image = torch.from_numpy(np.random.Generator(np.random.Philox(0)).integers(80, 176, (3, 33, 47), np.uint8))
    theirs = F.interpolate(image[None].double(), size, mode=filter, antialias=True, align_corners=False)[0].clamp(
        0, 255
    )
    # half a level at the end, and half a level after the first pass times the cubic's sum of |taps|, at most 5/4
    assert (resize(image, size, filter).double() - theirs).abs().max() <= 1.13


def test_a_box_is_the_crop_of_the_whole() -> None:
    image = torch.from_numpy(np.random.Generator(np.random.Philox(1)).integers(0, 256, (3, 32, 48), np.uint8))
    whole = resize(image, (16, 24), "bicubic")
    part = resize(image, (10, 12), "bicubic", box=(6.0, 10.0, 26.0, 34.0))
    assert (part.int() - whole[:, 3:13, 5:17].int()).abs().max() <= 1


def test_the_centre_crop_takes_the_centre_and_says_so() -> None:
    image = torch.zeros(3, 30, 50, dtype=torch.uint8)
    image[:, :, 10:40] = 250
    placed = Cover(30)(image, NONE)
    assert (placed.pixels == 250).all() and placed.time_ids == (30, 50, 0, 10, 30, 30) and not placed.flipped
    tall = Cover((20, 10))(torch.zeros(3, 80, 20, dtype=torch.uint8), NONE)
    assert tall.time_ids == (80, 20, 10, 0, 20, 10)


def test_random_crops_are_where_they_say_and_everywhere() -> None:
    x = torch.arange(24, dtype=torch.uint8)
    image = torch.stack(
        [x.expand(16, 24), torch.arange(16, dtype=torch.uint8)[:, None].expand(16, 24), x.expand(16, 24)]
    )
    tops, lefts = set(), set()
    for seed in range(200):
        placed = Cover((16, 20), crop="random")(image, Noise([seed]))
        assert placed.pixels[0, 0, 0] == placed.left and placed.pixels[1, 0, 0] == placed.top
        tops.add(placed.top), lefts.add(placed.left)
    assert tops == {0} and lefts == set(range(5))


def test_mirrors_happen_as_often_as_asked_and_move_the_crop() -> None:
    image = torch.arange(20, dtype=torch.uint8).expand(3, 8, 20).contiguous()
    framing = Cover(8, crop="random", flip=0.25)
    placed = [framing(image, Noise([seed])) for seed in range(400)]
    share = sum(p.flipped for p in placed) / 400
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    for p in placed:  # left counts in the image that is seen: in the mirrored one, column j is 19 - j
        seen = image.flip(2) if p.flipped else image
        assert torch.equal(p.pixels, seen[:, :, p.left : p.left + 8])


def test_choices_depend_on_the_sample_alone() -> None:
    image = torch.from_numpy(np.random.Generator(np.random.Philox(2)).integers(0, 256, (3, 20, 40), np.uint8))
    framing = Cover(12, crop="random", flip=0.5)
    first = framing(image, Noise([5]))
    for other in (1, 2):
        framing(image, Noise([other]))
    assert torch.equal(framing(image, Noise([5])).pixels, first.pixels)
    assert len({framing(image, Noise([seed])).left for seed in range(20)}) > 3


@pytest.mark.parametrize("shape", [(7, 1000), (1000, 7), (1, 1), (8, 8), (9, 8)])
def test_any_image_covers_the_frame(shape: tuple[int, int]) -> None:
    image = torch.full((3, *shape), 9, dtype=torch.uint8)
    for crop in ("centre", "random"):
        for seed in range(5):
            placed = Cover(8, crop=crop)(image, Noise([seed]))
            assert placed.pixels.shape == (3, 8, 8) and (placed.pixels == 9).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cover(0), "size=0"),
        (lambda: Cover(8, flip=1.5), "flip=1.5"),
        (lambda: resize(torch.zeros(3, 4, 4, dtype=torch.uint8), (0, 4)), "0 x 4"),
        (
            lambda: resize(torch.zeros(3, 4, 4, dtype=torch.uint8), (2, 2), box=(0.0, 0.0, 5.0, 4.0)),
            "inside the image of 4 x 4",
        ),
    ],
)
def test_bad_settings(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_names(unchecked) -> None:
    with pytest.raises(ValueError, match="unknown filter 'sinc'"):
        resize(torch.zeros(3, 4, 4, dtype=torch.uint8), (2, 2), "sinc")
    with pytest.raises(ValueError, match="crop='left'"):
        Cover(8, crop="left")
