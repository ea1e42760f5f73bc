"""Check 8 of the sheet of 2112.10752: folding what was unfolded is the identity; gaps raise."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.core.window import Windows


@pytest.mark.parametrize("size", [(8, 8), (8, 16), (12, 20), (5, 12)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_identity_network_returns_its_input(size: tuple[int, int], stride: int) -> None:
    x = Noise([0, 1])("x", 0, (3, *size))
    layout = Windows(size, (8, 8), (stride, stride))
    torch.testing.assert_close(layout.blend(layout.unfold(x)), x, atol=1e-5, rtol=0)


def test_rows_are_image_major_and_start_at_their_corner() -> None:
    x = torch.arange(2 * 6 * 8, dtype=torch.float64).view(2, 1, 6, 8)
    layout = Windows((6, 8), (4, 4), (2, 4))
    pieces = layout.unfold(x)
    n = len(layout.corners())
    assert layout.corners() == [(0, 0), (0, 4), (2, 0), (2, 4)] and len(pieces) == 2 * n
    for i in range(2):
        for j, (y, z) in enumerate(layout.corners()):
            torch.testing.assert_close(pieces[i * n + j], x[i, :, y : y + 4, z : z + 4], atol=0, rtol=0)


def test_weights_are_the_clipped_distance_to_the_border() -> None:
    weights = Windows((20, 20), (5, 11), (5, 9)).weights()
    for i in range(5):
        for j in range(11):
            distance = min(i / 4, 1 - i / 4, j / 10, 1 - j / 10)
            assert float(weights[i, j]) == pytest.approx(min(max(distance, 0.01), 0.5), abs=1e-12)


def test_overlap_is_the_weighted_mean() -> None:
    layout = Windows((1, 6), (1, 4), (1, 2))
    pieces = torch.stack([torch.zeros(1, 1, 4), torch.ones(1, 1, 4)]).double()
    w = layout.weights()[0]
    expected = torch.stack([w[0] * 0, w[1] * 0, w[0] / (w[0] + w[2]), w[1] / (w[1] + w[3]), w[0] / w[0], w[0] / w[0]])
    torch.testing.assert_close(layout.blend(pieces)[0, 0, 0], expected, atol=1e-12, rtol=0)


def test_blend_keeps_gradients() -> None:
    layout = Windows((6, 6), (4, 4), (2, 2))
    x = torch.zeros(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    layout.blend(layout.unfold(x)).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("size", "window", "stride", "message"),
    [
        ((10, 8), 8, 4, r"height.*leave 2 of 10 pixels.*8 or 12"),
        ((16, 16), 4, 6, "gaps"),
        ((16, 16), 0, 1, "at least 1"),
    ],
)
def test_uncovered_pixels_raise(size: tuple[int, int], window: int, stride: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Windows(size, (window, window), (stride, stride))


def test_scaled_keeps_the_windows_and_refuses_fractions() -> None:
    latent = Windows((4, 6), (2, 2), (2, 1))
    image = latent.scaled(up=8)
    assert image.corners() == [(8 * y, 8 * x) for y, x in latent.corners()] and image.scaled(down=8) == latent
    with pytest.raises(ValueError, match="multiples of 3"):
        latent.scaled(down=3)


def test_wrong_pieces_raise() -> None:
    layout = Windows((8, 12), (8, 8), (4, 4))
    with pytest.raises(ValueError, match="another size"):
        layout.blend(torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match="expected"):
        layout.unfold(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_not_lost_in_the_blending(dtype: torch.dtype) -> None:
    """Windows that agree give back their value to its last bit: the sums are made in float32."""
    x = Noise([0])("x", 0, (3, 32, 32)).to(dtype)
    layout = Windows((32, 32), (8, 8), (4, 4))
    assert torch.equal(layout.blend(layout.unfold(x)), x)
