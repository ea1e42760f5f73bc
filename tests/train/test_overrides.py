from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch

from mezzotint.train.overrides import describe, leaves, with_overrides


@dataclass(frozen=True)
class _Part:
    width: int = 8
    rates: tuple[float, float] = (0.1, 0.2)
    mult: tuple[int, ...] = (1, 2)
    kind: Literal["a", "b", 3] = "a"
    where: Path | None = None

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


@dataclass(frozen=True)
class _Whole:
    part: _Part = _Part()
    flag: bool = False
    name: str = "x"
    decay: float | None = 0.5
    build: Callable[[], int] = len


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("part.width", "16", 16),
        ("part.width", "1e3", 1000),
        ("part.width", "1_000", 1000),
        ("part.rates", "0.5, 1e-3", (0.5, 1e-3)),
        ("part.mult", "(1, 2, 4)", (1, 2, 4)),
        ("part.mult", "3", (3,)),
        ("part.kind", "b", "b"),
        ("part.kind", "3", 3),
        ("part.where", "a/b", Path("a/b")),
        ("part.where", "none", None),
        ("flag", "yes", True),
        ("flag", "FALSE", False),
        ("name", "a=b", "a=b"),
        ("decay", "None", None),
        ("decay", "0.9", 0.9),
    ],
)
def test_text_is_read_by_the_leafs_type(key, text, value):
    whole = with_overrides(_Whole(part=_Part(where=Path("old"))), {key: text})
    for name in key.split("."):
        whole = getattr(whole, name)
    assert whole == value and type(whole) is type(value)


def test_other_leaves_and_the_original_stay():
    before = _Whole()
    after = with_overrides(before, {"part.width": "9", "flag": "on"})
    assert before == _Whole()
    assert dataclasses.replace(after, flag=False, part=dataclasses.replace(after.part, width=8)) == before


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("part.widht", "1", r"unknown setting 'part.widht'; the settings are: part.width, part.rates, .*, flag, name"),
        ("part", "1", "unknown setting 'part'"),
        ("build", "len", "unknown setting 'build'"),
        ("part.width.x", "1", "unknown setting 'part.width.x'"),
        ("part.width", "1.5", "part.width=1.5: expected a whole number"),
        ("part.width", "inf", "part.width=inf: expected a whole number"),
        ("part.width", "", "part.width=: expected a whole number"),
        ("part.rates", "1", r"expected 2 values separated by commas \(a number, a number\)"),
        ("part.mult", "1,x", "expected a whole number, separated by commas"),
        ("part.kind", "c", "expected one of a, b, 3"),
        ("flag", "maybe", "flag=maybe: expected true or false"),
        ("decay", "much", "expected a number or none"),
        ("part.width", "0", "width must be at least 1, got 0"),  # the part's own check
    ],
)
def test_wrong_settings_are_told(key, text, message):
    with pytest.raises(ValueError, match=message):
        with_overrides(_Whole(), {key: text})


def test_leaves_are_exactly_what_can_be_set():
    assert leaves(_Whole()) == [
        "part.width", "part.rates", "part.mult", "part.kind", "part.where", "flag", "name", "decay",
    ]  # fmt: skip


def test_descriptions_differ_exactly_where_the_training_does():
    import json

    first = describe(_Whole())
    assert first == describe(_Whole()) == json.loads(json.dumps(first))
    assert first["build"] == "builtins.len" and first["part.mult"] == [1, 2] and first["part"] == "_Part"
    second = describe(with_overrides(_Whole(), {"part.width": "9"}))
    assert {k for k in first if first[k] != second[k]} == {"part.width"}
    assert describe(_Whole(build=torch.nn.Linear(1, 1)))["build"] == "torch.nn.modules.linear.Linear"
