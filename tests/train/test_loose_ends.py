"""What a run leaves behind: processes of its batches ended, broken images told, recipes told apart."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import nn

from mezzotint.core import Cosine, X0Denoiser
from mezzotint.latent import Identity
from mezzotint.objective import Batch, Denoise
from mezzotint.objective.consistency import ConsistencyTraining
from mezzotint.objective.curriculum import FixedLevels
from mezzotint.objective.ect import SameImage
from mezzotint.train import AdamW, Budget, DenoisingTask, Recipe, Single, fit
from mezzotint.train.loop import Report
from mezzotint.train.overrides import describe
from mezzotint.train.recipes.pixels import emoji_pretraining
from mezzotint.train.report.reporting import STANDARD
from mezzotint.train.task import frozen_parts


class Batches:
    """As a loader: at work from a call until it is closed."""

    def __init__(self, bad: int | None = None) -> None:
        self.steps, self.open, self.bad = [], False, bad
        self.broken = self

    def __call__(self, step: int) -> Batch:
        self.steps.append(step)
        self.open = True
        if self.bad == step:
            raise RuntimeError("no more")
        return Batch(torch.zeros(2, 3))

    def close(self) -> None:
        self.open = False

    def report(self) -> dict[str, Any]:
        return {"broken": 1, "of": 9, "names": ["a.png: truncated"]}


@dataclass(frozen=True)
class Made:
    batches: Batches
    workers: int = field(default=0, metadata={"identity": False})
    size: int = 3

    def __call__(self, autoencoder: Any, batch: int, seed: int) -> Batches:
        return self.batches


@dataclass(frozen=True)
class Mixed:
    parts: tuple[Made, ...]

    def __call__(self, autoencoder: Any, batch: int, seed: int) -> Batches:
        return self.parts[0].batches


class Net(nn.Linear):
    def forward(self, x: torch.Tensor, time: torch.Tensor, c: Any = None) -> torch.Tensor:
        return super().forward(x)


def recipe(batches: Batches, **data: int) -> Recipe:
    return Recipe(
        name="ends",
        data=Made(batches, **data),
        latent=lambda: Identity(3),
        net=lambda spec: Net(3, 3),
        denoiser=lambda net: X0Denoiser(net, Cosine()),
        objective=Denoise("x0"),
        optimiser=AdamW(),
        budget=Budget(steps=2, batch=2),
        seed=0,
    )


def test_batches_are_closed_and_broken_images_told(tmp_path):
    batches = Batches()
    report = recipe(batches).run(tmp_path, Single("cpu"), reporting=None)
    assert batches.steps == [0, 1] and not batches.open
    assert report.broken == batches.report() and report.to_dict()["broken"]["names"] == ["a.png: truncated"]


@pytest.mark.parametrize(("bad", "reporting"), [(0, STANDARD), (1, None)])
def test_batches_are_closed_after_an_error_too_and_before_the_first_step(bad, reporting, tmp_path):
    batches = Batches(bad)
    with pytest.raises(RuntimeError, match="no more"):
        recipe(batches).run(tmp_path, Single("cpu"), reporting=reporting)
    assert batches.steps[-1] == bad and not batches.open
    assert (tmp_path / "run.json").exists() == (reporting is None)  # the count of operations comes before the run


@pytest.mark.parametrize("bad", [None, 1])
def test_fit_alone_closes_them_too(bad, tmp_path):
    batches = Batches(bad)
    task, _ = recipe(batches).start()
    with pytest.raises(RuntimeError, match="no more") if bad else nullcontext():
        report = fit(task, batches, steps=2, seed=0, out=tmp_path, engine=Single("cpu"))
        assert report.broken == batches.report()
    assert batches.steps == [0, 1] and not batches.open


def test_batches_that_have_nothing_to_close_or_to_count_are_let_be(tmp_path):
    task, batches = recipe(Batches()).start()
    report = fit(task, lambda step: batches(step), steps=1, seed=0, out=tmp_path, engine=Single("cpu"))
    assert report.broken is None and batches.open


def test_a_marked_field_is_described_but_is_no_part_of_the_identity():
    a, b, other = (recipe(Batches(), **told) for told in ({"workers": 0}, {"workers": 4}, {"size": 5}))
    assert a.identity() == b.identity() != other.identity()
    assert describe(b)["data.workers"] == 4 and "data.workers" not in b.identity()


def test_lists_of_settings_are_told_apart():
    @dataclass(frozen=True)
    class Some:
        parts: tuple[Any, ...]

    one, two = (describe(Some((AdamW(lr=lr),))) for lr in (1e-3, 2e-3))
    assert one != two and one["parts"][0]["kind"] == "AdamW" and one["parts"][0]["lr"] == 1e-3


def test_a_marked_field_inside_a_list_is_no_part_of_the_identity_either():
    @dataclass(frozen=True)
    class Mixture:
        parts: tuple[Any, ...]
        named: dict[str, Any]

    def told(marked: bool, **data: int) -> dict[str, Any]:
        return describe(Mixture((Made(Batches(), **data),), {"a": [Made(Batches(), **data)]}), marked=marked)

    assert told(False, workers=4) == told(False) != told(False, size=5)
    assert told(True, workers=4)["parts"][0]["workers"] == told(True, workers=4)["named"]["a"][0]["workers"] == 4


def test_a_folder_is_gone_on_with_by_other_workers_and_by_no_other_parts(tmp_path):
    def run(steps: int, *parts: Made) -> Report:
        mixed = replace(recipe(Batches()), data=Mixed(parts), budget=Budget(steps=steps, batch=2))
        return mixed.run(tmp_path, Single("cpu"), reporting=None)

    run(1, Made(Batches()), Made(Batches(), size=5))
    assert run(2, Made(Batches(), workers=3), Made(Batches(), size=5)).resumed == 1
    with pytest.raises(ValueError, match="belongs to another run .*'size': 5.* there, .*'size': 6.* now"):
        run(3, Made(Batches()), Made(Batches(), size=6))


def test_views_of_pretraining_are_told_as_in_the_folders_that_there_are():
    recipe = emoji_pretraining()
    assert recipe.identity()["views"] == [describe(view) for view in recipe.views]


def test_networks_deep_inside_an_objective_are_found():
    @dataclass(frozen=True)
    class Inner:
        teacher: nn.Module
        weight: float = 1.0

    @dataclass(frozen=True)
    class Outer:
        extra: tuple[Any, ...]
        inner: Inner

    a, b = nn.Linear(2, 2), nn.Linear(3, 3)
    found = frozen_parts(Outer((Inner(a), 3), Inner(b)))
    assert dict(found) == {"extra_0_teacher": a, "inner_teacher": b}
    assert not len(frozen_parts(Denoise()))


def test_no_network_of_an_objective_is_lost_to_another_of_its_name():
    @dataclass(frozen=True)
    class Inner:
        b: nn.Module

    @dataclass(frozen=True)
    class Outer:
        a_b: nn.Module
        a: Inner
        values: nn.Module
        named: dict[str, Any]

    parts = [nn.Linear(1, 1) for _ in range(4)]
    found = frozen_parts(Outer(parts[0], Inner(parts[1]), parts[2], {"x.y": [parts[3]]}))
    assert {id(part) for part in found.values()} == {id(part) for part in parts}


def test_the_teacher_of_an_extra_term_is_placed_with_the_rest():
    teacher = nn.Linear(3, 3)
    objective = ConsistencyTraining(FixedLevels(4), extra=(SameImage(teacher, 0.1),))
    task = DenoisingTask(X0Denoiser(Net(3, 3), Cosine()), objective, ema=None)
    Single("meta", channels_last=False).place(task)
    assert {p.device.type for p in teacher.parameters()} == {"meta"}
    assert list(task.frozen.values()) == [teacher]
