from __future__ import annotations

import os
import signal

import pytest
import torch

from mezzotint.core.noise import fold
from mezzotint.train import CosineDecay, NonFiniteError, Single, fit, newest_checkpoint, read_log
from mezzotint.train.folder import run_folder

_SETTINGS = dict(seed=3, schedule=CosineDecay(steps=12, warmup=2), save_every=4, log_every=3)


def _same(a, b):
    assert a.keys() == b.keys() and len(a) > 10
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


class _Killed(Exception):
    pass


def _die_after(step):
    def on_step(progress):
        if progress.step == step:
            raise _Killed

    return on_step


@pytest.mark.parametrize("kind", ["denoising", "pair"])
@pytest.mark.parametrize(("cut", "layout"), [(1, True), (4, True), (5, True), (5, False)])
def test_a_stopped_run_resumes_to_the_same_bits(kind, cut, layout, request, tmp_path, everything):
    make = request.getfixturevalue(kind)
    engine = Single("cpu", channels_last=layout)
    whole, batches = make()
    fit(whole, batches, steps=12, out=tmp_path / "whole", engine=engine, **_SETTINGS)

    first, batches = make()
    steps = iter(range(1, 13))
    report = fit(first, batches, steps=12, out=tmp_path / "cut", engine=engine, stop=lambda: next(steps) == cut,
                 **_SETTINGS)  # fmt: skip
    assert (report.step, report.ended, report.finished) == (cut, "stopped", False)
    second, batches = make()
    report = fit(second, batches, steps=12, out=tmp_path / "cut", engine=engine, **_SETTINGS)
    assert (report.step, report.resumed, report.ended) == (12, cut, "finished")
    _same(everything(whole), everything(second))


@pytest.mark.parametrize("kind", ["denoising", "pair"])
def test_a_killed_run_goes_back_to_its_checkpoint_and_its_log_has_each_row_once(kind, request, tmp_path, everything):
    make = request.getfixturevalue(kind)
    whole, batches = make()
    fit(whole, batches, steps=12, out=tmp_path / "whole", engine=Single("cpu"), **_SETTINGS)
    for step in (7, 10):
        task, batches = make()
        with pytest.raises(_Killed):
            fit(task, batches, steps=12, out=tmp_path / "cut", engine=Single("cpu"), on_step=_die_after(step),
                **_SETTINGS)  # fmt: skip
    with (tmp_path / "cut" / "log.jsonl").open("a") as log:
        log.write('{"step": 12, "lo')  # the row that was being written
    task, batches = make()
    assert fit(task, batches, steps=12, out=tmp_path / "cut", engine=Single("cpu"), **_SETTINGS).resumed == 8
    _same(everything(whole), everything(task))
    rows, expected = (read_log(tmp_path / name / "log.jsonl") for name in ("cut", "whole"))
    assert [r["step"] for r in rows] == [3, 6, 9, 12]
    term = "loss" if kind == "denoising" else "g"
    assert rows[-1][term] == expected[-1][term]  # a whole window lies after the last resume


def test_training_again_after_the_end_does_nothing_and_a_longer_run_goes_on(pair, tmp_path, everything):
    settings = dict(seed=3, save_every=4, log_every=3, engine=Single("cpu"))
    whole, batches = pair()
    fit(whole, batches, steps=9, out=tmp_path / "whole", **settings)
    for steps, resumed, done in ((6, 0, 6), (6, 6, 0), (9, 6, 3)):
        task, batches = pair()
        report = fit(task, batches, steps=steps, out=tmp_path / "parts", **settings)
        assert (report.resumed, len(task.seeds)) == (resumed, done)
    _same(everything(whole), everything(task))


def test_a_sample_draws_by_run_seed_step_and_place(pair, tmp_path):
    task, batches = pair()
    fit(task, batches, steps=3, seed=5, out=tmp_path / "run", engine=Single("cpu"))
    assert task.seeds == [[fold(5, "train", s, i) for i in range(4)] for s in range(3)]


def test_layers_with_randomness_depend_on_the_seed_and_the_global_generator_is_left_alone(pair, tmp_path, everything):
    def final(seed, name):
        task, batches = pair()
        fit(task, batches, steps=2, seed=seed, out=tmp_path / name, engine=Single("cpu"))
        return everything(task)

    before = torch.get_rng_state()
    one = final(0, "one")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)  # whatever the process drew before
    _same(one, final(0, "again"))
    other = final(1, "other")
    assert not torch.equal(one["module/g.0.weight"], other["module/g.0.weight"])


def test_the_schedule_multiplies_every_base_rate(pair, tmp_path):
    task, batches = pair()
    seen = []
    fit(
        task,
        batches,
        steps=4,
        seed=0,
        out=tmp_path / "run",
        engine=Single("cpu"),
        schedule=lambda step: 0.5**step,
        on_step=lambda p: seen.append([o.param_groups[0]["lr"] for o in task.optimisers.values()]),
    )
    assert seen == [[1e-2 * 0.5**s, 1e-2 * 0.5**s] for s in range(4)]


