from __future__ import annotations

import pytest
import torch

from mezzotint.metric import psnr


def test_each_sample_has_its_own_value() -> None:
    a = torch.zeros(3, 3, 8, 8)
    b = torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), 0.2), torch.full((3, 8, 8), -2.0)])
    value = psnr(a, b)
    assert value[0] == torch.inf
    assert value[1].item() == pytest.approx(20, abs=1e-6) and value[2].item() == pytest.approx(0, abs=1e-9)
    assert torch.allclose(psnr((a + 1) / 2, (b + 1) / 2, data_range=1.0)[1:], value[1:], atol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="shapes"):
        psnr(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="data_range"):
        psnr(torch.zeros(2, 3), torch.zeros(2, 3), data_range=0.0)
