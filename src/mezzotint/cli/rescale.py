"""Whether a call scales attention to the size it draws at."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

__all__ = ["rescaled", "tell"]


def rescaled(told: Namespace, model: Any, size: tuple[int, ...]) -> bool:
    """Yes at another size than the model's, unless --no-rescale.

    Models whose schedule follows the size (Flux, SD3) have been trained at many and are left as they are.
    """
    from mezzotint.model import Resizes

    return told.rescale is not False and tuple(size) != tuple(model.size) and not isinstance(model.denoiser, Resizes)


def tell(model: Any) -> None:
    """Say on stderr, once the images are there, that attention was scaled."""
    trained = "x".join(map(str, model.size))
    print(
        f"{model.name} was trained at {trained}: attention was scaled to the new size (arXiv 2306.08645; --no-rescale "
        "leaves it)",
        file=sys.stderr,
    )
