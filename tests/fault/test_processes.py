"""One of two processes fails: both end soon, one clear message is told, and the checkpoints stay whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mezzotint.train import newest_checkpoint

pytestmark = pytest.mark.fault

RECIPE = """
import os, signal, time
import torch
from torch import nn
from mezzotint.core import Cosine, VDenoiser
from mezzotint.latent import Identity
from mezzotint.objective import Batch, Denoise
from mezzotint.train.recipe import AdamW, Budget, Recipe

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, x, time, c=None):
        return self.layer(x)

def data(autoencoder, batch, seed):
    def batches(step):
        x = torch.randn(batch, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        if step == 5 and os.environ.get("RANK") == "1":
            how = os.environ.get("HOW")
            if how == "nan":
                x[-1] = float("nan")
            elif how == "error":
                raise ValueError("the file of image 7 is broken")
            elif how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("HOW") == "slow":
            time.sleep(0.1)
        return Batch(x, None)
    return batches

def tiny():
    return Recipe(
        name="tiny", optimiser=AdamW(lr=1e-3), budget=Budget(steps=200, batch=4, log=1, save=2), seed=0, data=data,
        latent=Identity, net=lambda spec: Net(), denoiser=lambda net: VDenoiser(net, Cosine()),
        objective=Denoise("v"), ema=None,
    )
"""


def start(folder, how, *options):
    (folder / "failing.py").write_text(RECIPE)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "mezzotint",
    ]
    return subprocess.Popen(
        [*command, "train", "failing:tiny", "--out", "run", "--device", "cpu", *options],
        cwd=folder,
        env={**os.environ, "HOW": how, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child):
    """(status, our lines on stderr, seconds)."""
    begun = time.monotonic()
    try:
        out, err = child.communicate(timeout=120)
    finally:
        child.kill()
    ours = [line for line in err.splitlines() if line.startswith("mezzotint: ") and "warning" not in line]
    return child.returncode, ours, time.monotonic() - begun, out


CASES = {
    "nan": ["step 5, process 1: loss = nan"],
    "error": ["the file of image 7 is broken"],
    "kill": ["contact with another process of the run is lost"],
}
SLOW = [pytest.param(how, engine, marks=pytest.mark.slow) for how in ("error", "kill") for engine in ("ddp", "fsdp")]


@pytest.mark.parametrize(
    ("how", "engine"), [("nan", "ddp"), pytest.param("nan", "fsdp", marks=pytest.mark.slow), *SLOW]
)
def test_one_process_fails_and_all_end_with_one_message(how, engine, tmp_path):
    status, told, seconds, _ = finish(start(tmp_path, how, "--engine", engine))
    assert status != 0 and seconds < 90
    assert len(told) == 1 and all(words in told[0] for words in CASES[how]), told
    found = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is not None and found.name == "step-00000004"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_a_terminated_run_saves_in_all_processes_and_goes_on(engine, tmp_path):
    child = start(tmp_path, "slow", "--engine", engine, "--json")
    log = tmp_path / "run" / "log.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (log.exists() and log.read_text().count("\n") > 3):
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    status, told, _, _ = finish(child)
    assert status != 0 and told == []
    steps = int(newest_checkpoint(tmp_path / "run" / "checkpoints").name[5:])
    assert 3 < steps < 200
    longer = ["--resume", "--set", f"budget.steps={steps + 3}", "--engine", engine, "--json"]
    status, told, _, out = finish(start(tmp_path, "no", *longer))
    assert status == 0, told
    report = json.loads(out)
    assert (report["resumed"], report["step"]) == (steps, steps + 3)
