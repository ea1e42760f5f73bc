"""Flatland: scenes by the seed contract, and views that show what is there."""

from __future__ import annotations

import torch

from mezzotint.core import Noise
from mezzotint.data.flatland import Discs, FlatlandViews, flatland_camera


def test_a_scene_is_the_same_alone_and_in_a_batch():
    many, alone = Discs.draw(Noise([3, 5, 8])), Discs.draw(Noise([5]))
    for name in ("centre", "radius", "colour"):
        assert torch.equal(getattr(many, name)[1:2], getattr(alone, name))
    drawn = Discs.draw(Noise(range(200)))
    counts = (drawn.radius > 0).sum(1)
    assert set(counts.tolist()) == {2, 3, 4}
    assert float((drawn.centre.norm(dim=-1) + drawn.radius)[drawn.radius > 0].max()) <= 1 + 1e-6
    assert float(drawn.colour.abs().max()) <= 1


def test_a_disc_is_seen_in_its_colour_where_it_stands():
    scene = Discs(torch.tensor([[[0.0, 0.5]]]), torch.tensor([[0.2]]), torch.tensor([[[-1.0, 1.0, -1.0]]]))
    seen = flatland_camera(samples=96)(scene, torch.zeros(1))  # from +x: across is +y
    green = (seen[0, 0] < 0).nonzero().flatten()
    assert 19 <= int(green.min()) and int(green.max()) <= 29 and len(green) >= 4
    assert float(seen[0, 1, green].min()) > 0.9 and bool((seen[0, :, :14] == 1).all())


def test_views_are_a_function_of_the_step_and_the_target_is_60_to_120_degrees_away():
    views = FlatlandViews(64, seed=1)
    a, b, other = views(3), views(3), views(4)
    assert torch.equal(a.x, b.x) and not torch.equal(a.x, other.x)
    apart = torch.rad2deg((a.c["phi"] - a.c["context_phi"]).abs())
    assert 60 <= float(apart.min()) and float(apart.max()) <= 120 + 1e-3
    assert float(a.x.min()) >= -1 and float(a.x.max()) <= 1
