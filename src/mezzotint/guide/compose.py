"""Guides one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from mezzotint.core import Denoiser
from mezzotint.guide.guided import Guide

__all__ = ["compose"]


@dataclass(frozen=True)
class _Composed:
    guides: tuple[Guide, ...]

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        for guide in self.guides:
            denoiser = guide(denoiser)
        return denoiser


def compose(*guides: Guide) -> Guide:
    """One guide out of several; the first is applied first, nearest to the network.

    compose(CFG(7.5), Rescale(0.7), DynamicThreshold()) guides, then rescales, then thresholds; compose() does nothing.

    >>> from mezzotint.guide import CFG, StaticThreshold
    >>> compose(CFG(4.0), StaticThreshold()).guides[0].w
    4.0
    """
    return _Composed(guides)
