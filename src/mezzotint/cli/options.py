"""Options that commands share, and a parser whose errors are one line."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong call raises ValueError, which the dispatcher prints in one line."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"mezzotint {command}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")

    def json_option(self) -> None:
        self.add_argument("--json", action="store_true", help="print the result as JSON")

    def seed_option(self, default: int | None = 0, help: str = "the first seed; sample i has seed + i") -> None:
        self.add_argument("--seed", type=whole, default=default, help=help)

    def device_option(self) -> None:
        self.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: a GPU where there is one")


MOST = 100_000


def whole(text: str) -> int:
    """A whole number of at least 0 that fits 63 bits."""
    value = _integer(text)
    if value is None or not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0 and below 2**63, got {text!r:.40}")
    return value


def count(text: str) -> int:
    """A whole number from 1 to MOST: of images, steps, threads, repeats."""
    value = _integer(text)
    if value is None or not 1 <= value <= MOST:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1 and at most {MOST}, got {text!r:.40}")
    return value


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # letters, "2.0", or more digits than Python reads
        return None


def find_device(name: str) -> str:
    """The device to use: "auto" is a GPU where there is one.

    Raises:
        ValueError: not a device, or not one of this machine.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}; expected cpu, cuda, cuda:0, ... or auto") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: torch finds no GPU on this machine; use --device cpu")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise ValueError(f"device {name!r}: this machine has {torch.cuda.device_count()} GPU(s), counted from 0")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device {name!r} is not supported; expected cpu, cuda, cuda:0, ... or auto")
    return name


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a terminal or a pipe of another encoding
        text = json.dumps(value, indent=2)
    print(text)
