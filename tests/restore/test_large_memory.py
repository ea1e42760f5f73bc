"""What a photograph takes from file to file: a few copies of itself, nothing that grows with tiles or samples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CHILD = """
import sys
from pathlib import Path

import torch

from mezzotint.cli.main import run
from mezzotint.core import X0Denoiser
from mezzotint.core.schedule import Cosine
from mezzotint.latent import Identity
from mezzotint.model import Model


class Half(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, time, c=None):
        return 0.5 * x


import mezzotint

torch.set_num_threads(1)
model = Model(X0Denoiser(Half(), Cosine()), Identity(3), size=(64, 64), name="half")
mezzotint.load = lambda name, device=None: model
assert run(["restore", sys.argv[1], "--task", "deblur", "--blur", "1.0", "--method", "diffpir", "--steps", "1",
            "--batch", "32", *sys.argv[2:]]) == 0
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def peak(path: Path, *more: str) -> int:
    """Bytes at most resident."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), *more],
        stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return int(done.stdout.split()[-1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_memory_grows_by_copies_of_the_picture_alone(tmp_path):
    """In and out as floats (12 bytes a pixel each), in the file's type and packed (6 each): 36 bytes, and rows."""
    tifffile, _ = pytest.importorskip("tifffile"), pytest.importorskip("imagecodecs")
    sizes = [(1184, 1696), (2368, 3392)]  # 2 and 8 megapixels
    for k, size in enumerate(sizes):
        picture = np.random.default_rng(0).integers(0, 65536, (*size, 3), dtype=np.uint16)
        tifffile.imwrite(tmp_path / f"{k}.tif", picture, photometric="rgb")
    small, large = (peak(tmp_path / f"{k}.tif") for k in range(2))
    added = sizes[1][0] * sizes[1][1] - sizes[0][0] * sizes[0][1]
    assert large - small < 40 * added, f"{(large - small) / added:.1f} bytes a pixel"
    several = peak(tmp_path / "1.tif", "--samples", "6")
    assert several - large < 12 * added, f"{(several - large) / added:.1f} bytes a pixel more"  # 6 samples have 72
