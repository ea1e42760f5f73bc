from __future__ import annotations

import json
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mezzotint.core import Noise, fold
from mezzotint.data import (
    ArraySource,
    Bucketed,
    Cover,
    Emoji,
    ImageFolder,
    LatentBatches,
    TooManyBroken,
    assign,
    buckets,
    cache_latents,
    image_sizes,
    indices,
)
from mezzotint.latent import AutoencoderKL, Identity
from mezzotint.train.recipes.parts import _moments
from mezzotint.train.share import Sharded, own_rows


def _autoencoder(seed: int = 0) -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = AutoencoderKL(channels=8, mult=(1, 1), blocks=1, latent=4, patch=1).eval()
    net.spec = replace(net.spec, mean=(0.1, 0.2, -0.3, 0.0), std=(0.5, 1.5, 2.0, 0.7))
    return net


def _array(count: int = 10, size: int = 8) -> ArraySource:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return ArraySource(pixels, [f"number {i}" for i in range(count)], torch.arange(count) % 3)


def _whole(source: ArraySource) -> Cover:
    return Cover(source.shape[1])


@torch.no_grad()
def test_rows_are_the_posteriors_of_the_images(tmp_path) -> None:
    source, net = _array(), _autoencoder()
    cache = cache_latents(source, net, _whole(source), tmp_path / "c", shard=4, batch=3)
    assert len(list((tmp_path / "c").glob("*.safetensors"))) == 3 and len(cache) == 10
    mean, std, used = cache.read([7, 0, 3, 7])
    expected, variance = net.moments(source.batch([7, 0, 3, 7])[0])
    assert torch.allclose(mean, expected, atol=1e-6) and torch.allclose(std, variance.sqrt(), rtol=1e-5)
    assert used == [7, 0, 3, 7] and torch.equal(mean[0], mean[3])
    assert torch.equal(cache.normalise(mean), net.normalise(mean))
    cache.verify()


def test_a_step_of_the_emoji_recipe_to_the_bit(tmp_path) -> None:
    """What `CaptionedEmoji` keeps in memory, from the disk: the same batches of 64, so the same bits."""
    source, net = Emoji(16, "val", styles=("fluent",)), _autoencoder()  # 79 images: a whole batch and a part
    mean, spread = _moments(net, source)
    cache = cache_latents(source, net, Cover(16), tmp_path / "c", shard=128)
    batches = LatentBatches(cache, source, 8, seed=4, make=lambda latents: latents)
    for step in (0, 9):
        rows = indices(4, step, 8, len(source))
        noise = Noise([fold(4, "posterior", step, i) for i in range(8)])
        raw = mean[rows] + spread[rows] * noise("posterior", 0, mean.shape[1:])
        assert torch.equal(batches(step).z, net.normalise(raw))
        assert batches(step).captions == [source.caption(int(i), step, 4) for i in rows]


def test_the_posterior_is_drawn_anew_at_each_step_and_the_same_in_any_sharding(tmp_path) -> None:
    source = _array(3)
    batches = LatentBatches(cache_latents(source, _autoencoder(), _whole(source), tmp_path / "c"), source, 6, seed=1)
    assert isinstance(batches, Sharded)
    steps = [batches(step).x for step in range(3)]
    order = [indices(1, step, 6, 3).tolist() for step in range(3)]
    same = [steps[s][order[s].index(2)] for s in range(3)]  # image 2 as three steps see it
    assert not torch.equal(same[0], same[1]) and not torch.equal(same[1], same[2])
    assert torch.equal(batches(2).x, steps[2])
    parts = torch.cat([own_rows(batches, 1, rank, 3)[0].x for rank in range(3)])
    assert torch.equal(parts, steps[1])


def test_mirrored_images_have_latents_of_their_own(tmp_path) -> None:
    source, net = _array(), _autoencoder()
    cache = cache_latents(source, net, _whole(source), tmp_path / "c", mirror=True)
    with torch.no_grad():
        expected, _ = net.moments(source.batch([4, 5])[0].flip(3))
    mean, _, _ = cache.read([4, 5, 4], [True, True, False])
    assert torch.allclose(mean[:2], expected, atol=1e-6) and not torch.allclose(mean[0], mean[2], atol=1e-3)
    batches = LatentBatches(cache, source, 8, flip=0.5)
    flips = [Cover(8, flip=0.5)(source.images[0], Noise([fold(0, "data", 2, i)])).flipped for i in range(8)]
    raw, std, _ = cache.read(indices(0, 2, 8, 10), flips)
    noise = Noise([fold(0, "posterior", 2, i) for i in range(8)])
    assert torch.equal(batches(2).x, cache.normalise(raw + std * noise("posterior", 0, raw.shape[1:])))
    assert {True, False} == set(flips)  # the same draws as a Loader's: a cache changes no flip


