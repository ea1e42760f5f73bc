from __future__ import annotations

import pytest
import torch

from mezzotint.core import Condition
from mezzotint.objective.batch import Batch
from mezzotint.train import EMA, Engine, Single


def test_a_batch_is_moved_whole_with_images_channels_last():
    c = Condition({"label": torch.tensor([1, 2])}, null={"label": torch.tensor([9])})
    x = torch.arange(96.0).reshape(2, 3, 4, 4)
    moved = Single("cpu").move(Batch(x, c))
    assert torch.equal(moved.x, x) and moved.x.is_contiguous(memory_format=torch.channels_last)
    assert moved.c["label"].tolist() == [1, 2] and moved.c.null()["label"].tolist() == [9, 9]
    assert Single("cpu", channels_last=False).move(x).is_contiguous()
    nested = Single("cpu").move({"a": [x, (x, 3)], "b": None})
    assert torch.equal(nested["a"][1][0], x) and nested["a"][1][1] == 3 and nested["b"] is None


def test_placing_keeps_parameters_and_averages_equal_and_gives_both_one_layout(pair):
    task, _ = pair()
    before = {k: v.clone() for k, v in task.modules.state_dict().items()}
    trained = [p for group in task.optimisers["g"].param_groups for p in group["params"]]
    Single("cpu").place(task)
    assert all(torch.equal(before[k], v) for k, v in task.modules.state_dict().items())
    assert all(a is b for a, b in zip(trained, task.modules["g"].parameters(), strict=True))
    weight, average = task.modules["g"][0].weight, task.ema["g"].averages["0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last) and average.stride() == weight.stride()
    assert torch.equal(weight, average) and isinstance(task.ema["g"], EMA)


def test_single_is_an_engine_alone():
    engine = Single("cpu")
    assert isinstance(engine, Engine) and (engine.rank, engine.world) == (0, 1)
    assert engine.agree(True) and not engine.agree(False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"name": "gpu"}, "unknown device 'gpu'"), ({"name": "cpu", "threads": 0}, "threads must be at least 1")],
)
def test_wrong_settings_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        Single(**settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="sees no GPU here; use cpu"):
        Single("cuda")
