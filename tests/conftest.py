"""What every test shares: one torch thread a worker, and shapes and types checked while tests run.

`MEZZOTINT_TYPECHECK=0` switches the checks off (to time something, or to debug without them).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its pools; the workers share the cores
os.environ.setdefault("MKL_NUM_THREADS", "1")

if os.environ.get("MEZZOTINT_TYPECHECK", "1") != "0":
    # Whatever of mezzotint is imported from here on checks its annotations, shapes included. Each xdist worker
    # loads this file itself before it collects, so the hook is in place there too; installed code stays unchecked.
    from jaxtyping import install_import_hook

    install_import_hook("mezzotint", "beartype.beartype")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def unchecked():
    """Types and shapes are not checked in this test, so that the library's own messages are what a user sees."""
    from jaxtyping import config

    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)
