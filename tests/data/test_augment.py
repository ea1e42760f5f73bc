"""Views for contrastive learning: each part against its definition, and the seeds."""

from __future__ import annotations

import colorsys
import math

import pytest
import torch
import torch.nn.functional as F

from mezzotint.core import Noise
from mezzotint.data import VIEWS, Mirror, View
from mezzotint.data.augment import _blurred, _turned

F64 = torch.float64
NOTHING = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "jitter_p": 0.0, "grey_p": 0.0, "blur_p": 0.0, "flip_p": 0.0}


def _images(count: int = 6, side: int = 12) -> torch.Tensor:
    return Noise(range(count)).uniform("image", 0, (3, side, side), dtype=F64) * 2 - 1


def test_a_view_of_a_sample_is_the_same_alone_and_in_a_batch() -> None:
    x = _images()
    for view in VIEWS:
        together = view(x, Noise(range(6)), "one")
        assert together.shape == x.shape and together.abs().max() <= 1 and not torch.equal(together, x)
        for i in (0, 3, 5):
            assert torch.allclose(view(x[i : i + 1], Noise([i]), "one")[0], together[i], atol=1e-12, rtol=0)
        assert not torch.equal(view(x, Noise(range(6)), "other"), together)


def test_nothing_is_nothing() -> None:
    x = _images()
    assert torch.allclose(View(**NOTHING)(x, Noise(range(6))), x, atol=1e-15, rtol=0)
    assert torch.equal(Mirror(0.0)(x, Noise(range(6))), x)
    assert torch.equal(Mirror(1.0)(x, Noise(range(6))), x.flip(3))
    half = Mirror()(x.repeat(50, 1, 1, 1), Noise(range(300)))
    turned = (half != x.repeat(50, 1, 1, 1)).flatten(1).any(1)
    assert torch.equal(half[turned], x.repeat(50, 1, 1, 1)[turned].flip(3)) and 120 < turned.sum() < 180


