"""The catalogue: a card a paper, the demonstrations that run, and the ledger of what they showed."""

from mezzotint.papers.cards import Card, catalogue, find_card, search
from mezzotint.papers.interval import paired_interval
from mezzotint.papers.ledger import LedgerEntry, read_ledger, strongest_verdict, write_ledger
from mezzotint.papers.run import demonstrated, reproduce
from mezzotint.papers.setting import hardware, versions

__all__ = [
    "Card",
    "LedgerEntry",
    "catalogue",
    "demonstrated",
    "find_card",
    "hardware",
    "paired_interval",
    "read_ledger",
    "reproduce",
    "search",
    "strongest_verdict",
    "versions",
    "write_ledger",
]
