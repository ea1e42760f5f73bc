"""The optimiser that a recipe chooses is the one that trains, to the bit; what a task cannot take is refused."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

from mezzotint.core import Cosine, Noise, X0Denoiser
from mezzotint.latent import AutoencoderKL, Identity
from mezzotint.objective import Batch, Denoise
from mezzotint.objective.autoencode import PlainAutoencode
from mezzotint.train import AdamW, AutoencoderRecipe, Budget, DenoisingTask, RAdam, Recipe, Single, with_overrides
from mezzotint.train.recipe import Runnable
from mezzotint.train.recipes import RECIPES


class Net(nn.Linear):
    def forward(self, x: torch.Tensor, time: torch.Tensor, c: Any = None) -> torch.Tensor:
        return super().forward(x)


def data(autoencoder: Any, batch: int, seed: int):
    def batches(step: int) -> Batch:
        return Batch(torch.randn(batch, 3, generator=torch.Generator().manual_seed(step)))

    return batches


def recipe(optimiser: AdamW) -> Recipe:
    return Recipe(
        name="chosen",
        data=data,
        latent=lambda: Identity(3),
        net=lambda spec: Net(3, 3),
        denoiser=lambda net: X0Denoiser(net, Cosine()),
        objective=Denoise("x0"),
        optimiser=optimiser,
        ema=None,
        budget=Budget(steps=8, batch=4),
        seed=0,
    )


def test_radam_is_the_formula():
    lr, b1, b2, decay, eps = 0.1, 0.8, 0.95, 0.25, 1e-3
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimiser = RAdam(lr, (b1, b2), decay, eps=eps).over([p])
    value, m, v = p.detach().clone(), 0.0, 0.0
    most, kinds = 2 / (1 - b2) - 1, set()
    for n in range(1, 12):
        p.grad = g = torch.tensor([math.sin(n), 0.3 * n], dtype=torch.float64)
        optimiser.step()
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        rho = most - 2 * n * b2**n / (1 - b2**n)
        kinds.add(rho > 5)
        rate = lr / (1 - b1**n)
        if rho > 5:
            r = math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
            rate = rate * r * math.sqrt(1 - b2**n) / (v.sqrt() + eps)
        value = value * (1 - lr * decay) - rate * m
        assert torch.allclose(p.detach(), value, rtol=1e-12, atol=0)
    assert kinds == {False, True}


def test_eps_is_in_the_first_step_of_adamw_and_of_adam():
    for make, decay in ((AdamW(lr=0.1, eps=0.5).over, 0.01), (AdamW(lr=0.1, eps=0.5).without_decay, 0.0)):
        p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        p.grad = torch.tensor([0.25, -3.0], dtype=torch.float64)
        start, optimiser = p.detach().clone(), make([p])
        optimiser.step()
        expected = start * (1 - 0.1 * decay) - 0.1 * p.grad / (p.grad.abs() + 0.5)
        assert torch.allclose(p.detach(), expected, rtol=1e-12, atol=0)


def test_the_plain_one_is_what_it_always_was_to_the_bit():
    task, _ = recipe(AdamW(lr=0.01, betas=(0.8, 0.9), weight_decay=0.1)).start()
    made = DenoisingTask(deepcopy(task.denoiser), Denoise("x0"), lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, ema=None)
    for step in range(4):
        for one in (task, made):
            one.step(data(None, 4, 0)(step), step, Noise(range(4)))
    assert all(map(torch.equal, task.denoiser.parameters(), made.denoiser.parameters()))


def test_a_run_with_radam_goes_on_to_the_bit_and_with_no_other(tmp_path):
    whole = recipe(RAdam(lr=0.01))
    whole.run(tmp_path / "whole", Single("cpu"), reporting=None)
    half = replace(whole, budget=replace(whole.budget, steps=4))
    half.run(tmp_path / "halves", Single("cpu"), reporting=None)
    for other in (RAdam(lr=0.01, eps=1e-6), AdamW(lr=0.01, weight_decay=0.0)):
        with pytest.raises(ValueError, match="belongs to another run"):
            replace(whole, optimiser=other).run(tmp_path / "halves", Single("cpu"), reporting=None)
    assert whole.run(tmp_path / "halves", Single("cpu"), reporting=None).resumed == 4
    one, two = (whole.trained(tmp_path / name).denoiser.net.weight for name in ("whole", "halves"))
    fresh, plain = whole.start()[0].denoiser.net.weight, recipe(AdamW(lr=0.01, weight_decay=0.0))
    plain.run(tmp_path / "plain", Single("cpu"), reporting=None)
    assert torch.equal(one, two) and not torch.equal(one, fresh)
    assert not torch.equal(one, plain.trained(tmp_path / "plain").denoiser.net.weight)


def test_a_folder_from_before_eps_could_be_chosen_is_gone_on_with(tmp_path):
    short = replace(recipe(AdamW()), budget=Budget(steps=2, batch=4))
    short.run(tmp_path, Single("cpu"), reporting=None)
    told = json.loads((tmp_path / "run.json").read_text())
    del told["optimiser.eps"]
    (tmp_path / "run.json").write_text(json.dumps(told))
    assert recipe(AdamW()).run(tmp_path, Single("cpu"), reporting=None).resumed == 2


def test_eps_is_a_leaf():
    assert with_overrides(recipe(RAdam()), {"optimiser.eps": "1e-6"}).optimiser == RAdam(eps=1e-6)
    with pytest.raises(ValueError, match="eps must be positive"):
        with_overrides(recipe(AdamW()), {"optimiser.eps": "0"})


@pytest.mark.parametrize("optimiser", [AdamW(lr=1e-3), AdamW(lr=1e-3, eps=1e-6), RAdam(lr=1e-3, weight_decay=0.5)])
def test_an_autoencoder_takes_it_without_decay(optimiser):
    made = AutoencoderRecipe(
        name="small",
        data=lambda batch, seed: lambda step: Batch(torch.zeros(batch, 3, 8, 8)),
        autoencoder=lambda: AutoencoderKL(channels=8, mult=(1,), blocks=1, latent=2, patch=4),
        objective=PlainAutoencode(),
        optimiser=optimiser,
        budget=Budget(),
        seed=0,
    ).start()[0]
    (torchs,) = made.optimisers.values()
    assert type(torchs) is (torch.optim.RAdam if isinstance(optimiser, RAdam) else torch.optim.Adam)
    assert torchs.defaults["eps"] == (optimiser.eps or 1e-8) and torchs.defaults["weight_decay"] == 0


@dataclass(frozen=True)
class Fixed(Runnable):
    """A kind of training that takes rates alone."""

    def build(self):
        o = self.optimiser
        denoiser = X0Denoiser(Net(3, 3), Cosine())
        task = DenoisingTask(denoiser, Denoise("x0"), lr=o.lr, betas=o.betas, weight_decay=o.weight_decay, ema=None)
        return task, data(None, 4, 0)


def test_what_a_task_does_not_take_is_refused_and_never_passed_over():
    Fixed("fixed", AdamW(lr=0.5), Budget(), 0).start()
    with pytest.raises(ValueError, match="eps=1e-06: the optimiser of denoiser does not take it; leave it none"):
        Fixed("fixed", AdamW(eps=1e-6), Budget(), 0).start()
    with pytest.raises(ValueError, match="RAdam: denoiser is trained with AdamW alone; choose AdamW"):
        Fixed("fixed", RAdam(), Budget(), 0).start()


def test_the_shipped_recipes_keep_torchs_own():
    found = [getattr(RECIPES[name](), "optimiser", None) for name in RECIPES]
    assert any(found) and all(o is None or (not isinstance(o, RAdam) and o.eps is None) for o in found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_bad_step_is_left_out_on_a_gpu_where_the_kernel_does_not_look():
    task, _ = recipe(RAdam(lr=0.01)).start()
    engine = Single("cuda")
    engine.place(task)
    before = [p.detach().clone() for p in task.denoiser.parameters()]
    batch = engine.move(Batch(torch.full((4, 3), float("nan"))))
    task.step(batch, 0, Noise(range(4)), engine.learner(1, "skip"))
    assert all(map(torch.equal, before, task.denoiser.parameters()))
