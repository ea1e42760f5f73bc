from __future__ import annotations

import pytest
import torch
from torch import nn

from mezzotint.train import EMA, CheckpointError
from mezzotint.train.state import load_task, save_task


class _Task:
    def __init__(self, net, optimiser):
        self.modules, self.frozen = nn.ModuleDict({"net": net}), nn.ModuleDict()
        self.optimisers = {"net": optimiser(net.parameters())}
        self.ema = {"net": EMA(net, 0.9)}

    def step(self):
        self.optimisers["net"].zero_grad()
        self.modules["net"](torch.ones(2, 3)).square().sum().backward()
        self.optimisers["net"].step()
        self.ema["net"].update()


def _net(width=4):
    net = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 3), nn.Linear(3, width))
    net[2].weight = net[0].weight  # tied
    for p in net.parameters():
        nn.init.constant_(p, 0.1)
    return net


_OPTIMISERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd, no state": lambda p: torch.optim.SGD(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.1),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.1),
}


@pytest.mark.parametrize("kind", _OPTIMISERS)
def test_training_goes_on_from_files_as_from_memory(kind, tmp_path):
    task = _Task(_net(), _OPTIMISERS[kind])
    for _ in range(3):
        task.step()
    save_task(task, tmp_path, step=3)
    other = _Task(_net(), _OPTIMISERS[kind])
    assert load_task(other, tmp_path)["step"] == 3
    for _ in range(3):
        task.step()
        other.step()
    for a, b in zip(task.modules.parameters(), other.modules.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(task.ema["net"].averages[k], v) for k, v in other.ema["net"].averages.items())
    assert other.modules["net"][0].weight is other.modules["net"][2].weight


def test_no_file_is_a_pickle(tmp_path):
    task = _Task(_net(), _OPTIMISERS["adamw"])
    task.step()
    save_task(task, tmp_path)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors", ".safetensors", ".safetensors"]
    assert not any(p.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x04") for p in tmp_path.iterdir())


def test_optimiser_state_is_keyed_by_parameter_name(tmp_path):
    from mezzotint.io.safe import read_state

    task = _Task(_net(), _OPTIMISERS["adamw"])
    task.step()
    save_task(task, tmp_path)
    state = read_state(tmp_path / "optimiser.net.safetensors")
    gradient = task.modules["net"][1].bias.grad
    assert torch.allclose(state["net.1.bias/exp_avg"], 0.1 * gradient)
    assert torch.allclose(state["net.1.bias/exp_avg_sq"], 0.001 * gradient.square())


def test_what_does_not_fit_is_named(tmp_path):
    task = _Task(_net(), _OPTIMISERS["adamw"])
    task.step()
    save_task(task, tmp_path)
    with pytest.raises(CheckpointError, match=r"module.net.*0.weight has shape \(4, 3\), expected \(5, 3\)"):
        load_task(_Task(_net(5), _OPTIMISERS["adamw"]), tmp_path)
    other = _Task(_net(), _OPTIMISERS["adamw"])
    other.optimisers = {"net": torch.optim.AdamW(other.modules["net"][0].parameters())}
    with pytest.raises(CheckpointError, match=r"state for 'net.1.bias', which this optimiser does not train"):
        load_task(other, tmp_path)
    (tmp_path / "ema.net.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"ema.net.safetensors: no such file"):
        load_task(_Task(_net(), _OPTIMISERS["adamw"]), tmp_path)


def test_an_optimiser_over_unsaved_parameters_is_refused(tmp_path):
    task = _Task(_net(), _OPTIMISERS["adamw"])
    stray = nn.Linear(1, 1)
    task.optimisers["stray"] = torch.optim.SGD(stray.parameters(), lr=0.1, momentum=0.9)
    stray(torch.ones(1)).backward()
    task.optimisers["stray"].step()
    with pytest.raises(ValueError, match="in none of the task's modules"):
        save_task(task, tmp_path)
