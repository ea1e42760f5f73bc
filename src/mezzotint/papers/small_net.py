"""A small network of noise for demonstrations: trained for a number of processor seconds, from procedural scenes."""

from __future__ import annotations

import tempfile
import time

import torch

from mezzotint.core import VP, EpsDenoiser, fold
from mezzotint.data import Scenes, indices
from mezzotint.nn import DiT
from mezzotint.objective import Batch, Denoise
from mezzotint.train import DenoisingTask, Single, fit

__all__ = ["train_small"]


def train_small(scenes: Scenes, seconds: float, seed: int, width: int = 96) -> EpsDenoiser:
    """A DiT of four blocks and patches of 4 pixels on VP(), trained on the first half of the scenes.

    Processor seconds of this process, so that another load on the machine does not shorten the training.

    Args:
        scenes: of a size that 4 divides; the second half is left for measuring.
        seconds: > 0.
        seed: of weights, order and noise.
        width: of the network; 96 has 0.7 million parameters.

    Returns:
        The averaged weights (EMA, decay 0.99), in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "net"))
        net = DiT(3, patch=4, width=width, depth=4, heads=4)
    denoiser = EpsDenoiser(net, VP())
    task = DenoisingTask(denoiser, Denoise("eps", drop=0.0), lr=2e-3, ema=0.99)
    end, most, half = time.process_time() + seconds, 10**6, len(scenes) // 2
    with tempfile.TemporaryDirectory() as out:
        fit(task, lambda s: Batch(scenes.batch(indices(seed, s, 64, half))[0]), steps=most, seed=seed, out=out,
            engine=Single("cpu"), save_every=most, stop=lambda: time.process_time() > end)  # fmt: skip
    task.ema["denoiser"].copy_to_module()
    return denoiser.eval()
