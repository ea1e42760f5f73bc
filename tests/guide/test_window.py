"""Windowed denoising: exact for what works pixel by pixel, blended otherwise, conditions cut up alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VP,
    Condition,
    Cosine,
    Denoiser,
    EpsDenoiser,
    Flow,
    FlowDenoiser,
    Noise,
    Prediction,
    VDenoiser,
    X0Denoiser,
)
from mezzotint.core.window import Windows
from mezzotint.guide.window import Windowed

T = torch.tensor([0.3, 0.8], dtype=torch.float64)


def _per_pixel(x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
    out = torch.tanh(1.3 * x) + 0.1 * time.view(-1, 1, 1, 1) / 1000
    if c is not None:
        out = out + c["concat"].sum(1, keepdim=True) + c["pooled"].sum(1).view(-1, 1, 1, 1)
    return out


def _condition(h: int, w: int) -> Condition:
    noise = Noise([5, 6])
    return Condition(
        {
            "concat": noise("concat", 0, (2, h, w), dtype=torch.float64),
            "pooled": noise("pooled", 0, (3,), dtype=torch.float64),
        },
        null={"pooled": torch.zeros(1, 3, dtype=torch.float64)},
    )


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [(X0Denoiser, VP()), (EpsDenoiser, VP()), (VDenoiser, Cosine()), (FlowDenoiser, Flow())],
)
@pytest.mark.parametrize("batch", [None, 5])
def test_a_per_pixel_denoiser_is_reproduced(kind: type, schedule: object, batch: int | None) -> None:
    plain = kind(_per_pixel, schedule)
    x, c = Noise([0, 1])("x_T", 0, (1, 12, 20), dtype=torch.float64), _condition(12, 20)
    windowed = Windowed(window=8, stride=4, batch=batch)(plain)
    for condition in (None, c, c.null()):
        ours, reference = windowed(x, T, condition), plain(x, T, condition)
        torch.testing.assert_close(ours.x0, reference.x0, atol=1e-10, rtol=0)
        torch.testing.assert_close(ours.eps, reference.eps, atol=1e-10, rtol=0)


class _Seeing(Denoiser):
    """Predicts the mean over all it sees."""

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(x_t.mean((1, 2, 3), keepdim=True).expand_as(x_t), x_t, t, self.schedule)


def test_windows_see_only_themselves_and_are_blended() -> None:
    x = Noise([0, 1])("x_T", 0, (1, 8, 12), dtype=torch.float64)
    out = Windowed(window=8, stride=4)(_Seeing(VP()))(x, T).x0
    left, right = x[..., :8].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3))
    weights = Windows((8, 12), (8, 8), (4, 4)).weights()
    share = weights[3, 5] / (weights[3, 5] + weights[3, 1])
    torch.testing.assert_close(out[:, 0, 3, 2], left, atol=1e-12, rtol=0)
    torch.testing.assert_close(out[:, 0, 3, 10], right, atol=1e-12, rtol=0)
    torch.testing.assert_close(out[:, 0, 3, 5], share * left + (1 - share) * right, atol=1e-12, rtol=0)


def test_an_input_no_larger_than_a_window_is_one_plain_call() -> None:
    x = Noise([0, 1])("x_T", 0, (1, 6, 8), dtype=torch.float64)
    plain = _Seeing(VP())
    assert torch.equal(Windowed(window=8, stride=4)(plain)(x, T).x0, plain(x, T).x0)


def test_batch_bounds_the_windows_of_a_call() -> None:
    sizes = []

    def net(x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        sizes.append(len(x))
        return x

    x = torch.zeros(2, 1, 8, 16)
    Windowed(window=8, stride=4, batch=4)(X0Denoiser(net, VP()))(x, T.float())
    assert sizes == [4, 2]


def test_gradients_flow_through() -> None:
    x = Noise([0, 1])("x_T", 0, (1, 8, 12), dtype=torch.float64).requires_grad_()
    Windowed(window=8, stride=4)(X0Denoiser(_per_pixel, VP()))(x, T).x0.sum().backward()
    torch.testing.assert_close(x.grad, 1.3 * (1 - torch.tanh(1.3 * x.detach()) ** 2), atol=1e-10, rtol=0)


def test_bad_input_raises() -> None:
    d = Windowed(window=8, stride=4)(X0Denoiser(_per_pixel, VP()))
    with pytest.raises(ValueError, match="uncovered"):
        d(torch.zeros(2, 1, 8, 14), T.float())
    with pytest.raises(ValueError, match="need images"):
        d(torch.zeros(2, 8), T.float())
    with pytest.raises(ValueError, match="expected"):
        d(torch.zeros(2, 1, 8, 12), T.float(), _condition(8, 8).to(dtype=torch.float32))
    for window, stride in ((0, 1), (8, 0), (8, 9)):
        with pytest.raises(ValueError, match="stride between 1 and window"):
            Windowed(window, stride)
    with pytest.raises(ValueError, match="batch"):
        Windowed(8, 4, batch=0)
