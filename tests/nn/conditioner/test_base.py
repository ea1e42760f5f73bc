from __future__ import annotations

import pytest
import torch

from mezzotint.core import Condition
from mezzotint.nn.conditioner import ClassConditioner, Layout, LayoutConditioner, TextConditioner, train_vocabulary


def _text() -> TextConditioner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextConditioner(train_vocabulary(["red heart"], size=70), length=12, width=8, depth=1, heads=2)


def test_keys_it_does_not_know_pass_with_their_nulls() -> None:
    text = _text()
    raw = text.prepare(["red", "heart"]).updated(
        {"label": torch.tensor([1, 2]), "depth": torch.ones(2, 1)}, {"label": torch.tensor([9])}
    )
    c = text(raw)
    assert set(c) == {"text", "text_mask", "pooled", "label", "depth"}
    assert c["label"].tolist() == [1, 2] and c.null()["label"].tolist() == [9, 9]
    assert torch.equal(c["depth"], torch.ones(2, 1)) and "depth" not in c.null_rows


def test_conditioners_chain() -> None:
    c = ClassConditioner(4)(_text()(_text().prepare(["red"]).updated(dict(ClassConditioner(4).prepare([3])))))
    assert c["label"].tolist() == [3] and c["text"].shape == (1, 12, 8)


def test_a_condition_without_null_is_encoded_without_null() -> None:
    text = _text()
    raw = text.prepare(["red heart"])
    c = text(Condition(dict(raw)))
    assert not c.null_rows
    torch.testing.assert_close(c["text"], text(raw)["text"], atol=1e-6, rtol=0)


def test_missing_key_and_a_key_written_twice_are_refused() -> None:
    text = _text()
    with pytest.raises(ValueError, match="lacks"):
        text(Condition({"label": torch.tensor([1])}))
    layout = LayoutConditioner(2, vocab=12, length=8, width=8, depth=1, heads=2)
    both = text(text.prepare(["red"]).updated(dict(layout.prepare([Layout()]))))
    with pytest.raises(ValueError, match="has already"):
        layout(both)


def test_dropping_before_and_after_encoding_agree() -> None:
    text, mask = _text(), torch.tensor([True, False])
    raw = text.prepare(["red", "heart"])
    before, after = text(raw.drop(mask)), text(raw).drop(mask)
    for key in after:
        torch.testing.assert_close(before[key], after[key], atol=1e-6, rtol=0)


@pytest.mark.parametrize("conditioner", [ClassConditioner(3), _text(), LayoutConditioner(2, 12, 8, 8, 1, 2)])
def test_example_is_prepared(conditioner) -> None:
    raw = conditioner.prepare([conditioner.example] * 2)
    assert raw.batch == 2 and set(raw.null_rows) == set(raw)
