"""One denoiser for all levels of a resolution pyramid, told of the level below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mezzotint.core.condition import Condition
from mezzotint.core.denoiser import Denoiser, NetworkDenoiser
from mezzotint.core.prediction import Prediction
from mezzotint.core.pyramid import ResolutionPyramid

__all__ = ["LevelDenoisers", "MultiResDenoiser", "pyramid_of", "with_low"]

_LOW = ("low", "low_aug", "low_given")
_UPS = ("nearest", "bilinear")


def with_low(
    c: Condition | None,
    low: Float[Tensor, "b ch *r"],
    aug: float | Float[Tensor, " b"] = 0.0,
    given: Bool[Tensor, " b"] | None = None,
) -> Condition:
    """The condition of a level above the first: the level below, and how much noise was added to it.

    Args:
        c: what else the model is told; None for nothing.
        low: in the units of its own level, at its own size, noise included.
        aug: standard deviation of that noise, one number or one a row.
        given: rows that are told; the others learn what a plain high-resolution model learns. None: all.

    Returns:
        c with the keys "low", "low_aug" (b,) and "low_given" (b,) of 0 and 1. They have no null: what guides on other
        keys leaves them alone.
    """
    told = {
        "low": low,
        "low_aug": torch.as_tensor(aug, dtype=low.dtype, device=low.device).expand(len(low)),
        "low_given": low.new_ones(len(low)) if given is None else given.to(low),
    }
    return Condition(told) if c is None else c.updated(told)


class MultiResDenoiser(Denoiser):
    """D(x_l, t, c) for every level l of a pyramid, by the size of x_l: one network, EDM's form or any other.

    x_l is in the units of its level. Above level 0 the condition may hold the level below (`with_low`), which is
    enlarged and rescaled here and nowhere else, so that training and sampling cannot differ in it. The network is
    told "level" (b,), "low" at the size of x_l, divided by sigma_data where the form has one (the limit of c_in at no
    noise: our choice), "low_aug" and "low_given".

    Args:
        base: a network denoiser whose network reads these keys (`mezzotint.nn.MultiResNetwork`).
        pyramid: levels, scales and enlargement; kept with the weights, and a state with others is refused.

    Raises:
        ValueError: when called: for a size that is no level, a condition at level 0 or of a wrong size; from
            load_state_dict for a state of another pyramid.

    Source: in the style of arXiv 2509.15342: how the condition enters is our choice.
    """

    def __init__(self, base: NetworkDenoiser, pyramid: ResolutionPyramid | Mapping[str, Any]) -> None:
        super().__init__(base.schedule)
        self.denoiser = base
        setattr(self, "kind", base.kind)  # noqa: B010 (a class variable to a type checker)
        self.pyramid = pyramid if isinstance(pyramid, ResolutionPyramid) else ResolutionPyramid(**pyramid)
        self.gain = 1.0 / float(getattr(base, "sigma_data", 1.0))
        self.register_buffer("pyramid_facts", self._facts())

    @property
    def net(self) -> Any:
        """The network."""
        return self.denoiser.net

    @property
    def config(self) -> dict[str, Any]:
        """Constructor keywords; "base" is the denoiser itself."""
        return {"base": self.denoiser, "pyramid": self.pyramid.config}

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward; x_t is (b, c, *places) of one of the levels."""
        level = self.pyramid.level_of(x_t)
        told = {"level": torch.full((len(x_t),), level, dtype=torch.int64, device=x_t.device)}
        if c is None:
            return self.denoiser(x_t, t, Condition(told))
        if "low" in c:
            low = self.pyramid.lift(c["low"], level)
            told |= {"low": low * self.gain if self.gain != 1 else low, **{k: c[k] for k in _LOW[1:] if k in c}}
        return self.denoiser(x_t, t, c.without(*_LOW).updated(told))

    def _facts(self) -> Tensor:
        return torch.tensor([_UPS.index(self.pyramid.up), *self.pyramid.levels, *self.pyramid.scales])

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        found, own = state_dict.get(f"{prefix}pyramid_facts"), self._facts()
        # to a hundredth: a state may have been written in half precision
        if found is not None and not (
            found.shape == own.shape and torch.allclose(found.cpu().float(), own.float(), rtol=0.01, atol=0)
        ):
            raise ValueError(
                f"these weights were trained with another pyramid: up, levels and scales {found.tolist()}, here "
                f"{own.tolist()} (up: 0 nearest, 1 bilinear); build the denoiser with theirs"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)


class LevelDenoisers(Denoiser):
    """One denoiser a level, chosen by the size of x_l: the classic cascade, to compare with or to sample from.

    Args:
        parts: one a level, the lowest first, over equal schedules.
        pyramid: of all; None takes that of the last part.

    Raises:
        ValueError: for another number of parts, or schedules that differ.
    """

    def __init__(self, parts: Sequence[Denoiser], pyramid: ResolutionPyramid | None = None) -> None:
        super().__init__(parts[-1].schedule)
        self.pyramid = pyramid_of(parts[-1]) if pyramid is None else pyramid
        if len(parts) != len(self.pyramid) or any(part.schedule != self.schedule for part in parts):
            raise ValueError(
                f"LevelDenoisers got {len(parts)} denoisers for levels {list(self.pyramid.levels)}; expected one a "
                "level, over equal schedules"
            )
        self.parts = nn.ModuleList(parts)

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        return self.parts[self.pyramid.level_of(x_t)](x_t, t, c)


def pyramid_of(d: Any) -> ResolutionPyramid:
    """The pyramid of a denoiser, or of one that it wraps.

    Raises:
        ValueError: where it has none.
    """
    name = type(d).__name__
    while isinstance(d, Denoiser):
        found = getattr(d, "pyramid", None)
        if isinstance(found, ResolutionPyramid):
            return found
        d = getattr(d, "denoiser", None)
    raise ValueError(
        f"{name} was trained for one resolution and has no pyramid of levels; a cascade needs a MultiResDenoiser, or "
        "LevelDenoisers with one denoiser a level"
    )
