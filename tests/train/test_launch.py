from __future__ import annotations

import math

import pytest
import torch

from mezzotint.train import NonFiniteError, Single, launched
from mezzotint.train.group import Group
from mezzotint.train.launch import local_device, process
from mezzotint.train.learner import Norms
from mezzotint.train.meter import Meter


def test_without_torchrun_it_is_one_process():
    assert process() == (0, 1) and local_device("cpu") == "cpu" and local_device("cuda:3") == "cuda:3"
    with launched(None, "cpu", threads=1, precision="bfloat16", compile="inductor") as engine:
        assert engine == Single("cpu", threads=1, precision="bfloat16", compile="inductor")
        assert engine.lead(lambda: 7) == 7 and engine.builder(len) is len
    with pytest.raises(ValueError, match="several processes are started by torchrun"), launched("ddp", "cpu"):
        pass
    with pytest.raises(ValueError, match="which sets RANK"):
        Group(torch.device("cpu"))


def test_one_engine_alone_in_several_processes_is_refused(monkeypatch, unchecked):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert process() == (1, 4)
    with pytest.raises(ValueError, match="the engine single in 4 processes"), launched("single", "cpu"):
        pass
    with pytest.raises(ValueError, match="unknown engine 'fast'"), launched("fast", "cpu"):
        pass


def test_the_process_whose_loss_is_not_finite_is_named_and_not_those_that_share_its_gradient():
    nan = math.nan
    meter = Meter(gather=lambda mine: torch.stack([torch.tensor([1.0, 0.5, nan]), mine]))
    meter.add(3, {"loss": torch.tensor(nan), "gradient": Norms(torch.tensor([0.5, nan]), lambda: ["a", "b"])})
    with pytest.raises(NonFiniteError, match="step 3, process 1: loss = nan.*first in the gradient of b"):
        meter.check()
