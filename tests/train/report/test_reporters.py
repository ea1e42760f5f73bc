"""Where rows go besides the folder: TensorBoard's files, trackers, and reporters that fail."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from mezzotint.train.report import Reporters, TensorBoard, Tracker

PICTURE = torch.arange(2 * 3 * 3, dtype=torch.uint8).reshape(2, 3, 3)


class _Run:
    def __init__(self):
        self.told, self.finished = [], False

    def log(self, values, step=None):
        self.told.append((step, values))

    def finish(self):
        self.finished = True


def test_a_tracker_gets_rows_words_and_pictures():
    run = _Run()
    tracker = Tracker(run, image=lambda array: ("picture", array))
    tracker.row(10, {"step": 10, "loss": 0.5, "kl": 2.0})
    tracker.text(0, "settings", "a = 1")
    tracker.images(20, "samples", PICTURE)
    tracker.close()
    assert run.told[:2] == [(10, {"loss": 0.5, "kl": 2.0}), (0, {"settings": "a = 1"})]
    step, values = run.told[2]
    assert step == 20 and values["samples"][0] == "picture" and np.array_equal(values["samples"][1], PICTURE.numpy())
    assert run.finished


def test_a_tracker_without_pictures_and_one_that_is_none():
    run = _Run()
    Tracker(run).images(1, "samples", PICTURE)
    assert run.told == []
    with pytest.raises(ValueError, match="no method log"):
        Tracker(object())


def test_a_reporter_that_fails_is_told_once_and_does_not_stop_the_others():
    class Down(_Run):
        def log(self, values, step=None):
            raise ConnectionError("no route")

    before, after = _Run(), _Run()
    several = Reporters([Tracker(before), Tracker(Down()), Tracker(after)])
    with pytest.warns(UserWarning, match="Tracker failed .ConnectionError: no route") as told:
        for step in (1, 2, 3):
            several.row(step, {"loss": 1.0})
        several.close()
    assert len(told) == 1
    assert len(before.told) == len(after.told) == 3 and after.finished


def test_an_interrupt_is_no_failure():
    class Interrupted(_Run):
        def log(self, values, step=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Reporters([Tracker(Interrupted())]).row(1, {})


def test_tensorboard_holds_what_it_was_told(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    board.row(10, {"step": 10, "loss": 0.5, "note": "text", "bad": math.nan})
    board.row(20, {"step": 20, "loss": 0.25})
    board.images(20, "samples", PICTURE)
    board.text(0, "settings", "a = 1")
    board.close()
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    assert found.Tags()["scalars"] == ["loss"] and found.Tags()["images"] == ["samples"]
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(10, 0.5), (20, 0.25)]
    import io

    from PIL import Image

    (image,) = found.Images("samples")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), PICTURE.numpy())


def test_without_tensorboard_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'mezzotint\[train\]'"):
        TensorBoard(tmp_path)
