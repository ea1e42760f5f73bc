"""Weights on disk: safetensors only, read with errors that name the file and what is wrong with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mezzotint.io.atomic import atomic_file

_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_SHOWN = 5


def save_state(
    state: Mapping[str, Tensor],
    path: str | Path,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors to a safetensors file, atomically.

    Args:
        state: name -> tensor, any device; tensors that share memory are written as copies.
        path: the file; its folder must exist.
        dtype: floating tensors are converted to it; None keeps each tensor's own.
        metadata: strings for the file's header.

    Raises:
        OSError: naming the file, where the disk is full or it cannot be written; an earlier file of that name stays.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "w.safetensors"
    >>> save_state({"w": torch.ones(2)}, path)
    >>> read_state(path)["w"].tolist()
    [1.0, 1.0]
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_file(path) as temporary:
        try:
            save_file(_separate(state, dtype), temporary, metadata=dict(metadata) if metadata else None)
        except SafetensorError as error:  # what the system said is in its text alone
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file, on the CPU.

    Raises:
        ValueError: naming the file, where it is missing, empty, truncated, a pickle, or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def read_header(path: str | Path) -> dict[str, dict]:
    """Read and check the header of a safetensors file: tensor name -> its dtype, shape and place.

    Raises:
        ValueError: as `read_state`.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file; expected weights in safetensors format")
    if not path.is_file():
        raise ValueError(f"{path}: is a folder; expected a safetensors file")
    try:
        with path.open("rb") as file:
            start, size = file.read(8), os.fstat(file.fileno()).st_size
            if start.startswith(_PICKLES):
                raise ValueError(
                    f"{path}: is a pickle (a torch.save file), whatever its name says; pickles can run code "
                    "and are never opened here. Convert it to safetensors where you trust it"
                )
            if len(start) < 8:
                raise ValueError(f"{path}: truncated; {size} bytes cannot hold a safetensors header")
            length = int.from_bytes(start, "little")
            if length > 100_000_000:
                raise ValueError(f"{path}: not a safetensors file (its header would be {length} bytes)")
            if 8 + length > size:
                raise ValueError(f"{path}: truncated; {size} bytes, but its header alone takes {8 + length}")
            header = json.loads(file.read(length))
            end = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (
        UnicodeDecodeError,
        json.JSONDecodeError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
    ) as error:
        raise ValueError(f"{path}: not a safetensors file (its header is not readable)") from error
    if size != 8 + length + end:
        kind = "truncated" if size < 8 + length + end else "damaged"
        raise ValueError(f"{path}: {kind}; {size} bytes, but its header describes {8 + length + end}")
    header.pop("__metadata__", None)
    return header


def load_into(module: nn.Module, path: str | Path) -> None:
    """Fill every parameter and buffer of `module` from a safetensors file, all or nothing.

    Raises:
        ValueError: naming the file and the tensors, where some are unknown, missing, or of another shape.
    """
    state = read_state(path)
    check_state(state, module.state_dict(), path)
    module.load_state_dict(state)


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that the tensors read from `path` have the names, shapes and kinds of the expected ones.

    Raises:
        ValueError: naming the file and every kind of difference, with the first few tensors of each.
    """
    problems = []
    if missing := [k for k in expected if k not in state]:
        problems.append(f"missing {_some(missing)}")
    if unknown := [k for k in state if k not in expected]:
        problems.append(f"unknown {_some(unknown)}")
    shared = [k for k in expected if k in state]
    if wrong := [
        f"{k} has shape {tuple(state[k].shape)}, expected {tuple(expected[k].shape)}"
        for k in shared
        if state[k].shape != expected[k].shape
    ]:
        problems.append(_some(wrong, "; "))
    if wrong := [
        f"{k} is {state[k].dtype}, expected {expected[k].dtype}"
        for k in shared
        if state[k].is_floating_point() != expected[k].is_floating_point()
    ]:
        problems.append(_some(wrong, "; "))
    if problems:
        raise ValueError(
            f"{path}: these weights do not fit the model: {'; '.join(problems)}. "
            "Was the file written by another configuration?"
        )


def _separate(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    out, seen = {}, set()
    for name, tensor in state.items():
        value = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        place = value.untyped_storage().data_ptr()
        if place in seen or value.untyped_storage().nbytes() != value.nbytes:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        out[name] = value
    return out


def _some(names: list[str], joint: str = ", ") -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return joint.join(names[:_SHOWN]) + more
