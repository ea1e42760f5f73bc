"""Aspect buckets: frames of about one area and many shapes, and an order in which every batch has one shape."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mezzotint.core.noise import fold
from mezzotint.data.decode import BrokenImage
from mezzotint.data.images import ImageSource
from mezzotint.data.order import permutation
from mezzotint.io.atomic import write_text

__all__ = ["Bucketed", "assign", "buckets", "image_sizes"]

Frame = tuple[int, int]


def buckets(area: int, step: int = 64, max_ratio: float = 2.0) -> list[Frame]:
    """Frames (height, width) in multiples of `step` that fill an area as well as they can.

        h w <= area,   max(h / w, w / h) <= max_ratio,   no side could grow by `step`; and the square

    Args:
        area: greatest number of pixels, such as 512 * 512.
        step: sides are multiples of it: the autoencoder's factor times the network's own multiple.
        max_ratio: longest side / shortest side, >= 1; 1 leaves the square alone.

    Returns:
        The frames, the widest first; with every (h, w) also (w, h).

    Raises:
        ValueError: for a step that does not fit the area, or a ratio below 1.

    Source: the aspect ratio bucketing of NovelAI and SDXL (arXiv 2307.01952, section 2.3), in the style of.

    >>> buckets(256 * 256, 64, 2.0)
    [(192, 320), (256, 256), (320, 192)]
    """
    side = math.isqrt(area) // step * step if step >= 1 and area >= 1 else 0
    if side < 1 or not max_ratio >= 1:
        raise ValueError(
            f"buckets got area={area}, step={step}, max_ratio={max_ratio}; expected a step of 1 or more, room for "
            "step x step pixels, and a ratio of 1 or more"
        )
    found = {(side, side)}
    for height in range(step, area // step + 1, step):
        width = area // height // step * step
        if width and (height + step) * width > area and max(height / width, width / height) <= max_ratio:
            found |= {(height, width), (width, height)}
    return sorted(found, key=lambda frame: (frame[0] / frame[1], frame))


def assign(sizes: Int[Tensor, "n 2"], frames: Sequence[Frame]) -> Int[Tensor, "n"]:
    """The frame that cuts least off each image: the nearest aspect ratio, by |log ratio - log ratio|.

    Args:
        sizes: height and width of each image; 0 x 0 (one that cannot be read) counts as a square.
        frames: from `buckets`.

    Returns:
        (n,) int64, places in `frames`; of two equally near the first.

    Raises:
        ValueError: for no frame.

    >>> assign(torch.tensor([[100, 300], [500, 490], [0, 0]]), [(192, 320), (256, 256), (320, 192)]).tolist()
    [0, 1, 1]
    """
    if not len(frames):
        raise ValueError("assign got no frame; make some with buckets(area, step)")
    ratios = torch.tensor([math.log(h / w) for h, w in frames], dtype=torch.float64)
    readable = (sizes > 0).all(1)
    safe = torch.where(readable[:, None], sizes, 1).double()
    found = torch.empty(len(sizes), dtype=torch.int64)
    for start in range(0, len(sizes), 1 << 16):  # millions of images by dozens of frames need not be there at once
        part = slice(start, start + (1 << 16))
        distance = ((safe[part, 0] / safe[part, 1]).log()[:, None] - ratios).abs()
        found[part] = (distance <= distance.amin(1, keepdim=True) + 1e-12).to(torch.uint8).argmax(1)
    return found


class Bucketed:
    """An order in which a batch has images of one frame, a pure function of (seed, step) without any state.

    Each frame has an endless list of its images, one shuffled epoch after another, and its batch j takes the places
    jB ... jB + B - 1. So no image is left out and none repeated within its epoch; a frame's images that do not fill a
    batch at the end of an epoch go on with the first ones of the next (a frame of fewer than B images meets some of
    them twice in one batch). Epoch e of the whole consists of the batches that begin in epoch e of their frame,

        T(e) = sum_k ceil(e n_k / B)    batches come before it,

    in an order shuffled by (seed, e). After E epochs every image was seen E times, but for at most B - 1 views more of
    each frame's images, which are the first ones of its next epoch.

    Args:
        assignment: the frame of each image, from `assign`.
        frames: (height, width) of each frame.
        batch: images a step.

    Raises:
        ValueError: for no image, a batch below 1, or an assignment to a frame that is not there.

    >>> order = Bucketed(torch.tensor([0, 1, 0, 1, 1, 0]), [(32, 64), (64, 32)], 3)
    >>> sorted((frame, sorted(rows.tolist())) for rows, frame in (order(0, 0), order(0, 1)))
    [((32, 64), [0, 2, 5]), ((64, 32), [1, 3, 4])]
    """

    def __init__(self, assignment: Int[Tensor, "n"], frames: Sequence[Frame], batch: int) -> None:
        if not len(assignment) or batch < 1:
            raise ValueError(f"a bucketed order got {len(assignment)} images and batch={batch}; both must be 1 or more")
        if int(assignment.min()) < 0 or int(assignment.max()) >= len(frames):
            raise ValueError(f"the assignment names frames beyond the {len(frames)} given")
        self.batch, self.frames = batch, [(int(h), int(w)) for h, w in frames]
        self._members = [(assignment == k).nonzero()[:, 0].numpy() for k in range(len(frames))]
        self._counts = [len(rows) for rows in self._members]
        self._lists: list[dict[tuple[int, int], np.ndarray]] = [{} for _ in frames]
        self._table: tuple[tuple[int, int], np.ndarray] | None = None

    def __call__(self, seed: int, step: int) -> tuple[Int[Tensor, "b"], Frame]:
        """The indices of a step's images, and the frame they share.

        Raises:
            ValueError: for a negative step or seed.
        """
        if step < 0 or seed < 0:
            raise ValueError(f"the data order got seed={seed}, step={step}; both must be 0 or more")
        epoch = self.epoch(step)
        frame, turn = (int(v) for v in self._batches(seed, epoch)[step - self._before(epoch)])
        n = self._counts[frame]
        places = np.arange(turn * self.batch, (turn + 1) * self.batch)
        rows = np.empty(self.batch, np.int64)
        for e in range(int(places[0]) // n, int(places[-1]) // n + 1):
            inside = places // n == e
            rows[inside] = self._list(seed, frame, e)[places[inside] % n]
        return torch.from_numpy(self._members[frame][rows]), self.frames[frame]

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to: T(epoch) <= step < T(epoch + 1)."""
        low = max(0, (step - len(self.frames)) * self.batch // sum(self._counts) - 1)
        high = step * self.batch // sum(self._counts) + 1  # T(e) >= e n / B, so T(high) > step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._before(middle) <= step else (low, middle)
        return low

    def _before(self, epoch: int) -> int:
        """T(epoch)."""
        return sum(-(-epoch * n // self.batch) for n in self._counts)

    def _batches(self, seed: int, epoch: int) -> np.ndarray:
        """(frame, turn) of each batch of an epoch, shuffled; that of the latest epoch is kept."""
        if self._table is None or self._table[0] != (seed, epoch):
            parts = []
            for frame, n in enumerate(self._counts):
                turns = np.arange(-(-epoch * n // self.batch), -(-(epoch + 1) * n // self.batch))
                parts.append(np.stack([np.full_like(turns, frame), turns], 1))
            table = np.concatenate(parts)
            self._table = (seed, epoch), table[permutation(fold(seed, "buckets"), epoch, len(table))]
        return self._table[1]

    def _list(self, seed: int, frame: int, epoch: int) -> np.ndarray:
        """A frame's shuffled epoch; the latest two of each frame are kept."""
        kept = self._lists[frame]
        if (seed, epoch) not in kept:
            while len(kept) > 1:
                kept.pop(next(iter(kept)))
            kept[seed, epoch] = permutation(fold(seed, "bucket", frame), epoch, self._counts[frame])
        return kept[seed, epoch]


def image_sizes(source: ImageSource, keep: str | Path | None = None) -> tuple[Int[Tensor, "n 2"], dict[int, str]]:
    """Height and width of every image, from the headers, and which have none that can be read.

    Args:
        source: the images.
        keep: a file that remembers the answer (JSON), made anew where it is of other data; None for none.

    Returns:
        (n, 2) int64, with 0 x 0 for an unreadable image; index -> what is wrong with it.
    """
    identity = None if keep is None else source.identity()
    if keep is not None:
        try:
            told = json.loads(Path(keep).read_text(encoding="utf-8"))
            if told["identity"] == identity and len(told["sizes"]) == len(source):
                return torch.tensor(told["sizes"]), {int(i): str(why) for i, why in told["broken"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none yet, or of another set
    sizes, broken = [], {}
    for i in range(len(source)):
        try:
            sizes.append(source.size(i))
        except BrokenImage as error:
            sizes.append((0, 0))
            broken[i] = str(error)
    if keep is not None:
        write_text(keep, json.dumps({"identity": identity, "sizes": sizes, "broken": broken}))
    return torch.tensor(sizes), broken
