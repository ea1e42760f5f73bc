"""A run that is watched: the same bits, the rows told everywhere, and failures that stop nothing."""

from __future__ import annotations

import json
import time
import warnings

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.latent import Identity
from mezzotint.metric import MetricCard
from mezzotint.metric.result import MetricResult
from mezzotint.objective.batch import Batch
from mezzotint.sample import DPMSolverPP
from mezzotint.train import EMA, Single, fit, read_log
from mezzotint.train.report import DenoisedSamples, Reporting, RunWatch, flops_per_sample, read_run
from mezzotint.train.report import machine as machine_module
from mezzotint.train.report.samples import at_rest


class _Told:
    """A reporter that remembers."""

    def __init__(self):
        self.rows, self.pictures, self.words, self.closed = [], [], [], 0

    def row(self, step, row):
        self.rows.append((step, dict(row)))

    def images(self, step, name, picture):
        self.pictures.append((step, name, tuple(picture.shape)))

    def text(self, step, name, text):
        self.words.append((step, name, text))

    def close(self):
        self.closed += 1


def _restless(task, step):
    """Pictures by one who leaves everything changed that can be changed."""
    torch.manual_seed(step)
    task.modules.train()
    x = torch.randn(4, 3, 8, 8)
    for module in task.modules.values():
        for p in module.parameters():
            x = x + p.flatten()[0].detach()
    return x.clamp(-1, 1)


def _psnr(task, step):
    return [MetricResult(20.0 + step, MetricCard("psnr", n=4))]


def _fit(make, out, steps=9, watch=None, **settings):
    task, batches = make()
    settings = {"seed": 3, "log_every": 3, "save_every": 4, "engine": Single("cpu"), **settings}
    return task, fit(task, batches, steps=steps, out=out, watch=watch, **settings)


@pytest.mark.parametrize("kind", ["denoising", "pair"])
def test_watching_changes_no_bit(kind, request, tmp_path, everything):
    make = request.getfixturevalue(kind)
    plain, _ = _fit(make, tmp_path / "plain")
    watch = RunWatch(Reporting(every=2, samples=_restless, measures=_psnr))
    watched, _ = _fit(make, tmp_path / "watched", watch=watch)
    a, b = everything(plain), everything(watched)
    assert a.keys() == b.keys() and [k for k in a if not torch.equal(a[k], b[k])] == []
    assert len(list((tmp_path / "watched" / "samples").iterdir())) == 5  # 2, 4, 6, 8 and the end


def test_reporters_get_the_rows_of_the_log(denoising, tmp_path):
    told = _Told()
    reporting = Reporting(every=5, samples=_restless, measures=_psnr, reporters=[lambda folder: told])
    _fit(denoising, tmp_path, watch=RunWatch(reporting, {"name": "tiny"}))
    rows = read_log(tmp_path / "log.jsonl")
    assert [row for _, row in told.rows if "loss" in row] == rows and [row["step"] for row in rows] == [3, 6, 9]
    assert [row for _, row in told.rows if "psnr" in row] == [{"step": 5, "psnr": 25.0}, {"step": 9, "psnr": 29.0}]
    assert told.pictures == [(5, "samples", (22, 22, 3)), (9, "samples", (22, 22, 3))]
    assert told.words[0][:2] == (0, "settings") and "name = tiny" in told.words[0][2] and told.closed == 1


