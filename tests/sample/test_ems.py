"""EMS: what they refuse, what their file survives, and how times find their levels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mezzotint.core import VE, VP, Cosine, Discrete, EpsDenoiser, Flow, Gaussian, Shifted, VDenoiser
from mezzotint.guide import CFG
from mezzotint.io.safe import read_state
from mezzotint.sample import EMS, DPMSolverV3, sampler_named
from mezzotint.sample.ems import ems_grid, prediction_of, schedule_mark

F64 = torch.float64
EXACT = Gaussian(torch.zeros(2), std=0.5).denoiser(VP())
X = torch.ones(1, 2)


def varied() -> EMS:
    ems = EMS.fixed(VP(), (2,), 8)
    ramp = torch.linspace(0, 1, 9, dtype=F64)[:, None].expand(9, 2)
    return EMS(ems.lam, ems.t, 1 - ramp, -ramp, ramp / 3, ems.schedule, "eps", {"levels": 8, "seed": 3})


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_file_gives_back_what_it_got(dtype, tmp_path) -> None:
    ems = varied()
    ems = EMS(ems.lam, ems.t, ems.l.to(dtype), ems.s.to(dtype), ems.b.to(dtype), ems.schedule, "eps", ems.about)
    again = EMS.load(ems.save(tmp_path / "a.ems"))
    for name in ("lam", "t", "l", "s", "b"):
        assert torch.equal(getattr(again, name), getattr(ems, name))
        assert getattr(again, name).dtype == getattr(ems, name).dtype
    assert (again.schedule, again.prediction, again.about) == (ems.schedule, "eps", {"levels": 8, "seed": 3})
    assert [p.name for p in tmp_path.iterdir()] == ["a.ems"]


def test_a_save_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch) -> None:
    path = varied().save(tmp_path / "a.ems")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="no space"):
        EMS.fixed(VP(), (2,)).save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="no folder"):
        varied().save(tmp_path / "none" / "a.ems")


def _write(path: Path, change: dict[str, Any] | None = None, head: dict[str, Any] | str | None = None) -> Path:
    """A file like a good one, with some tensors (None: left out) and header entries changed."""
    good = varied().save(path)
    tensors = read_state(good)
    told: Any = {"format": "mezzotint-ems-1", "schedule": varied().schedule, "prediction": "eps", "about": {}}
    tensors = {k: v for k, v in (tensors | (change or {})).items() if v is not None}
    text = head if isinstance(head, str) else json.dumps(told | (head or {}))
    save_file(tensors, path, metadata={"ems": text})
    return path


FAULTS: dict[str, tuple[Any, str]] = {
    "missing": (lambda p: p, "no such file"),
    "empty": (lambda p: (p.write_bytes(b""), p)[1], "truncated"),
    "cut": (lambda p: (varied().save(p), p.write_bytes(p.read_bytes()[:-9]))[0], "truncated"),
    "pickle": (lambda p: (torch.save({"l": torch.ones(2)}, p), p)[1], "pickle"),
    "weights": (lambda p: (save_file({"w": torch.ones(2)}, p), p)[1], "no EMS"),
    "header not JSON": (lambda p: _write(p, head="[}"), "no EMS"),
    "header a list": (lambda p: _write(p, head="[1]"), "no EMS"),
    "about no mapping": (lambda p: _write(p, head={"about": 3}), "no EMS"),
    "newer": (lambda p: _write(p, head={"format": "mezzotint-ems-9"}), "mezzotint-ems-9"),
    "prediction": (lambda p: _write(p, head={"prediction": 3}), "names no prediction"),
    "one less": (lambda p: _write(p, {"s": None}), "this file holds b, l, lam, t"),
    "one more": (lambda p: _write(p, {"z": torch.ones(9)}), "hold b, l, lam, s and t"),
    "length": (lambda p: _write(p, {"b": torch.ones(8, 2, dtype=F64)}), "shapes"),
    "shape": (lambda p: _write(p, {"b": torch.ones(9, 3, dtype=F64)}), "shapes"),
    "not finite": (lambda p: _write(p, {"b": torch.full((9, 2), torch.nan, dtype=F64)}), "not finite"),
    "order": (lambda p: _write(p, {"lam": torch.linspace(1, 0, 9, dtype=F64)}), "out of order"),
    "half": (lambda p: _write(p, {"l": torch.ones(9, 2, dtype=torch.float16)}), "float16"),
    "integers": (lambda p: _write(p, {"t": torch.arange(9)}), "float64 grids"),
    "mixed": (lambda p: _write(p, {"l": torch.ones(9, 2)}), "float32"),
}


@pytest.mark.fault
@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_file_is_named(name: str, tmp_path, unchecked) -> None:
    make, message = FAULTS[name]
    path = make(tmp_path / "bad.ems")
    with pytest.raises(ValueError, match=message) as caught:
        EMS.load(path)
    assert "bad.ems" in str(caught.value)


def test_refused_with_both_descriptions() -> None:
    """Another schedule, another prediction, another shape: before the network is asked."""

    def never(*_: object) -> torch.Tensor:
        raise AssertionError("the network was called")

    ems = varied()
    ours, theirs = schedule_mark(VP()), schedule_mark(VP(beta_max=19.0))
    with pytest.raises(ValueError) as caught:
        DPMSolverV3(ems)(EpsDenoiser(never, VP(beta_max=19.0)), X, steps=3)
    assert ours in str(caught.value) and theirs in str(caught.value)
    with pytest.raises(ValueError, match="predicts eps, but this one predicts v"):
        DPMSolverV3(ems)(VDenoiser(never, VP()), X, steps=3)
    with pytest.raises(ValueError, match="predicts eps, but this one predicts ExactDenoiser"):
        DPMSolverV3(ems)(EXACT, X, steps=3)
    with pytest.raises(ValueError, match=r"\(2,\), but x_T has samples \(3,\)"):
        DPMSolverV3(ems)(EpsDenoiser(never, VP()), torch.ones(1, 3), steps=3)
    with pytest.raises(ValueError, match="schedule"):  # also where a plan is asked for alone
        DPMSolverV3(ems).plan(Flow(), torch.tensor([0.9, 0.1]))


def test_prediction_and_schedule_are_looked_for_inside() -> None:
    inner = EpsDenoiser(lambda x, time, c: x, VP())
    assert prediction_of(CFG(3.0)(inner)) == prediction_of(inner) == "eps"
    assert prediction_of(EXACT) == "ExactDenoiser"
    marks = [schedule_mark(s) for s in (VP(), VP(0.1, 20.0001), Flow(), Shifted(Flow(), 2.0), Cosine(), VE())]
    marks += [schedule_mark(Discrete.linear(n)) for n in (1000, 999)] + [schedule_mark(Discrete.scaled_linear())]
    assert len(set(marks)) == len(marks)
    assert schedule_mark(VP()) == schedule_mark(VP(0.1, 20.0))

    class Nameless:
        curve = "variance"
        alpha, sigma = staticmethod(VP().alpha), staticmethod(VP().sigma)
        half_log_snr, t_of = staticmethod(VP().half_log_snr), staticmethod(VP().t_of)

    assert schedule_mark(Nameless()).startswith("Nameless #")  # type: ignore[arg-type]  # no address in it


def test_times_outside_are_refused_and_never_extrapolated() -> None:
    ems = EMS.fixed(VP(), (2,), 40, t_start=0.8, t_end=0.05)
    sampler = DPMSolverV3(ems)
    for grid, t in (
        ([1.0, 0.5, 0.1], "1"),
        ([0.81, 0.5, 0.1], "0.81"),
        ([0.8, 0.5, 0.04], "0.04"),
        ([0.8, 0.04, 0.0], "0.04"),
    ):
        with pytest.raises(ValueError, match=rf"t = {t} lies outside the interval \[0.05, 0.8\]"):
            sampler(EXACT, X, grid=torch.tensor(grid, dtype=F64))
    for grid in ([0.8, 0.5, 0.05], [0.8, 0.5, 0.0], [0.7, 0.1]):
        assert bool(torch.isfinite(sampler(EXACT, X, grid=torch.tensor(grid, dtype=F64))).all())


def test_nodes_are_moved_to_levels_and_must_stay_apart() -> None:
    ems = EMS.fixed(VP(), (2,), 12)
    plan = DPMSolverV3(ems).plan(VP(), torch.tensor([1.0, 0.61, 0.2, 0.0], dtype=F64))
    for node, t in zip(plan.nodes[:-1], (1.0, 0.61, 0.2)):
        level = int((ems.t - node.t).abs().argmin())
        assert node.t == float(ems.t[level])
        lam = float(VP().half_log_snr(torch.tensor(t, dtype=F64)))
        assert int((ems.lam - lam).abs().argmin()) == level
    assert plan.nodes[-1].t == 0.0 and plan.calls == tuple((n.t,) for n in plan.nodes[:-1])
    with pytest.raises(ValueError, match="EMS grid too coarse: times 0.5 and 0.49"):
        DPMSolverV3(ems)(EXACT, X, grid=torch.tensor([1.0, 0.5, 0.49, 0.1]))
    with pytest.raises(ValueError, match="EMS grid too coarse"):
        DPMSolverV3(ems)(EXACT, X, steps=13)
    assert DPMSolverV3(EMS.fixed(VP(), (2,), 12))(EXACT, X, steps=2).shape == (1, 2)


WRONG: dict[str, tuple[Any, str]] = {
    "levels": (lambda: ems_grid(VP(), 1), "levels=1"),
    "end above start": (lambda: ems_grid(VP(), 9, 0.1, 0.2), "t_start=0.1 to t_end=0.2"),
    "end at 0": (lambda: ems_grid(VP(), 9, None, 0.0), "t_end=0.0"),
    "start above 1": (lambda: ems_grid(VP(), 9, 1.5), "t_start=1.5"),
    "infinite lambda": (lambda: ems_grid(Flow(), 9, 1.0), "finite lambda"),
    "ems": (lambda: DPMSolverV3("a.ems"), "EMS.load"),  # type: ignore[arg-type]
    "order": (lambda: DPMSolverV3(varied(), order=4), "order=4"),
    "corrector": (lambda: DPMSolverV3(varied(), corrector="both"), "'both'"),  # type: ignore[arg-type]
    "corrector order": (lambda: DPMSolverV3(varied(), order=1, corrector_order=3), "corrector_order=3"),
    "region": (lambda: DPMSolverV3(varied(), half_region="t<0.5"), "half_region"),  # type: ignore[arg-type]
    "first order": (lambda: DPMSolverV3(varied()).first_order((), 0), "tensor"),
    "name without a file": (lambda: sampler_named("dpm-v3"), "dpm-v3:FILE"),
    "name with nothing": (lambda: sampler_named("dpm-v3:"), "dpm-v3:FILE"),
    "name of no file": (lambda: sampler_named("dpm-v3:none.ems"), "none.ems: no such file"),
    "another name": (lambda: sampler_named("dpm-v4"), "dpm-v3:FILE"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name: str, unchecked) -> None:
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_by_name(tmp_path) -> None:
    path = EMS.fixed(VP(), (2,), 60).save(tmp_path / "vp:1.ems")  # a colon in the path is part of it
    named = sampler_named(f"dpm-v3:{path}")
    assert torch.equal(named(EXACT, X, steps=4), DPMSolverV3(EMS.load(path))(EXACT, X, steps=4))


def test_strong_guidance_is_warned_of() -> None:
    from mezzotint.core import Condition

    c = Condition({"label": torch.tensor([0])}, null={"label": torch.tensor([1])})
    d, sampler = EpsDenoiser(lambda x, time, c: 0 * x, VP()), DPMSolverV3(EMS.fixed(VP(), (2,), 60))
    with pytest.warns(UserWarning, match="guidance w=15 is beyond"):
        sampler(CFG(15.0)(d), X, steps=3, c=c)


def test_the_interval_of_schedules_without_a_lambda_at_one() -> None:
    assert ems_grid(VP(), 4)[1][0] == 1.0 and ems_grid(Discrete.scaled_linear(), 4)[1][0] == 1.0
    for schedule in (Flow(), Cosine()):
        lam, t = ems_grid(schedule, 4)
        assert float(lam[0]) == pytest.approx(-5.1) and 0.98 < float(t[0]) < 1 and float(t[-1]) == 1e-3
        assert bool((lam.diff() - lam.diff()[0]).abs().max() < 1e-12)
