"""A model folder: config.json, one safetensors file a part, and the model card README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mezzotint.io.atomic import atomic_folder
from mezzotint.io.parts import build, describe
from mezzotint.io.safe import load_into, read_state, save_state

if TYPE_CHECKING:
    from mezzotint.core import NetworkDenoiser
    from mezzotint.latent import Autoencoder
    from mezzotint.nn.conditioner import Conditioner

__all__ = ["FORMAT", "Parts", "read_config", "read_folder", "write_folder"]

FORMAT = "mezzotint-1"
CONFIG, CARD = "config.json", "README.md"
_LARGEST = 65_536  # pixels a side, and steps
_KEYS = {"format", "size", "schedule", "denoiser", "network", "autoencoder", "conditioner", "defaults"}
_SHARED = "shared"  # part -> the neighbouring model folder that has its file; may be left out


@dataclass
class Parts:
    """What a model folder holds.

    Attributes:
        denoiser: a network denoiser (its network is `denoiser.net`).
        autoencoder: Identity for a pixel-space model.
        conditioner: None for an unconditional model.
        size: (height, width) the model was trained at, pixels.
        defaults: sampling defaults: "sampler", "steps", "guidance".
        card: the model card, Markdown.
    """

    denoiser: NetworkDenoiser
    autoencoder: Autoencoder
    conditioner: Conditioner | None
    size: tuple[int, int]
    defaults: dict[str, Any] = field(default_factory=dict)
    card: str = ""

    def modules(self) -> dict[str, nn.Module]:
        """The parts that have weights, by the name of their file."""
        named = {"denoiser": self.denoiser.net, "autoencoder": self.autoencoder, "conditioner": self.conditioner}
        return {k: m for k, m in named.items() if m is not None and len(m.state_dict())}


def write_folder(
    parts: Parts, path: str | Path, dtype: torch.dtype | None = None, shared: Mapping[str, str] | None = None
) -> Path:
    """Write a model folder; it appears whole or not at all.

    Args:
        parts: the model.
        path: the folder; one that exists must be empty or itself a model folder (it is replaced).
        dtype: of the weights on disk; None keeps each tensor's own.
        shared: part -> name of a model folder beside this one that holds the same weights of it, and goes wherever
            this one goes: they are not written again.

    Raises:
        ValueError: for a part that has no name in the format, a folder of other things, one that cannot be written,
            or a neighbour whose weights differ.
    """
    path = Path(path)
    _check_defaults(parts.defaults, path)
    config = {
        "format": FORMAT,
        "size": list(parts.size),
        "schedule": describe("schedule", parts.denoiser.schedule),
        "denoiser": describe("denoiser", parts.denoiser),
        "network": describe("network", parts.denoiser.net),
        "autoencoder": describe("autoencoder", parts.autoencoder),
        "conditioner": None if parts.conditioner is None else describe("conditioner", parts.conditioner),
        "defaults": parts.defaults,
    }
    shared = dict(shared or {})
    if shared:
        config[_SHARED] = shared
        _check_shared(shared, parts, path)
    if path.is_dir() and any(path.iterdir()) and not (path / CONFIG).is_file():
        raise ValueError(f"{path} holds other files; a model is saved into a new, empty, or model folder")
    try:
        with atomic_folder(path) as temporary:
            for name, module in parts.modules().items():
                if name not in shared:
                    save_state(module.state_dict(), temporary / f"{name}.safetensors", dtype)
                elif not _same(path.parent / shared[name] / f"{name}.safetensors", module.state_dict(), dtype):
                    raise ValueError(f"{shared[name]} has other weights of the {name}; leave it out of shared")
            (temporary / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            (temporary / CARD).write_text(parts.card, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write the model folder {path}: {error.strerror or error}") from error
    return path


def read_config(path: str | Path) -> Mapping[str, Any]:
    """The config.json of a model folder, checked for its format and keys.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    file = Path(path) / CONFIG
    if not file.is_file():
        raise ValueError(f"{path} is no model folder: it has no {CONFIG}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not readable as JSON ({error})") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{file}: format {found!r}; this version reads {FORMAT!r}")
    if missing := sorted(_KEYS - set(config)):
        raise ValueError(f"{file}: missing {', '.join(missing)}")
    if unknown := sorted(set(config) - _KEYS - {_SHARED}):
        raise ValueError(f"{file}: unknown {', '.join(unknown)}; written by a newer version?")
    size = config["size"]
    if not (isinstance(size, list) and len(size) == 2 and all(type(s) is int and 0 < s <= _LARGEST for s in size)):
        raise ValueError(f"{file}: size {size!r:.80}; expected [height, width] in pixels, 1 to {_LARGEST}")
    _check_defaults(config["defaults"], file)
    return config


