"""From prompts to token numbers, and from a condition to what a network of diffusers asks for by keyword."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mezzotint.core import Condition

__all__ = ["check_prompts", "required", "tokens_of"]


def check_prompts(prompts: Sequence[Any]) -> list[str]:
    """The prompts as a list of str.

    Raises:
        ValueError: for no prompts, one that is not in a list, or one that is not a str.

    >>> check_prompts(("a cat", ""))
    ['a cat', '']
    """
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"prompts come as a list with at least one str, got {prompts!r}; put them in a list")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise ValueError(f"a prompt must be a str, got {type(prompt).__name__}; pass the text itself")
    return list(prompts)


def tokens_of(
    tokenizer: Callable[..., Any], prompts: Sequence[str], length: int, *, warn: bool = True
) -> tuple[Tensor, Tensor]:
    """Token numbers and which of them are real, both (b, length) int64, padded at the tokenizer's side.

    Args:
        tokenizer: of transformers.
        prompts: str.
        length: tokens a row; longer prompts are cut, with a warning.
        warn: whether to warn.
    """
    row = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    if warn:
        longest = max(
            len(ids) for ids in tokenizer(list(prompts), verbose=False).input_ids
        )  # it warns by itself otherwise
        if longest > length:
            warnings.warn(f"a prompt of {longest} tokens was cut to {length}; its end is not read", stacklevel=4)
    return row.input_ids.to(torch.int64), row.attention_mask.to(torch.int64)


def required(c: Condition | None, network: str, *keys: str) -> tuple[Tensor, ...]:
    """The tensors of a condition under these keys.

    Raises:
        ValueError: where there is no condition or it lacks one of them.
    """
    missing = [key for key in keys if c is None or key not in c]
    if c is None or missing:
        raise ValueError(
            f"{network} reads {list(keys)} of its condition, which lacks {missing}; make it with the model's "
            "conditioner: c = model.conditioner(model.conditioner.prepare([prompt]))"
        )
    return tuple(c[key] for key in keys)
