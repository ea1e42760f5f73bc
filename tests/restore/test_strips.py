"""Rows of tiles are the picture that all tiles at once would be, whatever goes through the network together."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Cosine, X0Denoiser
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.restore import DiffPIR
from mezzotint.restore.names import METHODS, find_method
from mezzotint.restore.picture import restore_mean, restore_picture
from mezzotint.restore.strips import Strips
from mezzotint.restore.tasks import Given, find_task


class Near(torch.nn.Module):
    """A data prediction that mixes neighbours, so that a tile is more than its pixels."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))  # says where the model is

    def forward(self, x, time, c=None):
        t = time.to(torch.float64) / 1000
        alpha, sigma = Cosine().alpha(t), Cosine().sigma(t)
        gain = (0.25 * alpha / (0.25 * alpha**2 + sigma**2)).to(x.dtype).view(-1, 1, 1, 1)
        return gain * (0.6 * x + 0.4 * x.roll(1, -1))


MODEL = Model(X0Denoiser(Near(), Cosine()), Identity(3), size=(16, 16), name="near")
Y = 0.3 * torch.randn(3, 39, 52, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
HOLE = torch.zeros(39, 52, dtype=torch.bool)
HOLE[5:30, 10:14] = True


def made(method, task, **settings):
    return restore_picture(MODEL, find_task(task), method, Y, Given(mask=HOLE, blur=1.0), steps=4, **settings)


@pytest.mark.parametrize("name", METHODS)
def test_tiles_together_are_the_tiles_alone(name):
    """Rows of a batch are problems of their own, whatever the method."""
    task = {"repaint": "inpaint", "mcg": "inpaint", "expected": "denoise"}.get(name, "deblur")
    method = find_method(name)
    alone, together = made(method, task, batch=1), made(method, task, batch=7)
    torch.testing.assert_close(together.samples, alone.samples, rtol=0, atol=2e-4)
    assert together.nfe == alone.nfe > 0 and together.tiles == alone.tiles
    assert together.misfit == pytest.approx(alone.misfit, rel=1e-3, abs=1e-6)


def test_samples_of_a_tile_are_those_of_their_seeds():
    several = made(DiffPIR(), "deblur", seeds=(4, 7), batch=6)
    torch.testing.assert_close(several.samples[1], made(DiffPIR(), "deblur", seeds=(7,)).samples[0], rtol=0, atol=1e-4)
    assert float((several.samples[0] - several.samples[1]).abs().mean()) > 1e-3


def test_strips_are_the_blend_of_all_tiles():
    """Against the weighted mean made at once, also where the last row of tiles lies closer than the others."""
    strips = Strips(MODEL, find_task("denoise"), DiffPIR(), Y, Given(), std=0.1, steps=3)
    total, mass = torch.zeros(3, 39, 52), torch.zeros(39, 52)
    by_row = {}
    for window in strips.windows:
        by_row.setdefault(window.top, []).append(window)
    weight = torch.minimum(*torch.meshgrid(*[torch.linspace(0, 1, 16).minimum(torch.linspace(1, 0, 16))] * 2,
                                           indexing="ij")).clamp(0.01, 0.5)  # fmt: skip
    for row in by_row.values():
        for window, own in strips._tiles(row):
            part = (..., slice(window.top, window.top + 16), slice(window.left, window.left + 16))
            total[part] += own[0] * weight
            mass[part] += weight
    other = Strips(MODEL, find_task("denoise"), DiffPIR(), Y, Given(), std=0.1, steps=3)
    pieces = list(other)
    assert [piece.shape[2] for piece in pieces] == [12, 11, 16] and len(by_row) == 3
    torch.testing.assert_close(torch.cat(pieces, 2)[0], total / mass, rtol=0, atol=1e-5)


def test_mean_and_spread_need_not_all_samples():
    task, given = find_task("deblur"), Given(blur=1.0)
    whole = restore_picture(MODEL, task, DiffPIR(), Y, given, steps=3, seeds=(0, 1, 2))
    found = restore_mean(Strips(MODEL, task, DiffPIR(), Y, given, steps=3, seeds=(0, 1, 2)))
    torch.testing.assert_close(found.mean, whole.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.spread, whole.spread, rtol=0, atol=1e-6)
    assert restore_mean(Strips(MODEL, task, DiffPIR(), Y, given, steps=3)).spread is None


def test_progress_counts_every_tile_and_batches_are_at_least_one():
    seen = []
    made(DiffPIR(), "inpaint", batch=4, on_tile=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (12, 12) and [done for done, _ in seen] == sorted({done for done, _ in seen})
    with pytest.raises(ValueError, match="batch=0"):
        made(DiffPIR(), "deblur", batch=0)