def test_aspect_buckets(folder, tmp_path) -> None:
    sizes = [(8, 16)] * 3 + [(16, 8)] * 4 + [(12, 12)] * 2
    source, net = ImageFolder(folder(9, sizes=sizes)), _autoencoder()
    frames = buckets(144, 4, 2.0)
    assignment = assign(image_sizes(source)[0], frames)
    cache = cache_latents(source, net, Cover(4), tmp_path / "c", frames=(assignment, frames), shard=2)
    batches = LatentBatches(cache, source, Bucketed(assignment, frames, 2))
    shapes = {tuple(batches(step).x.shape[2:]) for step in range(6)}
    assert shapes == {(4, 8), (8, 4), (6, 6)}
    with torch.no_grad():
        expected, _ = net.moments((source.pixels(4).float() * (2 / 255) - 1)[None])
    assert torch.allclose(cache.read([4])[0], expected, atol=1e-6)


def test_half_precision_takes_half_the_room(tmp_path) -> None:
    source, net = _array(32, 16), _autoencoder()
    wide = cache_latents(source, net, _whole(source), tmp_path / "w")
    narrow = cache_latents(source, net, _whole(source), tmp_path / "n", dtype="float16")
    a, b = wide.read(range(32)), narrow.read(range(32))
    assert (
        b[0].dtype == torch.float32
        and torch.equal(b[0], a[0].half().float())
        and torch.equal(b[1], a[1].half().float())
    )
    sizes = [sum(f.stat().st_size for f in (tmp_path / d).glob("*.safetensors")) for d in "wn"]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_space_without_width_has_no_noise(tmp_path) -> None:
    source = _array()
    batches = LatentBatches(cache_latents(source, Identity(3), _whole(source), tmp_path / "c"), source, 4)
    assert torch.equal(batches(1).x, source.batch(indices(0, 1, 4, 10))[0])


# what a killed process leaves


class _Counted(AutoencoderKL):
    """Counts the images it encodes, and stops after some."""

    seen = 0
    stop_at: int | None = None
    kill = False

    def moments(self, x):
        if self.stop_at is not None and self.seen >= self.stop_at:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        self.seen += len(x)
        return super().moments(x)


def _counted() -> _Counted:
    net = _Counted(channels=8, mult=(1, 1), blocks=1, latent=4, patch=1).eval()
    net.load_state_dict(_autoencoder().state_dict())
    return net


def _content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


@pytest.mark.parametrize("kill", [False, True])
def test_what_is_there_is_kept(tmp_path, kill: bool) -> None:
    source = _array(12)
    cache_latents(source, _counted(), _whole(source), tmp_path / "whole", shard=4, batch=2)
    net = _counted()
    net.stop_at = 6  # in the middle of the second shard
    if kill:
        net.kill, child = True, os.fork()
        if child == 0:
            cache_latents(source, net, _whole(source), tmp_path / "c", shard=4, batch=2)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    else:
        with pytest.raises(KeyboardInterrupt):
            cache_latents(source, net, _whole(source), tmp_path / "c", shard=4, batch=2)
    assert len(list((tmp_path / "c").glob("latents-*"))) == 1
    again = _counted()
    cache_latents(source, again, _whole(source), tmp_path / "c", shard=4, batch=2)
    assert again.seen == 8  # 12 images but for the first shard's 4
    assert _content(tmp_path / "c") == _content(tmp_path / "whole")
    once_more = _counted()
    once_more.stop_at = 0
    cache_latents(source, once_more, _whole(source), tmp_path / "c", shard=4, batch=2)  # nothing is left to do


@pytest.mark.parametrize("fault", ["truncated", "empty", "swapped", "missing"])
def test_damaged_shards_are_made_again(tmp_path, fault: str) -> None:
    source = _array(12)
    cache_latents(source, _counted(), _whole(source), tmp_path / "c", shard=4)
    before = _content(tmp_path / "c")
    one, two = (tmp_path / "c" / f"latents-0000{k}.safetensors" for k in (1, 2))
    if fault == "swapped":
        one.rename(tmp_path / "x"), two.rename(one), (tmp_path / "x").rename(two)
    elif fault == "missing":
        one.unlink()
    else:
        one.write_bytes(one.read_bytes()[: 900 if fault == "truncated" else 0])
    net = _counted()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cache_latents(source, net, _whole(source), tmp_path / "c", shard=4)
    assert net.seen == (8 if fault == "swapped" else 4) and _content(tmp_path / "c") == before
    assert (fault == "missing") != any("latents-00001.safetensors: made again" in str(w.message) for w in told)


def test_a_flipped_byte_is_found_by_verify(tmp_path) -> None:
    source = _array(12)
    cache = cache_latents(source, _autoencoder(), _whole(source), tmp_path / "c", shard=4)
    path = tmp_path / "c" / "latents-00002.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"latents-00002\.safetensors: damaged; remove it"):
        cache_latents(source, _autoencoder(), _whole(source), tmp_path / "c", shard=4).verify()
    del cache


# what a cache is refused for


