"""Guided distillation as one recipe: guidance into the network, and then half the steps, again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mezzotint.core import NetworkDenoiser, WConditioned
from mezzotint.latent import Autoencoder
from mezzotint.model import Model, load
from mezzotint.nn.guidance import guided_student, halved_student
from mezzotint.objective.batch import Objective
from mezzotint.objective.guided import GuidedDistillation
from mezzotint.objective.progressive import EncoderDistillation, ProgressiveDistillation, check_kind
from mezzotint.train.denoising import DenoisingTask
from mezzotint.train.distil_pictures import Compared
from mezzotint.train.distil_settings import Annealed, Guiding, Halving, LinearDecay
from mezzotint.train.engine import Engine
from mezzotint.train.folder import RUN
from mezzotint.train.loop import Progress, Report
from mezzotint.train.recipe import Batches, Runnable
from mezzotint.train.report.samples import FirstBatch, Samples

__all__ = ["Annealed", "DistillationRecipe", "Guiding", "Halving", "LinearDecay"]


@dataclass(frozen=True)
class _Stage(Runnable):
    """One student's training."""

    student: Callable[[], WConditioned]
    objective: Objective
    batches: Batches
    ema: float | None
    parent: str
    shown: Samples | None

    def build(self) -> tuple[DenoisingTask, Batches]:
        o = self.optimiser
        task = DenoisingTask(
            self.student(), self.objective, lr=o.lr, betas=o.betas, weight_decay=o.weight_decay, clip=o.clip,
            ema=self.ema,
        )  # fmt: skip
        return task, self.batches

    def identity(self) -> dict[str, Any]:
        """As ever, with the length, which shapes every step, and the weights that are distilled (in `parent`)."""
        told = {**super().identity(), "budget.steps": self.budget.steps}
        told.pop("shown")  # pictures change no numbers
        return told

    def pictures(self, batches: Batches) -> Samples | None:
        """Samples of teacher and student, in every stage of the same seeds and conditions; none of an encoder."""
        return self.shown


