from __future__ import annotations

import json
import warnings

import pytest
import torch

from mezzotint.core import Condition
from mezzotint.nn.conditioner import TextConditioner, train_vocabulary
from mezzotint.nn.conditioner.tokenizer import PAD, START

VOCAB = train_vocabulary(["red heart", "green apple", "star"], size=90, whole=1)
PROMPTS = ["red heart", "", "green apple star", "a zebra 🦓"]


def _text(length: int = 16, seed: int = 0) -> TextConditioner:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TextConditioner(VOCAB, length, width=16, depth=2, heads=4)


def _close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_tokens_start_with_the_start_piece_and_end_in_padding() -> None:
    text = _text(length=5)
    raw = text.prepare(["red heart", ""])
    red, heart = text.pieces.encode("red heart")
    assert raw["tokens"].tolist() == [[START, red, heart, PAD, PAD], [START, PAD, PAD, PAD, PAD]]


def test_null_is_the_encoding_of_the_empty_prompt() -> None:
    text = _text()
    c, empty = text(text.prepare(PROMPTS)), text(text.prepare([""]))
    for key in ("text", "text_mask", "pooled"):
        assert c.null_rows[key].shape[0] == 1
        _close(c.null_rows[key].float(), empty[key].float())
        _close(c.null_rows[key].float(), c[key][1:2].float())
    assert c.null_rows["text_mask"].sum() == 1


def test_given_null_tokens_replace_the_empty_prompt() -> None:
    text = _text()
    raw = text.prepare(["red heart"])
    negative = Condition(dict(raw), {"tokens": text.prepare(["star"])["tokens"]})
    _close(text(negative).null_rows["text"], text(text.prepare(["star"]))["text"])


def test_padding_changes_nothing() -> None:
    text = _text(length=16)
    raw = text.prepare(PROMPTS[:3])
    long, short = text(raw), text(Condition({"tokens": raw["tokens"][:, :8]}))
    _close(long["text"][:, :8], short["text"])
    _close(long["pooled"], short["pooled"])
    assert not long["text"][~long["text_mask"]].any()
    assert not long["text_mask"][:, 8:].any()


def test_the_padding_embedding_is_never_read() -> None:
    text = _text()
    raw = text.prepare(PROMPTS)
    before = text(raw)
    with torch.no_grad():
        text.encoder.tokens.weight[PAD] += 100
    after = text(raw)
    _close(before["text"], after["text"])
    _close(before["pooled"], after["pooled"])


def test_a_row_does_not_depend_on_its_batch() -> None:
    text = _text()
    together = text(text.prepare(PROMPTS))
    for i, prompt in enumerate(PROMPTS):
        alone = text(text.prepare([prompt]))
        for key in ("text", "pooled"):
            _close(together[key][i : i + 1], alone[key])


def test_order_and_later_words_matter() -> None:
    # not causal: the first word's vector sees the second; and positions tell the order apart
    text = _text()
    c = text(text.prepare(["red heart", "red star", "heart red"]))
    assert (c["text"][0, 1] - c["text"][1, 1]).abs().max() > 1e-4
    assert (c["pooled"][0] - c["pooled"][2]).abs().max() > 1e-5


def test_pooled_is_the_masked_mean_through_a_linear_layer() -> None:
    text = _text()
    c = text(text.prepare(["red heart", ""]))
    mean = torch.stack([row[real].mean(0) for row, real in zip(c["text"], c["text_mask"])])
    _close(c["pooled"], mean @ text.pool.linear.weight.T + text.pool.linear.bias)


def test_one_gradient_step_reaches_the_embeddings_that_were_read_and_no_other() -> None:
    text = _text()
    raw = text.prepare(["red heart"])
    c = text(raw)
    before = text.encoder.tokens.weight.detach().clone()
    (c["text"][0, 2].square().sum() + c["pooled"].sum()).backward()
    with torch.no_grad():
        for parameter in text.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    moved = (text.encoder.tokens.weight - before).abs().sum(1) > 0
    assert set(moved.nonzero().flatten().tolist()) == {START, *text.pieces.encode("red heart")}
    assert all(parameter.grad is not None for parameter in text.parameters())


def test_the_null_row_gets_a_gradient() -> None:
    text = _text()
    text(text.prepare(["red heart"])).null()["pooled"].sum().backward()
    grad = text.encoder.tokens.weight.grad
    assert grad is not None and grad[START].any() and not grad[text.pieces.encode("heart")].any()


def test_longer_prompts_are_cut_with_a_warning_that_names_what_is_lost() -> None:
    text = _text(length=3)
    with pytest.warns(UserWarning, match=r"3 of its 5 tokens; not read: 'green apple'"):
        cut = text.prepare(["red heart green apple"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(cut["tokens"], text.prepare(["red heart"])["tokens"])


@pytest.mark.parametrize("inputs", [[3], [None], [b"red"], ["red", ["heart"]], [], "red heart"])
def test_prompts_that_are_no_list_of_str_are_refused(inputs) -> None:
    with pytest.raises(ValueError, match="prompt"):
        _text().prepare(inputs)


@pytest.mark.parametrize("sizes", [(0, 16, 2, 4), (16, 15, 2, 4), (16, 16, 0, 4), (16, 16, 2, 0)])
def test_sizes_that_cannot_be_are_refused(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        TextConditioner(VOCAB, *sizes)


def test_config_and_weights_are_the_whole_conditioner() -> None:
    text = _text()
    other = TextConditioner(**json.loads(json.dumps(text.config)))
    other.load_state_dict(text.state_dict())
    a, b = text(text.prepare(PROMPTS)), other(other.prepare(PROMPTS))
    assert torch.equal(a["text"], b["text"]) and torch.equal(a["pooled"], b["pooled"])
