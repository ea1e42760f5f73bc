"""What the files of a component must hold and may ask for, checked before diffusers or transformers read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["check_files", "check_length", "check_vocabulary", "pickle_hint"]

# of transformers' own code; any other name is that of a kernel, which may come from the hub and is code
_IMPLEMENTATIONS = (None, "eager", "sdpa")
_WORD = "which can run code: pass allow_pickle=True only if you trust who made it"
_UNSTATED = 10**6  # a tokenizer whose files state no length says 1e30


def check_files(folder: Path, allow_pickle: bool) -> None:
    """Shards lie beside the index that names them and are safetensors; no configuration asks for code of others.

    Both libraries open a shard by its ending: an index of safetensors could name a pickle.

    Raises:
        ValueError: naming the file and the entry.
    """
    for file in sorted(folder.glob("*.index*.json")):
        try:
            names = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
            outside = [n for n in names if not isinstance(n, str) or Path(n).name != n]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{file}: not a readable index of shards ({error})") from error
        if outside:
            raise ValueError(f"{file}: names {outside[0]!r:.80}, which is outside its folder")
        if pickles := sorted(n for n in names if not n.endswith(".safetensors")):
            if not allow_pickle and ".safetensors." in file.name:
                raise ValueError(f"{file}: names {pickles[0]!r:.80}, a pickle, {_WORD}")
    for key, value in _implementations(folder / "config.json"):
        if value not in _IMPLEMENTATIONS:
            raise ValueError(
                f"{folder / 'config.json'}: {key} is {value!r:.80}, a kernel that may be fetched and run as code; "
                "take the entry out, or make it 'sdpa'"
            )


def _implementations(file: Path) -> Iterator[tuple[str, Any]]:
    """Every "..._implementation" in a configuration, at any depth; what cannot be read is the library's to refuse."""
    try:
        waiting = [json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, RecursionError):
        return
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting += entry
        elif isinstance(entry, dict):
            for key, value in entry.items():
                if key.endswith("_implementation") and not isinstance(value, (dict, list)):
                    yield key, value
                elif key.endswith("_implementation") and isinstance(value, dict):  # one a part of the model
                    yield from ((f"{key}.{part}", name) for part, name in value.items())
                else:
                    waiting.append(value)


def check_vocabulary(make: Any, folder: Path) -> None:
    """A tokenizer's vocabulary is there: without it transformers makes an empty one, and all words are unknown.

    Raises:
        ValueError: naming the files that would do.
    """
    names: Mapping[str, str] = getattr(make, "vocab_files_names", {})
    whole = [name for key, name in names.items() if key == "tokenizer_file"]
    parts = [name for key, name in names.items() if key != "tokenizer_file"]
    if make.__name__.startswith("Gemma"):
        parts = parts or ["tokenizer.model"]
    if not any(group and all((folder / name).is_file() for name in group) for group in (whole, parts)):
        ways = " or ".join(" with ".join(group) for group in (whole, parts) if group)
        raise ValueError(f"{folder}: no vocabulary; a {make.__name__} needs {ways}")


def check_length(part: Any, folder: Path) -> None:
    """A component that is CLIP's tokenizer states how many tokens a prompt has.

    Raises:
        ValueError: where it does not.
    """
    if type(part).__name__.startswith("CLIPTokenizer") and part.model_max_length > _UNSTATED:
        raise ValueError(
            f"{folder}: states no model_max_length; tokenizer_config.json is missing or incomplete (77 for CLIP)"
        )


def pickle_hint(folder: Path, allow_pickle: bool) -> str:
    """What to say where weights cannot be loaded and pickles lie there."""
    pickles = [p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.ckpt"))]
    return "" if allow_pickle or not pickles else f"; {pickles[0]} is a pickle, {_WORD}"
