"""`mezzotint explain WHAT`: what a model knows of a picture or a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

# what -> (module with `main(arguments) -> exit status`, one line of help)
EXPLAINED = {
    "pid": ("mezzotint.cli.explain_pid", "what two words of a prompt tell of its pictures, alone and together"),
    "subspace": (
        "mezzotint.cli.explain_subspace",
        "directions in which a picture changes, and the pictures along them",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Find what is to be explained and hand over."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    what = arguments[0]
    if what not in EXPLAINED:
        raise ValueError(f"unknown explanation {what!r}; there are {', '.join(EXPLAINED)}")
    return import_module(EXPLAINED[what][0]).main(arguments[1:])


def usage() -> str:
    """The help of `mezzotint explain`."""
    rows = "\n".join(f"  {name:<10} {line}" for name, (_, line) in EXPLAINED.items())
    return (
        f"usage: mezzotint explain WHAT ... [options]\n\n{rows}\n\n  mezzotint explain WHAT --help tells its options."
    )
