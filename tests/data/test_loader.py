from __future__ import annotations

import pickle
import threading
import time
import warnings

import pytest
import torch

from mezzotint.core import Noise, fold
from mezzotint.data import (
    ArraySource,
    Bucketed,
    Cover,
    ImageFolder,
    Loader,
    Samples,
    TooManyBroken,
    assign,
    buckets,
    image_sizes,
    indices,
)
from mezzotint.objective import Batch
from mezzotint.train.share import Sharded, own_rows

FRAMING = Cover(8, crop="random", flip=0.5)


def _itself(samples: Samples) -> Samples:
    return samples


def _equal(a: Samples, b: Samples) -> bool:
    same = (a.indices, a.captions, a.labels, a.step, a.places) == (b.indices, b.captions, b.labels, b.step, b.places)
    return same and torch.equal(a.pixels, b.pixels) and torch.equal(a.time_ids, b.time_ids)


def test_a_batch_is_its_images_framed_by_their_own_noise(folder) -> None:
    source = ImageFolder(folder(10))
    loader = Loader(source, 4, FRAMING, seed=5)
    assert isinstance(loader, Sharded) and loader.batch == 4
    rows = indices(5, 7, 4, 10)
    for place, x in enumerate(loader(7).x):
        placed = FRAMING(source.pixels(int(rows[place])), Noise([fold(5, "data", 7, place)]))
        assert torch.equal(x, placed.pixels.float().mul(2 / 255).sub(1))
    assert loader.samples(7, range(4)).indices == rows.tolist()
    assert not torch.equal(loader(7).x, loader(8).x)


def test_the_same_bits_in_any_sharding_and_order(folder) -> None:
    path = folder(10)
    loader = Loader(ImageFolder(path), 6, FRAMING, make=_itself)
    late = loader(100)
    for step in (3, 0, 7):
        loader(step)
    assert _equal(loader(100), late) and _equal(Loader(ImageFolder(path), 6, FRAMING, make=_itself)(100), late)
    for world in (2, 3, 6):
        parts = [own_rows(Loader(ImageFolder(path), 6, FRAMING), 100, rank, world) for rank in range(world)]
        assert torch.equal(torch.cat([batch.x for batch, _ in parts]), late.images)
        assert [i for _, rows in parts for i in rows] == list(range(6))


def test_only_the_rows_asked_for_are_decoded(folder) -> None:
    path, seen = folder(20), []

    class Watched(ImageFolder):
        def pixels(self, index: int) -> torch.Tensor:
            seen.append(index)
            return super().pixels(index)

    rows = indices(0, 3, 8, 20).tolist()
    Loader(Watched(path), 8, FRAMING).rows(3, range(2, 5))
    assert seen == rows[2:5]


@pytest.mark.parametrize("broken", [{}, {3: b"", 4: b"text"}])
def test_workers_change_no_bit(folder, broken: dict[int, bytes]) -> None:
    path = folder(12, broken=broken)
    (path / "metadata.jsonl").write_text('{"file_name": "002.png", "text": ["a", "b", "c"], "label": 1}')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = Loader(ImageFolder(path), 5, FRAMING, make=_itself, share=0.5)
        plain = [alone(step) for step in range(8)]
        two = Loader(ImageFolder(path), 5, FRAMING, make=_itself, share=0.5, workers=2)
        try:
            for step in [*range(8), 2, 7, 0]:  # in turn, and then anywhere
                assert _equal(two(step), plain[step])
            some = two.rows(5, range(1, 4))
            assert some.indices == plain[5].indices[1:4] and torch.equal(some.pixels, plain[5].pixels[1:4])
        finally:
            two.close()
        assert two.broken.found == alone.broken.found and set(two.broken.found) == set(broken)
        resumed = Loader(ImageFolder(path), 5, FRAMING, make=_itself, share=0.5, workers=1, prefetch=0)
        try:
            assert _equal(resumed(6), plain[6])
        finally:
            resumed.close()


def test_what_a_worker_is_sent_is_small(folder) -> None:
    assert len(pickle.dumps(Loader(ImageFolder(folder(4)), 2, FRAMING)._work)) < 3000


@pytest.mark.slow  # a spawned worker imports torch: three seconds
def test_spawned_workers(folder) -> None:
    path = folder(6)
    plain = Loader(ImageFolder(path), 4, FRAMING)(2).x
    loader = Loader(ImageFolder(path), 4, FRAMING, workers=1, start="spawn")
    try:
        assert torch.equal(loader(2).x, plain)
    finally:
        loader.close()


def test_steps_are_made_ahead(folder) -> None:
    class Slow(ImageFolder):
        def pixels(self, index: int) -> torch.Tensor:
            time.sleep(0.05)
            return super().pixels(index)

    loader = Loader(Slow(folder(8)), 4, FRAMING, workers=2, prefetch=2)
    try:
        loader(0)
        time.sleep(0.5)  # steps 1 and 2 take 0.1 s each on each worker
        start = time.monotonic()
        loader(1), loader(2)
        assert time.monotonic() - start < 0.1
    finally:
        loader.close()


def test_close_ends_the_processes_and_the_next_call_starts_new_ones(folder) -> None:
    loader = Loader(ImageFolder(folder(8)), 4, FRAMING, workers=2)
    first = loader(0).x
    assert loader._pool is not None
    processes = loader._pool._processes
    threads = [t for t in threading.enumerate() if t.name == "mezzotint-loader"]
    loader.close()
    end = time.monotonic() + 5
    while any(process.exitcode is None for process in processes) and time.monotonic() < end:
        time.sleep(0.01)  # not join: where the loader's own thread reaps a process first, join returns before its code
    assert all(process.exitcode is not None for process in processes)
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert torch.equal(loader(0).x, first)
    loader.close()


