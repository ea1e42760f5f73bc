"""What a model folder may be made of: an explicit table from names to classes, and configurations from objects.

No class is ever imported because a file names it: a name outside the table is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from inspect import signature
from typing import Any

__all__ = ["PARTS", "build", "describe"]

_DEEPEST = 8  # parts of one kind over each other
_LARGEST, _LAYERS = 10_000_000, 1000  # of any number in a configuration; of its numbers of layers
# what constructors raise at values of another type or size
_REFUSALS = (TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError, LookupError, AttributeError)

# kind -> name in the file -> where the class lives (imported when it is needed)
PARTS: dict[str, dict[str, str]] = {
    "schedule": {
        "VP": "mezzotint.core",
        "Cosine": "mezzotint.core",
        "VE": "mezzotint.core",
        "Flow": "mezzotint.core",
        "Discrete": "mezzotint.core",
        "Shifted": "mezzotint.core",
    },
    "denoiser": {
        "EpsDenoiser": "mezzotint.core",
        "X0Denoiser": "mezzotint.core",
        "VDenoiser": "mezzotint.core",
        "FlowDenoiser": "mezzotint.core",
        "EDMDenoiser": "mezzotint.core",
        "WConditioned": "mezzotint.core",
        "BoundaryDenoiser": "mezzotint.core",
        "DirectDenoiser": "mezzotint.core",
        "MultiResDenoiser": "mezzotint.core",
    },
    "network": {
        "UNet": "mezzotint.nn",
        "DiT": "mezzotint.nn",
        "GuidedNetwork": "mezzotint.nn",
        "EncoderDecoderViT": "mezzotint.nn",
        "MultiResNetwork": "mezzotint.nn",
    },
    "autoencoder": {
        "Identity": "mezzotint.latent",
        "AutoencoderKL": "mezzotint.latent",
        "AutoencoderVQ": "mezzotint.latent",
        "AutoencoderVQEMA": "mezzotint.latent",
    },
    "conditioner": {
        "TextConditioner": "mezzotint.nn.conditioner",
        "ClassConditioner": "mezzotint.nn.conditioner",
        "LayoutConditioner": "mezzotint.nn.conditioner",
        "SemanticMapConditioner": "mezzotint.nn.conditioner",
        "SuperResolutionConditioner": "mezzotint.nn.conditioner",
        "InpaintConditioner": "mezzotint.nn.conditioner",
    },
}


def describe(kind: str, part: Any) -> dict[str, Any]:
    """{"type": name, "config": keywords} of a part; nested parts are described in turn.

    Raises:
        ValueError: for a part whose class is not in the table.

    >>> from mezzotint.core import Flow, Shifted
    >>> describe("schedule", Shifted(Flow(), 3.0))["config"]["base"]
    {'type': 'Flow', 'config': {}}
    """
    name = type(part).__name__
    if type(part).__module__.startswith("mezzotint.io.diffusers"):
        raise ValueError(f"the {kind} is a part of a diffusers pipeline; save the model with format='diffusers'")
    if name not in PARTS[kind]:
        raise ValueError(f"a {name} cannot be saved as {kind}; known: {', '.join(PARTS[kind])}")
    if kind == "schedule":
        return {"type": name, "config": _schedule_config(part)}
    return {"type": name, "config": _described_base(kind, part.config)}


def _schedule_config(schedule: Any) -> dict[str, Any]:
    if not is_dataclass(schedule):
        return {"betas": list(schedule.betas)}
    return _described_base("schedule", {f.name: getattr(schedule, f.name) for f in fields(schedule)})


def _described_base(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A part over another of its kind has that one under "base"."""
    return {k: describe(kind, v) if k == "base" else v for k, v in values.items()}


def build(kind: str, entry: Any, *first: Any, source: object = "config", _depth: int = 0) -> Any:
    """The part that an entry {"type", "config"} describes.

    Args:
        kind: a key of PARTS.
        entry: what `describe` made, read back from JSON.
        first: positional arguments that are parts themselves (a denoiser's network and schedule).
        source: named in errors, usually the file.

    Raises:
        ValueError: for a malformed entry, an unknown type, or keywords that its class refuses.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
        raise ValueError(f'{source}: {kind} should be {{"type": ..., "config": ...}}, found {entry!r:.80}')
    name, config = entry["type"], entry.get("config", {})
    if name not in PARTS[kind]:
        raise ValueError(f"{source}: unknown {kind} {name!r}; this version knows {', '.join(PARTS[kind])}")
    if not isinstance(config, Mapping):
        raise ValueError(f"{source}: config of {kind} {name} should be a mapping, found {config!r:.80}")
    for key, value in config.items():  # before anything is built: a large number would fill the memory first
        limit = _LAYERS if key in ("blocks", "depth") else _LARGEST
        if any(abs(v) > limit for v in (value if isinstance(value, list) else [value]) if isinstance(v, (int, float))):
            raise ValueError(f"{source}: {kind} {name} has {key}={value!r:.80}; numbers go up to {limit} here")
    keywords = dict(config)
    if "base" in keywords:  # a part over another of its kind, to which the positional arguments go
        if _depth > _DEEPEST:
            raise ValueError(f"{source}: {kind} {name} lies over more than {_DEEPEST} others of its kind")
        keywords["base"], first = build(kind, keywords["base"], *first, source=source, _depth=_depth + 1), ()
    make = getattr(import_module(PARTS[kind][name]), name)
    try:
        _check_types(make, keywords)
        return make(*first, **keywords)
    except _REFUSALS as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{source}: {kind} {name} does not take this config ({told:.300})") from error


def _check_types(make: Any, keywords: Mapping[str, Any]) -> None:
    """JSON gives true for 1 and 2.0 for 2, which constructors take and networks trip over much later."""
    for key, parameter in signature(make).parameters.items():
        kind = _JSON.get(str(parameter.annotation))
        if kind is None or key not in keywords:
            continue
        (many, types), value = kind, keywords[key]
        values = value if many and isinstance(value, (list, tuple)) else [value]
        if (many and values is not value) or not all(type(v) in types for v in values):
            raise TypeError(f"{key}={value!r:.80}, expected {parameter.annotation}")


# annotation in a constructor -> whether a list of, the types of JSON
_JSON: dict[str, tuple[bool, tuple[type, ...]]] = {
    "int": (False, (int,)),
    "float": (False, (int, float)),
    "bool": (False, (bool,)),
    "str": (False, (str,)),
    "Sequence[int]": (True, (int,)),
    "int | Sequence[int]": (True, (int,)),  # written as a list
    "tuple[int, ...]": (True, (int,)),
    "Sequence[float]": (True, (int, float)),
    "tuple[float, ...]": (True, (int, float)),
    "Sequence[str]": (True, (str,)),
}
