"""The emoji of the repository: Noto and Fluent 3D, 64x64, with names, groups and CLDR keywords."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.data.caption import STYLE_WORDS, vary
from mezzotint.data.source import ArraySource

__all__ = ["GROUPS", "Emoji", "emoji_folder"]

GROUPS = (
    "activities",
    "animals-nature",
    "component",
    "flags",
    "food-drink",
    "objects",
    "people-body",
    "smileys-emotion",
    "symbols",
    "travel-places",
)
_SPLITS = ("train", "val", "test", "all")
_NATIVE = 64


class Emoji(ArraySource):
    """The packed emoji as an index-addressable source, decoded once into memory (5393 images: 2 s, 66 MB at 64 px).

    Pixels are composited on `background` and, below 64 px, averaged over areas (divisors of 64) or scaled by an
    antialiased bilinear filter.

    Args:
        size: side in pixels, 4 to 64.
        split: "train", "val", "test" or "all"; the same concept is in the same split in both styles.
        styles: which of "noto", "fluent", in this order.
        background: red, green, blue in [0, 1] behind transparent pixels.

    Attributes:
        captions: plain captions with the style's words, "red heart, noto".
        names, keywords, styles, groups, subgroups, hexcodes, base_hexcodes: labels of each image.
        labels: (n,) int64, place of the group in `GROUPS`.

    Raises:
        ValueError: for an unknown split or style, a size or background out of range, or where the files are not found.

    >>> from mezzotint.data import Emoji
    >>> emoji = Emoji(size=16, split="val", styles=("fluent",))
    >>> len(emoji), emoji.captions[0], emoji[0].image.shape
    (79, 'grinning face with big eyes, fluent 3d', torch.Size([3, 16, 16]))
    """

    def __init__(
        self,
        size: int = _NATIVE,
        split: str = "train",
        styles: Sequence[str] = ("noto", "fluent"),
        background: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(_SPLITS)}")
        if not isinstance(size, int) or not 4 <= size <= _NATIVE:
            raise ValueError(f"size is {size!r}; the packed emoji are 64x64, so give an integer from 4 to 64")
        unknown = [style for style in styles if style not in STYLE_WORDS]
        if isinstance(styles, str) or unknown or not styles:
            raise ValueError(f"styles is {styles!r}; give a sequence of {', '.join(STYLE_WORDS)}")
        if len(background) != 3 or not all(0 <= value <= 1 for value in background):
            raise ValueError(f"background is {background!r}; give red, green and blue in [0, 1]")
        rows = [row for style in styles for row in _rows(style, split)]
        captions = [f"{row['name']}, {STYLE_WORDS[row['style']]}" for row in rows]
        labels = torch.tensor([GROUPS.index(row["group"]) for row in rows])
        super().__init__(_decode([row["image"] for row in rows], size, background), captions, labels)
        self.names: list[str] = [row["name"] for row in rows]
        self.keywords: list[tuple[str, ...]] = [tuple(row["keywords"] or ()) for row in rows]
        self.styles: list[str] = [row["style"] for row in rows]
        self.groups: list[str] = [row["group"] for row in rows]
        self.subgroups: list[str] = [row["subgroup"] for row in rows]
        self.hexcodes: list[str] = [row["hexcode"] for row in rows]
        self.base_hexcodes: list[str] = [row["base_hexcode"] for row in rows]

    def caption(self, index: int, step: int, seed: int) -> str:
        """The caption of image `index` as training sees it at `step` (see `mezzotint.data.caption.vary`)."""
        i = self._row(index)
        return vary(self.names[i], self.keywords[i], self.styles[i], seed, step, i)


def emoji_folder() -> Path:
    """The folder of emoji_noto.parquet and emoji_fluent.parquet: $MEZZOTINT_DATA, else data/ of the checkout.

    Raises:
        ValueError: if the files are in neither.
    """
    chosen = os.environ.get("MEZZOTINT_DATA")
    folder = Path(chosen) if chosen else Path(__file__).resolve().parents[3] / "data"
    if not (folder / "emoji_noto.parquet").is_file():
        raise ValueError(
            f"no emoji_noto.parquet in {folder}: the emoji travel with the repository, not with the wheel; "
            "clone it and install it with `pip install -e .`, or set MEZZOTINT_DATA to its data folder"
        )
    return folder


def _rows(style: str, split: str) -> list[dict[str, Any]]:
    path = emoji_folder() / f"emoji_{style}.parquet"
    if not path.is_file():
        raise ValueError(
            f"no {path.name} in {path.parent}: restore it from the repository, or leave out style {style!r}"
        )
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("the emoji are Parquet files: pip install 'mezzotint[train]' brings pyarrow") from error
    try:
        table = pq.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable Parquet file ({error}): restore it from the repository") from error
    return [row | {"style": style} for row in table if split in ("all", row["split"])]


def _decode(blobs: list[bytes], size: int, background: Sequence[float]) -> Tensor:
    from PIL import Image

    behind = torch.tensor([255 * value for value in background]).view(1, 3, 1, 1)
    out = torch.empty(len(blobs), 3, size, size, dtype=torch.uint8)
    for start in range(0, len(blobs), 256):  # float copies of a few hundred images only
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(b)).convert("RGBA")) for b in blobs[start : start + 256]])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        x = behind + (x[:, 3:] / 255) * (x[:, :3] - behind)
        if _NATIVE % size == 0:
            x = F.avg_pool2d(x, _NATIVE // size)
        else:
            x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
        out[start : start + 256] = x.round().clamp(0, 255).to(torch.uint8)
    return out
