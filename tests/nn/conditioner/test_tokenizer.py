from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mezzotint.nn.conditioner.tokenizer import MARK, SPECIAL, UNKNOWN, WordPieces, train_vocabulary, words

CORPUS = ["red heart", "red apple", "green apple", "hearts and stars", "starfish", "piñata", "a star"]
PIECES = WordPieces(train_vocabulary(CORPUS, size=90, whole=2))


def test_merges_by_hand() -> None:
    # "▁ab" "▁abc" "▁b": pairs ▁a 2, ab 2, bc 1, ▁b 1; ties sort by pair: ("a", "b") < ("▁", "a")
    vocab = train_vocabulary(["ab abc b"], size=999, whole=9)
    assert [piece for piece in vocab if len(piece) > 1 and piece not in SPECIAL] == ["ab", "▁ab"]


def test_longest_match_wins_over_a_shorter_prefix() -> None:
    pieces = WordPieces([*SPECIAL, MARK, "▁st", "▁star", "a", "r", "f", "s", "ish", "fish", "i", "h", "t"])
    assert [pieces.vocab[i] for i in pieces.encode("starfish")] == ["▁star", "fish"]
    assert [pieces.vocab[i] for i in pieces.encode("stir")] == ["▁st", "i", "r"]


def test_frequent_and_kept_words_are_whole_and_rare_ones_are_not() -> None:
    vocab = train_vocabulary(["hot hot dog"], size=70, whole=2, keep=["fluent"])
    pieces = WordPieces(vocab)
    assert [len(pieces.encode(word)) for word in ("hot", "fluent")] == [1, 1]
    assert len(pieces.encode("dog")) > 1


def test_vocabulary_ignores_the_order_of_the_corpus() -> None:
    assert train_vocabulary(CORPUS, size=90, whole=2) == train_vocabulary(CORPUS[::-1], size=90, whole=2)


@pytest.mark.parametrize(
    "same",
    [
        ["red heart", "A red heart.", "the Red, HEART", " red\n heart\t", "red-heart", "ｒｅｄ heart", "réd heart"],
        ["pinata", "piñata", "pin\u0303ata", "the piñata"],
        ["oclock", "o'clock", "O’clock"],
        ["", "  ", "...", "-", "“”", "\u200d", "▁", "\ufffd"],
    ],
)
def test_what_normalisation_makes_equal(same: list[str]) -> None:
    assert len({tuple(PIECES.encode(text)) for text in same}) == 1


def test_what_normalisation_keeps_apart() -> None:
    texts = ["a", "the", "", "#", "*", "red heart", "redheart", "heart red"]
    assert len({tuple(PIECES.encode(text)) for text in texts}) == len(texts)
    assert words("a") == ["a"] and words("a star") == ["star"]


@pytest.mark.parametrize("text", ["🦖", "日本語", "नमस्ते", "\ud800", "\x00", "red 🦖 heart", "🦖🦖🦖"])
def test_a_run_of_unknown_characters_is_one_unknown_piece(text: str) -> None:
    got = PIECES.encode(text)
    assert got.count(UNKNOWN) == (0 if text in ("\ud800", "\x00") else 1)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=60))  # surrogates too
def test_any_text_encodes_within_the_vocabulary(text: str) -> None:
    got = PIECES.encode(text)
    assert all(0 < i < len(PIECES) for i in got)
    assert bool(got) == bool(words(text))


@settings(max_examples=200, deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789!#*? ,:-ñÉ'ABC", max_size=60))
def test_round_trip_is_the_normalised_text(text: str) -> None:
    decoded = PIECES.decode(PIECES.encode(text))
    assert decoded == " ".join(words(text))
    assert PIECES.encode(decoded) == PIECES.encode(text)


def test_decode_marks_unknown_and_refuses_other_indices() -> None:
    assert PIECES.decode([0, 2, *PIECES.encode("red 🦖 star")]) == "red \ufffd star"
    with pytest.raises(ValueError, match="outside the vocabulary"):
        PIECES.decode([len(PIECES)])


@pytest.mark.parametrize("vocab", [[], ["a"], [*SPECIAL, "a", "a"], [*SPECIAL, ""]])
def test_malformed_vocabularies_are_refused(vocab: list[str]) -> None:
    with pytest.raises(ValueError, match="a vocabulary"):
        WordPieces(vocab)


def test_training_refuses_a_size_or_words_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="too small"):
        train_vocabulary(CORPUS, size=20)
    with pytest.raises(ValueError, match="not one normalised word"):
        train_vocabulary(CORPUS, size=90, keep=["Two words"])
