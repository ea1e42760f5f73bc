"""What a model folder may be made of: an explicit table from names to classes, and configurations from objects.

No class is ever imported because a file names it: a name outside the table is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

__all__ = ["PARTS", "build", "describe"]

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
    },
    "network": {"UNet": "mezzotint.nn", "DiT": "mezzotint.nn"},
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
    if name not in PARTS[kind]:
        raise ValueError(f"a {name} cannot be saved as {kind}; known: {', '.join(PARTS[kind])}")
    if kind == "schedule":
        return {"type": name, "config": _schedule_config(part)}
    return {"type": name, "config": dict(part.config)}


def _schedule_config(schedule: Any) -> dict[str, Any]:
    if not is_dataclass(schedule):
        return {"betas": list(schedule.betas)}
    values = {f.name: getattr(schedule, f.name) for f in fields(schedule)}
    return {k: describe("schedule", v) if k == "base" else v for k, v in values.items()}


def build(kind: str, entry: Any, *first: Any, source: object = "config") -> Any:
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
    keywords = dict(config)
    if kind == "schedule" and "base" in keywords:
        keywords["base"] = build("schedule", keywords["base"], source=source)
    try:
        return getattr(import_module(PARTS[kind][name]), name)(*first, **keywords)
    except TypeError as error:
        raise ValueError(f"{source}: {kind} {name} does not take this config ({error})") from error
