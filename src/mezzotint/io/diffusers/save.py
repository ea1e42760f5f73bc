"""A model that came from diffusers written back in its format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mezzotint.io.atomic import atomic_folder
from mezzotint.io.diffusers.components import INDEX
from mezzotint.io.diffusers.quiet import no_bars

__all__ = ["Source", "write_pipeline"]


@dataclass(frozen=True)
class Source:
    """The components a model stands on.

    Args:
        index: model_index.json as it was read.
        parts: component name -> object; its networks are the very ones the model runs, trained or not.
    """

    index: dict[str, Any]
    parts: dict[str, Any]

    def new_index(self) -> dict[str, Any]:
        """model_index.json of what is saved: components that were not loaded become empty."""
        out = {}
        for key, value in self.index.items():
            is_component = isinstance(value, list) and len(value) == 2 and not key.startswith("_")
            out[key] = [None, None] if is_component and key not in self.parts else value
        if out.get("safety_checker") == [None, None]:
            out["requires_safety_checker"] = False
        return out


def write_pipeline(source: Source | None, path: str | Path) -> Path:
    """Write a pipeline folder that diffusers reads; it appears whole or not at all.

    Args:
        source: of a model that `mezzotint.load` read from a diffusers pipeline.
        path: a new, empty, or pipeline folder (which is replaced).

    Raises:
        ValueError: for a model of ours, a folder of other things, one that cannot be written, or
            weights that are not at hand.
    """
    path = Path(path)
    if source is None:
        raise ValueError("format='diffusers' is for models that were loaded from diffusers; save this one without it")
    for name, part in source.parts.items():
        if isinstance(part, nn.Module) and any(p.is_meta for p in part.parameters()):
            raise ValueError(
                f"the weights of {name} wait elsewhere (offload='sequential', or a device_map that offloads); "
                "load the model without that to save it"
            )
    if path.is_dir() and any(path.iterdir()) and not (path / INDEX).is_file():
        raise ValueError(f"{path} holds other files; a pipeline is saved into a new, empty, or pipeline folder")
    try:
        with atomic_folder(path) as temporary, no_bars():
            for name, part in source.parts.items():
                if part is not None:
                    part.save_pretrained(str(temporary / name))
            text = json.dumps(source.new_index(), indent=2, sort_keys=True) + "\n"
            (temporary / INDEX).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write the pipeline folder {path}: {error.strerror or error}") from error
    return path
