from __future__ import annotations

from pathlib import Path

import torch

from mezzotint.data.scenes import Scenes
from mezzotint.metric import load_features, weights_hash
from mezzotint.metric.train_classifier import evaluate, save, train


def test_training_learns_repeats_exactly_and_saves(tmp_path: Path) -> None:
    source = Scenes(size=16, count=200, seed=0)
    targets = source.grounds[:, None]  # the colour of the ground: easy enough for a few steps
    options = {"steps": 40, "batch": 32, "width": 8, "dim": 64, "size": 16, "rate": 1e-2}
    before = torch.random.get_rng_state()
    net = train(source, targets, (8,), **options)  # type: ignore[arg-type]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert evaluate(net, source, targets)["accuracy_0"] > 0.6  # chance is 0.125
    short = options | {"steps": 3}
    one, two = (train(source, targets, (8,), **short) for _ in range(2))  # type: ignore[arg-type]
    assert weights_hash(one) == weights_hash(two)
    assert weights_hash(train(source, targets, (8,), seed=1, **short)) != weights_hash(one)  # type: ignore[arg-type]
    save(net, tmp_path / "net")
    assert weights_hash(load_features(tmp_path / "net")) == weights_hash(net)
