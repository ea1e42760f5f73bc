"""Does an image fit its caption: cosine of an image encoder and a text encoder, CLIP's or any other pair."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.metric.card import MetricCard, weights_hash
from mezzotint.metric.resize import resize_centre
from mezzotint.metric.result import MetricResult, finite, mean_of
from mezzotint.metric.weights import model_folder, pretrained, transformers

__all__ = ["CLIP", "TextScore", "load_clip"]

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_USUAL = {"mean": _MEAN, "std": _STD}


class TextScore:
    """Mean of 100 max(cos(image, text), 0) over the pairs, on any two encoders into one space.

    Args:
        image: images in [-1, 1] -> (b, d).
        text: captions -> (b, d).
        name: of the pair of encoders, for the card.
        resize: filter of the image encoder, for the card.
        batch: pairs at a time.

    Source: Hessel et al. 2021 (arXiv 2104.08718), equation 1, with a weight of 100 as is common (theirs is 2.5).

    >>> score = TextScore(lambda x: x.mean((2, 3)), lambda words: torch.eye(3)[: len(words)], "colours")
    >>> score.scores(torch.eye(3).view(3, 3, 1, 1), ["red", "green", "blue"]).tolist()
    [100.0, 100.0, 100.0]
    """

    metric = "image-text score"

    def __init__(
        self,
        image: Callable[[Tensor], Tensor],
        text: Callable[[Sequence[str]], Tensor],
        name: str,
        *,
        resize: str = "none",
        batch: int = 64,
        extractor_hash: str = "",
    ) -> None:
        self.image, self.text, self.name, self.resize, self.batch = image, text, name, resize, batch
        self.extractor_hash = extractor_hash

    def scores(self, images: Float[Tensor, "b c h w"], captions: Sequence[str]) -> Float[Tensor, "b"]:
        """The score of each pair, 0 to 100, float64.

        Raises:
            ValueError: for another number of captions, encoders into different spaces, or values that are not finite.
        """
        captions = list(captions)
        if len(captions) != len(images) or not captions:
            raise ValueError(f"{len(captions)} captions for {len(images)} images; give one a image")
        parts = []
        with torch.no_grad():
            for start in range(0, len(captions), self.batch):
                rows = slice(start, start + self.batch)
                a, b = self.image(images[rows].clamp(-1, 1)), self.text(captions[rows])
                if a.shape != b.shape or a.ndim != 2:
                    raise ValueError(f"the encoders gave {tuple(a.shape)} and {tuple(b.shape)}; expected equal (b, d)")
                cosine = torch.cosine_similarity(a.cpu().double(), b.cpu().double(), dim=1)
                parts.append(100 * finite("the similarities", cosine).clamp(min=0))
        return torch.cat(parts)

    def cosine(self, images: Float[Tensor, "b c h w"], captions: Sequence[str]) -> Float[Tensor, " b"]:
        """cos(image, text) of each pair, -1 to 1: differentiable, to optimise by (and then not to measure by)."""
        return torch.cosine_similarity(self.image(images.clamp(-1, 1)).float(), self.text(captions).float(), dim=1)

    def __call__(self, images: Float[Tensor, "b c h w"], captions: Sequence[str]) -> MetricResult:
        """The mean score, with its error and card."""
        value, error = mean_of(self.scores(images, captions))
        n = len(images)
        card = MetricCard(self.metric, self.name, self.extractor_hash, self.resize, n=n, n_reference=n)
        return MetricResult(value, card, error)


class CLIP(nn.Module):
    """A CLIP of transformers: image features of unit length (an extractor, for CMMD too), text features, the score.

    Args:
        model: a transformers CLIPModel.
        tokenizer: its tokenizer.
        mean, std: of its training images in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, tokenizer: Any, mean: Sequence[float] = _MEAN, std: Sequence[float] = _STD) -> None:
        super().__init__()
        self.model, self.tokenizer, self.size = model, tokenizer, int(model.config.vision_config.image_size)
        vision = model.config.vision_config
        self.name = f"CLIP, {vision.num_hidden_layers} layers of {vision.hidden_size}, patches of {vision.patch_size}"
        self.resize = f"bicubic, antialiased, shorter side to {self.size}, centre"
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor([float(v) for v in values]).view(1, 3, 1, 1), persistent=False)

    def features(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Image features of unit length, of images in [-1, 1]."""
        pixels = ((resize_centre(x, self.size) + 1) / 2 - self.mean) / self.std
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return nn.functional.normalize(self.model.visual_projection(pooled), dim=1)

    def text(self, captions: Sequence[str]) -> Float[Tensor, "b d"]:
        """Text features of unit length; captions are cut at the model's length."""
        length = int(self.model.config.text_config.max_position_embeddings)
        rows = self.tokenizer(list(captions), padding=True, truncation=True, max_length=length, return_tensors="pt")
        rows = {key: rows[key].to(self.mean.device) for key in ("input_ids", "attention_mask")}
        pooled = self.model.text_model(**rows).pooler_output
        return nn.functional.normalize(self.model.text_projection(pooled), dim=1)

    def score(self, batch: int = 64) -> TextScore:
        """CLIP score on this model."""
        hashed = weights_hash(self)
        return TextScore(
            lambda x: self.features(x.to(self.mean.device)),
            self.text,
            self.name,
            resize=self.resize,
            batch=batch,
            extractor_hash=hashed,
        )


def load_clip(source: str | Path, *, allow_pickle: bool = False, **options: Any) -> CLIP:
    """A CLIP from a folder in transformers' format, or a hub id such as "openai/clip-vit-base-patch32".

    Args:
        source: a folder, or a hub id "owner/model".
        allow_pickle: whether weights that are pickles may be opened.
        options: `revision`, `cache_dir`, `token`, `local_files_only` of the hub's client.

    Raises:
        ValueError: where it cannot be had, has no vocabulary, or is another kind of model.
        ImportError: without transformers.
    """
    from mezzotint.io.diffusers.files import check_vocabulary

    library = transformers()
    patterns = ["*.json", "*.txt", "*.safetensors", *(["*.bin"] if allow_pickle else [])]
    folder = model_folder(source, patterns, **options)
    model = pretrained(library.CLIPModel, folder, allow_pickle=allow_pickle)
    check_vocabulary(library.CLIPTokenizer, folder)
    try:
        tokenizer = library.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise ValueError(f"{folder}: its tokenizer cannot be loaded ({' '.join(str(error).split()):.300})") from error
    mean, std = _constants(folder / "preprocessor_config.json")
    return CLIP(model, tokenizer, mean, std).eval()


def _constants(file: Path) -> tuple[Sequence[float], Sequence[float]]:
    if not file.is_file():
        return _MEAN, _STD
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        mean, std = ([float(v) for v in told.get(f"image_{key}", usual)] for key, usual in _USUAL.items())
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file}: not readable ({error})") from error
    if len(mean) != 3 or len(std) != 3 or not min(std) > 0:
        raise ValueError(f"{file}: image_mean and image_std must be three numbers each, those of image_std positive")
    return mean, std
