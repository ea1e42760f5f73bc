"""What the demonstration of spatial-temporal attention draws, trains, scores and finds: two icons and their caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core import Condition, Cosine, Noise, VDenoiser, fold
from mezzotint.data import indices
from mezzotint.edit import faithfulness_loss
from mezzotint.guide import Disc
from mezzotint.metric import Seen, Wanted, layout_agreement
from mezzotint.nn import LayoutPredictor, UNet
from mezzotint.nn.conditioner import train_vocabulary
from mezzotint.objective import Batch, Denoise
from mezzotint.objective.layout import RELATIONS
from mezzotint.papers.trained import trained
from mezzotint.train.layout import LayoutExample, fit_layout

__all__ = [
    "SIDE",
    "Scene",
    "Scorer",
    "condition",
    "drawn",
    "found",
    "layouts",
    "loss_of",
    "scenes",
    "train_scenes",
    "train_scorer",
]

SIDE, ICON, LENGTH = 8, 3, 7
GROUND = -0.7
COLOURS = {"red": (1.0, -0.8, -0.8), "green": (-0.8, 0.7, -0.8), "blue": (-0.7, -0.5, 1.0), "yellow": (1.0, 0.9, -0.8)}
KINDS = ("square", "cross", "ring")
WORDS = (*COLOURS, *KINDS, "above", "below", "left", "right", "of")
_SURE, _BATCH = 0.1, 32


@dataclass(frozen=True)
class Scene:
    """One or two icons: (colour, kind, left, top) each, in pixels; and what the caption says of them."""

    icons: tuple[tuple[str, str, int, int], ...]
    relation: str | None

    @property
    def phrases(self) -> list[str]:
        """The icons in words."""
        return [f"{colour} {kind}" for colour, kind, _, _ in self.icons]

    @property
    def caption(self) -> str:
        """All in words."""
        return f" {self.relation} ".join(self.phrases)

    @property
    def centres(self) -> tuple[tuple[float, float], ...]:
        """(x, y) of each icon, shares of the side."""
        return tuple(((x + ICON / 2) / SIDE, (y + ICON / 2) / SIDE) for _, _, x, y in self.icons)

    @property
    def wanted(self) -> Wanted:
        """What a picture of it should show."""
        relation = None if self.relation is None else (0, self.relation, 1)
        return Wanted(tuple((kind, colour) for colour, kind, _, _ in self.icons), relation, self.centres)

    @property
    def example(self) -> LayoutExample:
        """For a layout predictor."""
        relation = None if self.relation is None else (0, self.relation, 1)
        return LayoutExample(self.caption, tuple(self.phrases), self.centres, relation)


def scenes(seed: int, count: int, split: str, alone: float = 0.0) -> list[Scene]:
    """Random scenes of two icons of different colours and kinds; a share of them has one."""
    u = Noise([fold(seed, split, i) for i in range(count)]).uniform("scene", 0, (9,)).tolist()
    made = []
    for a, b, c, d, e, f, g, h, single in u:
        colours, kinds = list(COLOURS), list(KINDS)
        one = (colours.pop(int(4 * a)), kinds.pop(int(3 * b)))
        two = (colours[int(3 * c)], kinds[int(2 * d)])
        relation = RELATIONS[int(4 * e)]
        near = int(f * (SIDE - 2 * ICON + 1))
        far = near + ICON + int(g * (SIDE - 2 * ICON - near + 1))
        side, other = (int(v * (SIDE - ICON + 1)) for v in (h, (7 * h) % 1))
        first, second = (near, far) if relation in ("above", "left of") else (far, near)
        places = (
            [(side, first), (other, second)] if relation in ("above", "below") else [(first, side), (second, other)]
        )
        icons = ((*one, *places[0]), (*two, *places[1]))
        made.append(Scene(icons[:1], None) if single < alone else Scene(icons, relation))
    return made


@cache
def _icon(colour: str, kind: str) -> Float[Tensor, "3 s s"]:
    shape = torch.ones(ICON, ICON)
    if kind == "ring":
        shape[1, 1] = 0
    if kind == "cross":
        shape[::2, ::2] = 0
    return GROUND + shape * (torch.tensor(COLOURS[colour])[:, None, None] - GROUND)


def drawn(some: Sequence[Scene]) -> Float[Tensor, "n 3 8 8"]:
    """The pictures."""
    x = torch.full((len(some), 3, SIDE, SIDE), GROUND)
    for i, scene in enumerate(some):
        for colour, kind, left, top in scene.icons:
            x[i, :, top : top + ICON, left : left + ICON] = _icon(colour, kind)
    return x


def found(x: Float[Tensor, "n 3 8 8"]) -> list[list[Seen]]:
    """Icons by how well they fit a patch, best first, none over another; a mean squared error below 0.1 is one."""
    names = [(colour, kind) for colour in COLOURS for kind in KINDS]
    bank = torch.stack([_icon(*name) for name in names])
    patches = F.unfold(x, ICON).transpose(1, 2)  # (n, places, pixels)
    error = (patches[:, :, None] - bank.flatten(1)).square().mean(-1)
    across = SIDE - ICON + 1
    place = torch.arange(across**2)
    left, top, out = place % across, place // across, []
    for row in error:
        seen: list[Seen] = []
        while float(row.min()) < _SURE:
            at, which = divmod(int(row.argmin()), len(names))
            colour, kind = names[which]
            seen.append(Seen(kind, colour, float(left[at] + ICON / 2) / SIDE, float(top[at] + ICON / 2) / SIDE))
            near = torch.maximum((left - left[at]).abs(), (top - top[at]).abs()) < ICON - 1
            row = torch.where(near[:, None], torch.inf, row)
        out.append(seen)
    return out


def condition(captions: Sequence[str]) -> Condition:
    """Words and their places as ones: the network learns what they mean."""
    text = torch.zeros(len(captions), LENGTH, len(WORDS) + LENGTH)
    for i, caption in enumerate(captions):
        for j, word in enumerate(caption.split()):
            text[i, j, WORDS.index(word)] = text[i, j, len(WORDS) + j] = 1
    return Condition({"text": text}, {"text": torch.zeros(1, *text.shape[1:])})


def train_scenes(seconds: float, seed: int, pool: int = 8192) -> VDenoiser:
    """A UNet told the caption, trained for processor seconds; a third of the scenes has one icon.

    Width, schedule and rate were chosen by how many icons it draws without control: 38 % after 80 s; 32 channels on VP
    came to 36 % after 200 s.
    """
    some = scenes(seed, pool, "train", alone=1 / 3)
    x, c = drawn(some), condition([scene.caption for scene in some])

    def batch(step: int) -> Batch:
        rows = indices(seed, step, _BATCH, pool)
        return Batch(x[rows], c.rows(rows))

    net = {"channels": 16, "mult": (1, 2), "blocks": 1, "attention": (1, 2), "context": len(WORDS) + LENGTH}
    return trained(lambda: VDenoiser(UNet(3, **net), Cosine()), Denoise("v", drop=0.1), batch, seconds=seconds,
                   seed=seed, lr=3e-3)  # fmt: skip


class Scorer(nn.Module):
    """Pictures and captions to one space: (images, captions) -> cosines."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 24, 3, 1, 1), nn.SiLU(), nn.Conv2d(24, 48, 4, 2, 1), nn.SiLU(), nn.Flatten(),
            nn.Linear(48 * (SIDE // 2) ** 2, width),
        )  # fmt: skip
        self.words = nn.Sequential(
            nn.Linear(LENGTH * (len(WORDS) + LENGTH), 128), nn.SiLU(), nn.Linear(128, width)
        )  # fmt: skip

    def forward(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Cosine of each pair."""
        return torch.cosine_similarity(self.image(images), self.words(condition(captions)["text"].flatten(1)), dim=1)


def train_scorer(steps: int, seed: int) -> Scorer:
    """Contrastive: a batch's pictures, whole or cut about an icon, and their captions find each other."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "scorer"))
        net = Scorer()
    some = scenes(seed, 4096, "scorer", alone=0.5)
    x, texts = drawn(some), condition([scene.caption for scene in some])["text"].flatten(1)
    adam = torch.optim.Adam(net.parameters(), lr=2e-3)
    for step in range(steps):
        rows = indices(seed, step, 128, len(some))
        noisy = x[rows] + 0.1 * Noise([fold(seed, "jitter", step)])("x", 0, (len(rows), 3, SIDE, SIDE))[0]
        a, b = F.normalize(net.image(noisy), dim=1), F.normalize(net.words(texts[rows]), dim=1)
        same = (texts[rows][:, None] == texts[rows]).all(-1)
        logits = (10 * a @ b.T).masked_fill(same & ~torch.eye(len(rows), dtype=torch.bool), -torch.inf)
        at = torch.arange(len(rows))
        loss = F.cross_entropy(logits, at) + F.cross_entropy(logits.T, at)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return net.eval().requires_grad_(False)


def loss_of(scorer: Scorer, some: Sequence[Scene], places: Tensor) -> Callable[[Tensor], Tensor]:
    """What the weights are optimised by, of pictures of the scenes with their icons at places (n, 2, 2)."""
    captions, phrases = [scene.caption for scene in some], [scene.phrases for scene in some]
    regions = [[Disc(*place) for place in row] for row in places.tolist()]
    return lambda x: faithfulness_loss(scorer, x.clamp(-1, 1), captions, phrases, regions)


def layouts(trial: int, examples: int, some: Sequence[Scene]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Centres (captions, 2, 2) as they are, predicted and at random; how good the predictor is on the captions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(trial, "predictor"))
        net = LayoutPredictor(train_vocabulary([" ".join(WORDS)], size=90, whole=1))
    fit_layout(net, [scene.example for scene in scenes(trial, examples, "layouts")], seed=trial)
    noise = Noise([fold(trial, "component", i) for i in range(2 * len(some))])
    with torch.no_grad():
        predicted = net(*net.prepare([s.caption for s in some], [s.phrases for s in some])).flat().centres(noise)
    predicted = predicted.view(len(some), 2, 2)
    true = torch.tensor([scene.centres for scene in some])
    u = Noise([fold(trial, "random", i) for i in range(len(some))]).uniform("place", 0, (2, 2))
    asked = layout_agreement(_as_seen(some, predicted), [scene.wanted for scene in some])
    inside = float(((predicted > 0.1) & (predicted < 0.9)).double().mean())
    row = {"predictor relation": asked.relation, "predictor inside": inside, "predictor near": asked.placed}
    return {"true": true, "predicted": predicted, "random": 0.1875 + 0.625 * u}, row


def _as_seen(some: Sequence[Scene], centres: Tensor) -> list[list[Seen]]:
    return [
        [Seen(kind, colour, *at) for (colour, kind, _, _), at in zip(scene.icons, row, strict=True)]
        for scene, row in zip(some, centres.tolist(), strict=True)
    ]