def test_the_folder_tells_what_ran(denoising, tmp_path):
    task, batches = denoising()
    watch = RunWatch(recipe={"name": "tiny", "seed": 3}, work=flops_per_sample(task, batches(0)))
    _fit(denoising, tmp_path, watch=watch)
    run = read_run(tmp_path)
    assert run.recipe == {"name": "tiny", "seed": 3} and run.facts["ended"] == "finished"
    assert run.facts["versions"]["torch"] == torch.__version__ and run.facts["seed"] == 3
    assert run.facts["parameters"] == sum(p.numel() for p in task.modules.parameters())
    assert run.facts["flops_per_sample"] == flops_per_sample(task, batches(0))
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_utilisation_is_work_over_peak_and_the_time_left_is_by_the_last_rows(denoising, tmp_path):
    _fit(denoising, tmp_path, steps=12, watch=RunWatch(work=12345.0))
    run = read_run(tmp_path)
    work, peak = run.facts["flops_per_sample"], run.facts["peak_flops"]
    assert work == 12345.0
    for row in run.rows:
        assert row["utilisation"] == pytest.approx(row["samples_per_second"] * work / peak, abs=6e-5)
        assert row["memory_mib"] > 50
    first, last = run.rows[0], run.rows[2]
    pace = (last["seconds"] - first["seconds"]) / 6
    assert last["seconds_left"] == pytest.approx(3 * pace, abs=0.06) and run.rows[-1]["seconds_left"] == 0


def test_a_step_that_could_not_be_counted_is_told_in_the_page(denoising, tmp_path):
    _fit(denoising, tmp_path, watch=RunWatch(work="it reads <numbers>"))
    assert "utilisation" not in read_log(tmp_path / "log.jsonl")[-1]
    assert "not told: it reads &lt;numbers&gt;" in (tmp_path / "report.html").read_text()


def test_the_time_left_minds_the_limit(denoising, tmp_path):
    _fit(denoising, tmp_path, steps=10**6, minutes=1e-3, watch=RunWatch(), log_every=1)
    rows = read_log(tmp_path / "log.jsonl")
    assert all(row["seconds_left"] <= max(0, 0.06 - row["seconds"]) + 0.051 for row in rows)


def test_pictures_are_no_training_time(denoising, tmp_path, monkeypatch):
    class Clock:
        ahead = 0.0

        @classmethod
        def monotonic(cls):
            return time.monotonic() + cls.ahead

    def slow(task, step):
        Clock.ahead += 1000.0
        return _restless(task, step)

    monkeypatch.setattr("mezzotint.train.loop.time", Clock)
    _, report = _fit(denoising, tmp_path, steps=4, watch=RunWatch(Reporting(every=1, samples=slow)), log_every=1)
    assert Clock.ahead == 4000 and report.seconds < 1000
    assert all(row["samples_per_second"] > 4 / 1000 for row in read_log(tmp_path / "log.jsonl"))


def test_what_fails_is_told_once_and_the_run_goes_on(denoising, tmp_path):
    def fails(task, step):
        raise RuntimeError("no picture today")

    def refuses(folder):
        raise OSError("no board")

    reporting = Reporting(every=2, samples=fails, reporters=[refuses])
    with pytest.warns(UserWarning) as told:
        task, report = _fit(denoising, tmp_path, watch=RunWatch(reporting))
    messages = [str(w.message) for w in told]
    assert report.finished and len(messages) == 2
    assert "refuses failed (OSError: no board)" in messages[0] and "RuntimeError: no picture today" in messages[1]
    assert all(not torch.equal(p, ema) for p, ema in _weights(task))  # its own weights are back, not the averages


def _weights(task):
    ema = task.ema["denoiser"]
    return [(p.detach(), ema.averages[n]) for n, p in task.modules["denoiser"].named_parameters()]


def test_a_page_that_cannot_be_written_stops_nothing(denoising, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".keep").touch()
    watch = RunWatch(Reporting(samples=_restless), every=3)

    def block(progress):
        page = tmp_path / "run" / "report.html"
        if progress.step == 2:
            page.unlink()
            page.mkdir()  # a rename onto it fails

    with pytest.warns(UserWarning, match="the page failed"):
        _, report = _fit(denoising, tmp_path / "run", watch=watch, on_step=block)
    assert report.finished


