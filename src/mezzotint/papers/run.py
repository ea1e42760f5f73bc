"""Running a paper's demonstration: from an arXiv id to ledger entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mezzotint.papers.ledger import LedgerEntry

# Explicit, so that "go to definition" and a search for an id both find the file. Each module has
# demonstrate(*, quick, seed, device, out, say) -> list[LedgerEntry].
_DEMONSTRATIONS = {
    "2112.10752": "mezzotint.papers.p2112_10752",
    "2210.03142": "mezzotint.papers.p2210_03142",
    "2210.05559": "mezzotint.papers.p2210_05559",
    "2211.01095": "mezzotint.papers.p2211_01095",
    "2211.07804": "mezzotint.papers.p2211_07804",
    "2304.03869": "mezzotint.papers.p2304_03869",
    "2305.04391": "mezzotint.papers.p2305_04391",
    "2306.08645": "mezzotint.papers.p2306_08645",
    "2306.11719": "mezzotint.papers.p2306_11719",
    "2310.13268": "mezzotint.papers.p2310_13268",
    "2404.13263": "mezzotint.papers.p2404_13263",
    "2406.05191": "mezzotint.papers.p2406_05191",
    "2406.11138": "mezzotint.papers.p2406_11138",
    "2409.02426": "mezzotint.papers.p2409_02426",
    "2412.14283": "mezzotint.papers.p2412_14283",
    "2502.01441": "mezzotint.papers.p2502_01441",
    "2506.13058": "mezzotint.papers.p2506_13058",
    "2509.15342": "mezzotint.papers.p2509_15342",
    "2510.12586": "mezzotint.papers.p2510_12586",
}


def demonstrated() -> Mapping[str, str]:
    """arXiv id -> module, for the papers whose demonstration runs."""
    return MappingProxyType(_DEMONSTRATIONS)


def reproduce(
    arxiv_id: str,
    quick: bool = True,
    *,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Run a paper's demonstration.

    Args:
        arxiv_id: of a paper in the catalogue.
        quick: the shortened run (minutes) instead of the full one.
        seed: first of the paired seeds.
        device: where to run.
        out: folder for the demonstration's pictures; None for none.
        say: called with a line of progress now and then.

    Returns:
        Ledger entries as JSON-able dictionaries, one a claim (see `mezzotint.papers.LedgerEntry`).

    Raises:
        ValueError: no such paper, or one without a demonstration yet.
    """
    return [entry.to_dict() for entry in run_demonstration(arxiv_id, quick, seed, device, out, say)]


def run_demonstration(
    arxiv_id: str,
    quick: bool = True,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> list[LedgerEntry]:
    """As `reproduce`, but the entries themselves."""
    from mezzotint.papers.cards import find_card  # here: cards ask this module what is demonstrated

    card = find_card(arxiv_id)
    if card.id not in _DEMONSTRATIONS:
        runs = ", ".join(sorted(_DEMONSTRATIONS))
        raise ValueError(
            f"{card.id} ({card.name}) has no demonstration yet: it is {card.status}; those that run: {runs}"
        )
    module = import_module(_DEMONSTRATIONS[card.id])
    folder = None if out is None else Path(out)
    entries = module.demonstrate(
        quick=quick, seed=seed, device=device, out=folder, say=say if say is not None else lambda line: None
    )
    for entry in entries:
        assert entry.paper == card.id, f"{card.id} wrote an entry for {entry.paper}"
    return entries
