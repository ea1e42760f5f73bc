"""`mezzotint papers [QUERY]` and `mezzotint papers show ID`."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from mezzotint.cli.options import Parser, print_json
from mezzotint.papers import Card, find_card, search


def main(arguments: Sequence[str]) -> int:
    """Search the catalogue, or show one paper's card."""
    if arguments and arguments[0] == "show":
        return _show(arguments[1:])
    parser = Parser("papers", "Search the catalogue; all words must be found. `papers show ID` shows a card.")
    parser.add_argument("query", nargs="*", help="words; none lists every paper")
    parser.json_option()
    told = parser.parse_args(arguments)
    query = " ".join(told.query)
    cards = search(query)
    if told.json:
        print_json([card.to_dict() for card in cards])
        return 0
    if not cards:
        raise ValueError(f"no paper matches {query!r}; `mezzotint papers` lists all")
    for card in cards:
        print(f"{card.id}  {card.date[:7]}  {card.status:<12}  {card.heading}")
    return 0


def _show(arguments: Sequence[str]) -> int:
    parser = Parser("papers show", "The card of one paper.")
    parser.add_argument("id", help="arXiv id, such as 2112.10752")
    parser.json_option()
    told = parser.parse_args(arguments)
    card = find_card(told.id)
    if told.json:
        print_json(card.to_dict())
    else:
        print(_card(card))
    return 0


def _card(card: Card) -> str:
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    rows = [
        ("arXiv", f"{card.id} ({card.date}), https://arxiv.org/abs/{card.id}"),
        ("claim", card.claim),
        ("works in", {"both": "pixel and latent space"}.get(card.space, f"{card.space} space")),
        ("needs", {"none": "no training", "both": "some methods train, some do not"}.get(card.needs, card.needs)),
        ("rooms", ", ".join(f"mezzotint/{room}" for room in card.rooms)),
        ("code", ", ".join(card.parts) or "not yet"),
        ("status", card.status),
    ]
    if card.status == "demonstrated":
        rows.append(("run it", f"mezzotint reproduce {card.id} --quick"))
    lines = [textwrap.fill(card.heading, width), ""]
    for key, value in rows:
        lines.append(textwrap.fill(f"{key:<10}{value}", width, subsequent_indent=" " * 10))
    return "\n".join(lines)
