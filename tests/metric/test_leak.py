"""Leaks between two prompts: exact at both ends, zero on average by chance, distances of known shifts."""

from __future__ import annotations

import pytest
import torch

from mezzotint.metric.leak import (
    colour_distance,
    colour_signature,
    edge_signature,
    edge_similarity,
    lab,
    leaks,
)


def images(b: int = 3, h: int = 8, w: int = 8, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(b, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1


def flat(*rgb: float) -> torch.Tensor:
    return (2 * torch.tensor(rgb, dtype=torch.float64) - 1).view(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("rgb", "wanted"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.2408, 80.0925, 67.2032)),
        ((0, 1, 0), (87.7347, -86.1827, 83.1793)),
        ((0, 0, 1), (32.2970, 79.1875, -107.8602)),
        ((0.5, 0.5, 0.5), (53.3890, 0, 0)),
    ],
)
def test_lab_of_known_colours(rgb, wanted):
    torch.testing.assert_close(
        lab(flat(*rgb)).flatten(), torch.tensor(wanted, dtype=torch.float64), atol=2e-2, rtol=0
    )  # the primaries as listed by B. Lindbloom


@pytest.mark.parametrize("chroma", [False, True])
def test_flat_pictures_are_at_the_distance_of_their_colours(chroma):
    a, b = flat(0.8, 0.2, 0.1).expand(1, 3, 5, 7), flat(0.1, 0.4, 0.9).expand(1, 3, 4, 4)
    away = (lab(a)[..., 0, 0] - lab(b)[..., 0, 0])[:, 1 if chroma else 0 :].norm()
    torch.testing.assert_close(colour_distance(a, b, chroma=chroma)[0], away, atol=1e-9, rtol=0)


def test_places_do_not_count_and_the_distance_is_a_metric():
    x, y, z = images(1), images(1, seed=1), images(1, seed=2)
    mixed = x.flatten(2)[..., torch.randperm(64, generator=torch.Generator().manual_seed(0))].view_as(x)
    assert float(colour_distance(x, mixed)) < 1e-12
    assert float(colour_distance(x, y)) == pytest.approx(float(colour_distance(y, x)))
    assert float(colour_distance(x, z)) <= float(colour_distance(x, y) + colour_distance(y, z)) + 1e-12
    larger = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(colour_distance(x, larger), torch.zeros(1, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.usefixtures("unchecked")
def test_weights_choose_pixels():
    x, y = images(2), images(2, seed=1)
    where = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    where[:, :, :4] = 1
    both = torch.cat([x[:, :, :4], y[:, :, 4:]], 2)
    torch.testing.assert_close(colour_signature(both, where), colour_signature(x, 3 * where), atol=0, rtol=0)
    torch.testing.assert_close(colour_signature(both, where), colour_signature(x[:, :, :4]), atol=1e-9, rtol=0)
    with pytest.raises(ValueError, match="none above it"):
        colour_signature(x, 0 * where)
    with pytest.raises(ValueError, match="expected \\(b or 1, 1, h, w\\)"):
        colour_signature(x, where[:, :, :4])


def test_edges_forget_sign_and_strength_but_not_places():
    x = images()
    for other in (-x, 0.3 * x + 0.2, x):
        torch.testing.assert_close(edge_similarity(x, other), torch.ones(3, dtype=torch.float64), atol=1e-9, rtol=0)
    assert float(edge_similarity(x, x.roll(3, 3)).max()) < 0.6
    assert float(edge_signature(flat(0.2, 0.3, 0.9).expand(1, 3, 8, 8)).norm()) == 0
    torch.testing.assert_close(edge_signature(x).mean(1), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_leaks_by_prompts_are_0_for_what_was_wanted_and_1_for_what_was_not():
    s, a = images(), images(seed=1)
    right, wrong = leaks(a, s, a), leaks(s, s, a)
    zero, one = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for name in ("colour_leak", "chroma_leak"):
        torch.testing.assert_close(getattr(right, name), zero, atol=1e-12, rtol=0)
        assert torch.equal(getattr(wrong, name), one)
    assert torch.equal(right.colour_error, zero) and torch.equal(wrong.colour_error, colour_distance(s, a))
    torch.testing.assert_close(wrong.structure, one)
    torch.testing.assert_close(wrong.shape_leak, zero, atol=1e-12, rtol=0)
    torch.testing.assert_close(right.shape_leak, one)
    torch.testing.assert_close(right.structure, edge_similarity(s, a))


def test_leaks_by_the_batch_vanish_over_all_pairings():
    y, s, a = images(4), images(4, seed=1), images(4, seed=2)
    rolled = [leaks(y, s.roll(k, 0), a.roll(k, 0), chance="batch") for k in range(4)]
    for name in ("colour_leak", "chroma_leak", "shape_leak"):
        mean = torch.stack([getattr(r, name) for r in rolled]).mean(0)
        torch.testing.assert_close(mean, torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    caught = leaks(s, s, a, chance="batch")
    torch.testing.assert_close(caught.colour_leak, torch.ones(4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(leaks(a, s, a, chance="batch").shape_leak, torch.ones(4, dtype=torch.float64))


def test_half_way_in_lightness_is_half_a_leak():
    grey = {v: flat(v, v, v).expand(1, 3, 8, 8) for v in (0.2, 0.8)}
    L = torch.stack([lab(grey[v])[0, 0, 0, 0] for v in (0.2, 0.8)])
    f = (L.mean() + 16) / 116
    linear = f**3
    v = 1.055 * linear ** (1 / 2.4) - 0.055
    middle = (2 * v - 1).expand(1, 3, 8, 8)
    made = leaks(middle, grey[0.2], grey[0.8])
    torch.testing.assert_close(made.colour_leak, torch.full((1,), 0.5, dtype=torch.float64), atol=1e-6, rtol=0)
    # as good as one chroma, up to the white point's last digits: no leak of it can be told
    assert bool(made.chroma_leak.isnan() | (made.chroma_leak.abs() < 2))


def test_prompts_alike_tell_no_leak():
    x = images()
    made = leaks(images(seed=1), x, x)
    assert bool(made.colour_leak.isnan().all()) and bool(made.shape_leak.isnan().all())
    assert set(made.means()) == {"colour_error", "colour_leak", "chroma_leak", "structure", "shape_leak"}
    with pytest.raises(ValueError, match="two results at least"):
        leaks(x[:1], x[:1], x[:1], chance="batch")


def test_pictures_that_are_nan_have_no_edges_to_be_measured() -> None:
    x = torch.linspace(-1, 1, 108).view(1, 3, 6, 6)
    found = leaks(x * float("nan"), x, x.flip(3))
    assert bool(found.structure.isnan()) and bool(found.shape_leak.isnan())
