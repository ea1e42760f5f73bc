"""For every test and doctest: the global generator starts at the same place, so that a network made without a seed is
the same whichever worker meets it, in whatever order."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch  # not above: tests/conftest.py sets the number of threads before torch starts

    torch.manual_seed(0)
