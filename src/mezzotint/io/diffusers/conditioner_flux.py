"""Words for Flux: T5's tokens, CLIP's pooled vector, and the guidance its distilled network is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.prompts import check_prompts, tokens_of
from mezzotint.nn.conditioner.base import Conditioner

__all__ = ["Distilled", "FluxConditioner"]


@dataclass(frozen=True)
class Distilled:
    """A prompt with the guidance that a guidance-distilled network is told (diffusers' `guidance_scale`).

    It costs no second evaluation, other than `guidance=` of `Model.sample` (diffusers' `true_cfg_scale`).

    Args:
        prompt: words.
        guidance: finite, >= 0.

    Source: arXiv 2210.03142.
    """

    prompt: str
    guidance: float = 3.5

    def __post_init__(self) -> None:
        if not 0 <= self.guidance < math.inf:
            raise ValueError(f"distilled guidance {self.guidance}; expected a finite number >= 0")


class FluxConditioner(Conditioner):
    """text = T5(tokens), pooled = CLIP(tokens), guidance = what a distilled network is told.

    The null, used only where `guidance` is not 1 or a negative prompt is given, is the encoding of "" under the same
    told guidance.

    Args:
        clip, t5: tokenizer and encoder of transformers.
        distilled: whether the network reads a guidance.
        length: tokens of T5 that a prompt is cut or padded to (512; 256 for schnell).
    """

    reads = ("clip_tokens", "t5_tokens")
    example = ""

    def __init__(self, clip: tuple[Any, Any], t5: tuple[Any, Any], distilled: bool, length: int = 512) -> None:
        super().__init__()
        self.tokenizer, self.encoder = clip
        self.tokenizer_2, self.encoder_2 = t5
        self.distilled, self.length = bool(distilled), int(length)
        self.config = {"distilled": self.distilled, "length": self.length}

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Token numbers of prompts, and "guidance" (b,) for a distilled network.

        Args:
            inputs: str, or `Distilled` for a guidance other than 3.5.

        Raises:
            ValueError: for other entries, or a `Distilled` where the network is not.
        """
        if not isinstance(inputs, str):
            told = [entry.guidance if isinstance(entry, Distilled) else Distilled.guidance for entry in inputs]
            if not self.distilled and any(isinstance(entry, Distilled) for entry in inputs):
                raise ValueError("this network is not guidance-distilled and is told no guidance; give prompts alone")
            inputs = [entry.prompt if isinstance(entry, Distilled) else entry for entry in inputs]
        values = self._tokens(check_prompts(inputs))
        if self.distilled:
            values["guidance"] = torch.tensor(told)
        return Condition(values, self._tokens([""]))

    def with_negative(self, raw: Condition, negative: str) -> Condition:
        """`raw` with a negative prompt for its null, under the same told guidance."""
        return Condition(dict(raw), self._tokens(check_prompts([negative])))

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """To "text" (b, length, d) and "pooled" (b, e)."""
        pooled = self.encoder(raw["clip_tokens"]).pooler_output
        return {"text": self.encoder_2(raw["t5_tokens"])[0], "pooled": pooled}

    def _tokens(self, prompts: list[str]) -> dict[str, Tensor]:
        length = self.tokenizer.model_max_length
        # T5 reads the whole of a long prompt: that CLIP does not is no news to anybody
        return {
            "clip_tokens": tokens_of(self.tokenizer, prompts, length, warn=False)[0],
            "t5_tokens": tokens_of(self.tokenizer_2, prompts, self.length)[0],
        }
