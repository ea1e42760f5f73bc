"""Weights of feature networks from a user's file, a folder, or the hub: safetensors, or pickles where that is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.io.safe import check_state, read_state

__all__ = ["read_weights"]


def read_weights(
    source: str | Path, *, allow_pickle: bool = False, file: str = "model.safetensors"
) -> dict[str, Tensor]:
    """Tensors by name, from a .safetensors file or, with `allow_pickle`, one that torch.save wrote.

    A pickle is read by torch's restricted reader (weights_only), which makes tensors and plain containers alone.

    Args:
        source: a file, or a hub id "owner/model" that has `file`.
        allow_pickle: whether a .pth, .pt, .bin or .ckpt may be opened.
        file: name of the weights on the hub.

    Raises:
        ValueError: for a missing or broken file, a pickle without the word, or one that holds no tensors by name.
    """
    path = _found(source, file)
    if path.suffix not in (".pth", ".pt", ".bin", ".ckpt"):
        return read_state(path)
    if not allow_pickle:
        raise ValueError(f"{path}: a pickle, which can run code: pass allow_pickle=True only if you trust who made it")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or foreign pickle brings up
        raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split()):.300})") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds no tensors by name; expected the state_dict of a network")
    return {str(name): value for name, value in state.items()}


def fill(net: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Give a network made on the meta device its weights, float32; what BatchNorm counts may be absent.

    Raises:
        ValueError: naming tensors that are missing, unknown, or of another shape.
    """
    expected = net.state_dict()
    given = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    for name in expected:
        if name.endswith("num_batches_tracked"):
            given.setdefault(name, torch.zeros((), dtype=torch.int64))
    check_state(given, expected, source)
    net.load_state_dict(given, assign=True)
    net.eval().requires_grad_(False)


def model_folder(source: str | Path, patterns: Sequence[str], **options: Any) -> Path:
    """A folder in transformers' format: the one given, or a hub id's, of which `patterns` are fetched.

    Raises:
        ValueError: if there is neither.
        ImportError: for a hub id without huggingface_hub.
    """
    from mezzotint.io.diffusers.load import is_hub_id

    path = Path(source)
    if path.is_dir():
        return path
    if not is_hub_id(str(source)):
        raise ValueError(f"{source}: no such folder; give a folder with config.json, or a hub id 'owner/model'")
    hub = _hub()
    try:
        return Path(hub.snapshot_download(str(source), allow_patterns=list(patterns), **options))
    except Exception as error:  # the hub's client has some twenty kinds
        raise ValueError(f"{source}: no folder here, and cannot be fetched from the hub ({_told(error)})") from error


def pretrained(make: Any, folder: Path, *, allow_pickle: bool) -> Any:
    """A model of one fixed transformers class from a folder, whole, in evaluation mode, without gradients.

    Raises:
        ValueError: naming the folder, for another kind of model, missing weights, or a pickle without the word.
    """
    from mezzotint.io.diffusers.files import check_files, pickle_hint

    check_files(folder, allow_pickle)
    options = {"use_safetensors": None if allow_pickle else True, "output_loading_info": True, "local_files_only": True}
    try:
        with torch.random.fork_rng(devices=[]), _no_bars():  # constructors draw; the caller's generator stays untouched
            model, info = make.from_pretrained(str(folder), **options)
    except Exception as error:  # what transformers raises on damaged or missing files is of every kind
        hint = pickle_hint(folder, allow_pickle)
        raise ValueError(f"{folder}: {make.__name__} cannot be loaded ({_told(error)}){hint}") from error
    if missing := sorted(map(str, info["missing_keys"])):
        raise ValueError(f"{folder}: the weights lack {', '.join(missing[:5])}; is this a {make.__name__}?")
    return model.eval().requires_grad_(False)


@contextmanager
def _no_bars() -> Iterator[None]:
    """As io.diffusers.quiet, without diffusers, whose import takes seconds."""
    logging = import_module("transformers.utils.logging")
    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def transformers() -> Any:
    """The module, or ImportError naming the extra."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"this needs transformers ({error}): pip install 'mezzotint[diffusers]'") from error
    return transformers


def _found(source: str | Path, file: str) -> Path:
    from mezzotint.io.diffusers.load import is_hub_id

    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        return path / file
    if path.suffix or not is_hub_id(str(source)):
        raise ValueError(f"{source}: no such file; give a file of weights, or a hub id 'owner/model'")
    try:
        return Path(_hub().hf_hub_download(str(source), file))
    except ImportError:
        raise
    except Exception as error:  # the hub's client has some twenty kinds
        raise ValueError(
            f"{source}: no file here, and {file} cannot be fetched from the hub ({_told(error)})"
        ) from error


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(f"a hub id needs huggingface_hub ({error}): pip install 'mezzotint[diffusers]'") from error
    return huggingface_hub


def _told(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"
