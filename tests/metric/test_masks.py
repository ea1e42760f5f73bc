"""Overlap, surfaces and energy distance: boxes whose answer is known by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mezzotint.metric import best_match_dice, dice, ged, hausdorff, iou, surface_dice, surface_distances

Draw = Callable[..., Tensor]


def box(size: tuple[int, ...], *sides: tuple[int, int]) -> Tensor:
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[(0, *(slice(*side) for side in sides))] = True
    return mask


def test_half_overlapping_boxes() -> None:
    a, b = box((8, 8), (2, 6), (1, 5)), box((8, 8), (2, 6), (3, 7))
    assert dice(a, b).item() == 0.5 and iou(a, b).item() == 1 / 3
    assert dice(a.float(), b.long()).item() == 0.5 and dice(a, a).item() == 1 and dice(a, ~a).item() == 0


def test_empty_masks_have_the_value_that_is_stated() -> None:
    none, some = box((4, 4), (0, 0), (0, 0)), box((4, 4), (0, 1), (0, 1))
    for measure in (dice, iou):
        assert measure(none, none).item() == 1 and math.isnan(measure(none, none, "nan").item())
        assert measure(none, some).item() == 0 == measure(none, some, "nan").item()
    assert surface_distances(none, none).hd.item() == 0 and surface_distances(none, some).assd.item() == math.inf
    assert math.isnan(surface_distances(none, some, empty="nan").hd95.item())
    assert surface_dice(none, none, 1.0).item() == 1 and surface_dice(none, some, 9.0).item() == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_box_is_as_far_as_it_was_shifted(axis: int) -> None:
    spacing, k = (2.5, 0.7, 1.2), 3
    sides = [(2, 9), (3, 8), (2, 10)]
    moved = [(low + k * (i == axis), high + k * (i == axis)) for i, (low, high) in enumerate(sides)]
    a, b = box((14, 14, 14), *sides), box((14, 14, 14), *moved)
    for border in (False, True):
        found = surface_distances(a, b, spacing, border=border)
        assert found.hd.item() == pytest.approx(k * spacing[axis], abs=1e-12)
        assert found.hd95.item() <= found.hd.item() and 0 < found.assd.item() < found.hd95.item()
    assert hausdorff(b, a, spacing).item() == pytest.approx(k * spacing[axis], abs=1e-12)


@pytest.mark.parametrize("thickness", [6, 7, 9])
def test_hd95_of_a_slab_that_spans_the_field(thickness: int) -> None:
    """Its surfaces are two planes only (the field's edge is none): all points of one are k away from the other's."""
    k, spacing = 3, (2.0, 1.0, 1.0)
    a = box((20, 5, 6), (4, 4 + thickness), (0, 5), (0, 6))
    b = box((20, 5, 6), (4 + k, 4 + k + thickness), (0, 5), (0, 6))
    found = surface_distances(a, b, spacing)
    assert found.hd.item() == found.hd95.item() == k * spacing[0]
    # of 4 planes, 2 see another plane of the other slab, which is thickness - 1 - k away
    near = min(k, thickness - 1 - k)
    assert found.assd.item() == pytest.approx(spacing[0] * (k + near) / 2)
    # with the field's edge as surface, the rims that overlap are at distance 0
    assert surface_distances(a, b, spacing, border=True).assd.item() < found.assd.item()


def test_random_masks_against_scipys_distance_transform(draw: Draw) -> None:
    scipy = pytest.importorskip("scipy.ndimage", reason="scipy is not installed (extra [metrics])")
    a, b = draw(2, 9, 12, 10) > 0.5, draw(2, 9, 12, 10) > 0.8
    spacing = (2.0, 0.5, 1.25)
    for border in (False, True):
        found = surface_distances(a, b, spacing, border=border)
        for i in range(2):
            edges = [m & ~scipy.binary_erosion(m, border_value=not border) for m in (a[i].numpy(), b[i].numpy())]
            there, back = (scipy.distance_transform_edt(~edges[1 - j], sampling=spacing)[edges[j]] for j in (0, 1))
            assert found.hd[i].item() == pytest.approx(max(there.max(), back.max()))
            assert found.hd95[i].item() == pytest.approx(max(np.percentile(d, 95) for d in (there, back)))
            assert found.assd[i].item() == pytest.approx(np.concatenate([there, back]).mean())
            want = ((there <= 1).sum() + (back <= 1).sum()) / (len(there) + len(back))
            assert surface_dice(a[i : i + 1], b[i : i + 1], 1.0, spacing, border=border).item() == pytest.approx(want)


def test_energy_distance_of_sets_and_of_point_masses(draw: Draw) -> None:
    samples = draw(3, 5, 6, 6) > 0
    assert torch.equal(ged(samples, samples.flip(1)).round(decimals=12), torch.zeros(3, dtype=torch.float64))
    one, other = samples[:, :1], samples[:, 1:2]
    torch.testing.assert_close(ged(one, other), 2 * (1 - iou(one[:, 0], other[:, 0])), atol=1e-12, rtol=0)
    torch.testing.assert_close(ged(one.expand(3, 4, 6, 6), other), ged(one, other), atol=1e-12, rtol=0)


def test_energy_distance_is_its_formula_pair_by_pair(draw: Draw) -> None:
    s, y = draw(1, 3, 8) > 0.3, draw(1, 2, 8) > 0
    y[0, 1] = False  # an annotator who saw nothing

    def mean(a: Tensor, b: Tensor) -> float:
        return float(np.mean([1 - iou(p[None], q[None]).item() for p in a[0] for q in b[0]]))

    assert ged(s, y).item() == pytest.approx(2 * mean(s, y) - mean(s, s) - mean(y, y), abs=1e-12)
    best = np.mean([max(dice(p[None], q[None]).item() for p in s[0]) for q in y[0]])
    assert best_match_dice(s, y).item() == pytest.approx(best, abs=1e-12)
    # samples that vary as the annotators do are nearer than their mean, thresholded, again and again
    assert ged(y, y).item() < ged(y[:, :1].expand(1, 2, 8), y).item()


@pytest.mark.usefixtures("unchecked")
def test_bad_masks() -> None:
    half, a = torch.full((1, 4, 4), 0.5), box((4, 4), (0, 2), (0, 2))
    for call, words in (
        (lambda: dice(half, a), "0 and 1"),
        (lambda: iou(a, a[:, :2]), "shapes"),
        (lambda: dice(a, a, "zero"), "one or nan"),  # type: ignore[arg-type]
        (lambda: surface_distances(a, a, (1.0,)), "spacing"),
        (lambda: surface_distances(a, a, (1.0, 0.0)), "spacing"),
        (lambda: surface_distances(a[0, 0][None, None, None, None], a), "shapes"),
        (lambda: hausdorff(a, a, percentile=50), "95 or 100"),  # type: ignore[arg-type]
        (lambda: ged(a, a[..., :2]), "expected"),
        (lambda: surface_dice(a, a, -1.0), "tolerance"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
