from __future__ import annotations

import pytest
import torch

from mezzotint.train.meter import Meter, NonFiniteError


def test_means_are_over_the_steps_that_had_the_metric():
    meter = Meter()
    meter.add(0, {"a": torch.tensor(1.0), "b": torch.tensor(5.0)})
    meter.check()  # a look for safety does not end the window
    meter.add(1, {"a": torch.tensor(2.0)})
    meter.add(2, {"a": torch.tensor(6.0, dtype=torch.float64)})
    assert meter.steps == 3 and meter.read() == {"a": 3.0, "b": 5.0}
    assert meter.steps == 0 and meter.read() == {}


def test_values_are_not_read_when_added(monkeypatch):
    def reading(self, *args):
        raise AssertionError("a metric was read on the step path")

    meter = Meter()
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "__bool__", "__float__", "cpu", "numpy"):
            patch.setattr(torch.Tensor, name, reading)
        for step in range(5):
            meter.add(step, {"loss": torch.tensor(float(step), requires_grad=True)})
    assert meter.read() == {"loss": 2.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_bad_step_is_named_with_its_metrics_alone(value):
    meter = Meter()
    meter.add(3, {"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    meter.add(4, {"a": torch.tensor(1.0), "b": torch.tensor(value)})
    meter.add(5, {"a": torch.tensor(value), "b": torch.tensor(value)})
    with pytest.raises(NonFiniteError, match=rf"^step 4: b = {value}\. "):
        meter.check()
