"""Leaves of nested frozen dataclasses: list them, describe them, replace them from text."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T")
_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def with_overrides(config: T, overrides: Mapping[str, str]) -> T:
    """Return a copy of a (nested, frozen) dataclass with leaves replaced by parsed text.

    A leaf's declared type says how its text is read: int (1e4 and 1_000 too), float, bool, str, Path, Literal,
    Optional ("none"), and tuples of these ("0.9,0.99").

    Args:
        config: a dataclass, such as a `Recipe`.
        overrides: dotted leaf -> text, such as {"optimiser.lr": "3e-4"}.

    Raises:
        ValueError: for an unknown leaf (the valid ones are listed), or text that its type cannot read.

    >>> from mezzotint.train.recipe import AdamW
    >>> with_overrides(AdamW(warmup=9), {"lr": "3e-4", "betas": "0.9, 0.95", "clip": "none"})
    AdamW(lr=0.0003, betas=(0.9, 0.95), weight_decay=0.01, clip=None, schedule='constant', warmup=9, ...)
    """
    valid = leaves(config)
    for key, text in overrides.items():
        if key not in valid:
            known = ", ".join(valid)
            raise ValueError(f"unknown setting {key!r}; the settings are: {known}")
        config = _replace(config, key.split("."), key, text)
    return config


def leaves(config: Any) -> list[str]:
    """Return the dotted names that `with_overrides` takes."""
    names = []
    for name, kind in _types(config).items():
        value = getattr(config, name)
        if _is_config(value):
            names += [f"{name}.{leaf}" for leaf in leaves(value)]
        elif _parsable(kind):
            names.append(name)
    return names


def describe(config: Any, *, marked: bool = True) -> dict[str, Any]:
    """Return a dataclass as flat JSON values: dotted leaf -> value, and each part's kind.

    Two configurations with equal descriptions train the same thing, so this is what tells whose run a folder
    is. Callables and other objects are told by their qualified name.

    Args:
        config: the dataclass.
        marked: with the fields that change no number, which have `metadata={"identity": False}`, at any depth.
    """
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        if not marked and field.metadata.get("identity") is False:
            continue
        value = getattr(config, field.name)
        if _is_config(value):
            flat[field.name] = type(value).__qualname__
            flat |= {f"{field.name}.{leaf}": inner for leaf, inner in describe(value, marked=marked).items()}
        else:
            flat[field.name] = _plain(value, marked)
    return flat


def _plain(value: Any, marked: bool) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(v, marked) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v, marked) for k, v in value.items()}
    if _is_config(value):  # inside a list
        return {"kind": type(value).__qualname__, **describe(value, marked=marked)}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _is_config(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _types(config: Any) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(type(config))
    except NameError:  # a class whose annotations are imported for the checker alone: its parts, not its leaves
        hints = {}
    return {f.name: hints.get(f.name, object) for f in dataclasses.fields(config) if f.init}


def _replace(config: Any, path: list[str], key: str, text: str) -> Any:
    name, rest = path[0], path[1:]
    if rest:
        new = _replace(getattr(config, name), rest, key, text)
    else:
        kind = _types(config)[name]
        try:
            new = _parse(kind, text.strip())
        except ValueError as error:
            raise ValueError(f"{key}={text}: expected {_told(kind)}") from error
    return dataclasses.replace(config, **{name: new})


def _parse(kind: Any, text: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if type(None) in inner and text.lower() in ("none", "null"):
            return None
        for choice in _written(inner):
            try:
                return _parse(choice, text)
            except ValueError:
                continue
        raise ValueError(text)
    if origin is Literal:
        for choice in inner:
            if text == str(choice):
                return choice
        raise ValueError(text)
    if origin is tuple:
        parts = [p.strip() for p in text.strip("()[] ").split(",") if p.strip()]
        kinds = [inner[0]] * len(parts) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
        if len(parts) != len(kinds):
            raise ValueError(text)
        return tuple(_parse(k, p) for k, p in zip(kinds, parts, strict=True))
    if kind is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise ValueError(text)
    if kind is int:
        return _integer(text)
    return kind(text)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise
        return int(value)


def _parsable(kind: Any) -> bool:
    if get_origin(kind) in (Union, types.UnionType, tuple):
        return all(_parsable(k) for k in _written(get_args(kind)))
    return get_origin(kind) is Literal or kind in (bool, int, float, str, Path)


def _written(kinds: tuple[Any, ...]) -> list[Any]:
    """Those of several types that text can give: neither none nor a part with settings of its own."""
    return [k for k in kinds if k not in (type(None), Ellipsis) and not dataclasses.is_dataclass(k)]


def _told(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join([_told(k) for k in _written(inner)] + ["none"] * (type(None) in inner))
    if origin is Literal:
        return "one of " + ", ".join(str(k) for k in inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return f"{_told(inner[0])}, separated by commas"
    if origin is tuple:
        return f"{len(inner)} values separated by commas ({', '.join(_told(k) for k in inner)})"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return names.get(kind, str(kind))
