from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mezzotint.metric import (
    consistency,
    luma,
    luma_psnr,
    mean_absolute_error,
    nmse,
    psnr,
    spectral_angle,
    ssim,
    volume_psnr,
    volume_report,
)

Draw = Callable[..., Tensor]


def test_relative_error_scales_with_the_image(draw: Draw) -> None:
    x = draw(2, 2, 3, 4, 5)
    torch.testing.assert_close(nmse(0.9 * x, x), torch.full((2,), 0.01, dtype=torch.float64))
    torch.testing.assert_close(nmse(7 * x + 1, 7 * x), nmse(x + 1 / 7, x))
    assert nmse(torch.zeros_like(x), x).tolist() == pytest.approx([1, 1])


def test_the_peak_is_the_reference_volumes(draw: Draw) -> None:
    x = draw(2, 1, 4, 5, 6).abs()
    y = x + 0.1 * draw(2, 1, 4, 5, 6)
    for i in range(2):
        want = psnr(y[i : i + 1], x[i : i + 1], data_range=float(x[i].max()))
        assert volume_psnr(y, x)[i].item() == pytest.approx(want.item())
    torch.testing.assert_close(volume_psnr(500 * y, 500 * x), volume_psnr(y, x))
    assert volume_psnr(x, x).tolist() == [math.inf, math.inf]


def test_a_mask_leaves_out_the_background_but_not_its_peak(draw: Draw) -> None:
    x = draw(1, 1, 2, 4, 4).abs()
    y, body = x.clone(), torch.zeros(1, 1, 1, 4, 4, dtype=torch.bool)
    body[..., :2] = True
    x[..., 3] = y[..., 3] = 9.0
    y[..., :2] += 0.5
    y[..., 2] += 100
    assert volume_psnr(y, x, body).item() == pytest.approx(10 * math.log10(81 / 0.25))
    assert mean_absolute_error(y, x, body).item() == pytest.approx(0.5)
    assert nmse(y, x, body).item() == pytest.approx(float(0.25 * 16 / x[..., :2].square().sum()))


def test_consistency_of_truth_is_the_share_of_noise(draw: Draw) -> None:
    x, noise = draw(3, 40), 0.3 * draw(3, 20)
    a = draw(40, 20)
    y = x @ a + noise
    got = consistency(lambda z: z @ a, x, y)
    torch.testing.assert_close(got, noise.norm(dim=1) / y.norm(dim=1))
    one = consistency(lambda z: z @ a, x, y[:1])  # several samples of one measurement
    assert one[0].item() == pytest.approx(got[0].item()) and one.shape == (3,)


def test_spectral_angles() -> None:
    a = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]).double()[None]  # (1, 3 channels, 2 pixels)
    assert spectral_angle(a, 5 * a).item() == 0
    turned = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).double()[None]  # 90 and 45 degrees
    assert spectral_angle(a, turned).item() == pytest.approx(67.5)
    tiny = a + torch.tensor([[0.0, 0.0], [0.0, 0.0], [3e-9, 2e-9]])
    assert spectral_angle(a, tiny).item() == pytest.approx(math.degrees(1e-9), rel=1e-6)  # where arccos gives 0
    dark = a.clone()
    dark[..., 1] = 0
    assert spectral_angle(a, dark).item() == 0 and math.isnan(spectral_angle(a, 0 * a).item())


def test_luma_is_that_of_the_tables(draw: Draw) -> None:
    """Weights of BT.601; a change of one colour alone weighs as it should, and the border is left out."""
    x = draw(1, 3, 10, 12).clamp(-1, 1)
    torch.testing.assert_close(
        luma(torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)).flatten(), torch.tensor([81.481]).double()
    )
    y = x.clone()
    y[:, 1] += 0.02
    want = 20 * math.log10(255 / (128.553 * 0.01))
    assert luma_psnr(x, y).item() == pytest.approx(want)
    y[:, :, 0], y[..., -1] = 1.0, -1.0
    assert luma_psnr(x, y, border=1).item() == pytest.approx(want) and luma_psnr(x, y).item() < want - 5


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    x = torch.ones(1, 3, 4, 4)
    for call, words in (
        (lambda: nmse(x, 0 * x), "0 everywhere"),
        (lambda: volume_psnr(x, -x), "peak"),
        (lambda: nmse(x, x[:, :1]), "shapes"),
        (lambda: mean_absolute_error(x, x, torch.zeros_like(x, dtype=torch.bool)), "nothing inside"),
        (lambda: consistency(lambda z: z, x, x[:, :1]), "measurement"),
        (lambda: consistency(lambda z: z, x, 0 * x), "is 0"),
        (lambda: spectral_angle(x[:, :1], x[:, :1]), "c >= 2"),
        (lambda: luma_psnr(x, x, border=2), "leaves nothing"),
        (lambda: luma(x[:, :1]), "RGB"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_a_report_of_a_volume_states_each_measure_with_and_without_the_background(draw: Draw) -> None:
    x = draw(1, 3, 16, 16).abs()
    y, body = x + 0.1 * draw(1, 3, 16, 16), torch.zeros(3, 16, 16, dtype=torch.bool)
    body[:, 4:12, 4:12] = True
    found = {r.name: r for r in volume_report(y, x, body, unit="HU")}
    assert len(found) == 7 and found["mean absolute error inside the mask"].card.notes == "unit HU"
    assert found["volume psnr"].value == pytest.approx(volume_psnr(y[None], x[None]).item())
    part = [z[:, :, 4:12, 4:12][None] for z in (y, x)]
    assert found["nmse inside the mask"].value == pytest.approx(nmse(part[0], part[1]).item())
    slices = [ssim(y[:, k : k + 1], x[:, k : k + 1], float(x.max())).item() for k in range(3)]
    assert found["ssim of slices, gaussian 11"].value == pytest.approx(sum(slices) / 3)
    with pytest.raises(ValueError, match="expected equal"):
        volume_report(x[0], x[0])
