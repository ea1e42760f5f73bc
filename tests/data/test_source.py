from __future__ import annotations

import pytest
import torch

from mezzotint.data import ArraySource, Source


def _source() -> ArraySource:
    images = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).view(4, 3, 2, 2)
    images[0, 0, 0, 0], images[0, 0, 0, 1] = 0, 255
    return ArraySource(images, ["a", "b", "c", "d"], torch.tensor([3, 2, 1, 0]))


def test_pixels_map_to_both_ends_and_back() -> None:
    source = _source()
    x = source[0].image
    assert x[0, 0, 0] == -1 and x[0, 0, 1] == 1
    assert torch.equal(((x + 1) * 127.5).round().to(torch.uint8), source.images[0])


def test_a_batch_is_its_rows_in_the_order_asked() -> None:
    source = _source()
    assert isinstance(source, Source)
    x, captions = source.batch(torch.tensor([2, 0, 2]))
    assert captions == ["c", "a", "c"] and torch.equal(x[1], source[0].image) and torch.equal(x[0], x[2])
    assert x.dtype == torch.float32 and source[-1].caption == "d" and source[1].label == 2
    x.zero_()
    assert source[2].image.abs().sum() > 0


def test_iteration_ends_and_wrong_rows_raise() -> None:
    source = _source()
    assert [example.caption for example in source] == ["a", "b", "c", "d"]
    with pytest.raises(IndexError, match="4 images"):
        source.batch([0, 4])


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 images"):
        ArraySource(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ["one"])
    with pytest.raises(ValueError, match="no image"):
        ArraySource(torch.zeros(0, 3, 4, 4, dtype=torch.uint8), [])
