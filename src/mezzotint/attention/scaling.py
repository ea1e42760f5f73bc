"""Attention scaled to the number of its keys, so that a network may draw at sizes it was not trained at."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mezzotint.core import Condition, Denoiser
from mezzotint.nn.site import Call, Handler, find_sites, handling, opened

__all__ = ["Correction", "LogRatio", "MatchedEntropy", "attention_scaling", "log_ratio", "token_counts"]


def log_ratio(now: int, trained: int) -> float:
    """sqrt(ln N / ln T): what the logits of attention over N keys are multiplied by, after training with T.

    With it the entropy of a row as a share of ln N stays as it was (for logits that are independent and normal: our
    derivation, in the sheet).

    Args:
        now: N, keys of the layer now.
        trained: T, keys of the same layer at the training size. Both count as 2 at least, as ln 1 = 0.

    Source: arXiv 2306.08645, section 3.2 of the sheet.

    >>> round(log_ratio(784, 4096), 6), log_ratio(64, 64)
    (0.895112, 1.0)
    """
    return math.sqrt(math.log(max(now, 2)) / math.log(max(trained, 2)))


@runtime_checkable
class Correction(Protocol):
    """What the logits of a site are multiplied by: a number, or one a head (heads,)."""

    def __call__(self, site: str, now: int, trained: int) -> float | Tensor: ...


@dataclass(frozen=True)
class LogRatio:
    """log_ratio ** strength, at every site.

    Args:
        strength: 1 is the paper's, 0 changes nothing; other values are our choice.

    >>> LogRatio(0.0)("mid", 64, 4096)
    1.0
    """

    strength: float = 1.0

    def __call__(self, site: str, now: int, trained: int) -> float:
        """The factor."""
        return log_ratio(now, trained) ** self.strength


@dataclass(frozen=True)
class MatchedEntropy:
    """sqrt(1 + 2 ln(N / T) / kappa) a head, which keeps the entropy itself: an experiment of ours.

    For normal logits of variance kappa the entropy is ln N - kappa / 2. The root's argument is at least 0: a head whose
    attention cannot be made flat enough becomes uniform.

    Args:
        kappa: site -> (heads,), the variance of its logits at the training size, as an `EntropyProbe` tells.

    >>> MatchedEntropy({"mid": torch.tensor([2.0])})("mid", 64, 64).tolist()
    [1.0]
    """

    kappa: Mapping[str, Tensor]

    def __call__(self, site: str, now: int, trained: int) -> Tensor:
        """The factors of the heads."""
        if site not in self.kappa:
            raise ValueError(f"no variance of logits is known at {site!r}; probe it at the training size first")
        return (1 + 2 * math.log(max(now, 2) / max(trained, 2)) / self.kappa[site].clamp_min(1e-12)).clamp_min(0).sqrt()


@dataclass
class _Counts(Handler):
    counts: dict[str, int] = field(default_factory=dict)

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not call.cross:
            self.counts[call.site] = k.shape[-2]
        return q, k, v


@dataclass
class _Scaled(Handler):
    counts: Mapping[str, int]
    correction: Correction

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if call.cross:  # as many keys at every size
            return q, k, v
        if call.site not in self.counts:
            raise ValueError(f"the number of tokens in training is not known at {call.site!r}; see token_counts")
        trained = self.counts[call.site]
        if trained == k.shape[-2]:
            return q, k, v
        factor = self.correction(call.site, k.shape[-2], trained)
        if isinstance(factor, Tensor):
            return q * factor.to(q).view(-1, 1, 1), k, v
        return (q if factor == 1 else q * factor), k, v


@torch.no_grad()
def token_counts(
    denoiser: Denoiser, shape: tuple[int, ...], c: Condition | None = None, sites: str = "*"
) -> dict[str, int]:
    """Site -> T, how many keys each self-attention layer has at the training size: counted in one evaluation.

    Joint attention over image and text counts all keys of its softmax; windowed attention those of a query (our
    choices: the paper has neither).

    Args:
        denoiser: with the network.
        shape: (channels, height, width) of a sample at the training size.
        c: a condition of one row, where the network needs one.
        sites: a glob as in `mezzotint.nn.find_sites`.

    Raises:
        ValueError: no site matches.

    >>> from mezzotint.core import Flow, FlowDenoiser
    >>> from mezzotint.nn import UNet
    >>> token_counts(FlowDenoiser(UNet(3, channels=8, blocks=1, attention=()), Flow()), (3, 8, 8))
    {'mid.1.attention': 16}
    """
    counter = _Counts()
    parameter = next(denoiser.parameters(), torch.zeros(()))
    x = torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype)
    with handling(denoiser, counter, sites):
        denoiser(x, x.new_full((1,), 0.5), c)
    if small := [site for site, n in counter.counts.items() if n < 2]:
        warnings.warn(f"attention over a single key in training, counted as 2: {', '.join(small)}", stacklevel=2)
    return counter.counts


@contextmanager
def attention_scaling(
    root: nn.Module,
    counts: Mapping[str, int],
    correction: Correction | None = None,
    sites: str = "*",
) -> Iterator[None]:
    """Multiply the logits of every self-attention layer by sqrt(ln N / ln T) for the length of the block.

    At the training size every number stays bit for bit; cross-attention stays everywhere; the layers stay fused. It
    does not mend positions that a network has learned for one size only, and it does not make large pictures of a
    small model: an independent comparison found no gain in FID at 4 and 16 times the pixels (29.95 for 29.89, 104.34
    for 104.70), while the paper's gain is at small sizes.

    Args:
        root: a backbone, or anything that holds one.
        counts: site -> T, from `token_counts` at the training size (never from the size that is drawn).
        correction: None is `LogRatio()`, the paper's.
        sites: a glob as in `mezzotint.nn.find_sites`.

    Raises:
        ValueError: no site matches, or attention is scaled there already (twice would square the factor); at the call:
            a site whose count is not known.

    Source: arXiv 2306.08645; the hook is in the style of two public re-implementations, as no code was released.

    >>> from mezzotint.nn import UNet
    >>> net = UNet(3, channels=8, blocks=1, attention=())
    >>> with attention_scaling(net, {"mid.1.attention": 16}):
    ...     y = net(torch.zeros(1, 3, 12, 12), torch.zeros(1))
    """
    for site, layer in find_sites(root, sites).items():
        if any(isinstance(entry.handler, _Scaled) for entry in opened(layer)):
            raise ValueError(
                f"attention is scaled already at {site!r}, and twice would square the factor; leave one block, or "
                "sample with rescale=False inside it"
            )
    with handling(root, _Scaled(counts, LogRatio() if correction is None else correction), sites):
        yield
