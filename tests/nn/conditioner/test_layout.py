from __future__ import annotations

import warnings

import pytest
import torch

from mezzotint.nn.conditioner import Layout, LayoutConditioner


def _layout(**sizes: int) -> LayoutConditioner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LayoutConditioner(
            **({"classes": 3, "vocab": 104, "length": 11, "width": 8, "depth": 1, "heads": 2} | sizes)
        )


def test_tokens_by_hand() -> None:
    # vocab 104 - 3 - 1 = 100 places, 10 x 10; a corner (x, y) is round(9 y) 10 + round(9 x)
    raw = _layout().prepare([Layout([(0.0, 0.0, 1.0, 1.0, 2), (0.5, 0.25, 0.6, 0.8, 0)], crop=(0.0, 0.5, 0.5, 1.0))])
    first, second, nothing = [0, 99, 102], [24, 75, 100], [103] * 3
    assert raw["boxes"].tolist() == [first + second + nothing + [40, 94]]  # round(4.5) is 4: ties to even
    assert raw.null_rows["boxes"].tolist() == [nothing * 3 + [0, 99]]


def test_default_vocabulary_and_length_are_the_papers() -> None:
    sizes = LayoutConditioner(182, width=4, depth=1, heads=1)
    assert sizes.config["vocab"] == 8192 and sizes.prepare([Layout()])["boxes"].shape == (1, 92)
    assert sizes.sections**2 + 182 < 8192 - 1


def test_padding_between_boxes_and_crop_is_masked() -> None:
    layout = _layout()
    c = layout(layout.prepare([Layout([(0, 0, 1, 1, 1)])]))
    assert c["text_mask"][0].tolist() == [True] * 3 + [False] * 6 + [True] * 2
    assert not c["text"][~c["text_mask"]].any()
    before = c["pooled"].detach()
    with torch.no_grad():
        layout.encoder.tokens.weight[103] += 100
    after = layout(layout.prepare([Layout([(0, 0, 1, 1, 1)])]))["pooled"]
    torch.testing.assert_close(before, after, atol=1e-6, rtol=0)


def test_null_is_the_encoding_of_no_boxes() -> None:
    layout = _layout()
    c = layout(layout.prepare([Layout([(0, 0, 1, 1, 1)]), Layout()]))
    for key in ("text", "pooled"):
        torch.testing.assert_close(c.null_rows[key], c[key][1:], atol=1e-6, rtol=0)


def test_too_many_boxes_are_cut_with_a_warning() -> None:
    layout = _layout(length=5)
    one, two = Layout([(0, 0, 1, 1, 1)]), Layout([(0, 0, 1, 1, 1), (0, 0, 0.5, 0.5, 0)])
    with pytest.warns(UserWarning, match="1 of its 2 boxes"):
        cut = layout.prepare([two])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(cut["boxes"], layout.prepare([one])["boxes"])


def test_a_window_clips_boxes_and_composes_crops() -> None:
    scene = Layout([(0.0, 0.0, 0.5, 0.5, 0), (0.25, 0.25, 1.0, 0.75, 1)], crop=(0.0, 0.0, 0.5, 1.0))
    window = scene.cropped(0.5, 0.0, 1.0, 0.5)
    assert window == Layout([(0.0, 0.5, 1.0, 1.0, 1)], crop=(0.25, 0.0, 0.5, 0.5))
    assert scene.cropped(0.0, 0.0, 1.0, 1.0) == scene


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.5, 1, 0), (0, 0.5, 1, 0.2, 0), (-0.1, 0, 1, 1, 0), (0, 0, 64, 64, 0), (float("nan"), 0, 1, 1, 0)]
)
def test_boxes_without_area_or_outside_are_refused(box) -> None:
    with pytest.raises(ValueError, match="must satisfy"):
        Layout([box])


def test_other_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="a box is"):
        Layout([(0, 0, 1, 1)])
    with pytest.raises(ValueError, match="from 0 to 2"):
        _layout().prepare([Layout([(0, 0, 1, 1, 3)])])
    with pytest.raises(ValueError, match="must be a Layout"):
        _layout().prepare([[(0, 0, 1, 1, 1)]])
    with pytest.raises(ValueError, match="3 tokens a box"):
        _layout(length=12)
    with pytest.raises(ValueError, match="classes \\+ 5"):
        _layout(vocab=7)
