"""Word pieces: a small deterministic tokenizer in pure Python.

Text is normalised, split into words, and each word is covered from the left by the longest piece that fits.
A piece that starts a word carries the mark "▁", so that decoding is a join. What normalisation drops is what a
caption and a prompt may disagree on without meaning anything else: case, accents, the articles "a", "an", "the",
and separators such as comma, colon, hyphen. "A red heart." and "red heart" are the same sequence.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, pairwise

PAD, UNKNOWN, START = 0, 1, 2
SPECIAL = ("<pad>", "<unknown>", "<start>")
MARK = "▁"
ARTICLES = frozenset({"a", "an", "the"})
_REPLACEMENT = "\ufffd"
_BASE = "abcdefghijklmnopqrstuvwxyz0123456789!#%&*+?"
_APOSTROPHES = frozenset("'’‘ʼ`")
_ALONE = frozenset("!#%&*+?=<>^~$@|/\\")  # these mean something in a caption, each is a word of its own


def words(text: str) -> list[str]:
    """The normalised words of a text.

    Lower case, compatibility forms folded, accents on Latin letters removed, apostrophes removed, separators
    (space and every punctuation but ``! # % & * + ?`` and the like) split, articles dropped unless nothing else
    is left.

    Args:
        text: Any string.

    Returns:
        The words, possibly none.

    Source: our choice.

    >>> words("The Piñata: medium-light, O'clock!")
    ['pinata', 'medium', 'light', 'oclock', '!']
    >>> words("the A"), words(" ... ")
    (['the', 'a'], [])
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    folded = "".join(ch for ch in folded if not "\u0300" <= ch <= "\u036f")
    folded = unicodedata.normalize("NFC", folded)
    found = "".join(_spaced(ch) for ch in folded).split()
    return [word for word in found if word not in ARTICLES] or found


@lru_cache(4096)
def _spaced(ch: str) -> str:
    if ch in _APOSTROPHES:
        return ""
    if ch in _ALONE:
        return f" {ch} "
    if ch in (MARK, _REPLACEMENT) or unicodedata.category(ch)[0] in "PZC":
        return " "
    return ch


class WordPieces:
    """Greedy longest-match word pieces over a fixed vocabulary.

    A run of characters outside the vocabulary becomes one unknown piece, so every string encodes.

    Args:
        vocab: The pieces, in order of their index; the first three are ``SPECIAL``.

    Raises:
        ValueError: Vocabulary without the special pieces in front, with a piece twice, or with an empty one.

    Source: longest match as in WordPiece (arXiv 1609.08144, section 4.1); the rest is our choice.

    >>> pieces = WordPieces(train_vocabulary(["red heart", "red"], size=60))
    >>> pieces.decode(pieces.encode("The red HEART"))
    'red heart'
    """

    def __init__(self, vocab: Sequence[str]) -> None:
        self.vocab = tuple(vocab)
        if self.vocab[: len(SPECIAL)] != SPECIAL:
            raise ValueError(
                f"a vocabulary starts with {list(SPECIAL)}, got {list(self.vocab[:3])}; use train_vocabulary"
            )
        self._index = {piece: i for i, piece in enumerate(self.vocab) if i >= len(SPECIAL)}
        if "" in self._index or len(self._index) + len(SPECIAL) != len(self.vocab):
            raise ValueError("a vocabulary has each piece once and no empty piece; remove the repeated or empty ones")
        self._longest = max(map(len, self._index), default=1)

    def __len__(self) -> int:
        return len(self.vocab)

    def encode(self, text: str) -> list[int]:
        """Indices of the pieces of a text, with no start piece and no padding.

        Args:
            text: Any string.

        Returns:
            Indices, empty for a text without words.
        """
        return [index for word in words(text) for index in self._word(MARK + word)]

    def _word(self, word: str) -> list[int]:
        out: list[int] = []
        start = 0
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                index = self._index.get(word[start:end])
                if index is not None:
                    out.append(index)
                    start = end
                    break
            else:
                if not out or out[-1] != UNKNOWN:
                    out.append(UNKNOWN)
                start += 1
        return out

    def decode(self, indices: Iterable[int]) -> str:
        """The normalised text of indices; an unknown piece reads as U+FFFD, padding and start as nothing.

        Args:
            indices: Indices into the vocabulary.

        Returns:
            Words joined by single spaces.

        Raises:
            ValueError: An index outside the vocabulary.
        """
        out = []
        for index in indices:
            if not 0 <= index < len(self.vocab):
                raise ValueError(f"index {index} is outside the vocabulary of {len(self.vocab)} pieces")
            if index >= len(SPECIAL):
                out.append(self.vocab[index])
            elif index == UNKNOWN:
                out.append(_REPLACEMENT)
        return " ".join("".join(out).replace(MARK, " ").split())


def train_vocabulary(texts: Iterable[str], size: int, *, whole: int = 3, keep: Sequence[str] = ()) -> list[str]:
    """A vocabulary from a corpus: characters, frequent words whole, then byte-pair merges up to ``size`` pieces.

    Merges count every distinct word once, not once an occurrence: frequent words are whole already, and pieces are
    there for the rare ones. Ties go to the pair that sorts first, so the result depends on the corpus alone.

    Args:
        texts: The corpus; order does not matter, repetition does.
        size: Most pieces in the vocabulary, special ones included.
        whole: A word seen at least this many times is one piece, if room is left for it.
        keep: Words that are one piece however rare.

    Returns:
        The pieces, ``SPECIAL`` first.

    Raises:
        ValueError: ``size`` is too small for the characters and ``keep``, or a word of ``keep`` is not one word.

    Source: byte-pair merges after arXiv 1508.07909, section 3.2; whole words are our choice.

    >>> vocab = train_vocabulary(["hot hot dog dog dots"], size=60, whole=2, keep=["3d"])
    >>> [piece for piece in vocab if len(piece) > 2 and piece not in SPECIAL]
    ['▁3d', '▁dog', '▁hot', '▁do']
    """
    counts = Counter(word for text in texts for word in words(text))
    for word in keep:
        if words(word) != [word]:
            raise ValueError(f"keep has {word!r}, which is not one normalised word (it reads {words(word)})")
    letters = sorted(set(_BASE).union(*counts, *keep))
    vocab = dict.fromkeys([*SPECIAL, MARK, *letters, *(MARK + word for word in keep)])
    if len(vocab) > size:
        raise ValueError(f"size {size} is too small: characters and kept words alone are {len(vocab)} pieces")
    frequent = sorted((word for word, n in counts.items() if n >= whole), key=lambda word: (-counts[word], word))
    for piece in chain((MARK + word for word in frequent), _merges(counts)):
        if len(vocab) >= size:
            break
        vocab.setdefault(piece)
    return list(vocab)


def _merges(counts: Iterable[str]) -> Iterator[str]:
    """The pieces that byte-pair merging makes of the distinct words, in the order of their making."""
    split = [list(MARK + word) for word in sorted(counts)]
    pairs: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for i, symbols in enumerate(split):
        for pair in pairwise(symbols):
            pairs[pair] += 1
            where[pair].add(i)
    while pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            return
        yield best[0] + best[1]
        for i in sorted(where.pop(best)):
            old, split[i] = split[i], _merge(split[i], best)
            pairs.subtract(pairwise(old))
            for pair in pairwise(split[i]):
                pairs[pair] += 1
                where[pair].add(i)


def _merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out
