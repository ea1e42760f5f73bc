"""Train the feature network on the emoji: python -m mezzotint.metric.train_classifier OUT [STEPS]

Three minutes of one core. The heads are group (10) and subgroup: the second makes features finer than ten classes.
Every weight is a function of the seed; only the learning rate's length depends on the number of steps.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.data import GROUPS, ArraySource, Emoji, indices
from mezzotint.metric.augment import augment
from mezzotint.metric.classifier import FeatureNet
from mezzotint.metric.frechet import frechet_distance
from mezzotint.metric.retrieval import retrieval

__all__ = ["evaluate", "save", "train"]


def train(
    source: ArraySource,
    targets: Tensor,
    classes: Sequence[int],
    *,
    steps: int = 1500,
    batch: int = 64,
    rate: float = 3e-3,
    seed: int = 0,
    **config: Any,
) -> FeatureNet:
    """Fit a FeatureNet to `targets` (n, heads) int64 by the mean cross-entropy of its heads.

    AdamW (weight decay 0.02), one cosine from `rate` to 0, label smoothing 0.1, `augment` on every batch.
    Reproducible: weights, order and augmentation are functions of the seed, and no global random state is touched.

    Returns:
        The network in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FeatureNet(classes, **config)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        rows = indices(seed, step, batch, len(source))
        x = augment(source.batch(rows)[0], seed, step).contiguous(memory_format=torch.channels_last)
        losses = [
            F.cross_entropy(logits, targets[rows, head], label_smoothing=0.1) for head, logits in enumerate(net(x))
        ]
        optimiser.zero_grad(set_to_none=True)
        torch.stack(losses).mean().backward()
        optimiser.step()
        schedule.step()
    return net.eval().requires_grad_(False)


def evaluate(net: FeatureNet, source: ArraySource, targets: Tensor, seed: int = 1) -> dict[str, float]:
    """Accuracy of every head (`accuracy_0`, ...), retrieval under augmentation, and the real-vs-real Frechet floor.

    Retrieval: each of the first 200 images, augmented at strength 0.5, looks for itself among the same 200.
    The floor is the distance of two random halves of `source`.
    """
    x = source.batch(range(len(source)))[0]
    few = x[indices(seed, 0, min(200, len(x)), len(x))]
    with torch.no_grad():
        logits, features = net(x), net.features(x)
        found = retrieval(net.features(augment(few, seed, 0, strength=0.5, flip=False)), net.features(few))
    half = indices(seed, 1, len(x), len(x))
    hits = {f"accuracy_{i}": float((head.argmax(1) == targets[:, i]).float().mean()) for i, head in enumerate(logits)}
    floor = frechet_distance(features[half[: len(x) // 2]], features[half[len(x) // 2 :]])
    return {**hits, **{f"retrieval_top{k}": value for k, value in found.items()}, "frechet_floor": floor}


def save(net: FeatureNet, out: Path) -> None:
    """Write config.json and weights.safetensors (float32) to the folder `out`."""
    from safetensors.torch import save as to_bytes

    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(net.config, indent=1) + "\n")
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    (out / "weights.safetensors").write_bytes(to_bytes(state))


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m mezzotint.metric.train_classifier OUT [STEPS]", file=sys.stderr)
        return 2
    steps = int(arguments[1]) if len(arguments) == 2 else 1500
    fit, held = Emoji(split="train"), Emoji(split="val")
    names = sorted(set(fit.subgroups))
    begun = time.perf_counter()
    net = train(fit, _targets(fit, names), (len(GROUPS), len(names)), steps=steps)
    minutes = (time.perf_counter() - begun) / 60
    save(net, Path(arguments[0]))
    scores = {
        "train": evaluate(net, fit, _targets(fit, names)),
        "val": evaluate(net, held, _targets(held, names)),
    }
    report = {"steps": steps, "minutes": round(minutes, 2), "scores": scores}
    (Path(arguments[0]) / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))
    return 0


def _targets(source: Emoji, subgroups: list[str]) -> Tensor:
    assert source.labels is not None
    known = {name: place for place, name in enumerate(subgroups)}
    # a subgroup that no training image has gets the ignored target of cross-entropy
    return torch.stack([source.labels, torch.tensor([known.get(name, -100) for name in source.subgroups])], 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