def test_a_killed_run_forgets_what_its_lost_steps_drew(denoising, tmp_path):
    class Killed(Exception):
        pass

    def die(progress):
        if progress.step == 7:
            raise Killed

    reporting = Reporting(every=3, samples=_restless, measures=_psnr)
    with pytest.raises(Killed):
        _fit(denoising, tmp_path, watch=RunWatch(reporting), on_step=die)
    assert [step for step, _ in read_run(tmp_path).samples] == [3, 6]
    assert read_run(tmp_path).facts["ended"] == "Killed"
    seen = []
    _fit(denoising, tmp_path, watch=RunWatch(reporting), on_step=lambda p: seen.append(_state(tmp_path)))
    assert seen[0] == ([3], None)  # went on from the checkpoint of step 4; the run is under way
    assert _state(tmp_path) == ([3, 6, 9], "finished")


def _state(folder):
    run = read_run(folder)
    assert [step for step, _ in run.samples] == [row["step"] for row in run.metrics]
    return [step for step, _ in run.samples], run.facts["ended"]


def test_the_machine_is_measured_once_a_folder(denoising, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("mezzotint.train.report.reporting.measured_peak", lambda *a: calls.append(a) or 1e9)
    for steps in (3, 6):
        _fit(denoising, tmp_path, steps=steps, watch=RunWatch(work=1e6))
    assert len(calls) == 1 and read_run(tmp_path).facts["peak_flops"] == 1e9


def test_the_peak_is_operations_over_time(monkeypatch):
    clock = iter(x * 0.025 for x in range(1000))
    monkeypatch.setattr(machine_module.time, "perf_counter", lambda: next(clock))
    peak = machine_module.measured_peak(torch.device("cpu"))
    assert peak == pytest.approx(2 * 768**3 / 0.025, rel=1e-6)


def test_pictures_are_samples_of_the_averaged_weights_at_fixed_seeds(denoising):
    task, batches = denoising()
    for step in range(3):
        task.step(batches(step), step, Noise(range(4)))
        task.ema["denoiser"].update()
    draw = DenoisedSamples.like(batches(0), Identity(), count=2, steps=4)
    with at_rest(task):
        assert not task.modules.training and not torch.is_grad_enabled()
        made = draw(task, 3)
    assert task.modules.training
    task.ema["denoiser"].copy_to_module()
    denoiser = task.modules["denoiser"].eval()
    with torch.no_grad():
        x = Noise([0, 1])("x_T", 0, (3, 8, 8)) * float(denoiser.schedule.sigma(torch.tensor(1.0)))
        expected = DPMSolverPP(order=2)(denoiser, x, steps=4, noise=Noise([0, 1]))
    assert torch.equal(made, expected)


def test_of_several_averages_the_first_is_drawn(denoising):
    task, _ = denoising()
    first, second = (EMA(task.modules["denoiser"], decay) for decay in (0.5, 0.9))
    task.ema = {"first": first, "second": second}
    for value, ema in ((1.0, first), (2.0, second)):
        for average in ema.averages.values():
            average.fill_(value)
    before = [p.detach().clone() for p in task.modules.parameters()]
    with at_rest(task):
        assert all(bool((p == 1).all()) for p in task.modules.parameters())
    assert all(torch.equal(p, own) for p, own in zip(task.modules.parameters(), before, strict=True))


def test_conditions_of_the_first_batch_are_kept():
    from mezzotint.core import Condition

    batch = Batch(torch.zeros(5, 3, 8, 8), Condition({"label": torch.arange(5)}))
    draw = DenoisedSamples.like(batch, Identity(), count=3)
    assert draw.c is not None and draw.c["label"].tolist() == [0, 1, 2] and draw.shape == (3, 8, 8)


def test_bad_settings():
    with pytest.raises(ValueError, match="every"):
        Reporting(every=0)


def test_a_quiet_run_warns_of_nothing(denoising, tmp_path):
    _, batches = denoising()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = DenoisedSamples.like(batches(0), Identity(), count=2, steps=2)
        _fit(denoising, tmp_path, watch=RunWatch(samples=samples, every=4, work=1e6))
    json.loads((tmp_path / "facts.json").read_text())
