"""Calibration: resumed to the same bits, whatever batch, mode of differentiation or interruption."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.core import VP, Condition, EpsDenoiser, GaussianMixture, Noise, VDenoiser, X0Denoiser
from mezzotint.sample import EMS, calibrate_ems
from mezzotint.sample.ems_moments import Derivative

F64 = torch.float64
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3], [0.6, -0.2]]), torch.tensor([0.2, 0.3]))
EXACT, POOL = MIXTURE.denoiser(VP()), MIXTURE.sample(Noise(range(50)))
SMALL: dict[str, Any] = {"levels": 4, "per_level": 70}


def same(a: EMS, b: EMS) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("lam", "t", "l", "s", "b"))


class Attention(nn.Module):
    """A network with fused attention, which has no forward derivative of its own, and a reading of time."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(2, 24), nn.Linear(8, 2)

    def forward(self, x: Tensor, time: Tensor, c: object = None) -> Tensor:
        q, k, v = self.into(torch.stack([x, x.flip(-1), x * torch.sin(time / 300)[:, None]], 1)).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0].mean(1))


@pytest.fixture
def network(alive) -> EpsDenoiser:
    return EpsDenoiser(alive(Attention()), VP())


class _Stop(Exception):
    pass


def _stop_after(levels: int):
    def look(done: int, total: int) -> None:
        if done == levels:
            raise _Stop

    return look


@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_interrupted_calibration_goes_on_to_the_same_bits(after: int, tmp_path) -> None:
    whole = calibrate_ems(EXACT, POOL, **SMALL)
    out = tmp_path / "a.ems"
    with pytest.raises(_Stop):
        calibrate_ems(EXACT, POOL, **SMALL, out=out, on_level=_stop_after(after))
    assert not out.exists() and len(list((tmp_path / "a.ems.partial").glob("level-*"))) == after
    levels: list[tuple[int, int]] = []
    calls = _counted(EXACT, lambda d: calibrate_ems(d, POOL, **SMALL, out=out, on_level=lambda *a: levels.append(a)))
    assert calls == (5 - after) * 4  # two batches, two derivatives
    assert levels == [(j, 5) for j in range(1, 6)]
    assert same(EMS.load(out), whole)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ems"]


def _counted(d: Any, action: Any) -> int:
    """Calls of the denoiser while it is calibrated; jvp calls it once a derivative."""
    calls = []
    handle = d.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        action(d)
    finally:
        handle.remove()
    return len(calls)


@pytest.mark.fault
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_calibration_goes_on_to_the_same_bits(tmp_path) -> None:
    """SIGKILL at moments of chance, until one run comes through."""
    whole = calibrate_ems(EXACT, POOL, levels=12, per_level=70)
    out = tmp_path / "a.ems"
    for attempt in range(40):
        child = os.fork()
        if child == 0:
            try:
                calibrate_ems(EXACT, POOL, levels=12, per_level=70, out=out)
            finally:
                os._exit(0)
        time.sleep(0.02 * (1 + attempt % 5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if out.exists():
            break
    ended = calibrate_ems(EXACT, POOL, levels=12, per_level=70, out=out)
    assert same(ended, whole) and same(EMS.load(out), whole)
    assert not (tmp_path / "a.ems.partial").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"per_level": 71}, "per_level"),
        ({"batch": 32}, "batch"),
        ({"t_end": 0.01}, "interval"),
        ({"l": "ones"}, "l was 'fit'"),
        ({"data": POOL + 0.1}, "data was"),
        ({"denoiser": GaussianMixture(torch.zeros(1, 2), torch.ones(1)).denoiser(VP(beta_max=19.0))}, "schedule"),
    ],
)
def test_another_call_does_not_go_on(change: dict[str, Any], named: str, tmp_path) -> None:
    out = tmp_path / "a.ems"
    with pytest.raises(_Stop):
        calibrate_ems(EXACT, POOL, **SMALL, out=out, on_level=_stop_after(1))
    call: dict[str, Any] = {"denoiser": EXACT, "data": POOL, **SMALL, **change}
    with pytest.raises(ValueError, match=named):
        calibrate_ems(call.pop("denoiser"), call.pop("data"), **call, out=out)


def test_other_weights_do_not_go_on(network, tmp_path) -> None:
    with pytest.raises(_Stop):
        calibrate_ems(network, POOL, **SMALL, out=tmp_path / "a.ems", on_level=_stop_after(1))
    with torch.no_grad():
        network.net.out.weight[0, 0] += 1
    with pytest.raises(ValueError, match="weights was"):
        calibrate_ems(network, POOL, **SMALL, out=tmp_path / "a.ems")


