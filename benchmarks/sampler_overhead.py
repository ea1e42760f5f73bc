"""What a step costs beside the network: `python benchmarks/sampler_overhead.py [--steps N --rounds N --out FILE]`.

The same as `mezzotint bench sampler`; run it in the peers' environment (`make peers`), pinned to one core:
`OMP_NUM_THREADS=1 taskset -c 1 .venv-peers/bin/python benchmarks/sampler_overhead.py`.
"""

from __future__ import annotations

import sys

from mezzotint.cli import run

if __name__ == "__main__":
    sys.exit(run(["bench", "sampler", *sys.argv[1:]]))
