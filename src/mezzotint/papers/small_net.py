"""A small network of noise for demonstrations: trained for a number of processor seconds, from procedural scenes."""

from __future__ import annotations

from mezzotint.core import VP, EpsDenoiser
from mezzotint.data import Scenes, indices
from mezzotint.nn import DiT
from mezzotint.objective import Batch, Denoise
from mezzotint.papers.trained import trained

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
    half = len(scenes) // 2
    build = lambda: EpsDenoiser(DiT(3, patch=4, width=width, depth=4, heads=4), VP())  # noqa: E731
    batch = lambda s: Batch(scenes.batch(indices(seed, s, 64, half))[0])  # noqa: E731
    return trained(build, Denoise("eps", drop=0.0), batch, seconds=seconds, seed=seed)
