"""The text form of a chain: "desaturate|invert|contrast:1.5"."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from mezzotint.edit.filters.band import Bands, Blur, Edges, HighPass, Sharpen
from mezzotint.edit.filters.filter import Filter, FilterChain
from mezzotint.edit.filters.point import Contrast, Desaturate, HueRotate, Invert, Posterise, Recolour
from mezzotint.edit.filters.window import Maximum, Minimum, Rank

__all__ = ["FILTERS", "parse"]

FILTERS: dict[str, type[Filter]] = {
    kind.name: kind
    for kind in (
        Desaturate, Invert, Contrast, Recolour, Posterise, HueRotate, Rank, Maximum, Minimum, Blur, HighPass, Sharpen,
        Edges, Bands,
    )
}  # fmt: skip


def parse(text: str) -> FilterChain:
    """A chain from its text: names joined by "|", in the order in which they act, with values after ":".

    Args:
        text: as "max:3|blur" or "rank:5,0.5"; a value left out ("bands:,0.5") is its default.

    Raises:
        ValueError: for an empty text, an unknown filter, or values it does not take.

    >>> str(parse("desaturate | invert | contrast:1.5"))
    'desaturate|invert|contrast:1.5,mean'
    """
    if not text.strip():
        raise ValueError(f"an empty chain of filters; name one or more of {', '.join(FILTERS)}, joined by |")
    return FilterChain(tuple(_filter(part.strip()) for part in text.split("|")))


def _filter(text: str) -> Filter:
    name, colon, values = text.partition(":")
    name = name.strip()
    if name not in FILTERS:
        raise ValueError(f"no filter {name!r}; there are {', '.join(FILTERS)}")
    kind = FILTERS[name]
    fields = dataclasses.fields(kind)
    given = values.split(",") if colon else []
    if len(given) > len(fields):
        takes = ", ".join(f.name for f in fields) or "no values"
        raise ValueError(f"{text!r}: {len(given)} values, but {name} takes {takes}")
    hints = typing.get_type_hints(kind)
    made = {f.name: _value(v.strip(), hints[f.name], text) for f, v in zip(fields, given, strict=False) if v.strip()}
    missing = [f.name for f in fields if f.name not in made and f.default is dataclasses.MISSING]
    if missing:
        raise ValueError(f"{text!r}: {name} needs {', '.join(missing)}, after a colon")
    return kind(**made)


def _value(text: str, hint: Any, source: str) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError as error:
                raise ValueError(f"{source!r}: {text!r} is no {'whole ' if kind is int else ''}number") from error
    return text
