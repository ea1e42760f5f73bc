"""What is trained in `bench train`, and what a training loop has to offer to be measured."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mezzotint.data import Scenes
from mezzotint.nn import DiT, UNet

__all__ = ["NETS", "SIZE", "Problem", "Side", "problem"]

SIZE = 32
LR = 1e-3

NETS: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: UNet(3, channels=48, mult=(1, 2, 2), blocks=1, attention=(4,)),  # 2.5 M parameters
    "dit": lambda: DiT(3, patch=4, width=160, depth=5, heads=5),  # 2.4 M
}


@dataclass(frozen=True)
class Problem:
    """One network and its data, from which every side takes copies.

    Args:
        net: the network, called as net(x, time).
        source: images.
        batch: images a step.
        device: of the network.
    """

    net: nn.Module
    source: Scenes
    batch: int
    device: torch.device

    def copy(self) -> nn.Module:
        """A network with the same weights, on the device."""
        return copy.deepcopy(self.net).to(self.device)

    @property
    def x(self) -> Tensor:
        """All images, float32 in [-1, 1], on the CPU: what loaders of peers draw from."""
        return self.source.batch(range(len(self.source)))[0]


def problem(net: str, batch: int = 64, images: int = 512, device: str = "cpu") -> Problem:
    """The network of that name with weights of a fixed seed, and procedural images.

    Raises:
        ValueError: for an unknown name.
    """
    if net not in NETS:
        raise ValueError(f"unknown network {net!r}; expected one of {', '.join(NETS)}")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Problem(NETS[net](), Scenes(SIZE, images), batch, torch.device(device))


class Side(ABC):
    """A training loop that can be driven a few steps at a time.

    Attributes:
        name: of the library.
        about: what its step has that others may not.
        net: the network in training.
    """

    name: str
    about: str
    net: nn.Module

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Train for so many steps."""

    @abstractmethod
    def loss(self, x: Tensor) -> Tensor:
        """The loss it minimises, of images (b, 3, h, w) in [-1, 1] on the device; random where it is in training."""

    def close(self) -> None:
        """Let go of threads and files."""
        return None