@pytest.mark.fault
def test_damaged_partial_files_are_named(tmp_path) -> None:
    out, level = tmp_path / "a.ems", tmp_path / "a.ems.partial" / "level-00000.safetensors"
    with pytest.raises(_Stop):
        calibrate_ems(EXACT, POOL, **SMALL, out=out, on_level=_stop_after(2))
    good = level.read_bytes()
    for content, message in ((good[:-8], "truncated"), (b"", "truncated")):
        level.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            calibrate_ems(EXACT, POOL, **SMALL, out=out)
        assert "level-00000" in str(caught.value)
    EMS.fixed(VP(), (2,), 4).save(level)
    with pytest.raises(ValueError, match="level-00000.*does not hold the moments"):
        calibrate_ems(EXACT, POOL, **SMALL, out=out)
    (level.parent / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings.json is not readable"):
        calibrate_ems(EXACT, POOL, **SMALL, out=out)


def test_noise_and_probes_are_of_the_sample_not_of_the_batch() -> None:
    """Only the order of float64 sums differs."""
    one = calibrate_ems(EXACT, POOL, levels=3, per_level=150, batch=150)
    for batch in (1, 64, 100):
        other = calibrate_ems(EXACT, POOL, levels=3, per_level=150, batch=batch) if batch > 1 else one
        for name in ("l", "s", "b"):
            torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=1e-9, atol=1e-9)
    assert not same(calibrate_ems(EXACT, POOL, levels=3, per_level=150, batch=150, seed=1), one)


def test_data_by_number() -> None:
    """A function of sample numbers sees each number once, in order; a tensor is gone through in shuffled rounds."""
    seen: list[int] = []

    def fresh(numbers: Any) -> Tensor:
        seen.extend(numbers)
        return MIXTURE.sample(Noise(numbers))

    calibrate_ems(EXACT, fresh, levels=2, per_level=10, batch=4)
    assert seen == [0, *range(30)]  # the first to learn the shape
    rows = torch.arange(7.0, dtype=F64)[:, None].expand(7, 2)
    drawn: list[float] = []

    def note(x: Tensor, time: Tensor, c: object) -> Tensor:
        return 0 * x

    from mezzotint.sample.calibrate import _source

    drawn = [float(v) for v in _source(rows, 3)(range(21))[:, 0]]
    assert sorted(drawn[:7]) == sorted(drawn[7:14]) == [float(i) for i in range(7)] != drawn[:7]
    assert drawn[:7] == drawn[7:14]


def test_double_backward_gives_what_forward_mode_gives(network, monkeypatch) -> None:
    """Fused attention runs in plain operations meanwhile; where forward mode fails the fallback is taken once."""
    forward = calibrate_ems(network, POOL, levels=2, per_level=8)

    def unsupported(*_: object, **__: object) -> Any:
        raise NotImplementedError("no forward derivative")

    monkeypatch.setattr(torch.func, "jvp", unsupported)
    backward = calibrate_ems(network, POOL, levels=2, per_level=8)
    for name in ("l", "s", "b"):
        torch.testing.assert_close(getattr(backward, name), getattr(forward, name), rtol=1e-9, atol=1e-9)
    assert float(forward.l.std()) > 1e-3


def test_the_fallback_is_tried_once() -> None:
    tries = []

    def once(x: Tensor, t: Tensor) -> Tensor:
        tries.append(torch.is_grad_enabled())
        if not tries[-1]:
            raise NotImplementedError
        return x * t[:, None]

    derivative, x, t = Derivative(once), torch.ones(2, 3), torch.full((2,), 4.0)
    for _ in range(2):
        value, slope = derivative(x, t, 2 * x, torch.ones(2))
        assert torch.equal(value, 4 * x) and torch.equal(slope, 9 * x)
    assert tries == [False, True, True]


def test_every_prediction_kind_gives_the_same_statistics() -> None:
    """eps, v and x0 of one exact distribution: the same EMS but for rounding."""

    def eps(x: Tensor, time: Tensor, c: object) -> Tensor:
        return EXACT(x, time / 1000).eps

    def v(x: Tensor, time: Tensor, c: object) -> Tensor:
        return EXACT(x, time / 1000).v

    kinds = [EpsDenoiser(eps, VP()), VDenoiser(v, VP()), X0Denoiser(lambda x, time, c: EXACT(x, time / 1000).x0, VP())]
    made = [calibrate_ems(d, POOL, levels=3, per_level=64) for d in kinds]
    assert [m.prediction for m in made] == ["eps", "v", "x0"]
    for other in made[1:]:
        for name in ("l", "s", "b"):
            torch.testing.assert_close(getattr(other, name), getattr(made[0], name), rtol=1e-6, atol=1e-6)


