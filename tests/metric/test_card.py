from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from mezzotint.metric import MetricCard, weights_hash


def test_only_like_is_comparable_with_like() -> None:
    card = MetricCard("frechet", "emoji-features", "abc", "to 64", 1000, 4891, notes="guidance 3")
    assert card.comparable(dataclasses.replace(card, notes="guidance 5"))
    for change in ({"n": 500}, {"extractor_hash": "abd"}, {"resize": "none"}, {"dtype": "float32"}):
        assert not card.comparable(dataclasses.replace(card, **change))
    assert MetricCard(**json.loads(json.dumps(card.to_dict()))) == card


def test_hash_sees_every_bit_of_the_weights_and_their_names() -> None:
    net = nn.Linear(3, 2)
    base = weights_hash(net)
    same = nn.Linear(3, 2)
    same.load_state_dict(net.state_dict())
    assert weights_hash(same) == base
    with torch.no_grad():
        same.bias[1] = torch.nextafter(same.bias[1], torch.tensor(9.0))
    assert weights_hash(same) != base
    assert weights_hash(nn.Sequential(net)) != base and weights_hash(nn.Linear(3, 2).double()) != base


def test_bad_card() -> None:
    with pytest.raises(ValueError, match="metric card"):
        MetricCard("frechet", n=-1)
