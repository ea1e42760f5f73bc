"""`mezzotint edit WHAT`: a picture edited by a diffusion model."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

# what -> (module, its function (arguments) -> exit status, one line of help)
EDITS = {
    "filter": ("mezzotint.cli.edit_filter", "run", "a picture through filters, to be an image prompt"),
    "move": ("mezzotint.cli.edit_move", "move", "the object under a mask, moved or resized"),
    "paste": ("mezzotint.cli.edit_move", "paste", "an object of another picture, laid onto this one"),
    "prompt": ("mezzotint.cli.edit_cycle", "prompt", "from one prompt of a model to another"),
    "translate": ("mezzotint.cli.edit_cycle", "translate", "from one model to another"),
}


def main(arguments: Sequence[str]) -> int:
    """Find the edit and hand over."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    what = arguments[0]
    if what not in EDITS:
        raise ValueError(f"unknown edit {what!r}; the edits are {', '.join(EDITS)}")
    module, function, _ = EDITS[what]
    return getattr(import_module(module), function)(arguments[1:])


def usage() -> str:
    """The help of `mezzotint edit`."""
    rows = "\n".join(f"  {name:<10} {line}" for name, (_, _, line) in EDITS.items())
    return (
        f"usage: mezzotint edit WHAT ... [options]\n\n{rows}\n\n  mezzotint edit WHAT --help tells an edit's options."
    )