def test_a_stale_cache_is_refused_naming_what_differs(tmp_path, folder) -> None:
    path = folder(5)
    make = {"source": ImageFolder(path), "autoencoder": _autoencoder(), "framing": Cover(8), "folder": tmp_path / "c"}
    cache_latents(**make)
    cache_latents(**make)
    scaled = _autoencoder()
    scaled.spec = replace(scaled.spec, std=(1.0, 1.0, 1.0, 1.0))
    nudged = _autoencoder()
    with torch.no_grad():
        next(nudged.parameters()).view(-1)[0] += 1e-3
    changes = [
        ({"autoencoder": nudged}, "autoencoder.weights: [0-9a-f]{64} there"),
        ({"autoencoder": scaled}, r"\(spec.std: \[0.5.* there, \[1.0, 1.0, 1.0, 1.0\] now\)"),
        ({"framing": Cover(8, filter="box")}, "framing: Cover.*bicubic.* there, Cover.*box.* now"),
        ({"mirror": True}, r"\(mirror: False there, True now\)"),
        ({"dtype": "float16"}, r"\(dtype: float32 there, float16 now\)"),
        ({"source": ImageFolder(path, background=(0.0, 0.0, 0.0))}, r"\(data.background: "),
        ({"frames": (torch.zeros(5, dtype=torch.int64), [(8, 8)])}, r"\(frames: None there, "),
    ]
    for change, message in changes:
        with pytest.raises(ValueError, match=f"of something else .*{message}"):
            cache_latents(**{**make, **change})
    (path / "002.png").write_bytes((path / "001.png").read_bytes())
    with pytest.raises(ValueError, match=r"of something else \(data.files: [0-9a-f]{64} there"):
        cache_latents(**make)
    (path / "003.png").unlink()
    with pytest.raises(ValueError, match="data.images: 5 there, 4 now"):
        cache_latents(**{**make, "source": ImageFolder(path)})


def test_folders_and_settings_that_will_not_do(tmp_path, unchecked) -> None:
    source, net = _array(), _autoencoder()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"is no latent cache and not empty \(letter.txt\)"):
        cache_latents(source, net, Cover(8), tmp_path / "mine")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cache.json").write_text("{")
    with pytest.raises(ValueError, match=r"cache\.json: damaged"):
        cache_latents(source, net, Cover(8), tmp_path / "bad")
    for framing in (Cover(8, crop="random"), Cover(8, flip=0.5)):
        with pytest.raises(ValueError, match="a cache holds one frame"):
            cache_latents(source, net, framing, tmp_path / "c")
    with pytest.raises(ValueError, match="factor 2 does not divide the frame"):
        cache_latents(source, net, Cover(8), tmp_path / "c", frames=(torch.zeros(10, dtype=torch.int64), [(8, 7)]))
    with pytest.raises(ValueError, match="dtype='int8'"):
        cache_latents(source, net, Cover(8), tmp_path / "c", dtype="int8")
    cache = cache_latents(source, net, Cover(8), tmp_path / "c")
    with pytest.raises(ValueError, match="mirror=True"):
        LatentBatches(cache, source, 4, flip=0.5)
    with pytest.raises(ValueError, match="made without mirrored"):
        cache.read([0], [True])
    with pytest.raises(ValueError, match="holds 10 latents, but the source 3"):
        LatentBatches(cache, _array(3), 2)
    with pytest.raises(ValueError, match="of a batch of 2"):
        LatentBatches(cache, source, 2).rows(0, range(1, 3))


@pytest.mark.filterwarnings("ignore:broken image passed over")
def test_broken_images_take_the_latents_and_words_of_the_next(folder, tmp_path) -> None:
    source, net = ImageFolder(folder(6, broken={1: b"text", 5: b""})), _autoencoder()
    with pytest.raises(TooManyBroken):
        cache_latents(source, net, Cover(8), tmp_path / "strict")
    for _ in range(2):  # when it is made, and when it is opened
        cache = cache_latents(source, net, Cover(8), tmp_path / "c", share=0.5)
        assert cache.broken.report()["broken"] == 2 and "001.png" in cache.broken.report()["names"][0]
    mean, _, used = cache.read([0, 1, 2, 5])
    assert used == [0, 2, 2, 0] and torch.equal(mean[1], mean[2]) and torch.equal(mean[3], mean[0])
    batches = LatentBatches(cache, source, 6, make=lambda latents: latents)
    assert batches(0).captions == [f"{i:03d}" for i in batches(0).indices] and 1 not in batches(0).indices
    with pytest.raises(TooManyBroken):
        cache_latents(source, net, Cover(8), tmp_path / "c", share=0.1)


def test_workers_write_the_same_cache(folder, tmp_path) -> None:
    source, net = ImageFolder(folder(7)), _autoencoder()
    for name, workers in (("a", 0), ("b", 2)):
        cache_latents(source, net, Cover(8), tmp_path / name, batch=2, shard=3, workers=workers)
    assert _content(tmp_path / "a") == _content(tmp_path / "b")
    assert json.loads((tmp_path / "a" / "cache.json").read_text())["data"]["images"] == 7


def test_two_processes_at_once_do_the_work_once(tmp_path) -> None:
    source = _array(8)
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            net = _counted()
            cache_latents(source, net, _whole(source), tmp_path / "c", shard=4)
            os._exit(net.seen)
        children.append(child)
    seen = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(seen) == [0, 8]