def _check_defaults(defaults: Any, source: object) -> None:
    if not isinstance(defaults, dict):
        raise ValueError(f"{source}: defaults should be a mapping, found {defaults!r:.80}")
    good = {
        "sampler": lambda v: isinstance(v, str),
        "steps": lambda v: type(v) is int and 1 <= v <= _LARGEST,
        "guidance": lambda v: type(v) in (int, float) and 0 <= v <= _LARGEST,
    }
    if unknown := sorted(set(defaults) - set(good)):
        raise ValueError(f"{source}: unknown defaults {', '.join(map(str, unknown))}; known: {', '.join(good)}")
    for key, value in defaults.items():
        if not good[key](value):
            raise ValueError(
                f"{source}: defaults have {key}={value!r:.80}; expected the name of a sampler, "
                "a whole number of steps >= 1, and a guidance >= 0"
            )


def _check_shared(shared: Any, parts: Parts, source: Path) -> None:
    if not isinstance(shared, dict) or not set(shared) <= set(parts.modules()):
        raise ValueError(
            f"{source}: {_SHARED} is {shared!r:.80}; expected parts with weights: {', '.join(parts.modules())}"
        )
    for folder in shared.values():  # a name, so that a folder from elsewhere reads nothing but its neighbours
        if not isinstance(folder, str) or folder in ("", ".", "..") or Path(folder).name != folder:
            raise ValueError(f"{source}: {_SHARED} names {folder!r:.80}; expected the name of a folder beside this one")


def _same(file: Path, state: Mapping[str, torch.Tensor], dtype: torch.dtype | None) -> bool:
    there = read_state(file)
    if set(there) != set(state):
        return False
    pairs = [(there[k], v.to(dtype) if dtype is not None and v.is_floating_point() else v) for k, v in state.items()]
    return all(a.dtype == b.dtype and a.shape == b.shape and bool((a == b.cpu()).all()) for a, b in pairs)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def read_folder(path: str | Path) -> Parts:
    """Build the parts a folder describes and fill them with its weights (on the CPU, in evaluation mode).

    Raises:
        ValueError: naming the file: missing, unreadable, truncated, unknown types or keys, tensors that are missing,
            unknown or of another shape, a pickle in place of safetensors.
    """
    path = Path(path)
    config = read_config(path)
    file = path / CONFIG
    schedule = build("schedule", config["schedule"], source=file)
    # weights come from the files: the random ones of the constructors must not touch the caller's generator
    with torch.random.fork_rng(devices=[]):
        network = build("network", config["network"], source=file)
        denoiser = build("denoiser", config["denoiser"], network, schedule, source=file)
        autoencoder = build("autoencoder", config["autoencoder"], source=file)
        entry = config["conditioner"]
        conditioner = None if entry is None else build("conditioner", entry, source=file)
    card = (path / CARD).read_text(encoding="utf-8") if (path / CARD).is_file() else ""
    parts = Parts(denoiser, autoencoder, conditioner, tuple(config["size"]), dict(config["defaults"]), card)
    shared = config.get(_SHARED, {})
    _check_shared(shared, parts, file)
    for name, module in parts.modules().items():
        load_into(
            module,
            path.resolve().parent / shared[name] / f"{name}.safetensors"
            if name in shared
            else path / f"{name}.safetensors",
        )
        module.eval()
    return parts
