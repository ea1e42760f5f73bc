"""What people want restored: each task's operator, the methods that suit, how to measure, what it is tested on."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from mezzotint.restore.operators import (
    JPEG,
    Bayer,
    Blur,
    Clip,
    Crop,
    Decolorise,
    Identity,
    LowLight,
    Mask,
    Operator,
    ReflectBlur,
    Resize,
    Scale,
    SeparableBlur,
    split_kernel,
)

__all__ = ["TASKS", "Given", "Window", "RestorationTask", "find_task"]

FIDELITY, LOOKS = ("psnr", "ssim", "consistency"), ("lpips", "fid", "kid")


@dataclass(frozen=True)
class Given:
    """What a user gives besides the picture, in its pixels.

    Args:
        mask: (h, w) bool, True where the picture is to be filled in.
        kernel: of the blur; None takes a Gaussian of std `blur`.
        blur: pixels.
        jpeg: what made the JPEG file; None takes the standard tables of `quality`, without sharing of colour.
        quality: of the JPEG file.
        gain: by which a clipped picture was brightened.
        light, gamma: share of the light that a dark picture has, and its curve.
        pattern: of the colour filter.
    """

    mask: Tensor | None = None
    kernel: Tensor | None = None
    blur: float = 1.5
    jpeg: JPEG | None = None
    quality: int = 30
    gain: float = 2.0
    light: float = 0.3
    gamma: float = 1.0
    pattern: str = "RGGB"


@dataclass(frozen=True)
class Window:
    """A part of the restored picture: its corner and size in pixels, and the size of the whole."""

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]

    @property
    def whole(self) -> bool:
        """Whether it is all of the picture."""
        return (self.height, self.width) == self.size

    def cut(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """The window of a tensor (..., h, w) of `scale` times the size."""
        top, left, height, width = (round(v * scale) for v in (self.top, self.left, self.height, self.width))
        return x[..., top : top + height, left : left + width]


Build = Callable[[Given, Window], Operator]


def _see_all(given: Given, window: Window, y: Tensor) -> Tensor:
    return window.cut(y)


@dataclass(frozen=True)
class RestorationTask:
    """One task.

    Args:
        name: as on the command line.
        degradation: the formula.
        build: (what is given, window) -> the operator of that part of the picture.
        methods: names, the best suited first: by PSNR on photographs that the shipped prior has not seen.
        metrics: what to report.
        data: public sets that the literature uses.
        channels: of the measurement; None: as the picture's.
        scale: of the measurement's size to the picture's.
        multiple: sizes and corners are multiples of this.
        cut: (given, window, y) -> the part of the measurement that the operator of the window makes.
        alike: (given, window) -> what the operator of a window depends on: windows with the same can share it.
        needs: options that must be given.
    """

    name: str
    degradation: str
    build: Build
    methods: tuple[str, ...]
    metrics: tuple[str, ...] = (*FIDELITY, *LOOKS)
    data: tuple[str, ...] = ()
    channels: int | None = None
    scale: float = 1.0
    multiple: int = 1
    cut: Callable[[Given, Window, Tensor], Tensor] = field(default=_see_all)
    alike: Callable[[Given, Window], Hashable] = field(default=lambda given, window: None)
    needs: tuple[str, ...] = ()


def _mask(given: Given, window: Window) -> Operator:
    assert given.mask is not None
    known = ~window.cut(given.mask)
    return Mask(known) if bool(known.any()) else Scale(known.float())  # of a tile inside the hole nothing is known


def _masked(given: Given, window: Window, y: Tensor) -> Tensor:
    assert given.mask is not None
    return torch.where(window.cut(given.mask), torch.zeros(()), window.cut(y))


def _hole(given: Given, window: Window) -> Hashable:
    assert given.mask is not None
    return window.cut(given.mask).numpy().tobytes()


def _kernel(given: Given) -> Tensor:
    return _gaussian(given.blur) if given.kernel is None else given.kernel


@lru_cache(maxsize=8)
def _gaussian(std: float) -> Tensor:
    return Blur.gaussian(std).kernel


def _inside(given: Given, window: Window) -> Window:
    """What of a window the blur makes of the window alone; at the picture's border it is mirrored."""
    rows, columns = (n // 2 for n in _kernel(given).shape)
    top, left = (0 if at == 0 else margin for at, margin in ((window.top, rows), (window.left, columns)))
    bottom = 0 if window.top + window.height == window.size[0] else rows
    right = 0 if window.left + window.width == window.size[1] else columns
    height, width = window.height - top - bottom, window.width - left - right
    if min(height, width) < 1:
        raise ValueError(
            f"the blur reaches {rows} by {columns} pixels, too far for a tile of {window.height} x {window.width}; "
            "take a model of larger pictures"
        )
    return Window(top, left, height, width, (window.height, window.width))


def _blur(given: Given, window: Window) -> Operator:
    kernel, inside = _kernel(given), _inside(given, window)
    lines = split_kernel(kernel)
    if lines is not None and all(len(line) <= n for line, n in zip(lines, inside.size, strict=True)):
        bottom, right = window.height - inside.top - inside.height, window.width - inside.left - inside.width
        return SeparableBlur(*lines, margins=(inside.top, bottom, inside.left, right))
    blur = ReflectBlur(kernel)
    return blur if inside.whole else Crop(inside.top, inside.left, inside.height, inside.width, size=inside.size) @ blur


def _blurred(given: Given, window: Window, y: Tensor) -> Tensor:
    return _inside(given, window).cut(window.cut(y))


def _resize(factor: int) -> RestorationTask:
    return RestorationTask(
        f"sr{factor}", f"y = bicubic(x, 1/{factor}) + n", lambda given, window: Resize(factor),
        ("red-diff", "moment", "diffpir", "ddnm", "pigdm", "dps"),
        data=("DIV2K", "Set14", "BSD100", "Urban100", "Manga109"),
        scale=1 / factor, multiple=factor, cut=lambda given, window, y: window.cut(y, 1 / factor),
    )  # fmt: skip


TASKS: dict[str, RestorationTask] = {
    task.name: task
    for task in (
        RestorationTask("denoise", "y = x + n", lambda given, window: Identity(),
                        ("expected", "ddrm", "diffpir", "pigdm", "dps", "red-diff"), data=("BSD68", "SIDD", "Kodak24")),
        RestorationTask("inpaint", "y = m x + n", _mask, ("moment", "red-diff", "repaint", "ddnm", "pigdm", "dps"),
                        data=("CelebA-HQ", "Places2"), cut=_masked, alike=_hole, needs=("mask",)),
        *(_resize(factor) for factor in (2, 3, 4, 8)),
        RestorationTask("deblur", "y = k * x + n", _blur,
                        ("ddrm", "diffpir", "pigdm", "moment", "red-diff", "dps"),
                        data=("GoPro", "HIDE", "REDS", "RealBlur"), cut=_blurred, alike=_inside),
        RestorationTask("jpeg", "y = round(dct(x) / q) q", lambda given, window: given.jpeg or JPEG(given.quality),
                        ("expected", "red-diff", "dps"), data=("LIVE1", "Classic5"), multiple=8),
        RestorationTask("demosaic", "y = the colour that a filter passes + n",
                        lambda given, window: Bayer(given.pattern), ("moment", "ddrm", "red-diff", "pigdm", "ddnm"),
                        data=("Kodak24", "McMaster"), channels=1, multiple=2),
        RestorationTask("colourise", "y = mean over the channels + n", lambda given, window: Decolorise(),
                        ("red-diff", "ddrm", "moment", "ddnm", "dps"), metrics=("fid", "colourfulness", "consistency"),
                        data=("ImageNet",), channels=1),
        RestorationTask("hdr", "y = clip(gain x)", lambda given, window: Clip(given.gain), ("red-diff", "dps"),
                        data=("Kalantari", "HDR-Eye")),
        RestorationTask("low-light", "y = light x^gamma + n",
                        lambda given, window: LowLight(given.light, given.gamma), ("red-diff", "dps"),
                        data=("LOL", "SID", "MIT-FiveK")),
    )
}  # fmt: skip


def find_task(name: str) -> RestorationTask:
    """The task of a name.

    Raises:
        ValueError: for an unknown one; names them all.

    >>> find_task("sr4").multiple
    4
    """
    if name not in TASKS:
        like = " (super-resolution is sr2, sr3, sr4 or sr8)" if re.match(r"sr|x\d|super", name) else ""
        raise ValueError(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}{like}")
    return TASKS[name]
