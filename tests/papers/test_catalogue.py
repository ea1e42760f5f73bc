"""The catalogue: complete, truthful about where the code is, and searchable."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from mezzotint.papers import catalogue, demonstrated, find_card, search

ROOMS = {
    "attention", "data", "edit", "guide", "interpret", "latent", "model", "objective", "restore", "sample", "token",
    "vector", "video", "vision",
}  # fmt: skip


def test_39_papers_in_order_of_id():
    ids = [card.id for card in catalogue()]
    assert len(ids) == len(set(ids)) == 39
    assert ids == sorted(ids)


@pytest.mark.parametrize("card", catalogue(), ids=lambda card: card.id)
def test_cards_are_whole(card):
    assert re.fullmatch(r"\d{4}\.\d{5}", card.id)
    assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", card.date)
    assert card.date[2:4] == card.id[:2], "the date's year is not the identifier's"
    assert card.space in {"pixel", "latent", "both", "pixel to latent"}
    assert card.needs in {"training", "none", "calibration", "both"}
    assert card.rooms and {room.split("/")[0] for room in card.rooms} <= ROOMS
    assert card.claim.endswith(".") and card.claim.count(". ") == 0, "a claim is one sentence"
    assert 60 < len(card.claim) < 260


@pytest.mark.parametrize("card", [card for card in catalogue() if card.parts], ids=lambda card: card.id)
def test_the_parts_that_a_card_names_exist(card):
    for part in card.parts:
        module, _, name = part.rpartition(".")
        assert callable(getattr(import_module(module), name))


def test_status_follows_from_what_is_there():
    assert find_card("2112.10752").status == "demonstrated"
    planned = find_card("2512.19678")
    assert planned.status == "planned" and replace(planned, parts=("mezzotint.Model",)).status == "parts"


@pytest.mark.parametrize("arxiv_id", sorted(demonstrated()))
def test_demonstrations_are_short_and_have_the_entry_point(arxiv_id):
    module = import_module(demonstrated()[arxiv_id])
    assert callable(module.demonstrate)
    assert len(Path(module.__file__).read_text().splitlines()) <= 150


@pytest.mark.parametrize("text", ["2112.10752", " arXiv:2112.10752v2 ", "ARXIV:2112.10752"])
def test_ids_in_any_dress(text):
    assert find_card(text).name == "Latent diffusion"


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean .*2310\.13268"):
        find_card("dpm-solver-v3")
    with pytest.raises(ValueError, match="lists the catalogue"):
        find_card("xyzzy")


def test_every_word_must_be_found():
    latent = {card.id for card in search("latent")}
    both = {card.id for card in search("latent consistency")}
    assert both < latent
    assert search("latent xyzzy") == []


def test_titles_weigh_more_than_claims():
    found = [card.name for card in search("editing")]
    assert "PixelMan" in found and "CycleDiffusion" not in found[:1]
    first = search("tokenizer")[0]
    assert "tokenizer" in first.title.lower()


def test_search_ignores_case_and_order():
    assert search("Latent CONSISTENCY") == search("consistency latent")


def test_an_empty_query_is_the_whole_catalogue():
    assert search("  ") == list(catalogue())
