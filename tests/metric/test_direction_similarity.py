"""Direction similarity by hand, its bounds, and what has no direction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.metric import DirectionSimilarity

WORDS = {"red": 0, "green": 1, "blue": 2, "crimson": 0}


def image(x: Tensor) -> Tensor:
    return x.mean((2, 3)) + 1


def text(words) -> Tensor:
    return torch.eye(3)[[WORDS[w] for w in words]]


def plain(*colours: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, 4, 4)


SCORE = DirectionSimilarity(image, text, "colours")


def test_by_hand() -> None:
    """From (1, 0, 0) to (0, 1, 1) / sqrt 2 of unit length, along blue - red."""
    before, after = plain((0.0, -1.0, -1.0)), plain((-1.0, 0.0, 0.0))
    step = torch.tensor([-1.0, 0.5**0.5, 0.5**0.5], dtype=torch.float64)
    way = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    wanted = float(step @ way / (step.norm() * way.norm()))
    assert float(SCORE.scores(before, after, ["red"], ["blue"])) == pytest.approx(wanted, abs=1e-6)
    assert float(SCORE.scores(after, before, ["red"], ["blue"])) == pytest.approx(-wanted, abs=1e-6)
    assert float(SCORE.scores(before, after, ["blue"], ["red"])) == pytest.approx(-wanted, abs=1e-6)


def test_features_are_normalised_first() -> None:
    """A picture that only grows brighter has not changed its direction."""
    score = SCORE.scores(plain((0.0, -1.0, -1.0), (-0.5, -1.0, -0.9)), plain((1.0, -1.0, -1.0), (-0.9, -1.0, -0.5)),
                         ["red"] * 2, ["blue"] * 2)  # fmt: skip
    assert float(score[0]) == 0 and float(score[1]) > 0.9


def test_the_mean_has_an_error_and_a_card_and_batches_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(10, 3, 4, 4, generator=generator) * 2 - 1 for _ in range(2))
    told = ["red", "green"] * 5, ["blue"] * 10
    result = SCORE(a, b, *told)
    scores = SCORE.scores(a, b, *told)
    assert result.value == pytest.approx(float(scores.mean())) and result.card.metric == "direction similarity"
    assert result.card.n == 10 and scores.dtype == torch.float64 and scores.abs().max() <= 1
    small = DirectionSimilarity(image, text, "colours", batch=3)
    assert torch.allclose(small.scores(a, b, *told), scores, atol=1e-12)
    assert torch.equal(
        SCORE.towards("red", "blue")(b[:2], a[:2]), SCORE.scores(a[:2], b[:2], ["red"] * 2, ["blue"] * 2)
    )


def test_what_has_no_direction_or_number() -> None:
    x = plain((0.0, -1.0, -1.0))
    with pytest.raises(ValueError, match="'red' and 'crimson' are the same"):
        SCORE.scores(x, -x, ["red"], ["crimson"])
    with pytest.raises(ValueError, match="1 and 1 images, 2 and 1 captions"):
        SCORE.scores(x, x, ["red", "red"], ["blue"])
    with pytest.raises(ValueError, match="expected equal"):
        DirectionSimilarity(lambda x: x.mean((2, 3))[:, :2], text, "two").scores(x, -x, ["red"], ["blue"])
    with pytest.raises(ValueError, match="similarities"):
        DirectionSimilarity(lambda x: x.mean((2, 3)) / 0, text, "nan").scores(x, -x, ["red"], ["blue"])
