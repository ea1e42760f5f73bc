"""2210.03142, On Distillation of Guided Diffusion Models: the demonstration of the sheet's section 7.

A class-conditional v-prediction DiT of 0.7 million parameters on procedural 16x16 scenes (six shapes as classes, 15 %
of the labels dropped) is distilled: guidance of 1 to 5 into one network, then 32 steps into 16, 8, 4, 2 and 1. Each
seed has a teacher, students and starting noise of its own. Cut to 25 minutes of one core: three seeds, each with the
fewer steps; 96 fine steps, not 256. Our choices: the scenes, the sizes, the features (trained on the scenes' labels).
"""

from __future__ import annotations

import tempfile
import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.core import Condition, Cosine, Denoiser, Noise, VDenoiser, fold
from mezzotint.data import Scenes, indices
from mezzotint.guide import CFG
from mezzotint.latent import Identity
from mezzotint.metric import FeatureNet, frechet_distance
from mezzotint.metric.train_classifier import train as train_features
from mezzotint.model import Model
from mezzotint.nn import DiT
from mezzotint.nn.conditioner import ClassConditioner
from mezzotint.objective import Batch, Denoise
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.setting import one_thread
from mezzotint.sample import DDIM
from mezzotint.train import AdamW, Annealed, Budget, DenoisingTask, DistillationRecipe, Guiding, Halving, Single, fit

PAPER, SEEDS, START, WEIGHTS, SIZE, CLASSES = "2210.03142", 3, 32, (1.0, 2.0, 4.0), 16, 6
Row = dict[str, float]  # "FD teacher 4": the mean over the weights; "accuracy student 4 w=1": that of one


# Scenes; steps of the feature network, the teacher, stage 1, a halving; samples a step; samples compared; fine steps.
Steps = namedtuple("Steps", "scenes features teacher guided halving batch samples fine")
QUICK, FULL = Steps(600, 20, 12, 6, 3, 16, 48, 16), Steps(8000, 400, 2400, 700, 280, 32, 384, 96)


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Train teacher and students for each seed, and state what they showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration runs on one thread of the cpu, not on {device!r}")
    begun, steps, beds = time.monotonic(), QUICK if quick else FULL, tuple(range(seed, seed + SEEDS))
    with one_thread():
        scenes = Scenes(SIZE, steps.scenes, seed=seed)
        net = train_features(scenes, scenes.attributes[:, 0], (6, 8, 3), steps=steps.features, size=SIZE)
        rows = [_measure(scenes, net, steps, bed, say) for bed in beds]
    table = "; ".join(f"{key}: {mean([row[key] for row in rows]):.3g}" for key in rows[0])
    claims, seconds = _claims(rows, partial(Claim, seeds=beds, scale="cpu-small")), time.monotonic() - begun
    setting = f"Means over w in {WEIGHTS}: {table}. {steps}"
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=seconds, setting=setting)


def _batches(scenes: Scenes, model: Model, batch: int, seed: int) -> Callable[[int], Batch]:
    labels, words = scenes.labels, model.conditioner
    assert labels is not None and words is not None

    def batches(step: int) -> Batch:
        rows = indices(seed, step, batch, len(scenes))
        return Batch(scenes.batch(rows)[0], words(words.prepare(labels[rows].tolist())))

    return batches


def _teacher(scenes: Scenes, steps: Steps, seed: int) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "teacher"))
        denoiser = VDenoiser(DiT(3, patch=4, width=96, depth=4, heads=4, classes=CLASSES), Cosine())
    task = DenoisingTask(denoiser, Denoise("v", drop=0.15), lr=2e-3, ema=0.995)
    model = Model(denoiser, Identity(3), ClassConditioner(CLASSES), size=(SIZE, SIZE), name="scenes")
    with tempfile.TemporaryDirectory() as out:
        fit(task, _batches(scenes, model, steps.batch, seed), steps=steps.teacher, seed=seed, out=out,
            engine=Single("cpu"), save_every=steps.teacher)  # fmt: skip
    task.ema["denoiser"].copy_to_module()
    return model.eval()


