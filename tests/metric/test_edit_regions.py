"""Measures of an edit's regions: constants whose decibels are known, and what lies outside that must not count."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.edit import plan_move
from mezzotint.metric import edit_regions, psnr, region_error, region_psnr


def test_only_the_region_counts() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 100.0)
    region = torch.zeros(2, 4, 4, dtype=torch.bool)
    region[0, :2], region[1, 3, 3] = True, True
    b[0, :, :2] = torch.tensor([0.2, -0.2, 0.2]).view(3, 1, 1)
    b[1, :, 3, 3] = torch.tensor([2.0, 0.0, -2.0])
    error = region_error(a, b, region)
    assert error[0].item() == pytest.approx(0.2, rel=1e-7) and error[1].item() == pytest.approx(math.sqrt(8 / 3))
    assert region_psnr(a, b, region)[0].item() == pytest.approx(20, abs=1e-6)
    assert region_psnr(a, b, region, 1)[1].item() == pytest.approx(10 * math.log10(3 / 8))


def test_the_whole_picture_is_plain_psnr() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(3, 2, 5, 7, generator=generator), torch.randn(3, 2, 5, 7, generator=generator)
    torch.testing.assert_close(region_psnr(a, b, torch.ones(5, 7)), psnr(a, b), rtol=1e-14, atol=0)


def test_equal_and_empty_regions() -> None:
    x = torch.zeros(1, 1, 3, 3)
    assert region_psnr(x, x, torch.ones(3, 3)).item() == math.inf and region_error(x, x, torch.ones(3, 3)).item() == 0
    none = torch.zeros(3, 3)
    assert math.isnan(region_error(x, x + 1, none).item()) and math.isnan(region_psnr(x, x, none).item())
    broken = x.clone()
    broken[..., 0, 0] = torch.nan  # outside the region
    assert region_error(broken, x, torch.eye(3).flip(0)).item() == 0


def test_each_region_of_a_moved_object_is_compared_with_its_own_reference() -> None:
    source = torch.zeros(3, 8, 8)
    mask = torch.zeros(8, 8)
    mask[1:3, 1:3] = 1
    source[:, 1:3, 1:3] = 0.8
    plan = plan_move(source, mask, (4, 4))
    truth = torch.zeros(3, 8, 8)
    truth[:, 5:7, 5:7] = 0.8
    perfect, pasted = truth[None], plan.image[None]
    edited = torch.cat([perfect, pasted, torch.where(plan.share, source + 0.2, truth)[None]])
    made = edit_regions(edited, plan.source, plan.image, plan.masks(), truth)
    assert made.object_psnr.tolist() == [math.inf] * 3
    assert made.background_psnr[:2].tolist() == [math.inf] * 2
    assert made.background_psnr[2].item() == pytest.approx(20, abs=1e-5)
    torch.testing.assert_close(made.hole_error, torch.tensor([0, 0.8, 0], dtype=torch.float64), rtol=1e-7, atol=0)
    assert bool(edit_regions(edited, plan.source, plan.image, plan.masks()).hole_error.isnan().all())
    dull = edit_regions(edited - 0.02, plan.source, plan.image, plan.masks(), truth)
    assert dull.object_psnr[0].item() == pytest.approx(40, abs=1e-4)  # against the pasted object, not the source there


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="equal"):
        region_error(x, x[:1], torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"region of \(4, 5\)"):
        region_psnr(x, x, torch.ones(4, 5))
    with pytest.raises(ValueError, match="other than 0 and 1"):
        region_error(x, x, torch.full((4, 4), 0.5))
    with pytest.raises(ValueError, match="data_range"):
        region_psnr(x, x, torch.ones(4, 4), 0)
    with pytest.raises(ValueError, match="no mask gen, share"):
        edit_regions(x, x[0], x[0], {"ipt": torch.ones(4, 4)})


@pytest.mark.usefixtures("unchecked")
def test_pictures_of_other_sizes_are_refused() -> None:
    masks = {name: torch.ones(6, 6) for name in ("gen", "ipt", "share")}
    with pytest.raises(ValueError, match="got a source of"):
        edit_regions(torch.zeros(2, 3, 6, 6), torch.zeros(3, 5, 6), torch.zeros(3, 6, 6), masks)
