"""The pictures of `bench restore`: emoji of the test split, or crops of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise, fold

__all__ = ["TRAINED_ON", "Pictures", "crops", "emoji", "pictures"]

TRAINED_ON = {"kodak": 16}  # a source whose name begins so: how many of its first pictures the shipped prior has seen


@dataclass(frozen=True)
class Pictures:
    """What is degraded and restored.

    Args:
        x: (n, 3, h, w) in [-1, 1].
        about: where they come from, one line.
    """

    x: Float[Tensor, "n 3 h w"]
    about: str


def pictures(data: str, size: tuple[int, int], count: int, *, skip: int | None = None, seed: int = 0) -> Pictures:
    """`emoji`, or crops of the photographs in a Parquet file or a folder.

    Args:
        data: "emoji" or a path.
        size: (height, width) of the prior's pictures.
        count: how many.
        skip: the photographs that the prior was trained on, from the first; None: `TRAINED_ON`, or none.
        seed: of the corners of the crops.

    Raises:
        ValueError: for fewer pictures than asked, or photographs that are smaller than a crop.
    """
    if data == "emoji":
        return emoji(size, count)
    if skip is None:
        skip = next((n for name, n in TRAINED_ON.items() if Path(data).stem.startswith(name)), 0)
    return crops(data, size, count, skip=skip, seed=seed)


def emoji(size: tuple[int, int], count: int) -> Pictures:
    """Emoji of the test split, evenly spread over it."""
    from mezzotint.data import Emoji

    if size[0] != size[1]:
        raise ValueError(f"the model's pictures are {size[0]} x {size[1]}; emoji are square: give --data PATH")
    source = Emoji(size[0], "test")
    if count > len(source):
        raise ValueError(f"{count} images asked for; the test split of the emoji has {len(source)}")
    x, _ = source.batch([i * len(source) // count for i in range(count)])
    return Pictures(x, f"{count} of the {len(source)} emoji of the test split, {size[0]} px")


def crops(path: str, size: tuple[int, int], count: int, *, skip: int = 0, scale: int = 2, seed: int = 0) -> Pictures:
    """Crops of photographs whose sides are divided by `scale` (Lanczos), as many of each.

    Args:
        path, size, count, seed: see `pictures`.
        skip: photographs that are left out, from the first.
        scale: >= 1; flat crops are rarer in smaller pictures.
    """
    from mezzotint.data.framing import resize
    from mezzotint.data.open_source import open_source

    source = open_source(path)
    if not 0 <= skip < len(source):
        raise ValueError(
            f"{path} has {len(source)} pictures, of which {skip} are to be left out; give a smaller --skip"
        )
    made = []
    for k in range(count):
        x = source.pixels(skip + k % (len(source) - skip))
        x = resize(x, (x.shape[1] // scale, x.shape[2] // scale), "lanczos")
        rows, columns = (have - want for have, want in zip(x.shape[1:], size, strict=True))
        if rows < 0 or columns < 0:
            raise ValueError(
                f"{path}: a picture is {tuple(x.shape[1:])} at 1/{scale} of its size; expected {size} at least"
            )
        top, left = Noise([fold(seed, "bench restore crop", k)]).uniform("corner", 0, (2,))[0].tolist()
        i, j = int(top * (rows + 1)), int(left * (columns + 1))
        made.append(x[:, i : i + size[0], j : j + size[1]].float() / 127.5 - 1)
    about = f"{count} crops of {size[0]} x {size[1]} of {len(source) - skip} photographs at 1/{scale} of their size"
    return Pictures(torch.stack(made), f"{about} ({Path(path).stem}, the first {skip} left out)")