def test_crops_have_the_area_and_the_ratio_and_stay_inside() -> None:
    side = 64
    ramp = torch.linspace(-1, 1, side, dtype=F64)
    x = torch.stack([ramp.expand(side, -1), ramp[:, None].expand(-1, side), torch.zeros(side, side, dtype=F64)])
    made = View(**{**NOTHING, "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)})(
        x.expand(400, -1, -1, -1), Noise(range(400))
    )
    # a ramp's slope after the crop is the crop's side; its middle, the crop's place
    per = (side - 1) / (2 * (side // 2 - 1))
    wide = (made[:, 0, 0, 3 * side // 4 - 1] - made[:, 0, 0, side // 4]) * per
    tall = (made[:, 1, 3 * side // 4 - 1, 0] - made[:, 1, side // 4, 0]) * per
    whole = (wide < 0.97) & (tall < 0.97)  # larger ones are cut to the image
    area, ratio = (wide * tall)[whole], (wide / tall)[whole]
    assert 0.08 - 0.01 < area.min() < 0.15 and 0.75 < area.max() < 1
    assert 0.74 < ratio.min() < 0.78 and 1.28 < ratio.max() < 1.35
    # uniform area from 0.08 to 1
    assert abs((wide * tall).median().item() - 0.54) < 0.07
    assert made[:, :2].abs().max() <= 1


def test_a_crop_reads_the_right_pixels() -> None:
    """A quarter of the image, twice as large: compared with bilinear interpolation of the cut-out."""
    x = _images(1, 16)
    view = View(**{**NOTHING, "scale": (0.25, 0.25)})
    u = Noise([4]).uniform("view", 0, (14,), dtype=F64)[0]
    top, left = (u[2] * 8).item(), (u[3] * 8).item()
    rows = torch.arange(16, dtype=F64)

    def at(start: float) -> torch.Tensor:
        place = start + (rows + 0.5) / 2 - 0.5
        return (1 - (place[:, None] - torch.arange(16, dtype=F64)).abs()).clamp(min=0)

    wanted = at(top) @ x[0] @ at(left).T
    inner = slice(1, 15)  # at the border the image's own border goes on
    found = view(x, Noise([4]))[0]
    assert torch.allclose(found[:, inner, inner], wanted[:, inner, inner], atol=1e-9, rtol=0)


def test_hue_against_the_standard_library() -> None:
    colours = Noise([0]).uniform("colour", 0, (3, 40, 1), dtype=F64)
    colours[:, :, :4] = 0.3  # a grey has no hue to turn
    turns = torch.full((1, 1, 1, 1), 0.21, dtype=F64)
    found = _turned(colours, turns)[0, :, :, 0].T
    for rgb, got in zip(colours[0, :, :, 0].T.tolist(), found.tolist()):
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        assert got == pytest.approx(colorsys.hsv_to_rgb((h + 0.21) % 1, s, v), abs=1e-12)


def test_jitter_changes_what_it_says() -> None:
    x = _images(200) * 0.3

    def only(*jitter: float) -> torch.Tensor:
        return (View(**{**NOTHING, "jitter": jitter, "jitter_p": 1.0})(x, Noise(range(200))) + 1) / 2

    base = (x + 1) / 2
    factor = only(0.4, 0.0, 0.0, 0.0).flatten(1).mean(1) / base.flatten(1).mean(1)
    assert 0.6 <= factor.min() < 0.63 and 1.37 < factor.max() <= 1.4
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=F64).view(3, 1, 1)
    contrast = only(0.0, 0.4, 0.0, 0.0)
    assert torch.allclose((contrast * luma).sum(1).mean((1, 2)), (base * luma).sum(1).mean((1, 2)), atol=1e-9)
    factor = contrast.flatten(1).std(1) / base.flatten(1).std(1)
    assert factor.min() < 0.65 and factor.max() > 1.35
    saturated = only(0.0, 0.0, 0.2, 0.0)
    assert torch.allclose((saturated * luma).sum(1), (base * luma).sum(1), atol=1e-9)  # luma is kept
    turned = only(0.0, 0.0, 0.0, 0.1)
    assert torch.allclose(turned.amax(1), base.amax(1), atol=1e-9)  # value is kept


def test_chances() -> None:
    x = _images(600, 8)
    grey = View(**{**NOTHING, "grey_p": 0.2})(x, Noise(range(600)))
    assert 85 < ((grey[:, 0] - grey[:, 1]).abs().flatten(1).max(1).values < 1e-12).sum() < 155
    bright = View(**{**NOTHING, "solarise_p": 0.2})(x, Noise(range(600)))
    changed = (bright - x).abs().flatten(1).max(1).values > 1e-9
    assert 85 < changed.sum() < 155
    assert torch.allclose(bright[changed], -x[changed].abs(), atol=1e-12)  # all above the middle is turned over
    jitter = View(**{**NOTHING, "jitter_p": 0.8})(x, Noise(range(600)))
    assert 440 < ((jitter - x).abs().flatten(1).max(1).values > 1e-9).sum() < 520


def test_blur_is_a_gaussian_of_each_samples_own_width() -> None:
    x = torch.zeros(2, 1, 33, 33, dtype=F64)
    x[:, :, 16, 16] = 1
    std = torch.tensor([1.0, 2.5], dtype=F64)
    out = _blurred(x, std, 12)
    place = torch.arange(33, dtype=F64) - 16
    assert torch.allclose(out.sum((1, 2, 3)), torch.ones(2, dtype=F64), atol=1e-12)
    spread = (out[:, 0].sum(1) * place**2).sum(1).sqrt()
    assert spread.tolist() == pytest.approx(std.tolist(), rel=1e-3)


def test_blur_scales_with_the_height() -> None:
    view = View(**{**NOTHING, "blur": (2.0, 2.0), "blur_p": 1.0}, reference=64)
    x = _images(2, 32)
    kernel = torch.softmax(-0.5 * torch.arange(-3, 4, dtype=F64) ** 2, 0)  # 2 pixels of 64 are 1 of 32
    wanted = F.pad((x + 1) / 2, (3,) * 4, mode="replicate")
    wanted = F.conv2d(wanted, torch.outer(kernel, kernel).expand(3, 1, 7, 7), groups=3) * 2 - 1
    assert torch.allclose(view(x, Noise([0, 1])), wanted, atol=1e-12)
    assert view._radius(32) == 3 and math.ceil(3 * 2 * 32 / 64) == 3


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"scale": (0.0, 1.0)}, "areas in"),
        ({"scale": (0.5, 0.2)}, "the lesser first"),
        ({"ratio": (0.0, 1.0)}, "ratios > 0"),
        ({"jitter": (0.4, 0.4, 0.2, 0.6)}, "at most 0.5"),
        ({"blur": (0.0, 1.0)}, "0 < least"),
        ({"flip_p": 1.5}, "probability"),
    ],
)
def test_settings_out_of_range(settings, told) -> None:
    with pytest.raises(ValueError, match=told):
        View(**settings)


def test_other_shapes_are_refused(unchecked) -> None:
    with pytest.raises(ValueError, match=r"\(b, 3, h, w\) and one seed a sample"):
        View()(torch.zeros(2, 1, 8, 8), Noise([0, 1]))
    with pytest.raises(ValueError, match="1 seeds"):
        View()(torch.zeros(2, 3, 8, 8), Noise([0]))
    with pytest.raises(ValueError, match="probability"):
        Mirror(2.0)
