"""Object recall, attributes, relations and places of what was found, by hand."""

from __future__ import annotations

import math

import pytest

from mezzotint.metric import Seen, Wanted, layout_agreement

RED_RING, BLUE_CROSS = Seen("ring", "red", 0.2, 0.3), Seen("cross", "blue", 0.7, 0.4)
BOTH = (("ring", "red"), ("cross", "blue"))


def test_everything_there() -> None:
    for relation, holds in ((0, "left of", 1), 1), ((0, "right of", 1), 0), ((1, "below", 0), 1), ((0, "below", 1), 0):
        made = layout_agreement([[BLUE_CROSS, RED_RING]], [Wanted(BOTH, relation)])
        assert (made.recall, made.attribute, made.relation, made.pairs) == (1, 1, holds, 1)


def test_a_missing_object_lowers_recall_and_takes_the_pair_out() -> None:
    made = layout_agreement([[RED_RING], [RED_RING, BLUE_CROSS]], [Wanted(BOTH, (0, "left of", 1))] * 2)
    assert made.recall == 0.75 and made.pairs == 1 and made.relation == 1


def test_one_thing_stands_for_one_object_and_the_right_attribute_chooses_first() -> None:
    two = (("ring", "red"), ("ring", "blue"))
    assert layout_agreement([[RED_RING]], [Wanted(two)]).recall == 0.5
    swapped = layout_agreement(
        [[Seen("ring", "blue", 0.0, 0.0), Seen("ring", "red", 1.0, 1.0)]], [Wanted(two, (0, "left of", 1))]
    )
    assert swapped.attribute == 1 and swapped.relation == 0
    wrong = layout_agreement([[Seen("ring", "green", 0.0, 0.0)]], [Wanted(two[:1])])
    assert wrong.recall == 1 and wrong.attribute == 0


def test_a_plan_is_met_inside_the_radius() -> None:
    want = Wanted(BOTH, None, ((0.2, 0.4), (0.2, 0.4)))
    assert layout_agreement([[RED_RING, BLUE_CROSS]], [want]).placed == 0.5
    assert layout_agreement([[RED_RING, BLUE_CROSS]], [want], radius=0.6).placed == 1


def test_nothing_to_count_is_nan_and_wrong_calls_are_refused() -> None:
    made = layout_agreement([[]], [Wanted(())])
    assert all(math.isnan(v) for v in (made.recall, made.attribute, made.relation, made.placed)) and made.pairs == 0
    with pytest.raises(ValueError, match="1 pictures were looked at and 2 wanted"):
        layout_agreement([[]], [Wanted(())] * 2)
    with pytest.raises(ValueError, match="relation"):
        layout_agreement([[]], [Wanted(BOTH, (0, "near", 1))])
    with pytest.raises(ValueError, match="1 planned centres for 2 wanted objects"):
        layout_agreement([[RED_RING]], [Wanted(BOTH, None, ((0.2, 0.3),))])
