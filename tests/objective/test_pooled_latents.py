"""A latent space whose neighbours average is told from one whose do not."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from mezzotint.core import Noise
from mezzotint.objective.pooled_latents import check_pooled_latents


class Signed(nn.Module):
    """An exact code whose latents are the image in a chequerboard of signs: their means are near nothing."""

    def _signs(self, x: torch.Tensor) -> torch.Tensor:
        i = torch.arange(x.shape[2])
        return 1.0 - 2.0 * ((i[:, None] + i) % 2)

    def encode(self, x, noise=None):
        return x * self._signs(x)

    def decode(self, z):
        return z * self._signs(z)


class Scaled(Signed):
    """Latents in other units, which pooling does not mind."""

    def _signs(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor(1.0)


def images() -> torch.Tensor:
    small = Noise(range(4))("x", 0, (3, 4, 4)).clamp(-1, 1)
    return nn.functional.interpolate(small, scale_factor=4, mode="bilinear")


def test_a_good_space_is_silent_and_a_bad_one_warns(unchecked):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_pooled_latents(Scaled(), images()) > 60  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match=r"decode to \d+\.\d dB"):
        found = check_pooled_latents(Signed(), images())  # type: ignore[arg-type]
    blurred = images().unflatten(2, (8, 2)).unflatten(4, (8, 2)).mean((3, 5))
    assert found == pytest.approx(float(10 * torch.log10(4 / blurred.square().mean())), abs=1.0)


def test_sides_that_do_not_divide_are_refused(unchecked):
    with pytest.raises(ValueError, match="15 is not divisible by the pooling factor 2"):
        check_pooled_latents(Scaled(), torch.zeros(1, 3, 15, 15))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2"):
        check_pooled_latents(Scaled(), images(), factor=1)  # type: ignore[arg-type]
