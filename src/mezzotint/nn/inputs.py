"""What a backbone reads: an image, a time and a condition, checked where they enter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """The parts of a condition that a backbone uses; None for those it was built without."""

    label: Int[Tensor, " b"] | None = None
    text: Float[Tensor, "b n text"] | None = None
    text_mask: Bool[Tensor, "b n"] | None = None
    pooled: Float[Tensor, "b pooled"] | None = None
    concat: Float[Tensor, "b c h w"] | None = None


@dataclass(frozen=True)
class Reads:
    """Which parts of a condition a backbone was built for: widths and counts, 0 for a part it does not read.

    Args:
        context: features of a text token, key "text" with "text_mask".
        classes: number of classes, key "label"; the label `classes` is the null label.
        pooled: features of the pooled vector, key "pooled".
        concat: channels of the concatenated image, key "concat".
    """

    context: int = 0
    classes: int = 0
    pooled: int = 0
    concat: int = 0

    def __call__(self, x: Float[Tensor, "b c h w"], c: Mapping[str, Tensor] | None) -> Inputs:
        """Take the parts out of a condition and check them against the image batch `x`.

        Raises:
            ValueError: a part that the network needs is missing, a part is given that it was built without ("pooled"
                may come along unread beside "text"), or a part has the wrong shape, type or range.
        """
        c = {} if c is None else c
        if "pooled" in c and not self.pooled and self.context:
            c = {key: value for key, value in c.items() if key != "pooled"}
        for key, size, argument in (
            ("text", self.context, "context"),
            ("label", self.classes, "classes"),
            ("pooled", self.pooled, "pooled"),
            ("concat", self.concat, "concat"),
        ):
            if size and key not in c:
                raise ValueError(
                    f"this network was built with {argument}={size} but the condition has no {key!r} (it has: "
                    f"{', '.join(c) or 'nothing'}); pass c with {key!r}, its null value where there is no condition"
                )
            if not size and key in c:
                raise ValueError(
                    f"the condition has {key!r} but this network was built with {argument}=0 and cannot read it; "
                    f"drop {key!r} from the condition or build the network with {argument}=..."
                )
        return Inputs(
            label=self._label(x, c["label"]) if self.classes else None,
            text=_shaped("text", c["text"], (len(x), None, self.context)) if self.context else None,
            text_mask=self._mask(c["text"], c["text_mask"]) if self.context and "text_mask" in c else None,
            pooled=_shaped("pooled", c["pooled"], (len(x), self.pooled)) if self.pooled else None,
            concat=_shaped("concat", c["concat"], (len(x), self.concat, *x.shape[2:])) if self.concat else None,
        )

    def _label(self, x: Tensor, label: Tensor) -> Tensor:
        _shaped("label", label, (len(x),))
        if label.is_floating_point() or label.dtype == torch.bool:
            raise ValueError(f"labels must be integers, got {label.dtype}; pass label.long()")
        # On an accelerator the check would wait for the device; there the embedding's own check has to do.
        if label.device.type == "cpu" and not torch.compiler.is_compiling() and len(label):
            low, high = (int(end) for end in label.aminmax())
            if low < 0 or high > self.classes:
                raise ValueError(
                    f"labels run from {low} to {high}, but this network has {self.classes} classes: pass "
                    f"0 to {self.classes - 1}, or {self.classes} for the null label"
                )
        return label

    def _mask(self, text: Tensor, mask: Tensor) -> Tensor:
        _shaped("text_mask", mask, tuple(text.shape[:2]))
        if mask.dtype != torch.bool:
            raise ValueError(f"text_mask must be bool (True = real token), got {mask.dtype}; pass text_mask.bool()")
        return mask


def check_image(x: Tensor, time: Tensor, channels: int, multiple: int) -> None:
    """Check the image batch and the time that enter a backbone.

    Args:
        x: should be (b, channels, h, w) with h and w multiples of `multiple`.
        time: should be (b,), a float.
    Raises:
        ValueError: they are not.
    """
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"expected an image batch (b, {channels}, h, w), got {tuple(x.shape)}")
    h, w = x.shape[2:]
    if h % multiple or w % multiple or not h or not w:
        raise ValueError(
            f"height and width must be multiples of {multiple} for this network, got {h} x {w}; "
            f"resize or pad to {-(-max(h, 1) // multiple) * multiple} x {-(-max(w, 1) // multiple) * multiple}"
        )
    if time.shape != (len(x),) or not time.is_floating_point():
        raise ValueError(
            f"expected one float time a sample, shape ({len(x)},), got {tuple(time.shape)} {time.dtype}; "
            "expand a single time to the batch"
        )


def _shaped(key: str, value: Tensor, shape: tuple[int | None, ...]) -> Tensor:
    fits = value.ndim == len(shape) and all(n is None or n == m for n, m in zip(shape, value.shape, strict=True))
    if not fits:
        wanted = ", ".join("n" if n is None else str(n) for n in shape)
        raise ValueError(f"condition {key!r} must have shape ({wanted}) here, got {tuple(value.shape)}")
    return value
