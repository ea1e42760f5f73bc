"""Words for Sana: the hidden states of a Gemma decoder that reads an instruction before the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.prompts import check_prompts, tokens_of
from mezzotint.nn.conditioner.base import Conditioner

__all__ = ["GemmaConditioner"]


class GemmaConditioner(Conditioner):
    """text = Gemma(instruction + prompt) at the first token and the last length - 1, text_mask = which are real.

    Prompts are lowered and stripped. The null is "" without the instruction, as a negative prompt is.

    Args:
        tokenizer, encoder: of transformers.
        instruction: lines put before the prompt; none for none.
        length: tokens that the network reads.

    Source: arXiv 2410.10629, section 3.2 ("complex human instruction").
    """

    reads = ("tokens", "tokens_mask", "chosen")
    example = ""

    def __init__(self, tokenizer: Any, encoder: Any, instruction: Sequence[str] = (), length: int = 300) -> None:
        super().__init__()
        self.tokenizer, self.encoder = tokenizer, encoder
        self.instruction, self.length = tuple(instruction), int(length)
        self.config = {"length": self.length}
        tokenizer.padding_side = "right"

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Token numbers of prompts and which to keep: "tokens", "tokens_mask" (b, n), "chosen" (b, length), int64."""
        prompts = [prompt.lower().strip() for prompt in check_prompts(inputs)]
        before = "\n".join(self.instruction)
        # the instruction's first token stays, and its end token, if any, is the prompt's
        total = self.length + (len(self.tokenizer.encode(before)) - 2 if before else 0)
        kept = torch.tensor([0, *range(total - self.length + 1, total)])
        values = self._tokens([before + prompt for prompt in prompts], total, total, kept)
        return Condition(values, self._plain([""], total))

    def with_negative(self, raw: Condition, negative: str) -> Condition:
        """`raw` with a negative prompt for its null."""
        (text,) = check_prompts([negative])
        return Condition(dict(raw), self._plain([text.lower().strip()], raw["tokens"].shape[1]))

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """To "text" (b, length, d) and "text_mask" (b, length) bool."""
        mask, chosen = raw["tokens_mask"], raw["chosen"]
        hidden = self.encoder(raw["tokens"], attention_mask=mask)[0]
        text = hidden.gather(1, chosen[..., None].expand(-1, -1, hidden.shape[-1]))
        return {"text": text, "text_mask": mask.gather(1, chosen).bool()}

    def _plain(self, prompts: list[str], total: int) -> dict[str, Tensor]:
        return self._tokens(prompts, self.length, total, torch.arange(self.length))

    def _tokens(self, prompts: list[str], length: int, total: int, kept: Tensor) -> dict[str, Tensor]:
        """Rows of `length` tokens, then padding up to `total`, which a decoder's earlier tokens cannot see."""
        tokens, mask = tokens_of(self.tokenizer, prompts, length)
        tokens = F.pad(tokens, (0, total - length), value=self.tokenizer.pad_token_id)
        return {
            "tokens": tokens,
            "tokens_mask": F.pad(mask, (0, total - length)),
            "chosen": kept.expand(len(prompts), -1),
        }
