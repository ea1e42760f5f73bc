"""Words for PixArt: the last hidden states of a T5 encoder, with the mask of real tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.prompts import check_prompts, tokens_of
from mezzotint.nn.conditioner.base import Conditioner

__all__ = ["T5Conditioner"]


class T5Conditioner(Conditioner):
    """Prompts to the tokens of a T5 encoder: text = T5(tokens), text_mask = which of them are real.

    The null is the encoding of "".

    Args:
        tokenizer, encoder: of transformers.
        length: tokens a prompt is cut or padded to (PixArt-alpha 120, PixArt-sigma 300).
        clean: what is done to a prompt before its tokens are taken.
    """

    reads = ("tokens", "tokens_mask")
    example = ""

    def __init__(
        self, tokenizer: Any, encoder: Any, length: int, clean: Callable[[str], str] = lambda text: text
    ) -> None:
        super().__init__()
        self.tokenizer, self.encoder, self.length, self.clean = tokenizer, encoder, int(length), clean
        self.config = {"length": self.length}

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Token numbers of prompts, "tokens" and "tokens_mask" (b, length) int64, with those of "" as null."""
        prompts = [self.clean(prompt) for prompt in check_prompts(inputs)]
        (tokens, mask), (empty, few) = (tokens_of(self.tokenizer, p, self.length) for p in (prompts, [""]))
        return Condition({"tokens": tokens, "tokens_mask": mask}, {"tokens": empty, "tokens_mask": few})

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """To "text" (b, length, d) and "text_mask" (b, length) bool."""
        mask = raw["tokens_mask"]
        return {"text": self.encoder(raw["tokens"], attention_mask=mask)[0], "text_mask": mask.bool()}
