"""What handles on attention cost: the same sampling run with nothing open, with taps, with edits, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.attention import add_mask, cross_sites, decoder_places, features, save, self_sites, tap
from mezzotint.bench.overhead import _processor
from mezzotint.bench.peak import told
from mezzotint.core import Condition, Denoiser, Discrete, EpsDenoiser, Noise
from mezzotint.guide import CFG
from mezzotint.nn.site import Call, Handler, handling
from mezzotint.papers.setting import one_thread, versions
from mezzotint.sample import DDIM

__all__ = ["GOAL", "MODELS", "Case", "Row", "cases", "measure", "report"]

GOAL = 1.15  # of an untapped run, for taps on two sites
_TWO = 2


@dataclass(frozen=True)
class Case:
    """A sampling run to be measured: a denoiser, its condition, the shape of a sample, and how many are drawn."""

    name: str
    denoiser: Denoiser
    condition: Condition
    shape: tuple[int, ...]
    count: int = 1

    def run(self, steps: int) -> Tensor:
        """Samples of one prompt, guided, DDIM."""
        x = Noise(range(self.count))("x_T", 0, self.shape)
        return DDIM()(CFG(3.0)(self.denoiser), x, steps=steps, c=self.condition.rows([0] * self.count))


@dataclass(frozen=True)
class Row:
    """One handle on one model.

    Args:
        model, handle: what was run.
        seconds: of the processor a run, the median of the rounds.
        ratio: over the run with nothing open in the same round: lower quartile, median, upper quartile.
        memory: MiB at the peak over what the process had before the run; None where the system does not tell.
        changed: largest change of the result: taps and savings change it by rounding alone.
        sites: where.
    """

    model: str
    handle: str
    seconds: float
    ratio: tuple[float, float, float]
    memory: float | None
    changed: float
    sites: tuple[str, ...]


class _Sizes(Handler):
    """How large each layer's maps would be, which stay unmade."""

    def __init__(self) -> None:
        self.maps_of: dict[str, int] = {}

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.maps_of[call.site] = q.shape[1] * q.shape[2] * k.shape[2]
        return q, k, v


def _emoji() -> Case:
    """The shipped latent model."""
    from mezzotint.model import load

    model = load("emoji")
    c = model.prior("red heart")[1]
    assert c is not None
    spec = model.autoencoder.spec
    return Case("emoji", model.denoiser, c, (spec.channels, *(side // spec.factor for side in model.size)), 4)


def _diffusers() -> Case:
    """A UNet of diffusers in the shape of Stable Diffusion 1.5 at half its width and size, random weights."""
    try:
        from diffusers import UNet2DConditionModel
    except ImportError as error:
        raise ValueError("the model 'sd' needs the extra: pip install 'mezzotint[diffusers]'") from error
    from mezzotint.io.diffusers.stable_diffusion import ConditionalUNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet2DConditionModel(
            sample_size=32, block_out_channels=(160, 320, 640, 640), attention_head_dim=8, cross_attention_dim=384,
        )  # fmt: skip
        text = torch.randn(1, 77, 384)
    c = Condition({"text": text}, {"text": torch.zeros_like(text)})
    return Case("sd", EpsDenoiser(ConditionalUNet(net.eval(), 4), Discrete.scaled_linear()), c, (4, 32, 32))


MODELS: dict[str, Callable[[], Case]] = {"emoji": _emoji, "sd": _diffusers}


def cases(case: Case) -> dict[str, tuple[Callable[[], AbstractContextManager[Any]], tuple[str, ...]]]:
    """Handle -> (what opens it, its sites). "two" are the finest cross- and self-attention, whose maps are largest."""
    d = case.denoiser
    cross, own = cross_sites(d), self_sites(d)
    seen = _Sizes()
    with torch.no_grad(), handling(d, seen):
        case.run(1)
    two_cross, two_self = (tuple(sorted(sites, key=lambda s: -seen.maps_of[s])[:_TWO]) for sites in (cross, own))
    two_places = tuple(list(decoder_places(d))[-_TWO:])

    def on(opens: Callable[..., Any], sites: tuple[str, ...]) -> Callable[[], AbstractContextManager[Any]]:
        return lambda: opens(d, "|".join(sites))

    return {
        "nothing": (nullcontext, ()),
        "nothing, again": (nullcontext, ()),
        "tap, two cross-attentions": (on(tap, two_cross), two_cross),
        "tap, two self-attentions": (on(tap, two_self), two_self),
        "tap, every layer": (on(tap, (*cross, *own)), (*cross, *own)),
        "features, two places": (lambda: features(d, two_places, keep="mean"), two_places),
        "save keys and values, two self-attentions": (on(save, two_self), two_self),
        "additive mask, two cross-attentions": (
            lambda: add_mask(d, torch.zeros(1, 1), "|".join(two_cross)),
            two_cross,
        ),
    }


def measure(models: Sequence[str] = tuple(MODELS), steps: int = 4, rounds: int = 9) -> list[Row]:
    """One row a model and handle.

    Args:
        models: of MODELS.
        steps: of a run; the figures are of the whole run, opening and closing included.
        rounds: runs of each, in turn, the order turning with each round.

    Raises:
        ValueError: for an unknown model, or numbers below 1.
    """
    if unknown := set(models) - set(MODELS):
        raise ValueError(f"unknown model {sorted(unknown)[0]!r}; expected some of {', '.join(MODELS)}")
    if steps < 1 or rounds < 1:
        raise ValueError(f"steps={steps}, rounds={rounds}; expected 1 or more of each")
    with one_thread(), torch.no_grad():
        return [row for name in models for row in _rows(MODELS[name](), steps, rounds)]


def _rows(case: Case, steps: int, rounds: int) -> list[Row]:
    handles = cases(case)
    taken: dict[str, list[float]] = {name: [] for name in handles}
    plain, changed = case.run(steps), dict[str, float]()
    for name, (opens, _) in handles.items():
        with opens():
            changed[name] = float((case.run(steps) - plain).abs().max())
    keys = list(handles)
    for turn in range(rounds):
        for name in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
            start = time.process_time()
            with handles[name][0]():
                case.run(steps)
            taken[name].append(time.process_time() - start)
    rows = []
    for name, (_, sites) in handles.items():
        ratios = [mine / none for mine, none in zip(taken[name], taken["nothing"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if rounds > 1 else ratios * 3
        rows.append(
            Row(
                case.name,
                name,
                statistics.median(taken[name]),
                (low, middle, high),
                told("taps_memory", [case.name, name]),
                changed[name],
                sites,
            )
        )
    return rows


def report(rows: Sequence[Row], steps: int, rounds: int) -> dict[str, Any]:
    """What is written down: where, with what, how, and the rows."""
    return {
        "hardware": _processor(),
        "versions": versions(),
        "unit": "seconds of processor time a run of guided samples, one thread; ratio to nothing open, same round",
        "steps": steps,
        "rounds": rounds,
        "goal": GOAL,
        "rows": [asdict(row) for row in rows],
    }
