from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mezzotint.metric import ssim

Draw = Callable[..., Tensor]


def _by_hand(a: Tensor, b: Tensor, size: int, sigma: float, c1: float, c2: float) -> float:
    """One channel, place by place."""
    reach = range(-(size // 2), size // 2 + 1)
    weights = {(i, j): math.exp(-(i * i + j * j) / (2 * sigma**2)) for i in reach for j in reach}
    whole, values = sum(weights.values()), []
    for row in range(size // 2, a.shape[0] - size // 2):
        for column in range(size // 2, a.shape[1] - size // 2):
            window = [(w / whole, float(a[row + i, column + j]), float(b[row + i, column + j]))
                      for (i, j), w in weights.items()]  # fmt: skip
            mean_a, mean_b = (sum(w[0] * w[place] for w in window) for place in (1, 2))
            var_a, var_b = (
                sum(w[0] * (w[place] - mean) ** 2 for w in window) for place, mean in ((1, mean_a), (2, mean_b))
            )
            both = sum(w * (x - mean_a) * (y - mean_b) for w, x, y in window)
            values.append((2 * mean_a * mean_b + c1) * (2 * both + c2)
                          / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))  # fmt: skip
    return sum(values) / len(values)


def test_it_is_the_formula_at_every_place(draw: Draw) -> None:
    a, b = 0.3 * draw(2, 2, 9, 8) + 0.4, 0.3 * draw(2, 2, 9, 8) + 0.1
    got = ssim(a, b, 1.0, size=5, sigma=1.2)
    for x, y, value in zip(a, b, got, strict=True):
        want = sum(_by_hand(x[c], y[c], 5, 1.2, 0.01**2, 0.03**2) for c in range(2)) / 2
        assert float(value) == pytest.approx(want, abs=1e-12)


def test_equal_is_one_and_it_is_symmetric(draw: Draw) -> None:
    a, b = draw(3, 3, 20, 15), draw(3, 3, 20, 15)
    assert ssim(a, a).tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(ssim(a, b), ssim(b, a), atol=1e-14, rtol=0)
    assert bool((ssim(a, b) < 0.3).all())


def test_constant_shift_of_a_flat_image_has_its_closed_form() -> None:
    a = torch.full((1, 3, 16, 16), 0.25, dtype=torch.float64)
    c1 = 0.02**2
    for shift in (0.5, -1.0, 1e-3):
        want = (2 * 0.25 * (0.25 + shift) + c1) / (0.25**2 + (0.25 + shift) ** 2 + c1)
        assert float(ssim(a, a + shift)) == pytest.approx(want, abs=1e-12)


def test_contrast_about_zero_mean_has_its_closed_form() -> None:
    """b = g a of mean 0: light is 1, and (2 g s + c2) / ((1 + g^2) s + c2) is left, with s = 1, at every place."""
    place = torch.arange(24, dtype=torch.float64)
    a = torch.where((place[:, None] + place) % 2 == 0, 1.0, -1.0)[None, None]  # its mean under the window is 3e-5
    c2 = 0.06**2
    for gain in (0.5, -1.0, 2.0):
        want = (2 * gain + c2) / (1 + gain**2 + c2)
        assert float(ssim(a, gain * a)) == pytest.approx(want, abs=1e-4)


def test_range_scales_with_the_images(draw: Draw) -> None:
    a, b = draw(2, 1, 16, 16).clamp(-1, 1), draw(2, 1, 16, 16).clamp(-1, 1)
    torch.testing.assert_close(ssim(127.5 * a, 127.5 * b, 255.0), ssim(a, b), atol=1e-12, rtol=0)
    torch.testing.assert_close(ssim(a.flip(3), b.flip(3)), ssim(a, b), atol=1e-12, rtol=0)
    assert ssim(a.float(), b.float()).dtype == torch.float64
    assert float(ssim(a + 1e4, a + 1e4 + 1e-3 * b)[0]) == pytest.approx(1, abs=0.01)  # variances do not cancel away


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    x = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match="smaller than the window of 11"):
        ssim(x[..., :8], x[..., :8])
    with pytest.raises(ValueError, match="two equal"):
        ssim(x, x[:, :1])
    for wrong in ({"size": 4}, {"sigma": 0.0}, {"data_range": -1.0}):
        with pytest.raises(ValueError, match="odd"):
            ssim(x, x, **wrong)
