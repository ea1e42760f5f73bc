"""Pre-training: the target's average, the step, resuming, and the way to fine-tuning."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import BoundaryDenoiser, DirectDenoiser, Noise
from mezzotint.data import VIEWS, Mirror
from mezzotint.io.safe import read_state
from mezzotint.nn import EncoderDecoderViT, Projector, ViTEncoder, load_encoder
from mezzotint.objective import (
    ECT,
    Batch,
    CeilDoubling,
    Denoise,
    KarrasSpacing,
    Representation,
    ResolutionLevels,
    SnappedLogNormal,
)
from mezzotint.train import DenoisingTask, PretrainingTask, Single, fit

pytestmark = pytest.mark.filterwarnings("ignore:a contrastive loss over:UserWarning")
LEVELS = ResolutionLevels(8)


def _task(**more) -> PretrainingTask:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ViTEncoder(3, size=8, patch=4, width=16, depth=1, heads=2)
        objective = Representation(LEVELS, CeilDoubling(50), VIEWS)
        return PretrainingTask(encoder, objective, projector=Projector(16, 32, 8), lr=1e-3, **more)


def _batches(step: int) -> Batch:
    return Batch(Noise([step]).uniform("images", 0, (16, 3, 8, 8))[0] * 2 - 1)


def test_the_target_is_the_average_of_the_weights_after_each_step() -> None:
    task = _task(rate=0.9)
    wanted = {k: v.clone() for k, v in task.twins.target.named_parameters()}
    assert all(torch.equal(wanted[k], v) for k, v in task.twins.online.named_parameters())  # equal at the start
    for step in range(3):
        task.step(_batches(step), step, Noise(range(16)))
        for k, v in task.twins.online.named_parameters():
            wanted[k] = 0.9 * wanted[k] + 0.1 * v.detach()
    for k, v in task.twins.target.named_parameters():
        assert torch.allclose(v, wanted[k], atol=1e-7), k
        assert not v.requires_grad
    moved = [not torch.equal(v, wanted[k]) for k, v in task.twins.online.named_parameters()]
    assert all(moved)
    trained = {id(p) for group in task.optimisers["online"].param_groups for p in group["params"]}
    assert trained == {id(p) for p in task.twins.online.parameters()}


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, everything) -> None:
    engine = Single("cpu")
    whole, first, second = _task(), _task(), _task()
    fit(whole, _batches, steps=4, seed=3, out=tmp_path / "whole", engine=engine)
    fit(first, _batches, steps=2, seed=3, out=tmp_path / "parts", engine=engine)
    fit(second, _batches, steps=4, seed=3, out=tmp_path / "parts", engine=engine)
    wanted, found = everything(whole), everything(second)
    assert wanted.keys() == found.keys() and any(k.startswith("module/target.") for k in wanted)
    assert all(torch.equal(found[k], v) for k, v in wanted.items())


def test_it_learns_to_tell_images_apart() -> None:
    task = _task()
    images = Noise(range(16)).uniform("images", 0, (3, 2, 2)) * 2 - 1
    batch = Batch(images.repeat_interleave(4, 2).repeat_interleave(4, 3))  # four flat squares each
    task.objective = Representation(LEVELS, CeilDoubling(50), (Mirror(0.0),) * 3)
    told = [task.step(batch, step, Noise(range(16 * step, 16 * step + 16))) for step in range(40)]
    early, late = (sum(m["contrast"].item() for m in part) / 5 for part in (told[:5], told[-5:]))
    assert late < 0.6 * early
    assert set(told[0]) >= {"loss", "contrast", "consistency", "tau", "level", "gradient"}


def test_a_term_can_be_left_out() -> None:
    full, alone = (Representation(LEVELS, CeilDoubling(50), VIEWS, consistency=weight).at(3) for weight in (1.0, 0.0))
    task, batch, noise = _task(), _batches(0), Noise(range(16))
    both, one = full(task.twins, batch, noise), alone(task.twins, batch, noise)
    assert torch.allclose(one.total, both.terms["contrast"], rtol=1e-5)
    assert "consistency" not in one.terms
    nothing = Representation(LEVELS, CeilDoubling(50), VIEWS, consistency=0.0, contrast=0.0).at(3)
    with pytest.raises(ValueError, match="leave nothing to learn"):
        nothing(task.twins, batch, noise)


def test_from_the_file_of_a_run_to_fine_tuning(tmp_path) -> None:
    """Both second stages start from what pre-training has saved, and take a step."""
    report = fit(_task(), _batches, steps=2, seed=0, out=tmp_path, engine=Single("cpu"))
    saved = read_state(f"{report.checkpoint}/module.online.safetensors")
    net = EncoderDecoderViT(3, size=8, patch=4, width=16, depth=1, heads=2, dropout=0.2)
    matched, expected = load_encoder(net, saved)
    assert matched == expected == len(net.encoder.state_dict())
    assert torch.equal(net.encoder.cls, saved["encoder.cls"])
    teacher = ViTEncoder(3, size=8, patch=4, width=16, depth=1, heads=2)
    teacher.load_state_dict(net.encoder.state_dict())
    x_pred = Denoise("x0", SnappedLogNormal(LEVELS), KarrasSpacing(LEVELS))
    for task in (
        DenoisingTask(DirectDenoiser(net, LEVELS.schedule), x_pred),
        DenoisingTask(BoundaryDenoiser(net, LEVELS.schedule, sigma_min=LEVELS.minimum), ECT(LEVELS, teacher=teacher)),
    ):
        for step in range(3):  # the output layer starts at zero: what is below it learns from the second step on
            told = task.step(_batches(step), step, Noise(range(16)))
            assert all(torch.as_tensor(value).isfinite().all() for key, value in told.items() if key != "gradient")
        assert not torch.equal(net.encoder.cls, saved["encoder.cls"])
        assert all(torch.equal(a, b) for a, b in zip(task.frozen.parameters(), teacher.parameters()))
    assert "same image" in told and list(task.frozen) == ["teacher"]


def test_small_batches_are_warned_of_and_one_is_refused() -> None:
    task = _task()
    with pytest.warns(UserWarning, match="64 or more"):
        task.step(_batches(0), 0, Noise(range(16)))
    with pytest.raises(ValueError, match="batch of 1"):
        task.step(Batch(torch.zeros(1, 3, 8, 8)), 0, Noise([0]))
    with pytest.raises(ValueError, match="one a sample"):
        task.step(_batches(0), 0, Noise([0]))
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        _task(rate=1.0)
