"""The other sides of `bench train`: loops of libraries as they are, and two well-known loop bodies written out.

Every one trains a copy of the same network on the same images from memory (no loader starts processes, nothing is
decoded), with AdamW or Adam as its authors have it and our learning rate.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mezzotint.bench.peers import load_peer
from mezzotint.bench.train_side import LR, SIZE, Problem, Side

__all__ = ["Alone", "Diffusers", "Lucidrains", "SiT", "SmallDiffusion"]


class _Rows(Dataset):
    """Images one by one, as loaders want them."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return self.x[index]


def _loader(x: Tensor, batch: int) -> DataLoader:
    return DataLoader(_Rows(x), batch_size=batch, shuffle=True, drop_last=True)


def _endless(loader: DataLoader) -> Iterator[Tensor]:
    return (batch for _ in itertools.count() for batch in loader)


class Lucidrains(Side):
    """`Trainer` of denoising-diffusion-pytorch, its loader replaced by one from memory."""

    def __init__(self, problem: Problem) -> None:
        module = load_peer("denoising-diffusion-pytorch")
        self.name, self.about = (
            "denoising-diffusion-pytorch",
            "Trainer: clipping, EMA every 10 steps, loss read each step",
        )
        self.net = problem.copy()
        self._diffusion = module.GaussianDiffusion(_Lucid(self.net), image_size=SIZE, objective="pred_noise")
        self._diffusion.to(problem.device)
        self._folder = tempfile.TemporaryDirectory(prefix="mezzotint-bench-")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self._trainer = module.Trainer(
                self._diffusion, _pictures(Path(self._folder.name)), train_batch_size=problem.batch, train_lr=LR,
                train_num_steps=0, save_and_sample_every=10**9, calculate_fid=False,
                results_folder=f"{self._folder.name}/results",
            )  # fmt: skip
        # it takes images in [0, 1]
        self._trainer.dl = _endless(_loader((problem.x + 1) / 2, problem.batch))

    def advance(self, steps: int) -> None:
        self._trainer.train_num_steps = self._trainer.step + steps
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self._trainer.train()

    def loss(self, x: Tensor) -> Tensor:
        return self._diffusion((x + 1) / 2)

    def close(self) -> None:
        self._folder.cleanup()