# buckets


def test_bucketed_batches_have_their_frames(folder) -> None:
    sizes = [(12, 20)] * 5 + [(20, 12)] * 4 + [(14, 14)] * 3
    source = ImageFolder(folder(12, sizes=sizes))
    frames = buckets(12 * 12, 4, 2.0)
    found, _ = image_sizes(source)
    order = Bucketed(assign(found, frames), frames, 2)
    loader = Loader(source, order, Cover(1, crop="random"), make=_itself)
    shapes = set()
    for step in range(12):
        samples = loader(step)
        _, (height, width) = order(0, step)
        assert samples.pixels.shape == (2, 3, height, width)
        for index, ids in zip(samples.indices, samples.time_ids.tolist()):
            assert (ids[0], ids[1]) == sizes[index] and (ids[4], ids[5]) == (height, width)
            scale = max(height / ids[0], width / ids[1])
            assert 0 <= ids[2] <= ids[0] * scale - height + 1e-6 and 0 <= ids[3] <= ids[1] * scale - width + 1e-6
        shapes.add((height, width))
    assert len(shapes) == 3


# broken images


@pytest.mark.filterwarnings("ignore:broken image passed over")
def test_a_broken_image_is_replaced_by_the_next_good_one_and_named(folder) -> None:
    path = folder(6, broken={2: b"", 3: b"no image", 5: b"\x89PNG\r\n\x1a\n"})
    loader = Loader(ImageFolder(path), 6, Cover(8), make=_itself, share=0.5)
    with pytest.warns(UserWarning, match="broken image passed over: .*003.png: 8 bytes: no image"):
        samples = loader(0)
    asked = indices(0, 0, 6, 6).tolist()
    assert samples.indices == [{2: 4, 3: 4, 5: 0}.get(i, i) for i in asked]
    assert samples.captions == [f"{i:03d}" for i in samples.indices] and samples.pixels.shape[0] == 6
    report = loader.broken.report()
    assert report["broken"] == 3 and report["of"] == 6 and "002.png: the file is empty" in report["names"][0]


def test_a_missing_file_is_a_broken_image(folder) -> None:
    path = folder(6)
    source = ImageFolder(path)
    (path / "001.png").unlink()
    loader = Loader(source, 6, Cover(8), make=_itself, share=0.2)
    with pytest.warns(UserWarning, match=r"001\.png: cannot be read"):
        assert 1 not in loader(0).indices


@pytest.mark.parametrize("workers", [0, 2])
def test_more_broken_images_than_let_pass_stop_the_run(folder, workers: int) -> None:
    path = folder(10, broken={i: b"no image" for i in (1, 4, 7)})
    loader = Loader(ImageFolder(path), 5, Cover(8), share=0.2, workers=workers)
    try:
        with (
            pytest.warns(UserWarning),
            pytest.raises(TooManyBroken, match=r"3 of 10 images cannot be read, more than the 20.00% let pass: .*png"),
        ):
            loader(0), loader(1)
    finally:
        loader.close()
    default = Loader(ImageFolder(path), 10, Cover(8), workers=0)
    with pytest.raises(ValueError, match="more than the 1.00% let pass"):
        default(0)


def test_a_folder_of_nothing_but_broken_images_ends(folder) -> None:
    loader = Loader(ImageFolder(folder(4, broken={i: b"" for i in range(4)})), 2, Cover(8), share=1.0)
    with pytest.warns(UserWarning), pytest.raises(TooManyBroken, match="4 of 4 images"):
        loader(0)


def test_the_stop_comes_at_the_same_step_with_workers(folder) -> None:
    """What a worker meets while it works ahead is told when its step comes."""
    path = folder(40, broken={i: b"" for i in (3, 17, 29)})

    def first_failure(workers: int) -> int:
        loader = Loader(ImageFolder(path), 4, Cover(8), share=0.05, workers=workers, prefetch=3)
        try:
            for step in range(20):
                loader(step)
        except TooManyBroken:
            return step
        finally:
            loader.close()
        raise AssertionError("never")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert first_failure(0) == first_failure(2) > 0


def test_errors_in_workers_are_the_callers(folder) -> None:
    class Bad(ImageFolder):
        def pixels(self, index: int) -> torch.Tensor:
            raise ValueError("a fault of the source itself")

    loader = Loader(Bad(folder(4)), 2, Cover(8), workers=1)
    try:
        with pytest.raises(ValueError, match="a fault of the source itself"):
            loader(0)
    finally:
        loader.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": -1}, "workers=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"share": 2.0}, "share of broken"),
        ({"order": 0}, "batch=0"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    source = ArraySource(torch.zeros(3, 3, 9, 9, dtype=torch.uint8), list("abc"))
    with pytest.raises(ValueError, match=message):
        Loader(source, settings.pop("order", 2), Cover(8), **settings)


def test_rows_outside_the_batch() -> None:
    loader = Loader(ArraySource(torch.zeros(3, 3, 9, 9, dtype=torch.uint8), list("abc")), 2, Cover(8))
    for rows in (range(1, 3), range(0), range(-1, 1), range(0, 2, 2)):
        with pytest.raises(ValueError, match="of a batch of 2"):
            loader.rows(0, rows)
    assert isinstance(loader(0), Batch)
