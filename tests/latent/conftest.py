"""Small autoencoders, built the same way each time without touching torch's global generator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mezzotint.latent import Autoencoder


@pytest.fixture
def build() -> Callable[..., Autoencoder]:
    def make(kind: type[Autoencoder], **options: object) -> Autoencoder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return kind(**options).double()

    return make
