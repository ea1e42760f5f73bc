"""What starting costs, room by room: `python benchmarks/import_time.py [--repeats N]`.

`mezzotint bench import` measures the two numbers that have a budget; this adds the rooms.
"""

from __future__ import annotations

import argparse

from mezzotint.cli.import_time import help_seconds, import_seconds

ROOMS = ("mezzotint", "mezzotint.core", "mezzotint.sample", "mezzotint.nn", "mezzotint.model", "mezzotint.papers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    for name in ROOMS:
        seconds = import_seconds(name, repeats)
        print(f"import {name:<24} {1000 * seconds[name]:8.1f} ms after torch ({seconds['torch']:.2f} s)", flush=True)
    print(f"mezzotint --help {'':<14} {1000 * help_seconds(repeats):8.1f} ms")


if __name__ == "__main__":
    main()
