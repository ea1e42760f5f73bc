from __future__ import annotations

import math

import pytest
import torch

from mezzotint.nn import LabelEmbedding, positions_2d, sinusoidal


def test_sinusoidal_is_the_formula() -> None:
    time = torch.tensor([0.0, 1.5, 999.0], dtype=torch.float64)
    out = sinusoidal(time, 8)
    for row, t in zip(out.tolist(), time.tolist()):
        angles = [t * 10_000 ** (-i / 4) for i in range(4)]
        assert row == pytest.approx([math.cos(a) for a in angles] + [math.sin(a) for a in angles], abs=1e-12)


def test_half_precision_times_are_embedded_in_float32() -> None:
    # 1000 t in bf16 has steps of 4: the embedding must at least not lose more.
    assert sinusoidal(torch.tensor([300.0], dtype=torch.bfloat16), 16).dtype == torch.float32


def test_inner_products_of_positions_depend_on_the_offset_alone() -> None:
    table = positions_2d(6, 7, 16, dtype=torch.float64).unflatten(0, (6, 7))
    here, there = (table[1, 2] * table[3, 3]).sum(), (table[3, 5] * table[5, 6]).sum()
    assert abs(here - there) < 1e-12
    assert abs((table[1, 2] * table[3, 3]).sum() - (table[1, 2] * table[3, 5]).sum()) > 1e-3


def test_positions_of_a_larger_grid_extend_those_of_a_smaller_one() -> None:
    small, large = positions_2d(3, 4, 12), positions_2d(5, 9, 12)
    assert torch.equal(large.unflatten(0, (5, 9))[:3, :4], small.unflatten(0, (3, 4)))


def test_the_null_label_has_a_row_of_its_own() -> None:
    table = LabelEmbedding(5, 4)
    assert table.null == 5
    assert not torch.equal(table(torch.tensor([5])), table(torch.tensor([4])))


@pytest.mark.parametrize("call", [lambda: sinusoidal(torch.zeros(1), 7), lambda: positions_2d(2, 2, 6)])
def test_bad_widths_are_refused(call) -> None:
    with pytest.raises(ValueError, match="even width|multiple of 4"):
        call()
