"""The training loop: steps, log, checkpoints, resume. It knows nothing of what is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from mezzotint.core.noise import Noise, fold
from mezzotint.train.checkpoint import newest_checkpoint, step_of, tidy
from mezzotint.train.closing import broken_in, closing
from mezzotint.train.engine import Engine, Single
from mezzotint.train.folder import AVERAGES, CHECKPOINTS, LOG, run_folder
from mezzotint.train.interrupt import Interrupt
from mezzotint.train.log import JSONLog
from mezzotint.train.meter import Meter
from mezzotint.train.pace import Pace
from mezzotint.train.power_ema import keep_snapshots
from mezzotint.train.schedule import Constant, RateSchedule
from mezzotint.train.share import own_rows
from mezzotint.train.task import Metrics, Task
from mezzotint.train.watch import Opening, Watcher

Row = dict[str, Any]
_SAVE, _INTERRUPT, _STOP = 1, 2, 4  # what a process may ask of all after a step


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step, for callbacks.

    Attributes:
        step: steps completed, of `steps`.
        row: the log row written after this step, or None between log points.
    """

    step: int
    steps: int
    row: Row | None = None


@dataclass(frozen=True)
class Report:
    """How a call of `fit` ended.

    Attributes:
        step: steps completed in the whole run, of `steps`.
        resumed: the step it went on from; 0 for a fresh start.
        ended: "finished", "stopped" (by `stop` or `minutes`), "SIGINT" or "SIGTERM".
        seconds: training time of the whole run, resumes included.
        metrics: the last log row's means.
        checkpoint: the newest checkpoint.
        broken: images that could not be read: how many of how many, and the names with their causes, where the batches
            keep count (`Loader`); of several processes, those that this one met in its rows.
    """

    step: int
    steps: int
    resumed: int
    ended: str
    seconds: float
    metrics: dict[str, float]
    checkpoint: str | None
    broken: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit(
    task: Task,
    batches: Callable[[int], Any],
    *,
    steps: int,
    seed: int,
    out: str | Path,
    schedule: RateSchedule | None = None,
    log_every: int = 50,
    save_every: int = 1000,
    save_minutes: float | None = None,
    keep: int = 2,
    minutes: float | None = None,
    parts: int = 1,
    nonfinite: Literal["stop", "skip"] = "stop",
    engine: Engine | None = None,
    identity: Mapping[str, Any] | None = None,
    on_step: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    watch: Watcher | None = None,
) -> Report:
    """Train a task for `steps` steps in all, going on from what the folder `out` holds.

    Step s sees batch `batches(s)`, sample seeds fold(seed, "train", s, i), and learning rates
    `schedule(s)` times the base rates, so a run that is killed and resumed equals the uninterrupted one bit
    for bit (same device, same number of threads).

    Args:
        task: what to train, freshly built; a resume overwrites its state.
        batches: step -> batch, a pure function. A batch is a tensor, or has a tensor `x`, batch first. Each process
            works on its own rows; `Sharded` batches make only those. Closed at the end, by an error too, where they
            have a `close()`.
        steps: length of the run, >= 1. It may be raised later to go on.
        seed: of the run.
        out: the run's folder: `checkpoints/`, `log.jsonl`, `run.json`.
        schedule: step -> factor of the learning rate; None keeps it constant.
        log_every, save_every, save_minutes, keep: see `Pace`.
        minutes: stop, saved, after so much training time in the whole run; None for no limit.
        parts: micro-batches a step and process: the same numbers with less memory.
        nonfinite: "stop" ends the run where a metric is not finite; "skip" leaves such a step's update out, and
            the log counts them.
        engine: where; None is `Single()`.
        identity: JSON values besides the seed that a resume must match.
        on_step: called after each step.
        stop: asked after each step; True saves and ends. So do SIGINT and SIGTERM.
        watch: looks at the run, such as a `RunWatch`, which keeps pictures and a page of curves. What it takes is no
            training time.

    Raises:
        ValueError: bad arguments; a folder of another run, or that cannot be written.
        NonFiniteError: a metric was not finite; names step, process, metric and parameter. Checked for every
            step, at the next log row or checkpoint.
    """
    pace = Pace(log_every, save_every, save_minutes, keep)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    engine = Single() if engine is None else engine
    schedule = Constant() if schedule is None else schedule
    owner = {"seed": seed, **(identity or {})}
    # the interrupt outside: when a process is lost, torchrun asks the others to end, and they have yet to say why
    with closing(batches), Interrupt() as interrupt, engine.together(), _held(engine, out, owner):
        engine.place(task)
        rates = {name: [group["lr"] for group in o.param_groups] for name, o in task.optimisers.items()}
        learn = engine.learner(parts, nonfinite)
        run = _Run(task, engine, Path(out), pace, steps, nonfinite, watch)
        # layers with randomness of their own (dropout) draw from torch's generators, seeded anew each step
        devices = [engine.device] if engine.device.type == "cuda" else []
        with torch.random.fork_rng(devices), run.watched(seed, minutes), engine.compiled(task):
            ended = "finished"
            for step in range(run.step, steps):
                for name, optimiser in task.optimisers.items():
                    for group, rate in zip(optimiser.param_groups, rates[name], strict=True):
                        group["lr"] = rate * schedule(step)
                batch, rows = own_rows(batches, step, engine.rank, engine.world)
                batch = engine.move(batch)
                torch.manual_seed(fold(seed, "layers", step, engine.rank))
                noise = Noise([fold(seed, "train", step, i) for i in rows])
                metrics = task.step(batch, step, noise, learn)
                for ema in task.ema.values():
                    ema.update()
                row = run.after(step, metrics, len(rows), schedule(step))
                if on_step is not None:
                    on_step(Progress(step + 1, steps, row))
                late = minutes is not None and run.seconds >= 60 * minutes
                flags = _SAVE * run.due | _INTERRUPT * (interrupt.asked is not None)
                flags = engine.agree(flags | _STOP * (late or (stop is not None and stop())))
                if flags & (_INTERRUPT | _STOP):
                    ended = (interrupt.asked or "SIGTERM") if flags & _INTERRUPT else "stopped"
                    break
                if flags & _SAVE:
                    run.save()
        return run.close(ended if run.step < steps else "finished", broken_in(batches))


