from __future__ import annotations

import numpy as np
import pytest
import torch

from mezzotint.nn.conditioner import SuperResolutionConditioner, degrade


def _image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_degradation_equals_pillows_bicubic() -> None:
    from PIL import Image

    x = _image(1, 1, 16, 24)
    low = Image.fromarray(x[0, 0].numpy()).resize((6, 4), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.asarray(low).copy()).clamp(-1, 1)
    torch.testing.assert_close(degrade(x, 4)[0, 0], expected, atol=1e-5, rtol=0)


def test_degradation_keeps_ramps_inside_and_is_clipped() -> None:
    ramp = torch.linspace(-0.9, 0.9, 64, dtype=torch.float64).expand(1, 1, 64, 64)
    block_means = ramp[0, 0, 0].reshape(16, 4).mean(1)
    torch.testing.assert_close(degrade(ramp, 4)[0, 0, 0, 3:-3], block_means[3:-3], atol=1e-12, rtol=0)
    edge = torch.ones(1, 1, 16, 16)
    edge[..., :8] = -1
    assert degrade(edge, 2).abs().max() == 1  # the kernel overshoots at an edge


def test_the_image_reaches_the_network_as_it_is_in_both_halves() -> None:
    conditioner, image = SuperResolutionConditioner(), _image(3, 4, 6)
    c = conditioner(conditioner.prepare([image, -image]))
    assert torch.equal(c["concat"], torch.stack([image, -image]))
    assert torch.equal(c.null()["concat"], c["concat"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "at least one"),
        ([torch.zeros(3, 4, 4, dtype=torch.uint8)], "float tensor"),
        ([np.zeros((3, 4, 4))], "float tensor"),
        ([torch.zeros(1, 4, 4)], "must all be"),
        ([torch.zeros(3, 4, 4), torch.zeros(3, 4, 5)], "must all be"),
        ([torch.full((3, 4, 4), 255.0)], "in \\[-1, 1\\]"),
        ([torch.full((3, 4, 4), float("nan"))], "finite"),
    ],
)
def test_wrong_images_are_refused(inputs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuperResolutionConditioner().prepare(inputs)


@pytest.mark.parametrize("factor", [0, 3])
def test_factors_that_do_not_divide_are_refused(factor: int) -> None:
    with pytest.raises(ValueError, match="factor"):
        degrade(torch.zeros(1, 3, 8, 8), factor)
