"""Class labels as a condition."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import torch

from mezzotint.core.condition import Condition
from mezzotint.nn.conditioner.base import Conditioner


class ClassConditioner(Conditioner):
    """Class indices, handed to the network as they are: its label embedding does the rest.

    label in {0, ..., classes - 1};  null = classes

    Args:
        classes: Number of classes.

    Raises:
        ValueError: Fewer than one class.

    Source: arXiv 2112.10752, code: one index beyond the classes is the null (1000 of 1001). There the embedded class is
    one token of cross-attention; here it is added to the time embedding, as in DiT (our choice).

    >>> c = ClassConditioner(10).prepare([3, None])
    >>> c["label"].tolist(), c.null()["label"].tolist()
    ([3, 10], [10, 10])
    """

    example = 0

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        self.config = {"classes": classes}

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Class indices of a batch.

        Args:
            inputs: Integers in [0, classes), or None for no class.

        Returns:
            "label", (b,) int64, with the null index as null.

        Raises:
            ValueError: No labels, one that is not an integer, or one out of range.
        """
        if isinstance(inputs, str) or not len(inputs):
            raise ValueError(f"labels come as a list with at least one index, got {inputs!r}")
        classes = self.config["classes"]
        labels = [classes if label is None else class_index(label, classes) for label in inputs]
        return Condition({"label": torch.tensor(labels)}, {"label": torch.tensor([classes])})


def class_index(label: Any, classes: int) -> int:
    """A class index as an int; ValueError unless it is an integer in [0, classes)."""
    try:
        value = -1 if isinstance(label, bool) else index(label)
    except TypeError:
        value = -1
    if not 0 <= value < classes:
        raise ValueError(f"a class is an integer from 0 to {classes - 1}, got {label!r}")
    return value
