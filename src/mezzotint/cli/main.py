"""Dispatch: finds the command, imports only its module, and turns errors into one line.

argparse and no import of torch before a command needs it, so that `mezzotint --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from mezzotint import __version__

# command -> (module with `main(arguments) -> exit status`, one line of help)
COMMANDS = {
    "sample": ("mezzotint.cli.sample", "images from a prompt, and a .json beside them that regenerates them"),
    "restore": ("mezzotint.cli.restore", "a degraded picture restored: inpaint, deblur, enlarge, denoise, ..."),
    "edit": ("mezzotint.cli.edit", "a picture edited: an object moved, resized, pasted"),
    "explain": ("mezzotint.cli.explain", "what a model knows: directions in which a picture changes"),
    "train": ("mezzotint.cli.train", "run or resume a training recipe"),
    "report": ("mezzotint.cli.report", "a training run as one HTML page: curves, pictures, settings"),
    "calibrate": ("mezzotint.cli.calibrate", "a model's statistics, for the sampler dpm-v3:FILE"),
    "models": ("mezzotint.cli.models", "what is shipped or found, with model cards"),
    "papers": ("mezzotint.cli.papers", "the catalogue: search, card, status, where the code is"),
    "reproduce": ("mezzotint.cli.reproduce", "a paper's demonstration: table, picture, ledger entry"),
    "bench": ("mezzotint.cli.bench", "measurements, side by side with other libraries"),
}
FAILED = 2


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit status.

    Bad input, missing files and packages, and interrupts become one line on stderr and status 2;
    `MEZZOTINT_DEBUG=1` shows the traceback instead.

    >>> run(["--version"]) == 0
    mezzotint ...
    True
    """
    warnings.formatwarning = lambda message, *_: f"mezzotint: warning: {' '.join(str(message).split())}\n"
    try:
        return _dispatch(list(arguments))
    except SystemExit as stop:  # argparse's --help
        return stop.code if isinstance(stop.code, int) else FAILED
    except BrokenPipeError:  # `mezzotint papers | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted")
    except (ValueError, OSError, ArithmeticError, ImportError, RuntimeError, MemoryError) as error:
        return _fail(_told(error))


def usage() -> str:
    """The help of the top level."""
    rows = "\n".join(f"  {name:<10} {line}" for name, (_, line) in COMMANDS.items())
    return (
        "usage: mezzotint COMMAND [options]\n\n"
        "Diffusion models whose parts work together, in pixel space and in latent space.\n\n"
        f"commands:\n{rows}\n\n"
        "  mezzotint COMMAND --help tells a command's options; --version the version.\n"
        "  Every command takes --json; errors are one line, and MEZZOTINT_DEBUG=1 shows the traceback."
    )


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else FAILED
    if arguments[0] == "--version":
        print(f"mezzotint {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    return import_module(COMMANDS[name][0]).main(rest)


def _fail(message: str) -> int:
    if os.environ.get("MEZZOTINT_DEBUG", "0") not in ("", "0"):
        raise  # the error being handled: this is called from an except clause
    print(f"mezzotint: {message}", file=sys.stderr)
    return FAILED


def _told(error: Exception) -> str:
    """One line, whatever the error's own text looks like."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (ValueError, OSError)):
        return text
    return f"{type(error).__name__}: {text}"
