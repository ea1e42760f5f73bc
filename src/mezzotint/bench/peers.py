"""The libraries we measure against: imported in one place, each or a reason why not.

They pull torchvision, whose compiled operators do not load beside every build of torch. None of what we compare
calls them, so where they are missing the two that torchvision's import asks for are declared, without a body.
`make peers` makes an environment that has them all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

__all__ = ["METRIC_PEERS", "PEERS", "RESTORE_PEERS", "TRAIN_PEERS", "Peer", "find_peer", "load_peer"]

# name of the distribution -> module that is imported
PEERS: dict[str, str] = {
    "diffusers": "diffusers",
    "k-diffusion": "k_diffusion.sampling",
    "azula": "azula.sample",
    "smalldiffusion": "smalldiffusion",
    "flow_matching": "flow_matching.solver",
}
# what measures are held against; apart, as these solve nothing
METRIC_PEERS: dict[str, str] = {
    "torch-fidelity": "torch_fidelity",
    "lpips": "lpips",
    "scikit-image": "skimage.metrics",
    "clean-fid": "cleanfid.resize",
}
# what only training is held against; apart for the same reason
TRAIN_PEERS: dict[str, str] = {"denoising-diffusion-pytorch": "denoising_diffusion_pytorch"}
RESTORE_PEERS: dict[str, str] = {"deepinv": "deepinv"}  # and what only restoration is

_declared: list[Any] = []  # torch forgets a library's operators when the object that made them is gone


@dataclass(frozen=True)
class Peer:
    """One library: its name, version, module if it could be imported, else the reason."""

    name: str
    version: str | None
    module: ModuleType | None
    reason: str = ""


@cache
def find_peer(name: str) -> Peer:
    """A peer by the name of its distribution; never raises for one that is missing or broken.

    Raises:
        ValueError: for a name that is in none of PEERS, METRIC_PEERS, TRAIN_PEERS and RESTORE_PEERS.

    >>> find_peer("diffusers").name
    'diffusers'
    """
    modules = PEERS | METRIC_PEERS | TRAIN_PEERS | RESTORE_PEERS
    if name not in modules:
        raise ValueError(f"unknown peer {name!r}; expected one of {', '.join(modules)}")
    try:
        number = version(name)
    except PackageNotFoundError:
        return Peer(name, None, None, f"{name} is not installed (make peers makes an environment that has it)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _mend_torchvision()
            return Peer(name, number, import_module(modules[name]))
        except Exception as error:  # whatever a foreign package does when it is imported
            return Peer(name, number, None, f"{name} {number} cannot be imported: {type(error).__name__}: {error}")


def load_peer(name: str, missing: Callable[[str], Any] | None = None) -> ModuleType:
    """The module of a peer.

    Args:
        name: see PEERS.
        missing: called with the reason where it cannot be had, for example pytest.skip; ImportError if None.

    Raises:
        ImportError: if it cannot be had and `missing` is None or returns.
        ValueError: for a name that is not in PEERS.
    """
    peer = find_peer(name)
    if peer.module is None:
        if missing is not None:
            missing(peer.reason)
        raise ImportError(peer.reason)
    return peer.module


def _mend_torchvision() -> None:
    """Import torchvision, declaring the operators that it registers fakes for where it could not load its own."""
    if _declared:
        return
    try:
        import_module("torchvision")
    except ModuleNotFoundError:  # not installed: nothing to mend
        return
    except RuntimeError:  # operator torchvision::nms does not exist
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
