"""Procedural scenes: coloured, textured shapes with known labels and captions, made in memory without any file."""

from __future__ import annotations

import math

import numpy as np
import torch

from mezzotint.core.noise import fold
from mezzotint.data.source import ArraySource

__all__ = ["COLOURS", "SHAPES", "TEXTURES", "Scenes"]

SHAPES = ("circle", "square", "triangle", "ring", "cross", "diamond")
TEXTURES = ("plain", "striped", "checked")
COLOURS = {
    "red": (0.85, 0.15, 0.15),
    "orange": (0.95, 0.55, 0.10),
    "yellow": (0.95, 0.85, 0.20),
    "green": (0.15, 0.60, 0.25),
    "blue": (0.15, 0.35, 0.85),
    "purple": (0.55, 0.20, 0.70),
    "white": (0.95, 0.95, 0.95),
    "black": (0.10, 0.10, 0.10),
}
_PALETTE = np.array(list(COLOURS.values()))
_CHUNK = 256
_GRAIN = 0.03  # half width of the uniform grain of every pixel
_WAVE = (2.5, 4.0)  # wavelength of a texture in pixels, at any size
_DEPTH = 0.22  # contrast of a texture


class Scenes(ArraySource):
    """One or two shapes, plain, striped or checked, on a shaded ground with fine grain (our choice of data).

    Image i is a pure function of (seed, i, size): bit for bit the same on every machine, since only exactly rounded
    arithmetic is used, and whatever `count` is. Shapes have edges of one pixel; the waves of the textures measure 2.5
    to 4 pixels, so that an autoencoder of a large factor has something to lose.

    Args:
        size: side in pixels, 8 or more.
        count: number of images (20,000 at 32 px take about 12 s and 61 MB).
        seed: an integer >= 0.

    Attributes:
        captions: "a red striped circle in front of a blue plain ring on a white ground".
        labels: (n,) int64, place in `SHAPES` of the shape in front.
        attributes: (n, 2, 3) int64: shape, colour, texture of the shape in front and of the one behind (-1: there
            is none); grounds: (n,) int64, colour of the ground.

    Raises:
        ValueError: for a size below 8, a count below 1 or a negative seed.

    >>> Scenes(size=16, count=4, seed=1).captions[0]
    'a black checked triangle on a white ground'
    """

    def __init__(self, size: int = 32, count: int = 20000, seed: int = 0) -> None:
        if size < 8 or count < 1 or seed < 0:
            raise ValueError(
                f"Scenes got size={size}, count={count}, seed={seed}; expected a size of 8 pixels or more, "
                "a count of 1 or more and a seed of 0 or more"
            )
        pixels = np.empty((count, 3, size, size), np.uint8)
        kinds, grounds = np.empty((count, 2, 3), np.int64), np.empty(count, np.int64)
        for start in range(0, count, _CHUNK):
            rows = range(start, min(start + _CHUNK, count))
            u, grain = _numbers(rows, seed, size)
            part = slice(rows.start, rows.stop)
            kinds[part], grounds[part] = _choose(u)
            pixels[part] = _draw(u, grain, kinds[part], grounds[part], size)
        self.attributes, self.grounds = torch.from_numpy(kinds), torch.from_numpy(grounds)
        captions = [_describe(kind, int(ground)) for kind, ground in zip(kinds, grounds, strict=True)]
        super().__init__(torch.from_numpy(pixels), captions, self.attributes[:, 0, 0].clone())


