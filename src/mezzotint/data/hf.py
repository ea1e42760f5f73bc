"""A `datasets.Dataset` that the user has opened, as a source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mezzotint.data.decode import MAX_PIXELS, WHITE, BrokenImage
from mezzotint.data.image_folder import read_bytes
from mezzotint.data.images import ImageSource, words_of

__all__ = ["HFSource"]


class HFSource(ImageSource):
    """Images of a map-style data set: anything with a length whose item i is a mapping of columns.

    Nothing of the `datasets` library is imported. Where the image column decodes itself (`features[image].decode`), the
    set is cast to hand over bytes, so that broken images can be told and all modes are handled in one way.

    Args:
        dataset: `datasets.load_dataset(..., split="train")`, or a look-alike.
        image, caption, label: names of the columns; None for no captions, or no labels. An image is bytes, a path, a
            pair {bytes, path}, a Pillow image or a uint8 array.
        background, max_pixels: see `ImageSource`.

    Raises:
        ValueError: for a set without length (a streamed one), or columns that are not there.

    >>> import numpy as np
    >>> rows = [{"image": np.zeros((4, 6, 3), np.uint8), "text": "night"}]
    >>> HFSource(rows, caption="text")[0].caption
    'night'
    """

    def __init__(
        self,
        dataset: Any,
        image: str = "image",
        caption: str | None = None,
        label: str | None = None,
        background: Sequence[float] = WHITE,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(background, max_pixels)
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(
                f"a {type(dataset).__name__} cannot be addressed by index; load the data set without streaming"
            )
        if not len(dataset):
            raise ValueError("the data set is empty")
        names = getattr(dataset, "column_names", None)
        if isinstance(names, dict):
            raise ValueError(f"this is a dictionary of splits ({', '.join(names)}); give one of them")
        names = list(dataset[0]) if names is None else names
        for name in (image, caption, label):
            if name is not None and name not in names:
                raise ValueError(f"the data set has no column {name!r}; its columns are {', '.join(names)}")
        features = getattr(dataset, "features", None) or {}
        feature: Any = features.get(image)
        if getattr(feature, "decode", False) and hasattr(dataset, "cast_column"):
            dataset = dataset.cast_column(image, type(feature)(decode=False))
        self.dataset, self._image, self._caption, self._label = dataset, image, caption, label
        self.classes = tuple(getattr(features.get(label), "names", None) or ())

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        return f"row {index} of the data set"

    def encoded(self, index: int) -> Any:
        value = self.dataset[index][self._image]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if value is None or (isinstance(value, str) and not value):
            raise BrokenImage("its image is empty")
        return read_bytes(Path(value)) if isinstance(value, (str, Path)) else value

    def captions(self, index: int) -> tuple[str, ...]:
        if self._caption is None:
            return ()
        return words_of(self._column(index, self._caption), self.name(index))

    def label(self, index: int) -> int | None:
        value = None if self._label is None else self._column(index, self._label)
        return None if value is None else int(value)

    def identity(self) -> dict[str, Any]:
        """The fingerprint that the data set keeps of itself."""
        seen = {"background": list(self.background), "max_pixels": self.max_pixels}
        mark = getattr(self.dataset, "_fingerprint", None)
        if mark is None:
            raise ValueError(
                f"a {type(self.dataset).__name__} has no fingerprint, so what is cached of it may be stale"
            )
        return {"source": "HFSource", "images": len(self), "fingerprint": str(mark), "column": self._image, **seen}

    def _column(self, index: int, name: str) -> Any:
        select = getattr(self.dataset, "select_columns", None)
        return (self.dataset if select is None else self._texts())[index][name]

    def _texts(self) -> Any:
        """The columns of words alone, so that no image is read for its caption."""
        if not hasattr(self, "_selected"):
            names = [name for name in (self._caption, self._label) if name is not None]
            self._selected = self.dataset.select_columns(names)
        return self._selected
