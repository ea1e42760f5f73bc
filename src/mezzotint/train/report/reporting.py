"""What is kept of a run besides its numbers, and the watcher that keeps it."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mezzotint.metric.result import MetricResult
from mezzotint.train.report.machine import measured_peak, memory_peak, processor, software
from mezzotint.train.report.page import write_page
from mezzotint.train.report.record import (
    forget_after,
    read_run,
    write_facts,
    write_metric,
    write_recipe,
    write_samples,
)
from mezzotint.train.report.reporter import Reporter, Reporters
from mezzotint.train.report.samples import Samples, at_rest
from mezzotint.train.task import Task
from mezzotint.train.watch import Opening

__all__ = ["STANDARD", "Reporting", "RunWatch"]

Measures = Callable[[Task, int], Sequence[MetricResult]]

_PAGE_SECONDS = 30.0  # at least so long between two writings of the page
_WINDOWS = 8  # log rows that the time left is judged by


@dataclass(frozen=True)
class Reporting:
    """What a run keeps in its folder besides log and checkpoints. None of it changes the numbers.

    Args:
        every: steps between pictures; None takes the recipe's steps between checkpoints. The end is always drawn.
        samples: (task, step) -> images (n, c, h, w) in [-1, 1], drawn without gradients and with averaged weights;
            None takes the recipe's own (for a denoiser: samples of seeds 0 to 15, told what the first batch is told).
        measures: (task, step) -> metric results, taken when pictures are.
        reporters: each a function of the run's folder that returns a `Reporter`, made in process 0.
        page: keep RUN/report.html.

    >>> Reporting(every=500, reporters=[]).page
    True
    """

    every: int | None = None
    samples: Samples | None = None
    measures: Measures | None = None
    reporters: Sequence[Callable[[Path], Reporter]] = ()
    page: bool = True

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every is a number of steps between pictures and must be at least 1, got {self.every}")


STANDARD = Reporting()


class RunWatch:
    """Keeps a run's report: a `Watcher` for `fit`.

    What fails is told once by a warning and does not stop the run.

    Args:
        reporting: what is kept.
        recipe: settings as flat JSON values (`describe(recipe)`).
        every: steps between pictures where `reporting` does not say.
        samples: pictures where `reporting` does not say; None for none.
        work: operations of a step a sample (`flops_per_sample`), or why there is no such number; None leaves
            utilisation out.
    """

    def __init__(
        self,
        reporting: Reporting = STANDARD,
        recipe: Mapping[str, Any] | None = None,
        *,
        every: int = 1000,
        samples: Samples | None = None,
        work: float | str | None = None,
    ) -> None:
        self._reporting, self._recipe, self._work = reporting, dict(recipe or {}), work
        self._every = reporting.every or every
        self._samples = reporting.samples or samples
        self._looks = self._samples is not None or reporting.measures is not None
        self._failed: set[str] = set()
        self._reporters = Reporters([])
        self._facts: dict[str, Any] = {}
        self._clock: deque[tuple[int, float]] = deque(maxlen=_WINDOWS)
        self._page_due = 0.0
        self._opening: Opening | None = None

    def begin(self, opening: Opening) -> None:
        self._opening = opening
        self._lead = opening.engine.rank == 0
        if not self._lead:
            return
        with self._trying("the report's files"):
            forget_after(opening.folder, opening.step)
            self._facts = self._gathered(opening)
            write_facts(opening.folder, self._facts)
            if self._recipe:
                write_recipe(opening.folder, self._recipe)
        made = []
        for make in self._reporting.reporters:
            with self._trying(f"reporter {getattr(make, '__name__', make)!s}"):
                made.append(make(opening.folder))
        self._reporters = Reporters(made)
        words = "\n".join(f"{key} = {value}" for key, value in {**self._recipe, **self._facts}.items())
        self._reporters.text(opening.step, "settings", words)
        self._page(force=True)

    def more(self, row: Mapping[str, Any]) -> dict[str, Any]:
        opening = self._opening
        assert opening is not None
        entries: dict[str, Any] = {}
        left = self._left(opening, row["step"], row["seconds"])
        if left is not None:
            entries["seconds_left"] = round(left, 1)
        work, peak = self._facts.get("flops_per_sample"), self._facts.get("peak_flops")
        if work and peak:
            entries["utilisation"] = round(row["samples_per_second"] * work / (peak * opening.engine.world), 4)
        return {**entries, "memory_mib": round(memory_peak(opening.engine.device), 1)}

    def row(self, row: Mapping[str, Any]) -> None:
        if self._lead:
            self._reporters.row(row["step"], row)
            self._page()

    def due(self, step: int) -> bool:
        opening = self._opening
        return self._looks and opening is not None and (step % self._every == 0 or step == opening.steps)

    def look(self, step: int) -> None:
        # in every process: a network that is shared out among them answers only to all together
        opening, reporting = self._opening, self._reporting
        assert opening is not None
        with self._trying("pictures and measures"), at_rest(opening.task):
            if self._samples is not None:
                images = self._samples(opening.task, step)
                if self._lead:
                    self._reporters.images(step, "samples", write_samples(opening.folder, step, images))
            if reporting.measures is not None:
                results = reporting.measures(opening.task, step)
                for result in results if self._lead else ():
                    write_metric(opening.folder, step, result)
                    self._reporters.row(step, {"step": step, result.name: result.value})
        self._page()

    def end(self, ended: str) -> None:
        if self._opening is None or not self._lead:
            return
        with self._trying("the report's files"):
            write_facts(self._opening.folder, {**self._facts, "ended": ended})
        self._page(force=True)
        self._reporters.close()

    def _gathered(self, opening: Opening) -> dict[str, Any]:
        engine, task = opening.engine, opening.task
        precision = engine.learner(1, "stop").precision
        facts: dict[str, Any] = {
            "seed": opening.seed,
            "steps": opening.steps,
            "parameters": sum(p.numel() for p in task.modules.parameters()),
            "processes": engine.world,
            **processor(engine.device),
            "precision": precision,
        }
        if isinstance(self._work, str):
            facts["utilisation"] = f"not told: {self._work}"
        elif self._work:
            before = read_run(opening.folder).facts
            same = all(before.get(key) == facts[key] for key in ("device", "torch_threads", "precision"))
            facts["flops_per_sample"] = self._work
            facts["peak_flops"] = (same and before.get("peak_flops")) or measured_peak(engine.device, precision)
        return {**facts, "versions": software(), "ended": None}

    def _left(self, opening: Opening, step: int, seconds: float) -> float | None:
        self._clock.append((step, seconds))
        (first, since), (last, now) = self._clock[0], self._clock[-1]
        if last == first:
            first, since = opening.step, 0.0
            if opening.step:  # the clock holds the time of earlier calls too
                return None
        left = (opening.steps - last) * (now - since) / (last - first)
        return left if opening.minutes is None else min(left, max(0.0, 60 * opening.minutes - now))

    def _page(self, force: bool = False) -> None:
        opening = self._opening
        if not self._reporting.page or opening is None or not self._lead:
            return
        start = time.monotonic()
        if not force and start < self._page_due:
            return
        with self._trying("the page"):
            write_page(opening.folder)
        now = time.monotonic()
        self._page_due = now + max(_PAGE_SECONDS, 50 * (now - start))  # a page of many pictures less often

    @contextmanager
    def _trying(self, what: str):
        try:
            yield
        except Exception as error:  # a full disk or a sampler's mistake is no reason to lose a run
            if what not in self._failed:
                self._failed.add(what)
                warnings.warn(
                    f"the run's report: {what} failed ({type(error).__name__}: {error}); the run goes on",
                    stacklevel=3,
                )
