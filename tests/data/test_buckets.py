from __future__ import annotations

from collections import Counter

import pytest
import torch

from mezzotint.data import Bucketed, ImageFolder, assign, buckets, image_sizes


@pytest.mark.parametrize(
    ("area", "step", "ratio"), [(512 * 512, 64, 2.0), (1024 * 1024, 64, 4.0), (1000, 1, 1.5), (64, 8, 9.0)]
)
def test_frames_fill_the_area_in_pairs(area: int, step: int, ratio: float) -> None:
    frames = buckets(area, step, ratio)
    assert len(set(frames)) == len(frames) and {(w, h) for h, w in frames} == set(frames)
    assert any(h == w for h, w in frames)
    for h, w in frames:
        assert h % step == w % step == 0 and h * w <= area and max(h / w, w / h) <= ratio
        assert h == w or ((h + step) * w > area and h * (w + step) > area)
    ratios = [h / w for h, w in frames]
    assert ratios == sorted(ratios)


def test_the_frames_of_half_a_thousand_pixels() -> None:
    assert (512, 512) in buckets(512 * 512, 64) and (384, 640) in buckets(512 * 512, 64)
    assert buckets(512 * 512, 64, 1.0) == [(512, 512)]


def test_each_image_goes_where_least_is_cut_off() -> None:
    frames = buckets(256 * 256, 32, 3.0)
    sizes = torch.randint(20, 900, (300, 2), generator=torch.Generator().manual_seed(0))
    for (h, w), k in zip(sizes.tolist(), assign(sizes, frames).tolist()):
        kept = [min(h / w * fw / fh, w / h * fh / fw) for fh, fw in frames]
        assert kept[k] >= max(kept) - 1e-12


def _order(counts: list[int], batch: int) -> tuple[Bucketed, torch.Tensor]:
    assignment = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    assignment = assignment[torch.randperm(len(assignment), generator=torch.Generator().manual_seed(1))]
    return Bucketed(assignment, [(8, 8 + 8 * k) for k in range(len(counts))], batch), assignment


@pytest.mark.parametrize(("counts", "batch"), [([10, 7, 23], 4), ([8, 0, 16], 4), ([3, 2], 5), ([1], 3), ([40, 1], 8)])
def test_batches_have_one_frame_and_epochs_hold_every_image_once(counts: list[int], batch: int) -> None:
    order, assignment = _order(counts, batch)
    epochs = 6
    last = sum(-(-epochs * n // batch) for n in counts)
    seen: Counter[int] = Counter()
    for step in range(last):
        epoch = order.epoch(step)
        assert sum(-(-epoch * n // batch) for n in counts) <= step < sum(-(-(epoch + 1) * n // batch) for n in counts)
        rows, frame = order(3, step)
        kinds = assignment[rows].unique()
        assert len(rows) == batch and len(kinds) == 1 and frame == (8, 8 + 8 * int(kinds))
        seen.update(rows.tolist())
    for k in range(len(counts)):  # the remainder: at most B - 1 views of a frame more, spread evenly
        more = [seen[i] - epochs for i in (assignment == k).nonzero()[:, 0].tolist()] or [0]
        assert min(more) >= 0 and sum(more) <= batch - 1 and max(more) - min(more) <= 1


def test_a_divisible_epoch_is_a_permutation() -> None:
    order, _ = _order([8, 12], 4)
    for epoch in range(3):
        rows = torch.cat([order(0, 5 * epoch + step)[0] for step in range(5)])
        assert torch.equal(rows.sort().values, torch.arange(20))
    frames = [[order(0, 5 * epoch + step)[1] for step in range(5)] for epoch in range(6)]
    assert len({tuple(f) for f in frames}) > 1  # the order of the shapes changes as well


def test_order_has_no_state() -> None:
    order, _ = _order([10, 7, 23], 4)
    late = [order(0, step) for step in (1000, 3, 517)]
    fresh, _ = _order([10, 7, 23], 4)
    for (rows, frame), step in zip(reversed(late), (517, 3, 1000)):
        again = fresh(0, step)
        assert torch.equal(again[0], rows) and again[1] == frame
    assert not all(torch.equal(order(1, s)[0], order(0, s)[0]) for s in range(5))


def test_golden_bucketed_order() -> None:
    order, _ = _order([10, 7, 23], 4)
    assert [(order(0, s)[0].tolist(), order(0, s)[1]) for s in (0, 25)] == [
        ([1, 22, 26, 9], (8, 24)),
        ([35, 14, 33, 10], (8, 8)),
    ]


def test_steps_far_ahead_are_found_at_once() -> None:
    order, _ = _order([999, 1], 64)
    step = 10**9
    epoch = order.epoch(step)
    before = [sum(-(-e * n // 64) for n in (999, 1)) for e in (epoch, epoch + 1)]
    assert before[0] <= step < before[1]
    assert len(order(0, step)[0]) == 64


def test_sizes_are_read_once_and_again_where_files_change(folder, tmp_path) -> None:
    path = folder(4, broken={2: b"text"}, sizes=[(12, 16), (20, 10), (1, 1), (9, 9)])
    sizes, broken = image_sizes(ImageFolder(path), tmp_path / "sizes.json")
    assert sizes.tolist() == [[12, 16], [20, 10], [0, 0], [9, 9]] and list(broken) == [2] and "002.png" in broken[2]

    class Blind(ImageFolder):
        def size(self, index: int) -> tuple[int, int]:
            raise AssertionError("read again")

    again, told = image_sizes(Blind(path), tmp_path / "sizes.json")
    assert torch.equal(again, sizes) and told == broken
    (path / "000.png").write_bytes((path / "001.png").read_bytes())
    assert image_sizes(ImageFolder(path), tmp_path / "sizes.json")[0][0].tolist() == [20, 10]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: buckets(100, 64), "step x step"),
        (lambda: buckets(4096, 0), "step=0"),
        (lambda: buckets(4096, 8, 0.5), "max_ratio=0.5"),
        (lambda: Bucketed(torch.tensor([0, 2]), [(8, 8)], 4), "beyond the 1 given"),
        (lambda: Bucketed(torch.tensor([0]), [(8, 8)], 0), "batch=0"),
        (lambda: Bucketed(torch.tensor([0]), [(8, 8)], 1)(0, -1), "step=-1"),
        (lambda: assign(torch.tensor([[1, 1]]), []), "no frame"),
    ],
)
def test_bad_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
