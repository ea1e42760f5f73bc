"""Holes that are larger than a tile: what nothing is known of is the model's alone."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Cosine, X0Denoiser
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.restore.names import METHODS, find_method
from mezzotint.restore.picture import restore_picture
from mezzotint.restore.tasks import Given, find_task


class Smooth(torch.nn.Module):
    """The data prediction where each pixel is normal with std 0.5, by itself."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))  # says where the model is

    def forward(self, x, time, c=None):
        t = time.to(torch.float64) / 1000
        alpha, sigma = Cosine().alpha(t), Cosine().sigma(t)
        return (0.25 * alpha / (0.25 * alpha**2 + sigma**2)).to(x.dtype).view(-1, 1, 1, 1) * x


MODEL = Model(X0Denoiser(Smooth(), Cosine()), Identity(3), size=(8, 8), name="pixelwise")
NEAR = ("red-diff", "dps", "pigdm")  # fit the measurement by steps, or by a spread of data that is not this one's


@pytest.mark.parametrize("name", [name for name in METHODS if name != "expected"])
def test_a_tile_inside_the_hole_is_filled(name):
    y = 0.3 * torch.randn(3, 8, 24, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    hole = torch.zeros(8, 24, dtype=torch.bool)
    hole[:, 2:20] = True
    made = restore_picture(MODEL, find_task("inpaint"), find_method(name), y, Given(mask=hole), steps=4)
    assert made.tiles > 2 and bool(torch.isfinite(made.samples).all())
    if name not in NEAR:
        torch.testing.assert_close(made.samples[0][:, ~hole], y[:, ~hole], rtol=0, atol=2e-3)
    if name != "red-diff":  # which is a point
        assert float(made.samples[0][:, :, 10:14].std()) > 0.05  # drawn, as nothing says what is there
