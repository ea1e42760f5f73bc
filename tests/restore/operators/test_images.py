"""Masks, kernels, sizes and colours: what they mean, which library they agree with, what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from mezzotint.core import Noise
from mezzotint.restore import operators as ops


def picture(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "filter"), [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_resize_is_pillows(kind, filter, factor):
    x = picture(1, 1, 24, 36).float()
    expected = np.asarray(Image.fromarray(x[0, 0].numpy(), mode="F").resize((36 // factor, 24 // factor), filter))
    found = ops.Resize(factor, kind)(x)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_bilinear_is_torchs_and_area_its_mean():
    x = picture(1, 3, 12, 18)
    found = torch.nn.functional.interpolate(x, scale_factor=1 / 3, mode="bilinear", antialias=True)
    torch.testing.assert_close(ops.Resize(3, "bilinear")(x), found, rtol=0, atol=1e-10)
    torch.testing.assert_close(ops.Resize(3, "area")(x), torch.nn.functional.avg_pool2d(x, 3), rtol=0, atol=1e-12)
    torch.testing.assert_close(ops.AveragePool(3)(x), torch.nn.functional.avg_pool2d(x, 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("a", [ops.AveragePool(2), ops.Resize(2), ops.Resize(0.5), ops.Blur.gaussian(1.0, 5),
                               ops.ReflectBlur.motion(5, 30), ops.Decolorise()])  # fmt: skip
def test_a_constant_stays(a):
    x = torch.full((1, 3, 8, 8), 0.3, dtype=torch.float64)
    y = a.double()(x)
    torch.testing.assert_close(y, torch.full_like(y, 0.3), rtol=0, atol=1e-6)


def test_blur_is_a_convolution_and_not_a_correlation():
    kernel = torch.zeros(3, 3)
    kernel[0, 2] = 1.0  # moves the picture up and right
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0
    for a in (ops.Blur(kernel), ops.ReflectBlur(kernel)):
        assert a(x).round().nonzero().tolist() == [[0, 0, 1, 3]]


def test_mirrored_borders_are_torchs():
    x = picture(2, 3, 7, 8)
    kernel = ops.gaussian_kernel(1.2, 5).double()
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    expected = torch.nn.functional.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None]).view(2, 3, 7, 8)
    torch.testing.assert_close(ops.ReflectBlur(kernel).double()(x), expected, rtol=0, atol=1e-12)


def test_kernels_sum_to_one_and_have_the_spread_they_say():
    place = torch.arange(-15.0, 16.0)
    wide = ops.gaussian_kernel(3.0, 31)
    assert float((wide.sum(0) * place**2).sum()) == pytest.approx(9.0, rel=0.01)
    disc = ops.disc_kernel(6.0)
    at = torch.arange(disc.shape[0]) - disc.shape[0] // 2
    assert float((disc.sum(0) * at**2).sum()) == pytest.approx(6.0**2 / 4, rel=0.02)
    motion = ops.motion_kernel(9, 90)
    assert float(motion[:, motion.shape[1] // 2].sum()) == pytest.approx(1.0, abs=1e-6)
    at = torch.arange(motion.shape[0]) - motion.shape[0] // 2
    assert float((motion.sum(1) * at**2).sum()) == pytest.approx(8.0**2 / 12, rel=0.1)
    shake = ops.shake_kernel(Noise([4]), reach=4.0)
    for kernel in (wide, disc, motion, shake, ops.box_kernel(5)):
        assert float(kernel.sum()) == pytest.approx(1.0, abs=1e-6) and float(kernel.min()) >= 0
        assert kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2
    assert torch.equal(shake, ops.shake_kernel(Noise([4]), reach=4.0))


def test_masks_are_what_they_say():
    strokes = ops.free_form_mask(Noise([1, 2, 3]), 64, 64)
    gone = 1 - strokes.double().mean((1, 2, 3))
    assert bool((gone >= 0.2).all()) and bool((gone < 0.45).all())
    assert torch.equal(strokes[1:2], ops.free_form_mask(Noise([2]), 64, 64))
    some = ops.random_pixels(Noise(range(50)), 16, 16, 0.3)
    share = float(some.double().mean())
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / (50 * 256)) and bool(some.flatten(1).any(1).all())
    outer = ops.outer_mask(8, 10, 2)
    assert outer.sum() == 4 * 6 and not outer[0].any()


def test_a_mask_an_image_each():
    masks = ops.random_pixels(Noise([1, 2]), 4, 4, 0.5)
    x = picture(2, 3, 4, 4)
    torch.testing.assert_close(ops.Mask(masks)(x), x * masks, rtol=0, atol=0)
    with pytest.raises(ValueError, match="give one mask, or one each"):
        ops.Mask(masks)(picture(3, 3, 4, 4))


def test_the_mosaic_has_the_colours_of_its_pattern():
    x = torch.zeros(1, 3, 4, 4)
    x[:, 1] = 1.0
    seen = ops.Bayer("RGGB")(x)[0, 0]
    assert seen[0, 0] == 0 and seen[0, 1] == 1 and seen[1, 0] == 1 and seen[1, 1] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.Mask(torch.zeros(4, 4)), "measures nothing"),
        (lambda: ops.Mask(torch.full((4, 4), 0.5)), "other than 0 and 1"),
        (lambda: ops.Mask(torch.ones(4, 4))(torch.zeros(1, 3, 5, 5)), "5 x 5 pixels; it was made for 4 x 4"),
        (lambda: ops.Mask(torch.ones(2, 4, 4))(torch.zeros(1, 3, 4, 4)), "give one mask, or one each"),
        (lambda: ops.box_mask(4, 4, (2, 2, 3, 3)), "does not lie inside 4 x 4"),
        (lambda: ops.outer_mask(4, 4, 2), "leaves nothing"),
        (lambda: ops.random_pixels(Noise([0]), 4, 4, 0.0), "above 0 and at most 1"),
        (lambda: ops.AveragePool(1), "a whole number >= 2"),
        (lambda: ops.AveragePool(4)(torch.zeros(1, 3, 10, 8)), "10 x 8, which it does not divide"),
        (lambda: ops.Resize(4)(torch.zeros(1, 3, 8, 10)), "width 10, which it does not divide; crop to 8 or pad to 12"),
        (lambda: ops.Resize(0), "expected a number > 0"),
        (lambda: ops.Blur(torch.ones(2, 3)), "expected odd sides"),
        (lambda: ops.Blur(torch.zeros(3, 3)), "all 0, or holds NaN"),
        (lambda: ops.Blur(torch.ones(9, 9))(torch.zeros(1, 3, 8, 8)), "smaller than its kernel"),
        (lambda: ops.ReflectBlur(torch.ones(3, 3))(torch.zeros(1, 2, 8, 8, dtype=torch.complex64)), "complex"),
        (lambda: ops.gaussian_kernel(0.0), "pixels > 0"),
        (lambda: ops.gaussian_kernel(1.0, 4), "an odd whole number"),
        (lambda: ops.motion_kernel(0.5, 0), "pixels >= 1"),
        (lambda: ops.Decolorise([0.0, 0.0, 0.0]), "not all 0"),
        (lambda: ops.Decolorise()(torch.zeros(1, 4, 2, 2)), "4 channels; expected 3"),
        (lambda: ops.Bayer("RGB"), "expected RGGB, BGGR"),
        (lambda: ops.Crop(0, 0, 5, 5, size=(4, 4)), "does not lie inside"),
        (lambda: ops.Stack([], (1,)), "one or more linear operators"),
        (lambda: ops.random_projection(Noise([0]), 9, (2, 2)), "1 to 4 rows"),
    ],
)
def test_bad_input_is_one_line(unchecked, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
