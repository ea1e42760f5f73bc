"""Words for SD3: two CLIP encoders side by side, T5 after them, and the two pooled vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.prompts import check_prompts, tokens_of
from mezzotint.nn.conditioner.base import Conditioner

__all__ = ["SD3Conditioner"]


class SD3Conditioner(Conditioner):
    """text = [pad(CLIP_1, CLIP_2 along channels); T5 along tokens], pooled = [pooled_1, pooled_2].

    CLIP gives its last hidden states but one. Without a T5 (many leave out its 9 GB) its tokens are zeros, as in
    training. The null is the encoding of "".

    Args:
        clips: two pairs of tokenizer and encoder, of transformers.
        t5: tokenizer and encoder, or None.
        width: channels of a token.
        length: tokens of T5 that a prompt is cut or padded to; CLIP's is its own, 77.

    Source: arXiv 2403.03206, section 4 and figure 2.
    """

    reads = ("clip_tokens", "clip_tokens_2", "t5_tokens")
    example = ""

    def __init__(
        self,
        clips: Sequence[tuple[Any, Any]],
        t5: tuple[Any, Any] | None,
        width: int,
        length: int = 256,
    ) -> None:
        super().__init__()
        (self.tokenizer, self.encoder), (self.tokenizer_2, self.encoder_2) = clips
        self.tokenizer_3, self.encoder_3 = t5 or (None, None)
        self.width, self.length = int(width), int(length)
        self.config = {"width": self.width, "length": self.length}

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Token numbers of prompts, one int64 key an encoder, with those of "" as null."""
        prompts = check_prompts(inputs)
        return Condition(self._tokens(prompts), self._tokens([""]))

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """To "text" (b, n, width) and "pooled" (b, d)."""
        first = self.encoder(raw["clip_tokens"], output_hidden_states=True)
        second = self.encoder_2(raw["clip_tokens_2"], output_hidden_states=True)
        clip = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        tokens = raw["t5_tokens"]
        t5 = clip.new_zeros(*tokens.shape, self.width) if self.encoder_3 is None else self.encoder_3(tokens)[0]
        clip = F.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
        return {"text": torch.cat([clip, t5.to(clip.dtype)], 1), "pooled": torch.cat([first[0], second[0]], -1)}

    def _tokens(self, prompts: list[str]) -> dict[str, Tensor]:
        # the second tokenizer too is cut at the first one's length, as the pipeline does
        length = self.tokenizer.model_max_length
        if self.tokenizer_3 is None:
            t5 = torch.zeros(len(prompts), self.length, dtype=torch.int64)
        else:
            t5 = tokens_of(self.tokenizer_3, prompts, self.length)[0]
        # T5 reads the whole of a long prompt: that CLIP does not is no news to anybody
        return {
            "clip_tokens": tokens_of(self.tokenizer, prompts, length, warn=self.tokenizer_3 is None)[0],
            "clip_tokens_2": tokens_of(self.tokenizer_2, prompts, length, warn=False)[0],
            "t5_tokens": t5,
        }
