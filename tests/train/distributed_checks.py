"""What two processes do in one launch of torchrun; each check writes what it found, the tests look at it.

torchrun --nproc-per-node 2 distributed_checks.py FOLDER
"""

from __future__ import annotations

import errno
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.core import Cosine, Noise, VDenoiser
from mezzotint.latent import Identity
from mezzotint.nn import DiT
from mezzotint.objective import Batch, Denoise
from mezzotint.objective.batch import Loss
from mezzotint.train import EMA, DenoisingTask, Single, fit
from mezzotint.train.recipe import AdamW, Budget, Recipe

STEPS = (3, 6, 9, 12)  # one process, DDP, FSDP2, one process


@dataclass(frozen=True)
class Net:
    """A DiT in float64, of which no layer is zero."""

    def __call__(self, spec: Any) -> nn.Module:
        net = DiT(spec.channels, patch=2, width=16, depth=2, heads=2, classes=3).double()
        for name, p in net.named_parameters():
            if "head" in name or "modulation" in name:
                nn.init.normal_(p, std=0.02)
        return net


def data(autoencoder: Any, batch: int, seed: int):
    from mezzotint.core import Condition

    def batches(step: int) -> Batch:
        draw = torch.Generator().manual_seed(step)
        x = torch.randn(batch, 3, 8, 8, generator=draw, dtype=torch.float64).clamp(-1, 1)
        label = torch.randint(0, 3, (batch,), generator=draw)
        return Batch(x, Condition({"label": label}, null={"label": torch.tensor([3])}))

    return batches


def recipe(steps: int) -> Recipe:
    return Recipe(
        name="tiny",
        optimiser=AdamW(lr=1e-2, clip=0.1),
        budget=Budget(steps=steps, batch=8, log=1, save=2),
        seed=0,
        data=data,
        latent=Identity,
        net=Net(),
        denoiser=lambda net: VDenoiser(net, Cosine()),
        objective=Denoise("v", drop=0.2),
        ema=0.9,
    )


class Uneven(nn.Module):
    """Tensors that two processes cannot halve, a batch norm, and a branch that one process may take alone."""

    def __init__(self, branch: bool) -> None:
        super().__init__()
        self.branch = branch
        self.first, self.norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.last, self.odd, self.never = nn.Conv2d(5, 3, 1), nn.Linear(1, 1), nn.Linear(1, 1)

    def forward(self, x: Tensor, time: Tensor, c: Any = None) -> Tensor:
        h = self.norm(self.first(x))
        if not self.branch or float(x.sum()) > 0:
            h = h + self.odd(time[:1, None] / 1000).sum()
        return self.last(torch.tanh(h))


def plain(denoiser: Any, batch: Batch, noise: Noise) -> Loss:
    t = noise.uniform("time", 0, ()).double()
    error = (denoiser(batch.x, t).x0 - batch.x).square().mean()
    return Loss(error, {"error": error})


