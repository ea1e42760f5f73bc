"""Text as a condition: word pieces through a small transformer, trained jointly with the denoiser."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.nn.conditioner.base import Conditioner
from mezzotint.nn.conditioner.encoder import MaskedPool, TokenEncoder
from mezzotint.nn.conditioner.tokenizer import PAD, START, WordPieces


class TextConditioner(Conditioner):
    """Prompts to token embeddings and a pooled vector.

    tokens = (start, pieces..., pad...);  text = Encoder(tokens);  pooled = W mean_i(text_i) + b

    The null condition is the encoding of "", that is of the start piece alone. It is read by an ordinary forward
    pass, so the null prompt and the prompt "" cannot differ.

    Args:
        vocab: Word pieces, as ``train_vocabulary`` makes them. They are kept in ``config``, so that a saved model
            needs no other file.
        length: Tokens in a sequence, the start piece included; longer prompts are truncated with a warning.
        width: Channels d of a token.
        depth: Transformer blocks.
        heads: Attention heads; divides ``width``.

    Raises:
        ValueError: Sizes below 1, heads that do not divide the width, a malformed vocabulary.

    Source: arXiv 2112.10752, section 3.3 and appendix E: unmasked transformer, null = ""; tokenizer, sizes and the
    pooled vector are our choice.

    >>> from mezzotint.nn.conditioner.tokenizer import train_vocabulary
    >>> text = TextConditioner(train_vocabulary(["red heart"], size=70, whole=1), length=8, width=8, depth=1, heads=2)
    >>> c = text(text.prepare(["red heart", "a cat"]))
    >>> tuple(c["text"].shape), tuple(c["pooled"].shape)
    ((2, 8, 8), (2, 8))
    """

    reads = ("tokens",)
    example = ""

    def __init__(
        self, vocab: Sequence[str], length: int = 16, width: int = 192, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.config = {"vocab": list(vocab), "length": length, "width": width, "depth": depth, "heads": heads}
        self.pieces = WordPieces(vocab)
        self.encoder = TokenEncoder(len(self.pieces), length, width, depth, heads)
        self.pool = MaskedPool(width)

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Token indices of prompts, padded to ``length``.

        Args:
            inputs: Prompts; "" is the null condition.

        Returns:
            "tokens", (b, length) int64, with the tokens of "" as null.

        Raises:
            ValueError: No prompts, or a prompt that is not a str.
        """
        if isinstance(inputs, str) or not len(inputs):
            raise ValueError(f"prompts come as a list with at least one str, got {inputs!r}; put them in a list")
        for prompt in inputs:
            if not isinstance(prompt, str):
                raise ValueError(f"a prompt must be a str, got {type(prompt).__name__}; pass the text itself")
        return Condition({"tokens": self._tokens(inputs)}, {"tokens": self._tokens([""])})

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tokens (b, n) to "text" (b, n, d), "text_mask" (b, n) and "pooled" (b, d); n is at most ``length``."""
        tokens = raw["tokens"]
        mask = tokens != PAD
        text = self.encoder(tokens, mask)
        return {"text": text, "text_mask": mask, "pooled": self.pool(text, mask)}

    def _tokens(self, prompts: Sequence[str]) -> Tensor:
        length = self.config["length"]
        rows = torch.full((len(prompts), length), PAD, dtype=torch.int64)
        for row, prompt in zip(rows, prompts):
            pieces = [START, *self.pieces.encode(prompt)]
            if len(pieces) > length:
                lost = self.pieces.decode(pieces[length:])
                warnings.warn(
                    f"prompt truncated to {length} of its {len(pieces)} tokens; not read: {lost[:60]!r}", stacklevel=3
                )
            kept = pieces[:length]
            row[: len(kept)] = torch.tensor(kept)
        return rows
