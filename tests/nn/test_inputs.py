"""Wrong calls: each says what was wrong, what was expected, what to do."""

from __future__ import annotations

import pytest
import torch

from mezzotint.nn import DiT, UNet

U = {"channels": 8, "blocks": 1, "head_dim": 8}
D = {"width": 8, "depth": 1, "heads": 1, "patch": 2}
X, T = torch.zeros(2, 3, 8, 8), torch.zeros(2)
TEXT = torch.zeros(2, 4, 6)

CALLS = [
    ({"context": 6}, X, T, None, r"context=6 but the condition has no 'text' \(it has: nothing\); pass c"),
    ({"classes": 5}, X, T, {"text": TEXT}, "has 'text' but this network was built with context=0"),
    ({"pooled": 4, "context": 6}, X, T, {"text": TEXT}, "no 'pooled'"),
    ({"concat": 1}, X, T, None, "no 'concat'"),
    ({}, X, T, {"text": TEXT}, "has 'text' but this network was built with context=0.*drop 'text'"),
    ({}, X, T, {"label": torch.zeros(2).long()}, "has 'label' but this network was built with classes=0"),
    ({}, X, T, {"pooled": torch.zeros(2, 4)}, "has 'pooled' but"),
    ({}, X, T, {"concat": torch.zeros(2, 1, 8, 8)}, "has 'concat' but"),
    ({"context": 6}, X, T, {"text": torch.zeros(2, 4, 7)}, r"'text' must have shape \(2, n, 6\).*\(2, 4, 7\)"),
    ({"context": 6}, X, T, {"text": torch.zeros(1, 4, 6)}, r"'text' must have shape \(2, n, 6\)"),
    (
        {"context": 6}, X, T, {"text": TEXT, "text_mask": torch.ones(2, 5).bool()},
        r"'text_mask' must have shape \(2, 4\).*\(2, 5\)",
    ),
    ({"context": 6}, X, T, {"text": TEXT, "text_mask": torch.ones(2, 4)}, "text_mask must be bool"),
    ({"classes": 5}, X, T, {"label": torch.tensor([0, 6])}, "labels run from 0 to 6.*5 classes.*5 for the null"),
    ({"classes": 5}, X, T, {"label": torch.tensor([-1, 5])}, "labels run from -1 to 5"),
    ({"classes": 5}, X, T, {"label": torch.tensor([0.0, 1.0])}, r"labels must be integers.*label\.long\(\)"),
    ({"classes": 5}, X, T, {"label": torch.tensor([[0], [1]])}, r"'label' must have shape \(2\)"),
    ({"pooled": 4}, X, T, {"pooled": torch.zeros(2, 3)}, r"'pooled' must have shape \(2, 4\)"),
    ({"concat": 1}, X, T, {"concat": torch.zeros(2, 1, 4, 4)}, r"'concat' must have shape \(2, 1, 8, 8\)"),
    ({}, torch.zeros(2, 3, 8, 7), T, None, "multiples of 2 for this network, got 8 x 7; resize or pad to 8 x 8"),
    ({}, torch.zeros(2, 3, 0, 8), T, None, "multiples of 2"),
    ({}, torch.zeros(2, 4, 8, 8), T, None, r"expected an image batch \(b, 3, h, w\), got \(2, 4, 8, 8\)"),
    ({}, torch.zeros(3, 8, 8), T, None, r"got \(3, 8, 8\)"),
    ({}, X, torch.zeros(1), None, r"one float time a sample, shape \(2,\), got \(1,\).*expand"),
    ({}, X, torch.zeros(()), None, r"got \(\)"),
]  # fmt: skip


@pytest.mark.parametrize("kind, config", [(UNet, U), (DiT, D)], ids=["unet", "dit"])
@pytest.mark.parametrize("built, x, time, c, message", CALLS)
def test_wrong_calls(kind, config, built, x, time, c, message) -> None:
    with pytest.raises(ValueError, match=message):
        kind(3, **config, **built)(x, time, c)


@pytest.mark.parametrize("kind, config", [(UNet, U), (DiT, D)], ids=["unet", "dit"])
def test_the_null_label_is_allowed_and_pooled_may_come_along_with_text(kind, config) -> None:
    net = kind(3, **config, classes=5, context=6)
    c = {"label": torch.tensor([0, 5]), "text": TEXT, "pooled": torch.zeros(2, 9)}
    assert net(X, T, c).shape == X.shape


@pytest.mark.parametrize(
    "kind, config, message",
    [
        (UNet, {"mult": ()}, "multiple of at least 1"),
        (UNet, {"mult": (1, 0)}, "multiple of at least 1"),
        (UNet, {"channels": 7}, "even number of channels"),
        (UNet, {"attention": (32,)}, r"downsampling factors, not sizes: got \[32\].*\[1, 2\]"),
        (UNet, {"blocks": 0}, "blocks of at least 1"),
        (UNet, {"context": -1}, "context of 0"),
        (UNet, {"dropout": 1.0}, "dropout is a probability"),
        (DiT, {"width": 18, "heads": 3}, "multiple of 4"),
        (DiT, {"width": 16, "heads": 3}, "heads=3"),
        (DiT, {"depth": 0}, "depth of at least 1"),
        (DiT, {"classes": -2}, "classes of 0"),
    ],
)
def test_settings_that_make_no_network(kind, config, message) -> None:
    with pytest.raises(ValueError, match=message):
        kind(3, **config)
