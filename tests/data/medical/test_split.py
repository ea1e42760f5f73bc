from __future__ import annotations

from collections import Counter

import pytest

from mezzotint.data.medical import patient_split, slice_split


def test_no_patient_is_on_two_sides_and_every_image_is_on_one() -> None:
    ids = [f"p{i % 37}" for i in range(400)]
    parts = patient_split(ids, seed=3)
    assert sorted(i for part in parts.values() for i in part) == list(range(400))
    patients = [{ids[i] for i in part} for part in parts.values()]
    assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])
    most = max(Counter(ids).values())
    for part, share in zip(parts.values(), (0.8, 0.1, 0.1), strict=True):
        assert abs(len(part) - share * 400) <= most
    assert parts == patient_split(ids, seed=3) != patient_split(ids, seed=4)


def test_a_patients_part_does_not_hang_on_the_order_of_the_images() -> None:
    ids = [f"p{i % 12}" for i in range(60)]
    whose = [{ids[i] for i in part} for part in patient_split(ids).values()]
    turned = ids[::-1]
    assert whose == [{turned[i] for i in part} for part in patient_split(turned).values()]


def test_every_part_gets_a_patient() -> None:
    parts = patient_split(["a"] * 90 + ["b", "c"])
    assert all(parts.values())
    with pytest.raises(ValueError, match="2 patients"):
        patient_split(["a", "b"])


def test_a_split_of_slices_is_refused_where_patients_repeat() -> None:
    ids = [f"p{i % 5}" for i in range(50)]
    with pytest.raises(ValueError, match="5 patients have several images"):
        slice_split(ids)
    parts = slice_split(ids, force=True)
    assert [len(p) for p in parts.values()] == [40, 5, 5] and len({i for p in parts.values() for i in p}) == 50
    assert {ids[i] for i in parts["train"]} & {ids[i] for i in parts["test"]}  # what it is refused for
    assert len(slice_split(list(range(20)), {"train": 0.5, "test": 0.5})["test"]) == 10


def test_bad_shares() -> None:
    for shares in ({"a": 0.5, "b": 0.6}, {"a": 1.5, "b": -0.5}, {}):
        with pytest.raises(ValueError, match="sum to 1"):
            patient_split(["a", "b"], shares)
    with pytest.raises(ValueError, match="no image"):
        patient_split([])
    with pytest.raises(ValueError, match="same text"):
        patient_split([1, "1", 2, 3])
