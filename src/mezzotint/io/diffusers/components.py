"""The components of a pipeline folder, loaded one by one from an explicit table of classes.

A class that a file names is looked up here and nowhere else: custom code beside the weights is never imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from mezzotint.io.diffusers.files import check_files, check_vocabulary, pickle_hint
from mezzotint.io.diffusers.schedulers import SCHEDULERS

__all__ = ["COMPONENTS", "Loading", "load_component", "read_index"]

INDEX = "model_index.json"
_MODELS = {
    "diffusers": (
        "AutoencoderDC",
        "AutoencoderKL",
        "DiTTransformer2DModel",
        "FluxTransformer2DModel",
        "PixArtTransformer2DModel",
        "SD3Transformer2DModel",
        "SanaTransformer2DModel",
        "Transformer2DModel",
        "UNet2DConditionModel",
        "UNet2DModel",
    ),
    "transformers": (
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "Gemma2Model",
        "T5EncoderModel",
    ),
}
_TOKENIZERS = (
    "CLIPTokenizer",
    "CLIPTokenizerFast",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
    "T5Tokenizer",
    "T5TokenizerFast",
)
# (library, class) -> "model", "tokenizer" or "scheduler"
COMPONENTS: dict[tuple[str, str], str] = {
    **{(library, name): "model" for library, names in _MODELS.items() for name in names},
    **{("transformers", name): "tokenizer" for name in _TOKENIZERS},
    **{("diffusers", name): "scheduler" for name in SCHEDULERS},
}


class Loading(dict[str, Any]):
    """How weights are loaded: `dtype`, `variant`, `allow_pickle`, and what `from_pretrained` is given as it is.

    Raises:
        ValueError: for a keyword outside the list, or a dtype that is none.
    """

    passed = ("device_map", "max_memory", "offload_folder", "offload_state_dict", "low_cpu_mem_usage")

    def __init__(self, **options: Any) -> None:
        known = ("dtype", "variant", "allow_pickle", *self.passed)
        if unknown := sorted(set(options) - set(known)):
            raise ValueError(f"unknown loading options {', '.join(unknown)}; known: {', '.join(known)}")
        dtype = options.get("dtype")  # of what is none, diffusers makes float32
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"dtype={dtype!r}; expected a floating dtype of torch, such as torch.bfloat16")
        super().__init__({key: value for key, value in options.items() if value is not None})

    def keywords(self, library: str) -> dict[str, Any]:
        """For `from_pretrained` of a library's models."""
        out = {key: self[key] for key in ("variant", *self.passed) if key in self}
        # None: safetensors where there are any, otherwise a pickle
        out["use_safetensors"] = None if self.get("allow_pickle") else True
        if "dtype" in self:
            # transformers has called it dtype since 5, and warns of the other name
            new = library == "transformers" and int(import_module(library).__version__.split(".")[0]) >= 5
            out["dtype" if new else "torch_dtype"] = self["dtype"]
        return out


def read_index(path: Path) -> dict[str, Any]:
    """model_index.json of a pipeline folder.

    Raises:
        ValueError: if it is missing or unreadable, or names code of its own (a custom pipeline).
    """
    file = path / INDEX
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is no folder of a diffusers pipeline: it has no {INDEX}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not readable as JSON ({error})") from error
    if not isinstance(index, dict):
        raise ValueError(f"{file}: expected a mapping, found {type(index).__name__}")
    if isinstance(index.get("_class_name"), list):
        raise ValueError(f"{file}: names a custom pipeline in Python ({index['_class_name']!r:.80}); code is not run")
    return index


def load_component(path: Path, index: Mapping[str, Any], name: str, loading: Loading) -> Any:
    """One component of a pipeline folder, in evaluation mode.

    Raises:
        ValueError: naming the component: absent, of a class outside the table, without safetensors, with weights
            that are missing or do not fit, or not readable.
    """
    entry = index.get(name)
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(e, str) for e in entry)):
        raise ValueError(f"{path / INDEX}: {index.get('_class_name')} needs {name!r}, found {entry!r:.80}")
    library, cls = entry
    kind = COMPONENTS.get((library, cls))
    if kind is None:
        raise ValueError(
            f"{path / INDEX}: {name} is a {cls!r:.80} of {library!r:.80}, which is not in the table of components "
            "that are loaded; code named by a file is never run"
        )
    folder = path / name
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; {INDEX} promises a {cls} there")
    allow_pickle = bool(loading.get("allow_pickle"))
    check_files(folder, allow_pickle)
    try:
        make = getattr(import_module(library), cls)  # an older version may lack it, or need what is not installed
    except (AttributeError, ImportError, RuntimeError) as error:
        raise ValueError(f"{folder}: {library} as installed has no {cls} ({_told(error)})") from error
    if kind == "tokenizer":
        check_vocabulary(make, folder)
    try:
        if kind != "model":
            return make.from_pretrained(str(folder))
        model, info = make.from_pretrained(str(folder), output_loading_info=True, **loading.keywords(library))
    except Exception as error:  # what the two libraries raise on damaged or missing files is of every kind
        hint = pickle_hint(folder, allow_pickle)
        raise ValueError(f"{folder}: {cls} cannot be loaded ({_told(error)}){hint}") from error
    if missing := sorted(map(str, info["missing_keys"])):  # both libraries fill these at random, with a warning
        some = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ValueError(f"{folder}: the weights lack {some}")
    return model.eval()


def _told(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"