def _numbers(rows: range, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform numbers (b, 24) in [0, 1) for the scene, and its grain (b, 3, size, size) in [-1, 1)."""
    words = math.ceil(3 * size * size / 8)
    raw = np.stack([np.random.Philox(key=fold(seed, "scene", i)).random_raw(24 + words) for i in rows])
    u = (raw[:, :24] >> np.uint64(11)).astype(np.float64) * 2.0**-53
    grain = np.ascontiguousarray(raw[:, 24:]).astype("<u8").view(np.uint8)[:, : 3 * size * size]
    return u, grain.reshape(-1, 3, size, size) / 128.0 - 1.0


def _choose(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shape, colour and texture of the front and the back shape, and the ground: all colours of a scene differ."""
    colours = np.argsort(u[:, :8], axis=1, kind="stable")
    front = np.stack([np.floor(6 * u[:, 8]), colours[:, 0], np.floor(3 * u[:, 9])], 1)
    back = np.stack([np.floor(6 * u[:, 10]), colours[:, 1], np.floor(3 * u[:, 11])], 1)
    back[u[:, 12] < 0.5] = -1
    return np.stack([front, back], 1).astype(np.int64), colours[:, 2].astype(np.int64)


def _draw(u: np.ndarray, grain: np.ndarray, kinds: np.ndarray, grounds: np.ndarray, size: int) -> np.ndarray:
    centre = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = centre[None, None, :], centre[None, :, None]
    shade = 1 - 0.15 * (0.5 + 0.5 * y) * _column(u[:, 13])
    image = _PALETTE[grounds][:, :, None, None] * np.broadcast_to(shade, (len(u), size, size))[:, None]
    for layer, first in ((1, 14), (0, 19)):  # the back shape, then the one in front of it
        spread = 0.55 if layer else 0.3
        radius = 0.35 + 0.2 * u[:, first]
        dx = x - _column(spread * (2 * u[:, first + 1] - 1))
        dy = y - _column(spread * (2 * u[:, first + 2] - 1))
        inside = -_distance(kinds[:, layer, 0], dx, dy, _column(radius)) * (size / 2) + 0.5
        cover = np.clip(inside, 0, 1) * _column(kinds[:, layer, 0] >= 0)
        colour = (
            _PALETTE[kinds[:, layer, 1]][:, :, None, None]
            * _texture(kinds[:, layer, 2], u[:, first + 3], u[:, first + 4], size)[:, None]
        )
        image += cover[:, None] * (colour - image)
    image += _GRAIN * grain
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _distance(kind: np.ndarray, dx: np.ndarray, dy: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Signed distance to the edge of each row's shape (negative inside), in units of half the image's side."""
    ax, ay = np.abs(dx), np.abs(dy)
    round_ = np.sqrt(dx * dx + dy * dy)
    arms = np.minimum(np.maximum(ax - r, ay - 0.35 * r), np.maximum(ay - r, ax - 0.35 * r))
    triangle = np.maximum(0.8944271909999159 * ax - 0.4472135954999579 * (dy + r), dy - r)  # image rows go down
    found = np.empty(np.broadcast_shapes(dx.shape, dy.shape))
    for place, value in enumerate(
        (
            round_ - r,
            np.maximum(ax, ay) - 0.85 * r,
            triangle,
            np.abs(round_ - 0.75 * r) - 0.25 * r,
            arms,
            (ax + ay - 1.2 * r) * 0.7071067811865476,
        )
    ):
        np.copyto(found, value, where=_column(kind == place))
    found[kind < 0] = 0
    return found


def _texture(kind: np.ndarray, u_angle: np.ndarray, u_wave: np.ndarray, size: int) -> np.ndarray:
    """Brightness (b, size, size): triangle waves along one axis (striped) or along two (checked) of a turned grid."""
    angles = [math.pi * value for value in u_angle]
    # the mathematical library's sine and cosine may differ in the last bit between machines: 16 bits are enough
    cos, sin = (_column(np.rint(np.array([f(a) for a in angles]) * 65536) / 65536) for f in (math.cos, math.sin))
    wave = _column(_WAVE[0] + (_WAVE[1] - _WAVE[0]) * u_wave)
    place = np.arange(size, dtype=np.float64)
    x, y = place[None, None, :], place[None, :, None]
    one, two = (_triangle((cos * x + sin * y) / wave), _triangle((cos * y - sin * x) / wave))
    depth = np.where(_column(kind == 1), one, one * two) * _column(kind > 0)
    return 1 - _DEPTH + _DEPTH * depth


def _triangle(phase: np.ndarray) -> np.ndarray:
    """A wave of period 1 between -1 and 1, made without a transcendental function."""
    return 4 * np.abs(phase - np.floor(phase + 0.5)) - 1


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]


def _describe(kinds: np.ndarray, ground: int) -> str:
    names = list(COLOURS)
    words = [
        f"{'an' if names[colour] == 'orange' else 'a'} {names[colour]} {TEXTURES[texture]} {SHAPES[shape]}"
        for shape, colour, texture in kinds
        if shape >= 0
    ]
    article = "an" if names[ground] == "orange" else "a"
    return " in front of ".join(words) + f" on {article} {names[ground]} ground"