class _Lucid(nn.Module):
    """The network as that library calls one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.channels, self.out_dim, self.self_condition = net, 3, 3, False

    def forward(self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        return self.net(x, t.float())


def _pictures(folder: Path) -> str:
    """The hundred files that `Trainer` asks for before it starts."""
    from PIL import Image

    images = folder / "images"
    images.mkdir()
    for i in range(100):
        Image.new("RGB", (1, 1)).save(images / f"{i}.png")
    return str(images)


class SmallDiffusion(Side):
    """`training_loop` of smalldiffusion."""

    def __init__(self, problem: Problem) -> None:
        from accelerate import Accelerator

        module = load_peer("smalldiffusion")
        self.name, self.about = "smalldiffusion", "training_loop: no EMA, no clipping, no log"
        self.net = problem.copy()

        class Wrapped(nn.Module, module.ModelMixin):
            def __init__(self, net: nn.Module) -> None:
                super().__init__()
                self.net = net

            def forward(self, x: Tensor, sigma: Tensor, cond: Any = None) -> Tensor:
                return self.net(x / (sigma**2 + 1).sqrt(), sigma.flatten())

        self._module, self._schedule = module, module.ScheduleLogLinear(N=200)
        self._model = Wrapped(self.net)
        loader = _loader(problem.x, problem.batch)
        self._loop = module.training_loop(loader, self._model, self._schedule, Accelerator(), lr=LR)

    def advance(self, steps: int) -> None:
        # each turn: backward and update of the last loss, then the next forward
        with contextlib.redirect_stderr(io.StringIO()):
            for _ in range(steps):
                next(self._loop)

    def loss(self, x: Tensor) -> Tensor:
        from importlib import import_module

        make = import_module("smalldiffusion.diffusion").generate_train_sample
        x0, sigma, eps, cond = make(x, self._schedule)
        return self._model.get_loss(x0, sigma, eps, cond=cond)


class Diffusers(Side):
    """The loop body of diffusers' script for unconditional training, written from its well-known shape.

    Noise and integer times, `DDPMScheduler.add_noise`, mean squared error, clipping to 1, AdamW, a cosine rate with
    warm-up, `EMAModel` with warm-up, and a progress line of numbers read each step. Without accelerate.
    """

    def __init__(self, problem: Problem) -> None:
        diffusers = load_peer("diffusers")
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        self.name, self.about = "diffusers", "script's loop: clipping, EMAModel, rate schedule, loss read each step"
        self.net = problem.copy()
        self._scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        self._optimiser = torch.optim.AdamW(self.net.parameters(), lr=LR, betas=(0.95, 0.999), weight_decay=1e-6)
        self._rate = get_scheduler("cosine", self._optimiser, num_warmup_steps=5, num_training_steps=100_000)
        self._ema = EMAModel(
            self.net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75, model_cls=None
        )
        self._data, self._device, self._step = _endless(_loader(problem.x, problem.batch)), problem.device, 0

    def advance(self, steps: int) -> None:
        from tqdm.auto import tqdm

        self.net.train()
        with tqdm(total=steps, file=io.StringIO()) as bar:
            for _ in range(steps):
                loss = self.loss(next(self._data).to(self._device))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
                self._optimiser.step()
                self._rate.step()
                self._optimiser.zero_grad()
                self._ema.step(self.net.parameters())
                self._step += 1
                bar.update(1)
                told = {"loss": loss.detach().item(), "lr": self._rate.get_last_lr()[0], "step": self._step}
                bar.set_postfix(**told, ema_decay=self._ema.cur_decay_value)

    def loss(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, dtype=x.dtype, device=x.device)
        t = torch.randint(0, 1000, (len(x),), device=x.device).long()
        noisy = self._scheduler.add_noise(x, noise, t)
        return F.mse_loss(self.net(noisy, t.float()).float(), noise.float())


class SiT(Side):
    """The loop body of SiT (and of DiT), written from its well-known shape.

    Flow matching, AdamW without decay, no clipping, an EMA by a Python loop over the parameters, the loss read each
    step.
    """

    def __init__(self, problem: Problem) -> None:
        self.name, self.about = "SiT's loop", "EMA by a Python loop, no clipping, loss read each step"
        self.net = problem.copy()
        self._ema = problem.copy().requires_grad_(False)
        self._ema.load_state_dict(self.net.state_dict())
        self._optimiser = torch.optim.AdamW(self.net.parameters(), lr=LR, weight_decay=0)
        self._data, self._device, self._running = _endless(_loader(problem.x, problem.batch)), problem.device, 0.0

    def advance(self, steps: int) -> None:
        self.net.train()
        for _ in range(steps):
            loss = self.loss(next(self._data).to(self._device))
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
            self._average(0.9999)
            self._running += loss.item()

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        averages = OrderedDict(self._ema.named_parameters())
        for name, p in OrderedDict(self.net.named_parameters()).items():
            averages[name].mul_(decay).add_(p.data, alpha=1 - decay)

    def loss(self, x: Tensor) -> Tensor:
        t = torch.rand(len(x), device=x.device)
        noise = torch.randn_like(x)
        time = t.view(-1, 1, 1, 1)
        flow = self.net(time * x + (1 - time) * noise, t)
        return (flow - (x - noise)).square().flatten(1).mean(1).mean()


class Alone(Side):
    """No loop: forward, loss and backward of the network, with steps by the gradient's sign so that it trains.

    What is left to a loop is the difference from this.
    """

    def __init__(self, problem: Problem) -> None:
        self.name, self.about = (
            "the network alone",
            "forward and backward, steps by the gradient's sign, one noise for all",
        )
        self.net = problem.copy()
        self._x = problem.x[: problem.batch].to(problem.device)
        self._noise = torch.randn(self._x.shape, generator=torch.Generator().manual_seed(0)).to(problem.device)
        self._t = torch.rand(problem.batch, generator=torch.Generator().manual_seed(0)).to(problem.device)

    def advance(self, steps: int) -> None:
        parameters: list[Tensor] = [p for p in self.net.parameters() if p.requires_grad]
        for _ in range(steps):
            gradients = torch.autograd.grad(self.loss(self._x), parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, torch._foreach_sign(list(gradients)), alpha=-LR)

    def loss(self, x: Tensor) -> Tensor:
        return F.mse_loss(self.net(x + self._noise, self._t), self._noise)
