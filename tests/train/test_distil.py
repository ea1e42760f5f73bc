"""Guided distillation as a recipe: stopped anywhere it ends in the same students, which say what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mezzotint as mz
from mezzotint.core import Condition, Cosine, Discrete, EpsDenoiser, Noise, VDenoiser, WConditioned
from mezzotint.data import Scenes, indices
from mezzotint.data.emoji import emoji_folder
from mezzotint.guide import CFG
from mezzotint.io.picture import pixels
from mezzotint.latent import Identity
from mezzotint.metric.card import weights_hash
from mezzotint.model import Model
from mezzotint.nn import DiT
from mezzotint.nn.conditioner import ClassConditioner
from mezzotint.objective import Batch
from mezzotint.sample import DDIM, DistilledStochastic, encode
from mezzotint.train import Annealed, Budget, DistillationRecipe, Guiding, Halving, LinearDecay, Single, with_overrides
from mezzotint.train.overrides import leaves
from mezzotint.train.recipes import RECIPES
from mezzotint.train.report import Reporting

ENGINE = Single("cpu")


def teacher() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = DiT(3, patch=4, width=16, depth=1, heads=2, classes=6)
        for p in net.parameters():
            if not p.any():
                torch.nn.init.normal_(p, std=0.05)
    return Model(VDenoiser(net, Cosine()), Identity(3), ClassConditioner(6), size=(8, 8), name="tiny").eval()


def scenes(model: Model, batch: int, seed: int):
    source = Scenes(8, 64)
    assert source.labels is not None and model.conditioner is not None
    words, told = model.conditioner, source.labels.tolist()

    def batches(step: int) -> Batch:
        rows = indices(seed, step, batch, 64)
        return Batch(source.batch(rows)[0], words(words.prepare([told[i] for i in rows])))

    return batches


RECIPE = DistillationRecipe(
    name="tiny-fast",
    teacher=teacher,
    data=scenes,
    guided=Guiding(budget=Budget(steps=4, batch=4, save=2), ema=0.9),
    halving=Halving(budget=Budget(steps=3, batch=4), longer=1.0),
    start=4,
    end=1,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "straight"
    assert RECIPE.run(out, ENGINE, reporting=None).finished
    return out


def test_stopped_in_every_stage_it_ends_in_the_same_students(finished, tmp_path):
    for stage in ("guided", "steps-0002", "steps-0001"):

        def interrupt(progress, begun=tmp_path / stage / "run.json"):
            if progress.step == 2 and begun.exists():
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            RECIPE.run(tmp_path, ENGINE, on_step=interrupt, reporting=None)
        assert RECIPE.holds(tmp_path)
    # killed between a stage and its model folder
    assert not (tmp_path / "model").exists()
    report = RECIPE.run(tmp_path, ENGINE, reporting=None)
    assert report.finished and report.step == 3
    ours, theirs = RECIPE.students(tmp_path), RECIPE.students(finished)
    assert list(ours) == list(theirs) == [None, 2, 1]
    for n, model in ours.items():
        a, b = model.denoiser.state_dict(), theirs[n].denoiser.state_dict()
        assert all(torch.equal(p, q) for p, q in zip(a.values(), b.values(), strict=True))
    last = mz.load(tmp_path / "model")
    assert weights_hash(last.denoiser.net) == weights_hash(ours[1].denoiser.net)


def test_students_say_what_they_are(finished):
    parent = weights_hash(teacher().denoiser.net)
    for n, model in RECIPE.students(finished).items():
        d = model.denoiser
        assert isinstance(d, WConditioned) and d.handles_guidance
        assert (d.steps, d.starts, d.w_range, d.kind, d.schedule) == (n, n, (1.0, 5.0), "v", Cosine())
        assert d.parent == parent
        parent = weights_hash(d.net)
        config = json.loads((finished / "students" / (f"{n:04d}" if n else "guided") / "config.json").read_text())
        assert config["denoiser"]["config"]["steps"] == n and config["denoiser"]["config"]["w_range"] == [1.0, 5.0]
        assert config["denoiser"]["config"]["parent"] == d.parent
        assert config["network"]["type"] == "GuidedNetwork" and config["network"]["config"]["base"]["type"] == "DiT"
        assert config["schedule"]["type"] == "Cosine"
        assert (model.defaults["sampler"], model.defaults["guidance"]) == ("distilled" if n else "dpmpp-2m", 3.0)
    # each stage has trained its student: no weights are those of the one before
    states = [m.denoiser.net.state_dict() for m in RECIPE.students(finished).values()]
    for a, b in zip(states, states[1:]):
        assert all(not torch.equal(a[k], b[k]) for k in a if k.endswith("weight"))


def test_every_stage_shows_its_teacher_above_its_student(tmp_path):
    """Of the same seeds and conditions: a student's row at its end is the teacher's row of the next stage."""
    recipe = replace(RECIPE, guided=replace(RECIPE.guided, budget=Budget(steps=4, batch=8, save=2)))
    recipe.run(tmp_path, ENGINE, reporting=Reporting(page=False))
    shown: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    for path in tmp_path.glob("*/samples/*.png"):
        rows = np.split(np.asarray(Image.open(path).convert("RGB"))[2:], 4)  # a gap of 2 around pictures of 8
        shown[path.parts[-3], int(path.stem)] = np.stack(rows[::2]), np.stack(rows[1::2])
    assert sorted(shown) == [("guided", 2), ("guided", 4), ("steps-0001", 3), ("steps-0002", 3)]
    for before, after in ((("guided", 4), ("steps-0002", 3)), (("steps-0002", 3), ("steps-0001", 3))):
        assert np.array_equal(shown[before][1], shown[after][0]) and not np.array_equal(*shown[after])
    above = shown["guided", 2][0]
    assert np.array_equal(above, shown["guided", 4][0])  # the teacher does not learn
    model = teacher()
    with torch.no_grad():
        z = DDIM()(CFG(3.0)(model.denoiser), Noise(range(8))("x_T", 0, (3, 8, 8)), steps=4, c=scenes(model, 8, 0)(0).c)
    places = [torch.from_numpy(above[i // 4, :8, 2 + 10 * (i % 4) :][:, :8]) for i in range(8)]
    assert torch.equal(torch.stack(places), pixels(z))


def test_the_first_student_is_the_average(finished):
    """EMA in stage 1 and in no halving; fresh optimisers, annealed to the end."""
    guided, halved = (finished / name / "checkpoints" for name in ("guided", "steps-0002"))
    assert list(guided.glob("step-*/ema.denoiser.safetensors")) and not list(halved.glob("step-*/ema*"))
    row = json.loads((finished / "steps-0002" / "log.jsonl").read_text().splitlines()[-1])
    assert row["rate_factor"] == pytest.approx(1 / 3)  # the third of three steps
    assert Annealed(lr=1.0, schedule="cosine").rate(10) == LinearDecay(10)


def test_another_teacher_does_not_go_on_with_a_run(tmp_path):
    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop

    with pytest.raises(Stop):
        RECIPE.run(tmp_path, ENGINE, on_step=stop, reporting=None)

    def other() -> Model:
        model = teacher()
        with torch.no_grad():
            model.denoiser.net.head.bias.add_(1)
        return model

    with pytest.raises(ValueError, match="parent"):
        replace(RECIPE, teacher=other).run(tmp_path, ENGINE, reporting=None)
    with pytest.raises(ValueError, match=r"budget\.steps"):
        with_overrides(RECIPE, {"guided.budget.steps": "5"}).run(tmp_path, ENGINE, reporting=None)


def test_a_student_is_sampled_as_it_was_distilled(finished):
    model = mz.load(finished / "students" / "0002")
    with torch.no_grad():  # after three steps the weight says next to nothing
        model.denoiser.net.base.embed.branch.last.weight.mul_(100)
    images = model.sample(3, steps=2, guidance=2.5, seeds=[1, 2])
    d, c = model.denoiser, Condition({"label": torch.tensor([3, 3]), "guidance": torch.tensor([2.5, 2.5])})
    by_hand = DDIM()(d, Noise([1, 2])("x_T", 0, (3, 8, 8)), steps=2, c=c)
    assert torch.equal(images, by_hand.clamp(-1, 1))
    alone = model.sample(3, seeds=[1], guidance=2.5)  # N is the default
    torch.testing.assert_close(alone, images[:1], rtol=0, atol=1e-5)
    other = model.sample(3, seeds=[1], guidance=1.0)
    assert float((other - alone).abs().max()) > 1e-4
    mixed = model.sample([3, 0], seeds=[1, 2], guidance=2.5)
    torch.testing.assert_close(mixed[0], images[0], rtol=0, atol=1e-5)
    assert float((mixed[1] - images[1]).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"steps": 3}, "N = 2"),
        ({"steps": 1}, "N = 2"),
        ({"grid": "karras"}, "N = 2"),
        ({"sampler": "dpmpp-2m"}, "distilled to N = 2"),
        ({"sampler": "distilled-stochastic", "steps": 4}, "multiples of 1/4"),
        ({"guidance": 5.5}, r"\[1, 5\]"),
        ({"guidance": 0.0}, r"\[1, 5\]"),
        ({"negative": 1}, "takes no negative"),
        ({"prompt": None}, "needs a prompt"),
    ],
)
def test_what_a_student_has_not_learned_is_refused(finished, call, words):
    model = mz.load(finished / "students" / "0002")
    with pytest.raises(ValueError, match=words):
        model.sample(**{"prompt": 3, "seeds": [0], **call})


def test_the_student_of_stage_1_takes_any_steps(finished):
    model = mz.load(finished / "students" / "guided")
    for sampler in ("ddim", "dpmpp-2m", "distilled"):
        assert model.sample(2, steps=3, sampler=sampler, guidance=1.5, seeds=[0]).isfinite().all()
    with pytest.raises(ValueError, match=r"\[1, 5\]"):
        model.sample(2, steps=3, guidance=7.0)


def test_starts_for_the_stochastic_sampler(tmp_path):
    recipe = replace(RECIPE, start=4, end=2, stochastic=True)
    recipe.run(tmp_path, ENGINE, reporting=None)
    d = recipe.model(tmp_path).denoiser
    assert isinstance(d, WConditioned) and (d.steps, d.starts) == (2, 4)
    noise, c = Noise([3, 4]), d.told(Condition({"label": torch.tensor([1, 2])}), [1.0, 4.0])
    got = DistilledStochastic()(d, noise("x_T", 0, (3, 8, 8)), steps=4, c=c, noise=noise)
    assert got.isfinite().all()
    with pytest.raises(ValueError, match="steps=4"):
        DistilledStochastic()(d, noise("x_T", 0, (3, 8, 8)), steps=2, c=c, noise=noise)


def test_an_encoder_is_distilled_by_the_same_recipe(tmp_path):
    recipe = replace(RECIPE, start=4, end=2, direction="encode", guidance=1.0)
    recipe.run(tmp_path, ENGINE, reporting=Reporting(page=False))
    assert [path.parts[-3] for path in tmp_path.glob("*/samples/00000004.png")] == ["guided"]  # encoders draw nothing
    assert not (tmp_path / "steps-0002" / "samples").exists()
    d = recipe.model(tmp_path).denoiser
    assert isinstance(d, WConditioned) and d.encoder and d.steps == 2
    x, c = Noise([3, 4])("x", 0, (3, 8, 8)), d.told(Condition({"label": torch.tensor([1, 2])}), 1.0)
    assert encode(d, x, c=c).isfinite().all()
    with pytest.raises(ValueError, match="N = 2"):
        encode(d, x, c=c, steps=3)
    with pytest.raises(ValueError, match="encodes"):
        recipe.model(tmp_path).sample(1, guidance=1.0)


def test_a_teacher_of_noise_is_refused_before_any_training(tmp_path):
    def noisy() -> Model:
        model = teacher()
        return Model(EpsDenoiser(model.denoiser.net, Discrete.linear()), Identity(3), ClassConditioner(6), size=(8, 8))

    with pytest.raises(ValueError, match="predicts eps"):
        replace(RECIPE, teacher=noisy).run(tmp_path / "out", ENGINE, reporting=None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bad", [{"start": 3}, {"start": 1}, {"end": 0}, {"guidance": 6.0}, {"w_range": (5.0, 1.0)}])
def test_bad_settings(bad):
    with pytest.raises(ValueError, match="expected"):
        replace(RECIPE, **bad)


def test_halvings_to_few_steps_are_longer():
    made = Halving(budget=Budget(steps=10), longer=2.5)
    assert [made.of(n).steps for n in (16, 8, 4, 2)] == [10, 10, 25, 25]
    assert replace(RECIPE, start=64, end=2).numbers == (32, 16, 8, 4, 2)
    assert replace(RECIPE, start=12, end=3).numbers == (6, 3)


def _has_emoji() -> bool:
    try:
        return emoji_folder().is_dir() and "emoji" in mz.model.shipped()
    except ValueError:
        return False


def test_the_recipe_of_the_shipped_model_can_be_set():
    recipe = RECIPES["emoji-fast"]()
    assert recipe.numbers == (16, 8, 4, 2)
    settings = leaves(recipe)
    assert {"teacher.model", "data.split", "halving.budget.steps", "guided.optimiser.lr", "end", "seed"} <= set(
        settings
    )
    assert with_overrides(recipe, {"halving.longer": "1", "end": "1"}).numbers == (16, 8, 4, 2, 1)


@pytest.mark.slow
@pytest.mark.skipif(not _has_emoji(), reason="the packed emoji and the shipped model are not here")
def test_the_shipped_model_goes_through_the_recipe_and_the_command(tmp_path, unchecked):
    from mezzotint.cli.main import run

    short = {"guided.budget.steps": "2", "guided.budget.batch": "2", "guided.optimiser.warmup": "0"}
    short |= {"halving.budget.steps": "1", "halving.budget.batch": "2", "data.split": "val", "start": "4"}
    settings = [part for key, value in short.items() for part in ("--set", f"{key}={value}")]
    assert run(["train", "emoji-fast", "--out", str(tmp_path / "run"), "--device", "cpu", "--json", *settings]) == 0
    call = ["sample", "a red heart", "--model", str(tmp_path / "run" / "model"), "--count", "1", "--device", "cpu"]
    assert run([*call, "--steps", "2", "--guidance", "3", "--out", str(tmp_path / "heart.png")]) == 0
    assert (tmp_path / "heart.png").is_file()
    assert run([*call, "--steps", "4", "--out", str(tmp_path / "other.png")]) == 2


def test_a_run_gone_on_with_to_fewer_steps_replaces_its_last_model(tmp_path):
    short = replace(RECIPE, end=2)
    assert short.run(tmp_path, ENGINE, reporting=None).finished
    assert short.model(tmp_path).defaults["steps"] == 2
    assert replace(RECIPE, end=1, guidance=2.0).run(tmp_path, ENGINE, reporting=None).finished
    last = RECIPE.model(tmp_path)
    assert (last.defaults["steps"], last.defaults["guidance"]) == (1, 2.0)
    assert weights_hash(last.denoiser.net) == weights_hash(RECIPE.students(tmp_path)[1].denoiser.net)
