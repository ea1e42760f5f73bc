"""A card a paper: what it claims, where it works, and where its parts live in the library."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from mezzotint.papers.run import demonstrated


@dataclass(frozen=True)
class Card:
    """One paper of the catalogue.

    Attributes:
        id: arXiv identifier, "2112.10752".
        name: the short name people use.
        title: the paper's title.
        date: of its first version, "YYYY-MM-DD" or "YYYY-MM".
        space: where it works: "pixel", "latent", "both" or "pixel to latent".
        needs: "training", "none", "calibration" or "both" (a survey of methods of both kinds).
        rooms: where its core lands under `mezzotint`.
        claim: what it claims, in one sentence of ours.
        parts: public names of this library that carry it, "mezzotint.sample.DPMSolverPP"; empty while planned.
    """

    id: str
    name: str
    title: str
    date: str
    space: str
    needs: str
    rooms: tuple[str, ...]
    claim: str
    parts: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """ "demonstrated" (`reproduce` runs it), "parts" (its code is here), or "planned"."""
        if self.id in demonstrated():
            return "demonstrated"
        return "parts" if self.parts else "planned"

    @property
    def heading(self) -> str:
        """Title, led by the short name where the title does not hold it."""
        return self.title if self.name.lower() in self.title.lower() else f"{self.name}: {self.title}"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rooms": list(self.rooms), "parts": list(self.parts), "status": self.status}


@cache
def catalogue() -> tuple[Card, ...]:
    """Every card, oldest paper first.

    >>> len(catalogue()), catalogue()[0].id
    (39, '2112.01799')
    """
    text = files("mezzotint.papers").joinpath("catalogue.json").read_text(encoding="utf-8")
    return tuple(
        Card(**{**row, "rooms": tuple(row["rooms"]), "parts": tuple(row["parts"])}) for row in json.loads(text)
    )


def find_card(arxiv_id: str) -> Card:
    """The card of one paper; a version suffix ("v2") and the prefix "arXiv:" are ignored.

    Raises:
        ValueError: no such paper in the catalogue; names the nearest ones by title where there are any.

    >>> find_card("arXiv:2211.01095v2").name
    'DPM-Solver++'
    """
    wanted = re.sub(r"^arxiv:|v\d+$", "", arxiv_id.strip().lower())
    for card in catalogue():
        if card.id == wanted:
            return card
    near = ", ".join(f"{card.id} ({card.name})" for card in search(arxiv_id)[:3])
    hint = f"did you mean {near}?" if near else "`mezzotint papers` lists the catalogue"
    raise ValueError(f"no paper {arxiv_id!r} in the catalogue (expected an arXiv id such as 2112.10752); {hint}")


def search(query: str = "") -> list[Card]:
    """Cards that contain every word of the query (word beginnings count), best first.

    A word found in the id, name or title weighs four times one found in the claim or a room; ties go to the
    newer paper. An empty query gives the whole catalogue, oldest first.

    >>> [card.name for card in search("latent consistency")][:2]
    ['Layton', 'sLCT']
    """
    words = _words(query)
    if not words:
        return list(catalogue())
    scored = []
    for card in catalogue():
        head = _words(f"{card.id} {card.name} {card.title}")
        body = _words(f"{card.claim} {' '.join(card.rooms)} {' '.join(card.parts)} {card.space}")
        scores = [4 * _count(word, head) + _count(word, body) for word in words]
        if all(scores):
            scored.append((sum(scores), card.date, card))
    return [card for _, _, card in sorted(scored, key=lambda row: row[:2], reverse=True)]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9.+]+(?:\+\+)?", text.lower())


def _count(word: str, words: list[str]) -> int:
    """2 for the word itself, 1 for a word that begins with it, 0 for neither."""
    return max((2 if word == other else 1 for other in words if other.startswith(word)), default=0)
