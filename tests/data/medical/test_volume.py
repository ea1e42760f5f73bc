from __future__ import annotations

import math
from itertools import permutations, product

import pytest
import torch

from mezzotint.data.medical import Amplitude, Percentile, Uptake, Volume, Window, uptake_factor

F64 = torch.float64


def volume(order: tuple[int, ...] = (0, 1, 2), signs: tuple[int, ...] = (1, 1, 1)) -> Volume:
    """Each value tells its own place: channel a of a voxel holds its RAS coordinate a."""
    affine = torch.eye(4, dtype=F64)
    for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
        affine[:3, column] = torch.tensor([0.1, -0.05, 0.07], dtype=F64)
        affine[row, column] = sign * (2.0 + column)
    affine[:3, 3] = torch.tensor([-7.0, 3.0, 11.0], dtype=F64)
    d, h, w = 3, 4, 5
    index = torch.cartesian_prod(torch.arange(d), torch.arange(h), torch.arange(w)).double()
    places = Volume(torch.zeros(1, d, h, w), affine).to_mm(index)
    return Volume(places.T.reshape(3, d, h, w).float(), affine)


def tells_its_places(v: Volume) -> bool:
    index = torch.cartesian_prod(*(torch.arange(n) for n in v.size)).double()
    return torch.allclose(v.to_mm(index).T.reshape(v.data.shape).float(), v.data, atol=1e-4)


def test_the_affine_takes_w_h_d_in_this_order() -> None:
    v = volume()
    want = v.affine @ torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=F64)  # i along w, j along h, k along d
    assert torch.allclose(v.data[:, 1, 2, 4].double(), want[:3], atol=1e-5)
    norms = v.affine[:3, :3].norm(dim=0).tolist()
    assert v.spacing == pytest.approx((norms[2], norms[1], norms[0]))


def test_every_change_of_axes_keeps_the_voxels_where_they_are() -> None:
    v = volume()
    for axis in range(3):
        assert tells_its_places(v.flip(axis)) and not torch.equal(v.flip(axis).data, v.data)
    part = v.crop(slice(1, 3), slice(0, 4, 2), slice(-2, None))
    assert part.size == (2, 2, 2) and tells_its_places(part)


def test_canonical_order_of_all_48_orientations() -> None:
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        v = volume(order, signs)
        turned = v.canonical()
        assert tells_its_places(turned)
        assert (turned.affine[:3, :3].diag() > 1).all() and sorted(turned.size) == sorted(v.size)


def test_other_values_keep_geometry_and_refuse_another_size() -> None:
    v = volume()
    assert torch.equal(v.with_data(torch.ones(3, 4, 5)).affine, v.affine)
    with pytest.raises(ValueError, match="do not lie"):
        v.with_data(torch.ones(5, 4, 3))


@pytest.mark.usefixtures("unchecked")
def test_bad_volumes() -> None:
    eye = torch.eye(4, dtype=F64)
    flat, row = eye.clone(), eye.clone()
    flat[2, 2], row[3, 0] = 0, 1
    for words, data, affine in (
        ("float32", torch.zeros(1, 1, 1, 1, dtype=F64), eye),
        ("float32", torch.zeros(1, 1, 1), eye),
        ("affine", torch.zeros(1, 1, 1, 1), torch.eye(4)),
        ("folds", torch.zeros(1, 1, 1, 1), flat),
        ("last row", torch.zeros(1, 1, 1, 1), row),
    ):
        with pytest.raises(ValueError, match=words):
            Volume(data, affine)
    with pytest.raises(ValueError, match="empty"):
        volume().crop(d=slice(3, 3))
    with pytest.raises(ValueError, match="axis"):
        volume().flip(3)


@pytest.mark.parametrize("rule", [Window(-1000.0, 1000.0), Percentile(), Uptake(1500.0), Uptake(1500.0, root=True)])
def test_ranges_invert_inside_the_window(rule: Window | Percentile | Uptake) -> None:
    x = torch.rand(1, 6, 7, 8, generator=torch.Generator().manual_seed(1)) * 2400 - 1200
    v = Volume(x, torch.eye(4, dtype=F64), "HU")
    mapped = v.to_model(rule)
    assert mapped.data.min() >= -1 and mapped.data.max() <= 1 and mapped.unit == "HU"
    inside = mapped.data.abs() < 1
    assert inside.float().mean() > 0.3
    back = mapped.to_unit()
    assert back.range_map is None
    assert float((back.data - x)[inside].abs().max()) <= 1e-5 * 2000
    outside = x[~inside]
    assert (mapped.data[~inside] == outside.sub(float(x[inside].mean())).sign()).all()  # clipped to the nearer end


def test_percentiles_are_of_the_foreground_and_of_the_whole_volume() -> None:
    x = torch.zeros(1, 10, 10, 10)
    x[0, 5:] = torch.arange(500).view(5, 10, 10) + 1.0
    found = Percentile(10.0, 90.0).fit(x)
    assert (found.low, found.high) == pytest.approx((1 + 49.9, 1 + 449.1))
    assert Percentile(10.0, 90.0, background=None).fit(x).low == 0
    mask = torch.zeros(10, 10, 10, dtype=torch.bool)
    mask[9] = True
    assert Percentile(0.0, 100.0).fit(x, mask) == Window(401.0, 500.0)
    for words, rule, data in (("background", Percentile(), -x), ("both", Percentile(), torch.ones_like(x))):
        with pytest.raises(ValueError, match=words):
            rule.fit(data)


def test_a_complex_volume_keeps_its_phase() -> None:
    x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    v = Volume(x, torch.eye(4, dtype=F64)).to_model(Amplitude())
    z, w = torch.complex(x[0], x[1]), torch.complex(v.data[0], v.data[1])
    torch.testing.assert_close(z.angle(), w.angle())
    largest = v.data.unflatten(0, (2, 2)).square().sum(1).sqrt().max()
    assert float(largest) == pytest.approx(1) and torch.allclose(v.to_unit().data, x, atol=1e-6)


def test_integers_above_255_need_a_rule() -> None:
    eye = torch.eye(4, dtype=F64)
    for data, stored in (([0.0, 256.0], "int16"), ([-1.0, 5.0], "int16"), ([0.0, 1.5], "float32")):
        with pytest.raises(ValueError, match="give a rule"):
            Volume(torch.tensor(data).view(1, 1, 1, 2), eye, stored=stored).to_model()
    assert Volume(
        torch.tensor([0.0, 255.0]).view(1, 1, 1, 2), eye, stored="uint8"
    ).to_model().data.flatten().tolist() == [-1, 1]
    with pytest.raises(ValueError, match="already"):
        Volume(torch.zeros(1, 1, 1, 2), eye).to_model().to_model()
    with pytest.raises(ValueError, match="NaN"):
        Volume(torch.full((1, 1, 1, 2), math.nan), eye).to_model(Window())


def test_uptake_values_by_body_weight() -> None:
    """An even spread of the dose over the body is 1, at the time of injection and a half-life later."""
    assert 300e6 / 80e3 * uptake_factor(300e6, 80e3) == pytest.approx(1)
    assert 150e6 / 80e3 * uptake_factor(300e6, 80e3, seconds=6586.2) == pytest.approx(1)


_BAD = [
    lambda: Window(1.0, 1.0),
    lambda: Percentile(50.0, 50.0),
    lambda: Uptake(0.0),
    lambda: Amplitude(-1.0),
    lambda: uptake_factor(0.0, 1.0),
]


@pytest.mark.parametrize("make", _BAD)
def test_bad_settings(make) -> None:
    with pytest.raises(ValueError, match="got"):
        make()