def test_l_of_ones_and_its_cost() -> None:
    ones: list[EMS] = []
    calls = _counted(EXACT, lambda d: ones.append(calibrate_ems(d, POOL, levels=2, per_level=16, l="ones")))
    assert bool((ones[0].l == 1).all()) and calls == 3 * 2  # the value, and one derivative
    assert bool(ones[0].s.any())


def test_a_conditional_model_is_calibrated_on_its_null_branch() -> None:
    label = Condition({"label": torch.tensor([0, 1])}, null={"label": torch.tensor([2])})  # 2: all components
    null = calibrate_ems(EXACT, POOL, levels=2, per_level=16, c=label)
    assert same(null, calibrate_ems(EXACT, POOL, levels=2, per_level=16))
    one = Condition({"label": torch.tensor([0])})  # no null: kept
    assert not same(null, calibrate_ems(EXACT, POOL, levels=2, per_level=16, c=one))


def test_float32_data_makes_float32_statistics() -> None:
    low = calibrate_ems(EXACT, POOL.float(), levels=3, per_level=64)
    high = calibrate_ems(EXACT, POOL, levels=3, per_level=64)
    assert low.l.dtype == torch.float32 and high.l.dtype == F64 and low.lam.dtype == F64
    for name in ("l", "s", "b"):
        torch.testing.assert_close(getattr(low, name).double(), getattr(high, name), rtol=1e-3, atol=1e-3)


def _with(module: nn.Module) -> EpsDenoiser:
    return EpsDenoiser(nn.Sequential(nn.Linear(2, 2), module), VP())


WRONG: dict[str, tuple[Any, str]] = {
    "levels": (lambda: calibrate_ems(EXACT, POOL, levels=1), "levels=1"),
    "per_level": (lambda: calibrate_ems(EXACT, POOL, per_level=1), "per_level=1"),
    "batch": (lambda: calibrate_ems(EXACT, POOL, batch=0), "batch=0"),
    "seed": (lambda: calibrate_ems(EXACT, POOL, seed=-1), "seed=-1"),
    "l": (lambda: calibrate_ems(EXACT, POOL, l="one"), "l='one'"),
    "interval": (lambda: calibrate_ems(EXACT, POOL, t_start=0.1, t_end=0.5), "t_start=0.1"),
    "no data": (lambda: calibrate_ems(EXACT, POOL[:0]), "data is"),
    "integers": (lambda: calibrate_ems(EXACT, POOL.long()), "int64"),
    "NaN": (lambda: calibrate_ems(EXACT, POOL * torch.nan), "finite"),
    "function": (lambda: calibrate_ems(EXACT, lambda numbers: POOL[:3]), "3, 2.*for|for .* sample numbers"),
    "training": (lambda: calibrate_ems(_with(nn.Dropout(0.1)), POOL), "eval"),
    "batch norm": (lambda: calibrate_ems(_with(nn.BatchNorm1d(2)), POOL), "eval"),
    "half": (lambda: calibrate_ems(_with(nn.Identity()).bfloat16(), POOL), "half precision"),
    "folder": (lambda: calibrate_ems(EXACT, POOL, out=Path("/nowhere/a.ems")), "no folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name: str, unchecked) -> None:
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_that_breaks_names_the_level() -> None:
    broken = X0Denoiser(lambda x, time, c: torch.where(time[:, None] < 300, torch.nan, x), VP())
    with pytest.raises(FloatingPointError, match="level 3"):
        calibrate_ems(broken, POOL, levels=4, per_level=4, t_start=1.0, t_end=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_few_samples_on_a_coarse_grid_make_coarse_statistics_not_wild_ones(seed: int) -> None:
    """Where f hardly varies s is noise: bounded by what the grid resolves, the solver stays near the solution."""
    from mezzotint.core.exact import probability_flow
    from mezzotint.sample import DDIM, DPMSolverV3

    bed = GaussianMixture(torch.tensor([[-1.0], [0.4], [1.2]]), torch.tensor([0.35, 0.5, 0.4]))
    d, x_T = bed.denoiser(VP()), Noise(range(32))("x_T", 0, (1,), dtype=F64)
    pool = bed.sample(Noise(range(256)))
    ems = calibrate_ems(d, pool, levels=30, per_level=64, t_end=0.01, seed=seed)
    assert float(ems.s.abs().max()) <= 0.5 / float(ems.lam.diff()[0]) + 1e-9
    truth = probability_flow(bed, VP(), x_T, 1.0, 0.01)
    errors = [s(d, x_T, grid=ems.t[::3]) - truth for s in (DPMSolverV3(ems, order=1), DDIM())]
    assert errors[0].square().mean() < 0.25 * errors[1].square().mean()