def uneven(branch: bool = False) -> tuple[DenoisingTask, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = DenoisingTask(VDenoiser(Uneven(branch).double(), Cosine()), plain, lr=1e-2, ema=0.9)

    def batches(step: int) -> Batch:
        draw = torch.Generator().manual_seed(step)
        return Batch(torch.randn(8, 3, 4, 4, generator=draw, dtype=torch.float64))

    return task, batches


class Opponents:
    """Two optimisers: each loss runs both networks."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            parts = {"g": nn.Conv2d(3, 3, 3, padding=1), "d": nn.Conv2d(3, 1, 4)}
            self.modules = nn.ModuleDict(parts).double()
        self.frozen, self.clip = nn.ModuleDict(), None
        self.optimisers = {k: torch.optim.Adam(m.parameters(), lr=1e-2) for k, m in self.modules.items()}
        self.ema = {"g": EMA(self.modules["g"], 0.9)}

    def step(self, batch: Batch, step: int, noise: Noise, learn: Any) -> dict[str, Any]:
        g, d = self.modules["g"], self.modules["d"]

        def fool(part: Batch, seeds: Noise) -> Loss:
            return Loss((g(part.x) - part.x).square().mean() - d(g(part.x)).mean())

        def tell(part: Batch, seeds: Noise) -> Loss:
            return Loss(torch.relu(1 - d(part.x)).mean() + torch.relu(1 + d(g(part.x).detach())).mean())

        found = learn(self, "g", fool, batch, noise)
        return {**found, "d": learn(self, "d", tell, batch, noise)["loss"]}


def whole(task: Any) -> dict[str, Tensor]:
    """Every parameter, buffer and average, gathered."""
    state = {**task.modules.state_dict(), **{f"ema.{k}": v for e in task.ema.values() for k, v in e.averages.items()}}
    return {k: v.full_tensor() if hasattr(v, "full_tensor") else v for k, v in state.items()}


def gap(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a if a[k].numel())


def check_chain(out: Path, ddp: Any, fsdp: Any) -> dict[str, Any]:
    """The middle of 1 -> 2 -> 2 divided -> 1; the test does both ends."""
    reports = [recipe(steps).run(out / "chain", e, reporting=None) for steps, e in ((STEPS[1], ddp), (STEPS[2], fsdp))]
    return {
        "resumed": [r.resumed for r in reports],
        "files": sorted(p.name for p in Path(reports[1].checkpoint).iterdir()),
    }


def check_engines(out: Path, ddp: Any, fsdp: Any) -> dict[str, Any]:
    """Whole runs by each engine, of tasks that are hard on them."""
    found = {}
    for name, engine in (("ddp", ddp), ("fsdp", fsdp)):
        tasks = {"uneven": uneven()[0], "opponents": Opponents()}
        if name == "ddp":
            tasks["branch"] = uneven(branch=True)[0]
        batches = uneven()[1]
        for kind, task in tasks.items():
            fit(task, batches, steps=4, seed=0, out=out / f"{kind}-{name}", engine=engine, parts=2, log_every=1)
            state = whole(task)
            others = engine.group.gather(torch.cat([v.reshape(-1).double() for v in state.values()]))
            found[f"{kind}-{name} apart"] = float((others[0] - others[1]).abs().max())
            if engine.rank == 0:
                torch.save(state, out / f"{kind}-{name}.pt")
    return found


def check_messages(out: Path, ddp: Any, fsdp: Any) -> dict[str, Any]:
    group = ddp.group
    rank = group.rank
    found: dict[str, Any] = {"any": group.any(1 << rank), "texts": group.exchange("ä" * (1 + 2 * rank))}
    found["told"] = group.tell({"a": [1, None]} if rank == 0 else None)
    found["led"] = group.lead(lambda: [rank, "x"])
    for name, call, bad in (("lead", group.lead, 0), ("all", group.all, 1)):
        try:
            call(lambda bad=bad: [][0] if rank == bad else 7)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return {key: group.exchange(json.dumps(value)) for key, value in found.items()}


def check_blank(out: Path, ddp: Any, fsdp: Any) -> dict[str, Any]:
    """Only process 0 makes weights; what cannot be made blank is made."""
    task, _ = recipe(1).on(fsdp).start()
    blank = all(p.is_meta for p in task.modules["denoiser"].net.parameters())
    looks = fsdp.builder(lambda: nn.Linear(1, 1) if torch.ones(1).any() else None)()
    fsdp.place(task)
    single = recipe(1).start()[0]
    batch = data(None, 4, 0)(0)
    with torch.no_grad():  # a network that is called by itself, and not inside a loss
        alone, shared = (
            t.modules["denoiser"](batch.x, torch.full((4,), 0.3).double(), batch.c).x0 for t in (single, task)
        )
    own = [list(p.to_local().shape) == list(p.shape) for p in task.modules.parameters()]
    return {
        "blank": fsdp.group.exchange(str(blank)),
        "looks": str(looks.weight.device),
        "weights": gap(whole(task), whole(single)),
        "called": float((alone - shared).abs().max()),
        "undivided": sum(own),
    }


def check_full_disk(out: Path, ddp: Any, fsdp: Any) -> dict[str, Any]:
    """The disk of process 1 is full from the second save on; there each stops, and the first save stays."""
    from mezzotint.train import sharded

    before, writes = sharded.save_state, []

    def full(state: Any, path: Path, *rest: Any) -> None:
        writes.append(path)
        if fsdp.rank == 1 and len(writes) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        before(state, path, *rest)

    sharded.save_state = full
    try:
        recipe(6).run(out / "full", fsdp, reporting=None)
        text = "no error"
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    finally:
        sharded.save_state = before
    ours = [p.name for p in (out / "full" / "checkpoints").iterdir()]
    return {"errors": fsdp.group.exchange(text), "left": ours}


CHECKS = {f.__name__[6:]: f for f in (check_messages, check_chain, check_engines, check_blank, check_full_disk)}


def main(out: Path) -> None:
    from mezzotint.train.ddp import DDP
    from mezzotint.train.fsdp import FSDP2
    from mezzotint.train.group import Group

    torch.set_num_threads(1)
    group = Group(torch.device("cpu"), timeout=1)
    ddp, fsdp = DDP(Single("cpu"), group), FSDP2(Single("cpu", channels_last=False), group)
    found = {name: check(out, ddp, fsdp) for name, check in CHECKS.items()}
    if group.rank == 0:
        (out / "found.json").write_text(json.dumps(found))
    group.leave()


if __name__ == "__main__":
    import distributed_checks  # by the name that the tests know it by: a run folder remembers whose it is

    distributed_checks.main(Path(sys.argv[1]))