@contextmanager
def _held(engine: Engine, out: str | Path, identity: Mapping[str, Any]) -> Iterator[None]:
    """The run's folder, held by process 0."""
    with ExitStack() as stack:
        engine.lead(lambda: str(stack.enter_context(run_folder(out, identity))))
        yield


class _Run:
    """The bookkeeping of one call: resume, rows, checkpoints, clocks."""

    def __init__(
        self,
        task: Task,
        engine: Engine,
        out: Path,
        pace: Pace,
        steps: int,
        nonfinite: Literal["stop", "skip"],
        watch: Watcher | None,
    ) -> None:
        self.task, self.engine, self.pace, self.steps, self.watch = task, engine, pace, steps, watch
        self.out, self.root = out, out / CHECKPOINTS
        skipped = 0
        self.metrics: dict[str, float] = {}
        self.step, self.before = 0, 0.0
        found = engine.lead(lambda: str(newest_checkpoint(self.root) or ""))
        self.saved = Path(found) if found else None
        if self.saved is not None:
            facts = engine.load(task, self.saved)
            self.step, self.before = step_of(self.saved), float(facts["seconds"])
            self.metrics, skipped = dict(facts["metrics"]), facts.get("skipped", 0)
        self.meter = Meter(nonfinite, engine.gather, skipped)
        self.resumed = self.step
        self.log: JSONLog | None = None
        engine.lead(lambda: self._open(out))
        self.start = self.looked = self.saved_at = time.monotonic()
        self.samples = 0

    def _open(self, out: Path) -> None:
        tidy(self.root, self.step, self.pace.keep)
        self.log = JSONLog(out / LOG, self.step)

    @property
    def due(self) -> bool:
        return self.pace.minutes is not None and time.monotonic() - self.saved_at > 60 * self.pace.minutes

    def after(self, step: int, metrics: Metrics, count: int, factor: float) -> Row | None:
        self.step = step + 1
        self.samples += count * self.engine.world
        self.meter.add(step, metrics)
        row = None
        if self.step % self.pace.log == 0 or self.step == self.steps:
            row = self.look(factor)
        if self.step % self.pace.save == 0:
            # before the checkpoint: a run that goes on from it has them all
            keep_snapshots(self.task.ema, self.out / AVERAGES, self.engine.lead)
            self.save()
        if self.watch is not None and self.watch.due(self.step):
            with self.aside():
                self.watch.look(self.step)
        return row

    def look(self, factor: float) -> Row:
        window = self.meter.steps
        self.metrics = self.meter.read()
        now = time.monotonic()
        rate = self.samples / max(now - self.looked, 1e-9)
        self.looked, self.samples = now, 0
        row = {"step": self.step, **self.metrics, "window": window, "rate_factor": factor}
        row |= {"seconds": round(self.seconds, 3), "samples_per_second": round(rate, 3)}
        if self.meter.skipped:
            row["skipped"] = self.meter.skipped
        if self.watch is not None:
            row |= self.watch.more(row)
        if self.log is not None:
            self.log.write(row)
        if self.watch is not None:
            self.watch.row(row)
        return row

    def save(self) -> None:
        if self.saved is not None and step_of(self.saved) == self.step:
            return
        self.meter.check()  # weights that a non-finite step has touched are never saved
        facts = {"step": self.step, "seconds": self.seconds, "metrics": self.metrics}
        facts["skipped"] = self.meter.skipped
        self.saved = self.engine.save(self.task, self.root, self.step, self.pace.keep, facts)
        self.saved_at = time.monotonic()

    @contextmanager
    def watched(self, seed: int, minutes: float | None) -> Iterator[None]:
        """Around the steps: the watcher is told of the beginning, and of an error that ends them."""
        if self.watch is not None:
            with self.aside():
                self.watch.begin(Opening(self.task, self.engine, self.out, self.step, self.steps, seed, minutes))
        try:
            yield
        except BaseException as error:
            if self.watch is not None:
                self.watch.end(type(error).__name__)
            raise

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done inside is no training time."""
        self.engine.sync()
        start = time.monotonic()
        yield
        spent = time.monotonic() - start
        self.start, self.looked = self.start + spent, self.looked + spent

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def close(self, ended: str, broken: dict[str, Any] | None) -> Report:
        if self.step > 0:
            self.save()
        if self.watch is not None:
            self.watch.end(ended)
        saved = str(self.saved) if self.saved is not None else None
        return Report(self.step, self.steps, self.resumed, ended, self.seconds, self.metrics, saved, broken)
