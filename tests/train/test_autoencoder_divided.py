"""An autoencoder's recipe where several processes divide its tensors: one makes the weights, the run is the same."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mezzotint.train import Single
from mezzotint.train.fsdp import FSDP2

RECIPE = """
import torch
from mezzotint.latent import AutoencoderKL
from mezzotint.objective import Batch
from mezzotint.objective.autoencode import PlainAutoencode
from mezzotint.objective.perceptual import Perceptual, RandomFeatures
from mezzotint.train.autoencoder_recipe import AutoencoderRecipe
from mezzotint.train.recipe import AdamW, Budget

def data(batch, seed):
    def batches(step):
        x = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        return Batch(x.double().clamp(-1, 1))
    return batches

def small():
    return AutoencoderRecipe(
        name="small", optimiser=AdamW(lr=1e-3), budget=Budget(steps=3, batch=4, log=1), seed=0, data=data,
        autoencoder=lambda: AutoencoderKL(channels=8, mult=(1, 2), blocks=1, latent=2, groups=4).double(),
        objective=PlainAutoencode(perceptual=Perceptual(RandomFeatures().double())), ema=(0.5, 0.9),
    )
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    (tmp_path / "small_autoencoder.py").write_text(RECIPE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("small_autoencoder").small()


@pytest.mark.parametrize("rank", [0, 1])
def test_only_process_0_makes_weights(small, rank, unchecked):
    group: Any = SimpleNamespace(rank=rank, world=2)
    engine = FSDP2(Single("cpu", channels_last=False), group)
    task, _ = small.on(engine).start()
    assert {p.is_meta for p in task.autoencoder.parameters()} == {rank == 1}
    assert not any(p.is_meta for p in task.frozen.parameters())  # the loss's features are not sent
    assert small.identity() == small.on(Single("cpu")).identity()


@pytest.mark.slow
def test_two_processes_end_as_one(small, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    arguments = ["mezzotint.train", "small_autoencoder:small", "--engine", "fsdp", "--device", "cpu", "--out", "two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert small.run(tmp_path / "one", Single("cpu"), reporting=None).finished
    fresh = small.start()[0].autoencoder.state_dict()
    for averaged in (False, 0.5, 0.9):
        a, b = (small.trained(tmp_path / name, averaged=averaged).autoencoder.state_dict() for name in ("one", "two"))
        for key, value in a.items():
            torch.testing.assert_close(b[key], value, rtol=0, atol=1e-9)
        assert any(float((value - fresh[key]).abs().max()) > 1e-3 for key, value in a.items())