@dataclass(frozen=True)
class DistillationRecipe:
    """Both stages of guided distillation: students of start/2, start/4, ..., end steps, each from the one before.

    OUT/guided and OUT/steps-NNNN are the runs, with pictures of teacher and student; OUT/students/guided and
    OUT/students/NNNN are model folders, each with its number of steps, range of weights, schedule, prediction, and the
    hash of the weights that it was distilled from; OUT/model is the last. A run that was stopped goes on where it was.

    Args:
        name: of the model.
        teacher: () -> the model to distil, with a condition that has a null.
        data: (teacher, batch size, seed) -> (step -> Batch): latents, and conditions as the teacher's network reads
            them (encoded); a pure function of step.
        w_range: lowest and highest weight.
        guided: of stage 1.
        halving: of stage 2.
        start: steps of the teacher that are halved first: end times a power of 2.
        end: steps of the last student.
        stochastic: also learn steps from odd multiples of 1/(2 N), which the stochastic sampler takes.
        direction: "decode", from noise to data; "encode", from data to noise.
        guidance: default weight of the students.
        seed: of weights, order and noise.

    Raises:
        ValueError: for numbers of steps or weights out of range; when run, for a teacher that cannot be distilled so
            far (one that predicts noise), before any training.

    Source: arXiv 2210.03142, sections 3.1 to 3.4; algorithm 2 of 2202.00512.
    """

    name: str
    teacher: Callable[[], Model]
    data: Callable[[Model, int, int], Batches]
    w_range: tuple[float, float] = (1.0, 5.0)
    guided: Guiding = Guiding()
    halving: Halving = Halving()
    start: int = 64
    end: int = 1
    stochastic: bool = False
    direction: Literal["decode", "encode"] = "decode"
    guidance: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        ratio, rest = divmod(self.start, self.end) if self.end >= 1 else (0, 1)
        if rest or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(f"start={self.start}, end={self.end}; expected start = end times 2, 4, 8, ...")
        low, high = self.w_range
        if not 0 <= low < high or not low <= self.guidance <= high:
            told = f"w_range=({low:g}, {high:g}) and guidance={self.guidance:g}"
            raise ValueError(f"{told}; expected 0 <= low < high, and the default inside")
        if self.direction not in ("decode", "encode") or (self.stochastic and self.direction == "encode"):
            raise ValueError(f"direction={self.direction!r}, stochastic={self.stochastic}; expected decode, or encode")

    @property
    def numbers(self) -> tuple[int, ...]:
        """Steps of the students, as they come: start/2, ..., end."""
        halvings = (self.start // self.end).bit_length() - 1
        return tuple(self.end * 2**k for k in reversed(range(halvings)))

    def run(
        self, out: str | Path, engine: Engine, *, on_step: Callable[[Progress], None] | None = None, **options: Any
    ) -> Report:
        """Train every student in the folder `out`, going on from what it holds; the report is the last one's.

        Args:
            out: the folder.
            engine: where, such as `Single()`.
            on_step: called after each step.
            options: what else the run of each stage takes (`Runnable.run`).
        """
        out, model = Path(out), self.teacher()
        model.eval().requires_grad_(False)
        check_kind(model.denoiser, self.end)
        data = _Shared(self.data, model, self.seed)
        before, first = model, 0
        for n in (None, *self.numbers):
            stage = self._stage(n, before, data, first, model.autoencoder)
            report = stage.run(_run(out, n), engine, on_step=on_step, **options)
            if not report.finished:
                return report
            engine.lead(partial(self._save, n, stage, out, model))
            before, first = load(_place(out, n)).requires_grad_(False), first + stage.budget.steps
        return report

    def holds(self, out: str | Path) -> bool:
        """Whether the folder holds a run of this recipe to go on with."""
        return (Path(out) / "guided" / RUN).is_file()

    def model(self, out: str | Path) -> Model:
        """The last student of a finished run."""
        return load(Path(out) / "model")

    def students(self, out: str | Path) -> dict[int | None, Model]:
        """The students that a run has finished, by their number of steps; None is that of stage 1."""
        found = {n: _place(Path(out), n) for n in (None, *self.numbers)}
        return {n: load(path) for n, path in found.items() if path.is_dir()}

    def _stage(self, n: int | None, before: Model, data: _Shared, first: int, decoder: Autoencoder) -> _Stage:
        from mezzotint.metric.card import weights_hash

        d, parent = before.denoiser, weights_hash(before.denoiser.net)
        target = d.kind if d.kind in ("v", "flow") else "v"
        if n is None:
            objective: Objective = GuidedDistillation(d, self.w_range, target)  # type: ignore[arg-type]
            settings, budget, ema = self.guided.optimiser, self.guided.budget, self.guided.ema
            student = _Starts(d, self.w_range, parent)
        else:
            starts = 2 * n if self.stochastic else n
            if self.direction == "encode":
                objective = EncoderDistillation(d, n, self.w_range, target)  # type: ignore[arg-type]
            else:
                objective = ProgressiveDistillation(d, n, self.w_range, target, starts=starts)  # type: ignore[arg-type]
            settings, budget, ema = self.halving.optimiser, self.halving.of(n), None
            student = _Starts(d, self.w_range, parent, n, starts, self.direction == "encode")
        steps = (self.start, self.start) if n is None else (2 * n, n)
        compared = partial(Compared.like, teacher=d, autoencoder=decoder, w=self.guidance, steps=steps)
        shown = FirstBatch(data(self.guided.budget.batch, 0), compared)
        return _Stage(
            f"{self.name}-{n or 'guided'}", settings, budget, self.seed, student, objective,
            data(budget.batch, first), ema, parent, None if student.encoder else shown,
        )  # fmt: skip

    def _save(self, n: int | None, stage: _Stage, out: Path, teacher: Model) -> None:
        """What a finished stage has trained, as a model folder, which is written once."""
        path, last = _place(out, n), out / "model"
        if not path.is_dir():
            path.parent.mkdir(exist_ok=True)
            task = stage.trained(_run(out, n))
            assert isinstance(task, DenoisingTask)
            defaults = {**teacher.defaults, "guidance": self.guidance}
            if n is not None:
                defaults |= {"sampler": "distilled", "steps": n}
            student: Any = task.denoiser
            Model(
                student, teacher.autoencoder, teacher.conditioner, size=teacher.size, defaults=defaults,
                card=_card(self.name, student), name=self.name,
            ).save(path)  # fmt: skip
        if n == self.end:
            made = load(path)
            made.defaults["guidance"] = self.guidance  # of a run that is gone on with by another default
            if not last.is_dir() or _told(load(last)) != _told(made):
                made.save(last)


@dataclass(frozen=True)
class _Starts:
    """() -> a student at its start."""

    before: NetworkDenoiser
    w_range: tuple[float, float]
    parent: str
    steps: int | None = None
    starts: int | None = None
    encoder: bool = False

    def __call__(self) -> WConditioned:
        if self.steps is None:
            return guided_student(self.before, self.w_range, self.parent)
        assert isinstance(self.before, WConditioned)
        return halved_student(self.before, self.steps, self.starts, self.encoder, self.parent)


class _Shared:
    """The batches of all stages, one after the other, from data that is made ready once."""

    def __init__(self, data: Callable[[Model, int, int], Batches], teacher: Model, seed: int) -> None:
        self.data, self.teacher, self.seed = data, teacher, seed
        self.made: dict[int, Batches] = {}

    def __call__(self, batch: int, first: int) -> Batches:
        if batch not in self.made:
            self.made[batch] = self.data(self.teacher, batch, self.seed)
        batches = self.made[batch]
        return lambda step: batches(first + step)


def _told(model: Model) -> tuple[str, dict[str, Any]]:
    """What tells two students apart."""
    from mezzotint.metric.card import weights_hash

    return weights_hash(model.denoiser.net), model.defaults


def _run(out: Path, n: int | None) -> Path:
    return out / ("guided" if n is None else f"steps-{n:04d}")


def _place(out: Path, n: int | None) -> Path:
    return out / "students" / ("guided" if n is None else f"{n:04d}")


def _card(name: str, d: WConditioned) -> str:
    low, high = d.w_range
    steps = "any number of steps" if d.steps is None else f"{d.steps} steps{' from data to noise' * d.encoder}"
    return (
        f"# {name}\n\nDistilled (arXiv 2210.03142): guidance {low:g} to {high:g} inside the network, {steps}.\n\n"
        f"- prediction: {d.denoiser.kind} on {d.schedule}\n- distilled from weights: {d.parent}\n"
        "- no negative prompts: what it is guided away from is the null it was distilled with\n"
    )
