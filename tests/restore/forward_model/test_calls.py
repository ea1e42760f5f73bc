"""Forward models as users call them: grids of their own, networks in float32, phi that does not fit."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import VE, Condition, Flow, Noise
from mezzotint.restore.forward_model import (
    CropModel,
    Decoded,
    ForwardModelDenoiser,
    LinearModel,
    MaskModel,
    ParallelBeam,
    Warp,
    check_forward,
    sample_signals,
)

DRAW = torch.Generator().manual_seed(0)
IMAGE = torch.randn(2, 1, 8, 8, generator=DRAW)


@pytest.mark.parametrize("schedule", [VE(), Flow()], ids=lambda s: type(s).__name__)
def test_a_late_start_has_the_noise_of_its_level(schedule):
    seen = []

    def net(y, t, c):
        seen.append((t, y))
        return 0 * y

    d = ForwardModelDenoiser(net, LinearModel(), schedule)
    c = Condition({"phi": torch.eye(3).repeat(2, 1, 1)})
    times = torch.tensor([0.5, 0.2, 0.0], dtype=torch.float64)
    sample_signals(d, c, Noise([4, 5]), (3,), grid=times)
    t, y = seen[0]
    expected = float(schedule.sigma(times[:1])) * Noise([4, 5])("x_T", 0, (3,))
    assert float(t[0]) == 0.5
    torch.testing.assert_close(y, expected)
    assert len(seen) == 3  # two steps, and the signal


def test_fifty_steps_where_none_are_given():
    calls = []
    d = ForwardModelDenoiser(lambda y, t, c: calls.append(t) or y, LinearModel(), Flow())
    sample_signals(d, Condition({"phi": torch.eye(2)[None]}), Noise([1]), (2,))
    assert len(calls) == 51


def test_a_decoder_in_float32_is_checked_and_left_as_it_is():
    decoder = torch.nn.Conv2d(1, 2, 3, padding=1)
    model = Decoded(decoder, CropModel(4, 4))
    corners = torch.zeros(2, 1, 2)
    share = model.coverage(IMAGE, corners)
    assert share == 25 / 64  # a window of 4 x 4 and the pixel around it that the kernel reaches
    check_forward(model, IMAGE, corners[:, 0])
    assert decoder.weight.dtype is torch.float32
    assert model(IMAGE, corners[:, 0]).dtype is torch.float32


@pytest.mark.parametrize(
    ("model", "signal", "phi", "expected"),
    [
        (CropModel(3, 3), IMAGE, torch.zeros(2, 3), r"\(2, 3\).*expected \(2, 2\)"),
        (CropModel(3, 3), IMAGE, torch.zeros(3, 2), r"\(3, 2\).*expected \(2, 2\)"),
        (ParallelBeam(8), IMAGE, torch.zeros(3), r"\(3,\).*expected \(2,\)"),
        (Warp(IMAGE[:1]), torch.zeros(2, 2, 8, 8), torch.zeros(3), r"\(3,\).*expected \(2,\)"),
        (MaskModel(), IMAGE, torch.ones(2, 1, 4, 4), r"\(2, 1, 4, 4\).*\(2, 1, 8, 8\)"),
        (LinearModel(), torch.zeros(2, 3), torch.zeros(5, 1, 3), r"\(5, 1, 3\).*\(2, m, 3\)"),
    ],
    ids=["crop", "crops", "beam", "warp", "mask", "matrix"],
)
def test_a_phi_that_does_not_fit_is_told(model, signal, phi, expected, unchecked):
    with pytest.raises(ValueError, match=expected):
        model(signal, phi)


def test_one_phi_serves_all_signals(unchecked):
    for model, phi in ((ParallelBeam(8), torch.ones(1)), (CropModel(3, 3), torch.tensor([[1, 2]]))):
        assert torch.equal(model(IMAGE, phi), model(IMAGE, phi.repeat(2, *[1] * (phi.ndim - 1))))
