"""CLIP's text encoders as conditioners: one (Stable Diffusion) or two (SDXL)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.prompts import check_prompts
from mezzotint.nn.conditioner import Conditioner

__all__ = ["CLIPText", "CLIPTextPair", "token_rows"]


def token_rows(tokenizer: Any, prompts: Sequence[Any], length: int | None = None) -> Tensor:
    """Token ids of prompts, (b, length), padded; longer prompts are truncated with a warning.

    Raises:
        ValueError: for no prompts, or one that is not a str.
    """
    prompts = check_prompts(prompts)
    length = int(length or tokenizer.model_max_length)
    rows = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    for prompt in prompts:
        if (wanted := len(tokenizer(prompt, verbose=False).input_ids)) > length:
            warnings.warn(f"prompt truncated to {length} of its {wanted} tokens: {prompt[:60]!r}", stacklevel=4)
    return rows.input_ids


class CLIPText(Conditioner):
    """Prompts through one CLIP text encoder: "text" = its last hidden states; the null is the prompt "".

    Args:
        tokenizer: of transformers.
        encoder: a CLIPTextModel.

    Source: arXiv 2112.10752, as in Stable Diffusion 1 and 2; 77 tokens, no mask.
    """

    reads = ("tokens",)
    example = ""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        super().__init__()
        self.config = {}
        self.tokenizer, self.encoder = tokenizer, encoder

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Token ids, (b, 77), with those of "" as null. Raises ValueError for what is no prompt."""
        return Condition({"tokens": token_rows(self.tokenizer, inputs)}, {"tokens": token_rows(self.tokenizer, [""])})

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tokens (b, n) to "text" (b, n, d)."""
        ids = raw["tokens"]
        mask = None
        if getattr(self.encoder.config, "use_attention_mask", False):
            # everything up to the first end token is real
            ended = (ids == self.tokenizer.eos_token_id).cumsum(1)
            mask = ((ended == 0) | ((ended == 1) & (ids == self.tokenizer.eos_token_id))).long()
        return {"text": self.encoder(ids, attention_mask=mask)[0]}


class CLIPTextPair(Conditioner):
    """Prompts through two CLIP text encoders: "text" = both penultimate hidden states side by side, "pooled" = the
    second's projection.

    Args:
        tokenizers, encoders: a pair each, the second encoder a CLIPTextModelWithProjection.
        zero_null: whether the null is zeros (what a pipeline with force_zeros_for_empty_prompt does where no negative
            prompt is given) instead of the prompt "".

    Source: arXiv 2307.01952, section 2.1, and the pipeline of diffusers.
    """

    reads = ("tokens", "tokens_2")
    example = ""

    def __init__(self, tokenizers: Sequence[Any], encoders: Sequence[Any], zero_null: bool = True) -> None:
        super().__init__()
        self.config = {}
        self.tokenizer, self.tokenizer_2 = tokenizers
        self.encoder, self.encoder_2 = encoders
        self.zero_null = zero_null

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Token ids of both tokenizers, (b, 77) each. Raises ValueError for what is no prompt."""
        values = self._tokens(inputs)
        null = {key: torch.full_like(v[:1], -1) for key, v in values.items()} if self.zero_null else self._tokens([""])
        return Condition(values, null)

    def _tokens(self, prompts: Sequence[Any]) -> dict[str, Tensor]:
        return {"tokens": token_rows(self.tokenizer, prompts), "tokens_2": token_rows(self.tokenizer_2, prompts)}

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tokens (b, n) to "text" (b, n, d1 + d2) and "pooled" (b, d); rows of -1 become zeros."""
        real = (raw["tokens"] >= 0).all(1)
        first = self.encoder(raw["tokens"].clamp_min(0), output_hidden_states=True)
        second = self.encoder_2(raw["tokens_2"].clamp_min(0), output_hidden_states=True)
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        pooled = second[0]
        return {"text": text * real[:, None, None].to(text.dtype), "pooled": pooled * real[:, None].to(pooled.dtype)}