def _measure(scenes: Scenes, net: FeatureNet, steps: Steps, seed: int, say: Callable[[str], None]) -> Row:
    model = _teacher(scenes, steps, seed)
    recipe = DistillationRecipe(
        name="scenes-fast", teacher=lambda: model, data=partial(_batches, scenes), start=START, end=1, seed=seed,
        guided=Guiding(AdamW(lr=1e-3, weight_decay=0.0, schedule="cosine"), Budget(steps.guided, steps.batch), 0.99),
        halving=Halving(Annealed(lr=5e-4), Budget(steps.halving, steps.batch), longer=1.5),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        recipe.run(out, Single("cpu"), reporting=None)
        students = {n: student.denoiser for n, student in recipe.students(out).items()}
    label, real = torch.arange(steps.samples) % CLASSES, _features(net, scenes.batch(range(len(scenes)))[0])
    c = Condition({"label": label}, {"label": torch.tensor([CLASSES])})
    noise = Noise([fold(seed, "sample", i) for i in range(steps.samples)])("x_T", 0, (3, SIZE, SIZE))
    found: dict[str, list[float]] = {}
    for w in WEIGHTS:
        guided, told = CFG(w)(model.denoiser), c.updated({"guidance": torch.full((steps.samples,), w)})
        runs = {f"teacher {n}": (guided, n, c) for n in (*recipe.numbers, START)}
        runs |= {f"student {n}": (students[n], n, told) for n in recipe.numbers}
        runs |= {"teacher fine": (guided, steps.fine, c), "guided student": (students[None], START, told)}
        made = {name: _images(d, noise, given, n) for name, (d, n, given) in runs.items()}
        for name, x in made.items():
            with torch.no_grad():
                right = (net(x)[0].argmax(1) == label).double().mean()
            found.setdefault(f"FD {name}", []).append(frechet_distance(_features(net, x), real))
            found.setdefault(f"MSE {name}", []).append(float((x - made["teacher fine"]).square().mean()))
            if name in ("student 4", "teacher fine"):
                found[f"accuracy {name} w={w:g}"] = [float(right)]
    row = {key: mean(values) for key, values in found.items()}
    say(f"seed {seed}: " + ", ".join(f"{key} {value:.3g}" for key, value in row.items()))
    return row


@torch.no_grad()
def _images(d: Denoiser, noise: Tensor, c: Condition, steps: int) -> Tensor:
    parts = torch.arange(len(noise)).split(128)
    return torch.cat([DDIM()(d, noise[rows], steps=steps, c=c.rows(rows)) for rows in parts]).clamp(-1, 1)


@torch.no_grad()
def _features(net: FeatureNet, x: Tensor) -> Tensor:
    return torch.cat([net.features(part) for part in x.split(256)])


def _claims(rows: list[Row], claim: Callable[..., Claim]) -> list[Claim]:
    def of(key: str, times: float = 1.0) -> list[float]:
        return [times * row[key] for row in rows]

    def below(text: str, mine: str, other: str, times: float) -> Claim:
        ratio = mean(of(mine)) / mean(of(other))
        return claim(text, f"{mine}; the baseline is {times:g} times {other}", of(other, times), of(mine),
                     ratio <= times, f"{ratio:.3g} of {other}, at most {times:g} needed")  # fmt: skip

    weak, strong = (of(f"accuracy student 4 w={w:g}") for w in (WEIGHTS[0], WEIGHTS[-1]))
    grown = mean(of("MSE student 1")) / mean(of("MSE student 2"))
    near = "4 steps are nearer to the teacher's fine samples than its DDIM in 4"
    return [
        below("stage 1: one evaluation a step is within 5 % of two", "FD guided student", f"FD teacher {START}", 1.05),
        below("4 steps are within 30 % of the teacher's fine run", "FD student 4", "FD teacher fine", 1.3),
        below("4 steps have half the distance of the teacher's DDIM in 4", "FD student 4", "FD teacher 4", 0.5),
        below(near, "MSE student 4", "MSE teacher 4", 1.0),
        claim(f"one student of 4 steps shows its class more clearly at w = {WEIGHTS[-1]:g} than at 1 (baseline)",
              "accuracy of a classifier", weak, strong, mean(strong) > mean(weak), f"{mean(weak):.3g} to "
              f"{mean(strong):.3g}; from 2 steps to 1 the MSE grows {grown:.3g} times", direction="higher"),
    ]  # fmt: skip
