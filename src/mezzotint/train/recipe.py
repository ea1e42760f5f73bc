"""A recipe: everything a training run is, in one frozen value that a Python function returns.

    @dataclass(frozen=True)
    class SmallUNet:                                    # a leaf: settings, and a call that builds the part
        channels: int = 32
        def __call__(self, spec: LatentSpec) -> nn.Module:
            return UNet(spec.channels, channels=self.channels)

    def shapes() -> Recipe:
        return Recipe(
            name="shapes",
            data=Shapes(size=16),                       # (autoencoder, batch size, seed) -> (step -> Batch)
            latent=Identity,                            # () -> Autoencoder
            net=SmallUNet(),                            # (LatentSpec) -> network
            denoiser=lambda net: VDenoiser(net, Cosine()),
            objective=Denoise(...),                     # (denoiser, batch, noise) -> Loss
            optimiser=AdamW(lr=3e-4, schedule="cosine", warmup=100),
            ema=0.999,
            budget=Budget(steps=2000, batch=64),
            seed=0,
        )

    report = with_overrides(shapes(), {"net.channels": "48"}).run(Path("runs/shapes"), Single())

A leaf that is a frozen dataclass can be overridden field by field; any other callable does as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mezzotint.core.denoiser import Denoiser
from mezzotint.core.noise import fold
from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.latent.spec import LatentSpec
from mezzotint.objective.batch import Batch, Objective
from mezzotint.train.closing import closing
from mezzotint.train.denoising import DenoisingTask
from mezzotint.train.engine import Engine
from mezzotint.train.folder import RUN
from mezzotint.train.loop import Progress, Report, fit
from mezzotint.train.optimiser import AdamW, RAdam
from mezzotint.train.overrides import describe
from mezzotint.train.power_ema import Averaging, chosen
from mezzotint.train.report.flops import count_flops
from mezzotint.train.report.reporting import STANDARD, Reporting, RunWatch
from mezzotint.train.report.samples import DenoisedSamples, FirstBatch, Samples
from mezzotint.train.state import load_newest
from mezzotint.train.task import Task

__all__ = ["AdamW", "Batches", "Budget", "Data", "RAdam", "Recipe", "Runnable"]

_MOST = 1_000_000  # samples a step: a slip of the finger, not a plan, is above it

Batches = Callable[[int], Batch]
Data = Callable[[Autoencoder, int, int], Batches]


@dataclass(frozen=True)
class Budget:
    """How long a run takes, and how often it looks up.

    Args:
        steps: steps in all.
        batch: samples a step.
        minutes: stop (saved, to be continued) after so much training time in all; None for no limit.
        log, save: steps between log rows and between checkpoints.
        save_minutes: also save when so long has passed since the last checkpoint; None for never.
        parts: micro-batches a step: the same numbers with less memory.
        nonfinite: "stop" the run, or "skip" the update, where a gradient is not finite.
    """

    steps: int = 1000
    batch: int = 64
    minutes: float | None = None
    log: int = 50
    save: int = 500
    save_minutes: float | None = 10.0
    parts: int = 1
    nonfinite: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise ValueError(f"steps and batch must be at least 1, got steps={self.steps}, batch={self.batch}")
        if self.batch > _MOST:
            raise ValueError(f"a batch of {self.batch} samples does not fit any machine; expected at most {_MOST}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes must be positive (or none), got {self.minutes}")


@dataclass(frozen=True)
class Runnable(ABC):
    """What every recipe has: a name, a budget, an optimiser, a seed; it is built, run, and read back."""

    name: str
    optimiser: AdamW
    budget: Budget
    seed: int

    @abstractmethod
    def build(self) -> tuple[Task, Batches]:
        """Build the task and its batches; the caller has seeded torch's generator."""

    def on(self, engine: Engine) -> Runnable:
        """Return the recipe as a process of this engine builds it."""
        return self

    def start(self) -> tuple[Task, Batches]:
        """Build the task and its batches with weights that are a function of the seed.

        Raises:
            ValueError: where the task does not take the optimiser's settings.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(self.seed, "weights"))
            task, batches = self.build()
        self.optimiser.check(task)
        return task, batches

    def identity(self) -> dict[str, Any]:
        """Return what a run folder must agree on to be continued: all but the length and the looking up.

        With a cosine schedule the length shapes every step, so it belongs to the identity there.
        """
        told = {key: value for key, value in describe(self, marked=False).items() if not key.startswith("budget.")}
        told["budget.batch"] = self.budget.batch
        if self.optimiser.schedule == "cosine":
            told["budget.steps"] = self.budget.steps
        return told

    def pictures(self, batches: Batches) -> Samples | None:
        """Return what draws pictures of the task in training, or None."""
        return None

    def run(
        self,
        out: str | Path,
        engine: Engine,
        *,
        on_step: Callable[[Progress], None] | None = None,
        reporting: Reporting | None = STANDARD,
    ) -> Report:
        """Train in the folder `out`, going on from what it holds.

        Args:
            out: the run's folder.
            engine: where, such as `Single()`.
            on_step: called after each step.
            reporting: what the folder keeps besides log and checkpoints; None for nothing.
        """
        task, batches = self.on(engine).start()
        budget = self.budget
        with closing(batches):  # they may be at work before the first step
            watch = None
            if reporting is not None:
                work = count_flops(task, batches(0)) if engine.rank == 0 else None
                pictures = self.pictures(batches)
                watch = RunWatch(reporting, describe(self), every=budget.save, samples=pictures, work=work)
            return fit(
                task,
                batches,
                steps=budget.steps,
                seed=self.seed,
                out=out,
                schedule=self.optimiser.rate(budget.steps),
                log_every=budget.log,
                save_every=budget.save,
                save_minutes=budget.save_minutes,
                minutes=budget.minutes,
                parts=budget.parts,
                nonfinite=budget.nonfinite,
                engine=engine,
                identity=self.identity(),
                on_step=on_step,
                watch=watch,
            )

    def holds(self, out: str | Path) -> bool:
        """Whether the folder holds a run to go on with."""
        return (Path(out) / RUN).is_file()

    def trained(self, out: str | Path, *, averaged: bool | float = True) -> Task:
        """Build the task and fill it from a run folder's newest checkpoint, on the CPU.

        Args:
            out: folder of a run of this recipe.
            averaged: put the averages in place of the weights, where there are any; where there are several, the first
                ones, or those of this decay or length.

        Raises:
            ValueError: where there is no average of that decay or length.
        """
        task, _ = self.start()
        load_newest(task, out)
        for ema in chosen(task.ema, averaged):
            ema.copy_to_module()
        task.modules.eval()
        return task


@dataclass(frozen=True)
class Recipe(Runnable):
    """Training of a denoiser, in the latent space of a finished autoencoder or in pixel space.

    Args:
        data: (autoencoder, batch size, seed) -> (step -> Batch of normalised latents), a pure function of step.
        latent: () -> the finished autoencoder; `Identity` for pixel space.
        net: (LatentSpec) -> the network.
        denoiser: (network) -> Denoiser, with its schedule and its conditioner.
        objective: (denoiser, batch, noise) -> Loss.
        ema: largest decay of the average, or several, or `Power` lengths, of which the first is used; None for none.
    """

    data: Data
    latent: Callable[[], Autoencoder]
    net: Callable[[LatentSpec], nn.Module]
    denoiser: Callable[[nn.Module], Denoiser]
    objective: Objective
    ema: Averaging = 0.999

    def on(self, engine: Engine) -> Recipe:
        """Return the recipe as a process of this engine builds it."""
        return replace(self, net=engine.builder(self.net))

    def build(self) -> tuple[DenoisingTask, Batches]:
        """Build the denoiser's task and the batches of latents."""
        autoencoder = self.latent().eval().requires_grad_(False)
        task = DenoisingTask(
            self.denoiser(self.net(autoencoder.spec)),
            self.objective,
            optimiser=self.optimiser.over,
            clip=self.optimiser.clip,
            ema=self.ema,
        )
        return task, self.data(autoencoder, self.budget.batch, self.seed)

    def pictures(self, batches: Batches) -> Samples:
        """Samples at fixed seeds."""
        return FirstBatch(batches, lambda batch: DenoisedSamples.like(batch, self.latent().eval()))
