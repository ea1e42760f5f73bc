from __future__ import annotations

import pytest
import torch
from torch import nn

from mezzotint.nn.conditioner import InpaintConditioner, paste


class Halving(nn.Module):
    """An autoencoder with a known answer: means of 2 x 2 blocks, times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * nn.functional.avg_pool2d(x, 2)


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.full((3, 4, 4), 0.5)
    mask = torch.zeros(4, 4)
    mask[:, 2:] = 1
    return image, mask


def test_polarity_one_is_the_hole_and_the_hole_is_minus_one() -> None:
    inpaint = InpaintConditioner(Halving())
    raw = inpaint.prepare([_pair()])
    assert torch.equal(raw["masked_image"][0, :, :, :2], torch.full((3, 4, 2), 0.5))
    assert torch.equal(raw["masked_image"][0, :, :, 2:], torch.full((3, 4, 2), -1.0))
    c = inpaint(raw)["concat"]
    assert c.shape == (1, 4, 2, 2)
    assert torch.equal(c[0, :3], torch.tensor([1.5, -3.0]).expand(3, 2, 2))
    assert torch.equal(c[0, 3], torch.tensor([-1.0, 1.0]).expand(2, 2))


def test_masking_is_the_papers_formula() -> None:
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = _pair()[1]
    expected = (1 - mask) * (image + 1) / 2 * 2 - 1
    masked = InpaintConditioner().prepare([(image, mask)])["masked_image"][0]
    torch.testing.assert_close(masked, expected, atol=1e-6, rtol=0)


def test_the_mask_is_resized_to_the_nearest_and_never_soft() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 3, 3] = True  # nearest reads the first pixel of a block: (0, 0), not (3, 3)
    inpaint = InpaintConditioner(Halving())
    got = inpaint(inpaint.prepare([(_pair()[0], mask)]))["concat"][0, 3]
    assert got.tolist() == [[1.0, -1.0], [-1.0, -1.0]]


def test_guidance_keeps_the_image_and_the_autoencoder_stays_its_owners() -> None:
    autoencoder = Halving()
    inpaint = InpaintConditioner(autoencoder)
    c = inpaint(inpaint.prepare([_pair()]))
    assert torch.equal(c.null()["concat"], c["concat"])
    assert not list(inpaint.parameters()) and not inpaint.state_dict()
    assert not c["concat"].requires_grad
    later = InpaintConditioner(**inpaint.config)
    with pytest.raises(ValueError, match="attach"):
        later(later.prepare([_pair()]))
    later.attach(autoencoder)
    assert torch.equal(later(later.prepare([_pair()]))["concat"], c["concat"])


def test_paste_keeps_the_known_part_bit_for_bit() -> None:
    image, mask = _pair()
    output = torch.full((1, 3, 4, 4), float("nan"))
    output[..., 2:] = 0.25
    got = paste(image[None], output, mask[None, None])
    assert torch.equal(got[0, :, :, :2], image[:, :, :2]) and (got[..., 2:] == 0.25).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.full((4, 4), 0.5), "threshold a soft one"),
        (torch.full((4, 4), -1.0), "0 \\(known\\) or 1"),
        (torch.full((4, 4), 255, dtype=torch.uint8), "0 \\(known\\) or 1"),
        (torch.full((4, 4), float("nan")), "0 \\(known\\) or 1"),
        (torch.zeros(2, 2), "like its image"),
        (torch.zeros(3, 4, 4), "like its image"),
        ([[0, 1]], "must be a tensor"),
    ],
)
def test_wrong_masks_are_refused(mask, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InpaintConditioner().prepare([(_pair()[0], mask)])


def test_other_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs"):
        InpaintConditioner().prepare([_pair()[0]])
    with pytest.raises(ValueError, match="float tensor"):
        InpaintConditioner().prepare([(torch.zeros(3, 4, 4, dtype=torch.uint8), _pair()[1])])
    image, mask = _pair()
    with pytest.raises(ValueError, match="soft"):
        paste(image[None], image[None], mask[None, None] * 0.5)
    with pytest.raises(ValueError, match="one shape"):
        paste(image[None], image[None, :, :2], mask[None, None])
