"""A folder or hub id of a diffusers pipeline, read as the pieces of a Model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mezzotint.io.diffusers.components import INDEX, Loading, load_component, read_index
from mezzotint.io.diffusers.families import family_of
from mezzotint.io.diffusers.family import Family, Pieces
from mezzotint.io.diffusers.files import check_length
from mezzotint.io.diffusers.quiet import no_bars
from mezzotint.io.diffusers.save import Source

__all__ = ["download", "is_hub_id", "read_pipeline"]


def read_pipeline(path: str | Path, **options: Any) -> tuple[Pieces, Source]:
    """Load a pipeline folder.

    Args:
        path: a folder with model_index.json.
        options: see `mezzotint.load`.

    Returns:
        The pieces of a Model, and the components they stand on (for saving).

    Raises:
        ValueError: for a pipeline, component or configuration that is not read, or files that are damaged; names it.
    """
    _require()
    path, loading = Path(path), Loading(**options)
    index = read_index(path)
    family = family_of(index.get("_class_name"), path / INDEX)
    # what constructors draw is overwritten by the weights: the caller's generator stays untouched
    with torch.random.fork_rng(devices=[]), no_bars():
        parts = {
            name: None if _absent(family, index, name) else load_component(path, index, name, loading)
            for name in family.needs
        }
    for name, part in parts.items():
        check_length(part, path / name)
    try:
        pieces = family.build(parts, index)
    except (
        ValueError,
        RuntimeError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
    ) as error:  # configurations hold anything
        raise ValueError(f"{path}: {error}") from error
    if not all(type(side) is int and side > 0 for side in pieces.size):
        raise ValueError(f"{path}: the size drawn would be {pieces.size!r:.80} pixels; check sample_size")
    return pieces, Source(index, parts)


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub id, "owner/model".

    >>> is_hub_id("stabilityai/sd-turbo"), is_hub_id("emoji"), is_hub_id("./a/b"), is_hub_id("../models")
    (True, False, False, False)
    """
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def download(
    repo: str,
    *,
    variant: str | None = None,
    allow_pickle: bool = False,
    **options: Any,
) -> Path:
    """Fetch a pipeline's folder from the hub, or find it in the hub's cache: no code, no pickles, and only the
    components that its family needs.

    Args:
        repo: "owner/model".
        variant: of the weight files, as "fp16".
        allow_pickle: whether weights that are pickles are fetched too.
        options: `revision`, `cache_dir`, `token`, `local_files_only` of huggingface_hub.

    Raises:
        ValueError: if it cannot be fetched, or is of a family that is not read.
    """
    _require()
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        index = read_index(Path(hf_hub_download(repo, INDEX, **options)).parent)
    except ValueError:
        raise
    except Exception as error:  # the hub's client has some twenty kinds
        told = " ".join(str(error).split())
        raise ValueError(
            f"there is no folder {repo!r} here, and as a hub id it cannot be fetched from the hub ({told:.300})"
        ) from error
    family = family_of(index.get("_class_name"), f"{repo}/{INDEX}")
    middle = f".{variant}" if variant else ""
    kinds = ("safetensors", "bin") if allow_pickle else ("safetensors",)
    patterns = [INDEX]
    for name in family.needs:
        patterns += [f"{name}/{ending}" for ending in ("*.json", "*.txt", "*.model")]
        for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
            patterns += [f"{name}/{stem}{middle}{rest}.{kind}" for kind in kinds for rest in ("", "-*")]
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns, **options))
    except Exception as error:
        raise ValueError(f"{repo!r} cannot be fetched from the hub ({' '.join(str(error).split()):.300})") from error


def _absent(family: Family, index: Mapping[str, Any], name: str) -> bool:
    return name in getattr(family, "optional", ()) and index.get(name) in (None, [None, None])


def _require() -> None:
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"reading a diffusers pipeline needs diffusers and transformers ({error}); "
            "install them with: pip install 'mezzotint[diffusers]'"
        ) from error
