"""Tiled coding equals whole coding where the network works pixel by pixel, and blends where it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mezzotint.core import Noise
from mezzotint.latent import Autoencoder, AutoencoderKL, AutoencoderVQ, LatentSpec, Tiled


class _Blocks(Autoencoder):
    """Each latent pixel sees its own 4 x 4 image pixels only."""

    def __init__(self) -> None:
        super().__init__(LatentSpec(4, 48, (0.3,) * 48, (2.0,) * 48), 3, {})

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        z = F.pixel_unshuffle(x, 4)
        return z.sin(), z.square()

    def raw_decode(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z.tanh(), 4)


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("size", [(24, 32), (8, 16), (16, 48)])
def test_a_network_without_neighbours_is_reproduced(size: tuple[int, int], batch: int | None) -> None:
    whole = _Blocks()
    tiled = Tiled(whole, window=16, stride=8, batch=batch)
    x = Noise([0, 1]).uniform("image", 0, (3, *size), dtype=torch.float64)
    z = whole.encode(x)
    torch.testing.assert_close(tiled.encode(x), z, atol=1e-10, rtol=0)
    torch.testing.assert_close(tiled.decode(z), whole.decode(z), atol=1e-10, rtol=0)
    noise = Noise([5, 6])
    torch.testing.assert_close(tiled.encode(x, noise), whole.encode(x, noise), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", [AutoencoderKL, AutoencoderVQ])
def test_an_image_of_one_window_is_the_plain_autoencoder(build: Callable, kind: type) -> None:
    net = build(kind, channels=4, mult=(1, 2), latent=2, groups=2).eval()
    x = Noise([0]).uniform("image", 0, (3, 16, 16), dtype=torch.float64)
    net.fit_statistics([x])
    tiled = Tiled(net, window=16, stride=8)
    torch.testing.assert_close(tiled.encode(x), net.encode(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(tiled(x), net(x), atol=1e-10, rtol=0)


def test_windows_of_a_real_network_agree_with_it_on_a_flat_image_inside(build: Callable) -> None:
    """Blended windows stay within what the windows say: no seam leaves their range."""
    net = build(AutoencoderKL, channels=4, mult=(1, 2), latent=2, groups=2).eval()
    x = Noise([0]).uniform("image", 0, (3, 16, 32), dtype=torch.float64)
    z = Tiled(net, window=16, stride=8).encode(x)
    pieces = torch.stack(
        [F.pad(net.encode(x[..., a : a + 16]), (a // 2, (16 - a) // 2), value=torch.nan) for a in (0, 8, 16)]
    )
    low, high = pieces.nan_to_num(torch.inf).amin(0), pieces.nan_to_num(-torch.inf).amax(0)
    assert bool(((z >= low - 1e-10) & (z <= high + 1e-10)).all()) and not torch.allclose(z, net.encode(x), atol=1e-3)


def test_bad_layouts_raise() -> None:
    for window, stride in ((18, 8), (16, 6), (16, 20), (0, 4), (16, 0)):
        with pytest.raises(ValueError, match="multiples of 4"):
            Tiled(_Blocks(), window, stride)
    with pytest.raises(ValueError, match="batch"):
        Tiled(_Blocks(), 16, 8, batch=0)
    with pytest.raises(ValueError, match="uncovered"):
        Tiled(_Blocks(), 16, 8).encode(torch.zeros(1, 3, 16, 28))
    with pytest.raises(ValueError, match="multiples of 4, got 16 x 30"):
        Tiled(_Blocks(), 16, 8).encode(torch.zeros(1, 3, 16, 30))
