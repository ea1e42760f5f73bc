"""The card of a metric: what a number was measured with, so that only like is compared with like."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from torch import nn

__all__ = ["MetricCard", "weights_hash"]


@dataclass(frozen=True)
class MetricCard:
    """How a value was measured; `comparable` says whether two values may stand in one table.

    Args:
        metric: name of the measure, for example "frechet".
        extractor: name of the feature network, "none" for a measure on pixels.
        extractor_hash: `weights_hash` of it, "" for none.
        resize: filter that brings images to the extractor's size, for example "bilinear, antialiased, to 64".
        n: number of samples measured.
        n_reference: number of real samples on the other side.
        dtype: of the arithmetic of the measure.
        notes: whatever else a reader must know (split, guidance weight, seed).

    Raises:
        ValueError: for a negative number of samples or an empty name.

    >>> MetricCard("psnr", n=4).to_dict()["dtype"]
    'float64'
    """

    metric: str
    extractor: str = "none"
    extractor_hash: str = ""
    resize: str = "none"
    n: int = 0
    n_reference: int = 0
    dtype: str = "float64"
    notes: str = ""

    def __post_init__(self) -> None:
        if not self.metric or self.n < 0 or self.n_reference < 0:
            raise ValueError(f"a metric card needs a name and numbers of samples of 0 or more; got {self}")

    def comparable(self, other: MetricCard) -> bool:
        """Whether everything but the notes agrees."""
        mine, yours = self.to_dict(), other.to_dict()
        return all(mine[key] == yours[key] for key in mine if key != "notes")

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON-able values, for a ledger entry."""
        return asdict(self)


def weights_hash(module: nn.Module) -> str:
    """SHA-256 (first 16 hexadecimal digits) of a module's state: names, types, shapes and bytes, in order of name."""
    digest = sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
