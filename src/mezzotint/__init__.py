"""Mezzotint: diffusion models whose parts work together, in pixel space and in latent space alike.

Names are imported when first used (PEP 562), so that `import mezzotint` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mezzotint.model import Model as Model
    from mezzotint.model import load as load
    from mezzotint.papers.run import reproduce as reproduce

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load", "reproduce"]

_HOME = {"Model": "mezzotint.model", "load": "mezzotint.model", "reproduce": "mezzotint.papers.run"}
_ROOMS = {"core", "nn", "attention", "guide", "sample", "latent", "objective", "train", "io", "metric", "papers"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return import_module(f"mezzotint.{name}")
    raise AttributeError(f"module 'mezzotint' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_ROOMS})
