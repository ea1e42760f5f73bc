"""`mezzotint bench`: measurements of the library, side by side with whichever peers are installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

# name -> module with main(arguments), and what it measures
BENCHES: dict[str, tuple[str, str]] = {
    "import": ("mezzotint.cli.bench_import", "what starting costs, beside its budgets"),
    "sampler": ("mezzotint.cli.bench_sampler", "microseconds a step beside the network, ours and the peers'"),
    "train": ("mezzotint.cli.bench_train", "images a second in training, ours and the peers' loops"),
    "accuracy": ("mezzotint.cli.bench_accuracy", "error against network evaluations, for our solvers and the peers'"),
    "taps": ("mezzotint.cli.bench_taps", "what taps and edits of attention cost a run, in time and memory"),
    "posterior": ("mezzotint.cli.bench_posterior", "error of every restorer's samples where the posterior is known"),
    "restore": (
        "mezzotint.cli.bench_restore",
        "quality and cost of restoration, ours and deepinv's",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Run one benchmark."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: mezzotint bench WHAT ...\n")
        print("\n".join(f"  {name:<10} {about}" for name, (_, about) in BENCHES.items()))
        return 0 if arguments else 2
    if arguments[0] not in BENCHES:
        raise ValueError(f"unknown benchmark {arguments[0]!r}; expected one of {', '.join(BENCHES)}")
    return import_module(BENCHES[arguments[0]][0]).main(arguments[1:])
