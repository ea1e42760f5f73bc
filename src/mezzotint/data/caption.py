"""Captions that vary from step to step, so that a small text encoder meets more words than the names alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mezzotint.core.noise import fold

__all__ = ["STYLE_WORDS", "vary"]

STYLE_WORDS = {"noto": "noto", "fluent": "fluent 3d"}
_OPENINGS = ("a {}", "the {}", "an emoji of {}", "{} emoji")


def vary(name: str, keywords: Sequence[str], style: str, seed: int, step: int, index: int) -> str:
    """One caption of an emoji, a pure function of (seed, step, index) (our choice of proportions).

    - 70 %: the name; a fifth of these with an opening ("a red heart", "red heart emoji", ...).
    - 15 %: the name and one or two keywords: "red heart, love".
    - 15 %: two to four keywords in place of the name; what follows a colon in the name (skin tone, country) stays.
    - then, 7 times of 10, the style's words: "red heart, fluent 3d". Dropped else, so that a prompt need not name one.

    >>> vary("red heart", ["love"], "noto", 0, 0, 0) == vary("red heart", ["love"], "noto", 0, 0, 0)
    True
    """
    bits = np.random.Philox(key=fold(seed, "caption", step, index)).random_raw(8)
    u = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    if u[0] < 0.7 or not keywords:
        text = _open(name, u[2]) if u[1] < 0.2 else name
    elif u[0] < 0.85:
        text = ", ".join([name, *_pick(keywords, 1 + int(2 * u[1]), u[2:6])])
    else:
        kept = name.split(":", 1)[1:]
        text = ", ".join([*_pick(keywords, 2 + int(3 * u[1]), u[2:6]), *(part.strip() for part in kept)])
    return f"{text}, {STYLE_WORDS[style]}" if u[7] < 0.7 else text


def _open(name: str, u: float) -> str:
    opening = _OPENINGS[int(len(_OPENINGS) * u)]
    text = opening.format(name)
    return "an" + text[1:] if opening == "a {}" and name[:1].lower() in "aeiou" else text


def _pick(words: Sequence[str], count: int, u: np.ndarray) -> list[str]:
    """`count` different words (fewer where there are fewer), in the order drawn."""
    left = list(words)
    return [left.pop(int(len(left) * value)) for value in u[: min(count, len(left))]]
