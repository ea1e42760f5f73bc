from __future__ import annotations

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.data.medical import Window, phantom_slices, phantom_volume
from mezzotint.data.medical.anatomy import CONTRASTS, TISSUES, draw_anatomy, look
from mezzotint.metric import dice, ged


def test_a_phantom_depends_on_its_seed_alone() -> None:
    together, alone = phantom_slices(Noise(range(6)), 24, 0.5), phantom_slices(Noise([4]), 24, 0.5)
    for name in ("t1", "t2", "ct", "lesion", "annotations", "tissue"):
        assert torch.equal(getattr(together, name)[4:5], getattr(alone, name))
    assert not torch.equal(together.t1[3], together.t1[4])


def test_a_healthy_twin_differs_by_the_lesion_alone() -> None:
    well, ill = (phantom_slices(Noise(range(12)), 32, p) for p in (0.0, 1.0))
    assert not well.lesion.any() and not well.annotations.any() and not well.radius.any()
    assert ill.lesion.flatten(1).any(1).all()
    near = torch.nn.functional.max_pool2d(ill.lesion.float(), 3, 1, 1) > 0  # its soft edge
    for name in ("t1", "t2", "ct"):
        a, b = getattr(well, name), getattr(ill, name)
        assert torch.equal(a[~near], b[~near])
        inside = torch.nn.functional.max_pool2d((~ill.lesion).float(), 3, 1, 1) == 0
        assert ((a != b) | (a.abs() == 1) | (b.abs() == 1))[inside].all()
    bright = ((ill.t1 - well.t1) * ill.lesion).sum((1, 2, 3)) > 0
    assert 2 <= int(bright.sum()) <= 10  # dark and bright ones


def test_lesions_have_the_radius_they_state_and_the_share_asked_for() -> None:
    p = phantom_slices(Noise(range(150)), 32, 0.3)
    ill = p.radius > 0
    assert abs(float(ill.float().mean()) - 0.3) < 3 * (0.21 / 150) ** 0.5
    assert torch.equal(p.lesion.flatten(1).any(1), ill)
    assert p.radius[ill].min() >= 2 and p.radius[ill].max() <= 6 and p.radius[ill].std() > 0.8
    # waves add the mean square of their size to the disc's area, 3/2 of them in sum on average
    area = p.lesion.sum((1, 2, 3))[ill] / (torch.pi * p.radius[ill] ** 2)
    assert float(area.mean()) == pytest.approx(1.01, abs=0.08)
    assert p.body.expand_as(p.lesion)[p.lesion].all()


def test_annotators_draw_smaller_and_larger_and_not_twice_the_same() -> None:
    p = phantom_slices(Noise(range(60)), 48, 1.0)
    sizes = p.annotations.sum((2, 3)).double().mean(0)
    assert sizes[0] < 0.75 * sizes[1] and sizes[2] > 1.3 * sizes[1]
    true = p.lesion[:, 0]
    overlap = [dice(p.annotations[:, j], true).mean().item() for j in range(3)]
    assert max(overlap) == overlap[1] and 0.75 < overlap[1] < 0.99 and min(overlap) > 0.5
    alone = p.annotations[:, 1:2].expand(-1, 3, -1, -1)
    assert float(ged(alone, p.annotations).mean()) > 0.05  # one outline does not stand for all three


def test_contrasts_are_of_one_anatomy() -> None:
    shares, texture = draw_anatomy(Noise([1, 2]), (64, 64))
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 64, 64, dtype=torch.float64))
    pure = shares.max(1).values == 1
    label = shares.argmax(1)
    for contrast, (values, depths) in CONTRASTS.items():
        image = look(shares, texture, contrast)
        want = torch.tensor(values).double()[label] + torch.tensor(depths).double()[label] * texture
        torch.testing.assert_close(image[pure], want[pure])
    assert set(label.unique().tolist()) == set(range(len(TISSUES)))
    t1, t2 = (look(shares, texture, c) for c in ("t1", "t2"))
    fluid, white = label == 3, label == 5
    assert (t1[fluid].mean() < t1[white].mean()) and (t2[fluid].mean() > t2[white].mean())


def test_images_are_in_range_and_the_same_at_every_size() -> None:
    small, large = (phantom_slices(Noise(range(8)), size) for size in (32, 128))
    for name in ("t1", "t2", "ct"):
        a, b = getattr(small, name), getattr(large, name)
        assert a.min() >= -1 and a.max() <= 1
        # the same anatomy: the large one, averaged, is the small one up to texture and edges
        mean = torch.nn.functional.avg_pool2d(b, 4)
        assert float((a - mean).square().mean()) < 0.03 * float(a.var())
    assert 0.3 < float(small.body.float().mean()) < 0.6


def test_a_volume_has_its_unit_and_masks_on_its_voxels() -> None:
    ct = phantom_volume(3, (12, 32, 24), "ct", lesion=True)
    well = phantom_volume(3, (12, 32, 24), "ct")
    assert ct.volume.unit == "HU" and ct.volume.spacing == (3.0, 1.5, 1.5) and ct.volume.size == (12, 32, 24)
    outside = ct.volume.data[0][~ct.body]
    assert float(outside.median()) == -1000 and ct.volume.data.max() > 500
    changed = ct.volume.data[0] != well.volume.data[0]
    assert changed[ct.lesion].all() and int(ct.lesion.sum()) > 20 and not well.lesion.any()
    # the middle of the volume is the origin of the patient
    middle = (torch.tensor([ct.volume.size]).double() - 1) / 2
    assert ct.volume.to_mm(middle).abs().max() < 1e-9
    back = ct.volume.to_model(Window()).to_unit()
    torch.testing.assert_close(back.data, ct.volume.data.clamp(-1000, 1000), atol=1e-3, rtol=0)
    mr = phantom_volume(3, (12, 32, 24), "t2").volume
    assert mr.unit == "" and mr.data.min() >= 0 and 600 < mr.data.max() < 1200
    with pytest.raises(ValueError, match="no known range"):
        mr.to_model()


@pytest.mark.usefixtures("unchecked")
def test_bad_settings() -> None:
    for call in (
        lambda: phantom_slices(Noise([0]), 8),
        lambda: phantom_slices(Noise([0]), 32, 1.5),
        lambda: phantom_slices(Noise([0]), 32, 1.0, radius=(3.0, 2.0)),
        lambda: phantom_volume(0, (4, 32, 32)),
        lambda: phantom_volume(0, spacing=(0.0, 1.0, 1.0)),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
    with pytest.raises(ValueError, match="unknown contrast"):
        phantom_volume(0, contrast="flair")  # type: ignore[arg-type]