@pytest.mark.parametrize("bad", [2, 5])
def test_a_non_finite_metric_stops_the_run_naming_step_and_term_and_is_never_saved(bad, pair, tmp_path):
    task, batches = pair()
    inner = task.step

    def step(batch, step, noise, learn):
        return inner(batch * (float("nan") if step == bad else 1.0), step, noise, learn)

    task.step = step
    with pytest.raises(NonFiniteError, match=rf"step {bad}: g = nan, d = nan"):
        fit(task, batches, steps=20, seed=0, out=tmp_path / "run", engine=Single("cpu"), log_every=10, save_every=4)
    saved = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert (saved.name if saved else None) == {2: None, 5: "step-00000004"}[bad]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_stops(number, pair, tmp_path, everything):
    before = signal.getsignal(number)
    task, batches = pair()

    def on_step(progress):
        if progress.step == 3:
            os.kill(os.getpid(), number)

    report = fit(task, batches, steps=9, seed=0, out=tmp_path / "run", engine=Single("cpu"), on_step=on_step)
    assert (report.step, report.ended) == (3, signal.Signals(number).name)
    assert report.checkpoint.endswith("step-00000003")
    assert signal.getsignal(number) == before
    whole, batches = pair()
    fit(whole, batches, steps=3, seed=0, out=tmp_path / "whole", engine=Single("cpu"))
    _same(everything(whole), everything(task))


def test_a_second_signal_acts_as_usual(pair, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    task, batches = pair()

    def on_step(progress):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            fit(task, batches, steps=9, seed=0, out=tmp_path / "run", engine=Single("cpu"), on_step=on_step)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_time_budget_counts_the_whole_run(pair, tmp_path):
    task, batches = pair()
    settings = dict(seed=0, out=tmp_path / "run", engine=Single("cpu"), minutes=1e-9)
    assert fit(task, batches, steps=9, **settings).ended == "stopped"
    task, batches = pair()
    report = fit(task, batches, steps=9, **settings)
    assert (report.resumed, report.step) == (1, 2)  # no time left, yet each call makes one step of progress


def test_a_folder_of_another_run_is_refused_naming_what_differs(pair, tmp_path):
    task, batches = pair()
    settings = dict(steps=1, out=tmp_path / "run", engine=Single("cpu"))
    fit(task, batches, seed=0, identity={"recipe": "a", "lr": 0.1}, **settings)
    with pytest.raises(ValueError, match=r"belongs to another run \(lr: 0.1 there, 0.2 now; seed: 0 there, 1 now\)"):
        fit(task, batches, seed=1, identity={"recipe": "a", "lr": 0.2}, **settings)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run.json: damaged"):
        fit(task, batches, seed=0, identity={"recipe": "a", "lr": 0.1}, **settings)


def test_a_folder_with_other_files_is_refused(pair, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    task, batches = pair()
    with pytest.raises(ValueError, match=r"not a run folder .* not empty \(thesis.tex\)"):
        fit(task, batches, steps=1, seed=0, out=tmp_path, engine=Single("cpu"))


def _in_a_child(action) -> str:
    """Run `action` in a forked process and return the message it ended with."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
            message = "no error"
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
        os.write(write, message.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        message = pipe.read()
    os.waitpid(child, 0)
    return message


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    def enter():
        with run_folder(tmp_path / "run", {"seed": 0}):
            pass

    with run_folder(tmp_path / "run", {"seed": 0}):
        assert "ValueError: another process works in" in _in_a_child(enter)
    assert _in_a_child(enter) == "no error"


def test_a_folder_that_cannot_be_written_is_told_before_training(pair, tmp_path):
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o555)

    def train():
        if os.geteuid() == 0:
            os.setuid(65534)  # root writes anywhere
        task, batches = pair()
        fit(task, batches, steps=1, seed=0, out=shut / "run", engine=Single("cpu"))

    message = _in_a_child(train)
    assert message.startswith("ValueError: cannot write to the run folder") and "Permission denied" in message
    (tmp_path / "file").write_text("")
    task, batches = pair()
    with pytest.raises(ValueError, match=r"cannot write to the run folder .*file/run"):
        fit(task, batches, steps=1, seed=0, out=tmp_path / "file" / "run", engine=Single("cpu"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"log_every": 0}, "log must be at least 1"),
        ({"save_every": -1}, "save must be at least 1"),
        ({"keep": 0}, "keep must be at least 1"),
        ({"save_minutes": 0.0}, "must be positive"),
    ],
)
def test_bad_settings_are_refused_before_the_folder_is_made(settings, message, pair, tmp_path):
    task, batches = pair()
    with pytest.raises(ValueError, match=message):
        fit(task, batches, **{"steps": 2, "seed": 0, "out": tmp_path / "run", "engine": Single("cpu"), **settings})
    assert not (tmp_path / "run").exists()
