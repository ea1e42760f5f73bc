"""`bench train`: every loop trains before it is timed, ours over the others, and those that are missing are named."""

from __future__ import annotations

import json

import pytest
import torch

from mezzotint.bench import train as bench
from mezzotint.bench.peers import find_peer
from mezzotint.bench.train_ours import Held
from mezzotint.bench.train_side import NETS, Problem
from mezzotint.data import Scenes
from mezzotint.nn import UNet


@pytest.fixture
def tiny(monkeypatch) -> Problem:
    """A problem of milliseconds in place of the real ones."""

    def make(net: str, batch: int = 64, images: int = 64, device: str = "cpu") -> Problem:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            network = UNet(3, channels=8, mult=(1,), blocks=1, attention=())
            return Problem(network, Scenes(32, 64), batch, torch.device(device))

    monkeypatch.setattr(bench, "problem", make)
    return make("unet", 16)


@pytest.mark.parametrize("name", list(bench.SIDES))
def test_every_loop_trains(name, tiny):
    make, needs = bench.SIDES[name]
    if needs is not None and find_peer(needs).module is None:
        pytest.skip(find_peer(needs).reason)
    side = make(tiny)
    try:
        before, after = bench.check(side, tiny, 8)
        assert 0 < after < before
        weights = [p.detach().clone() for p in side.net.parameters()]
        side.advance(1)  # goes on where it was
        assert any(not torch.equal(a, b) for a, b in zip(weights, side.net.parameters(), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(tiny.net.parameters(), tiny.copy().parameters(), strict=True))
    finally:
        side.close()


def test_a_loop_that_does_not_train_is_refused(tiny):
    class Lazy(bench.Alone):
        def advance(self, steps):
            pass

    with pytest.raises(RuntimeError, match=r"the network alone does not train: .* 0 of \d+ parameters moved"):
        bench.check(Lazy(tiny), tiny, 3)


def test_rows_and_report(tiny):
    rows = bench.measure(
        ["unet"], ["mezzotint", "sit", "alone", "lucidrains"], steps=2, rounds=2, warmup=3, batch=16, memory=False
    )
    measured = [row for row in rows if row.seconds is not None]
    assert [row.side for row in rows] == ["mezzotint", "sit", "alone", "lucidrains"] and len(measured) >= 3
    for row in measured:
        assert row.low <= row.seconds <= row.high and row.rate == pytest.approx(16 / row.seconds, rel=1e-2)
        assert row.loss[1] < row.loss[0]
    for row in rows:
        assert (row.seconds is None) == bool(row.note)
    told = bench.report(rows, steps=2, rounds=2, batch=16)
    json.dumps(told)
    assert measured[0].ratio == (1.0, 1.0, 1.0)
    best = told["ours over the fastest other"]["unet"]
    others = {row.side: row.ratio[1] for row in measured if row.side not in ("mezzotint", "alone")}
    assert best["fastest other"] == min(others, key=others.get) and best["ratio"] == min(others.values())


def test_rounds_are_compared_in_pairs(tiny, monkeypatch):
    taken = {"mezzotint": [1.0, 2.0, 4.0], "sit": [1.1, 2.2, 4.4]}  # a machine that slows down
    monkeypatch.setattr(bench, "_alternate", lambda *_: taken)
    rows = bench.measure(["unet"], ["mezzotint", "sit"], steps=3, rounds=3, warmup=3, batch=16, memory=False)
    assert rows[1].ratio == (1.1, 1.1, 1.1) and rows[1].seconds == 2.2


def test_where_we_lose_is_told():
    ratios = {"mezzotint": (1.0, 1.0, 1.0), "sit": (0.8, 0.85, 0.9), "diffusers": (1.1, 1.2, 1.3), "alone": (0.7,) * 3}
    rows = [bench.Row("dit", side, ratio=ratio) for side, ratio in ratios.items()]
    best = bench.report(rows, steps=1, rounds=1, batch=16)["ours over the fastest other"]["dit"]
    assert best["slower than"] == ["sit"] and best["fastest other"] == "sit"
    assert (best["ratio"], best["quartiles"], best["goal met"]) == (0.85, [0.8, 0.9], False)


def test_a_missing_library_is_named(tiny, monkeypatch):
    from mezzotint.bench.peers import Peer

    monkeypatch.setattr(bench, "find_peer", lambda name: Peer(name, None, None, f"{name} is not installed"))
    (row,) = bench.measure(["unet"], ["smalldiffusion"], steps=1, rounds=1, warmup=2, batch=16, memory=False)
    assert row.seconds is None and row.note == "smalldiffusion is not installed"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nets": ["vit"]}, "unknown 'vit'"),
        ({"sides": ["mine"]}, "unknown 'mine'"),
        ({"steps": 1, "rounds": 2}, "a step a round"),
        ({"batch": 8}, "at least 16"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        bench.measure(**settings)


def test_the_networks_have_one_to_three_million_parameters():
    for make in NETS.values():
        assert 1e6 <= sum(p.numel() for p in make().parameters()) <= 3e6


def test_held_work_goes_on_by_steps_and_tells_its_errors():
    def work(pause):
        pause()
        raise KeyError("lost")

    held = Held(work)
    held.advance(1)
    with pytest.raises(KeyError, match="lost"):
        held.advance(1)
    held.close()


@pytest.mark.slow
def test_memory_is_measured_apart():
    used = bench.memory_of("dit", "alone", 16, "cpu")
    assert used is None or 10 < used < 2000
