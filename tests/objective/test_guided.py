"""What both stages of guided distillation draw, and refuse."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Condition, Cosine, Flow, Gaussian, Noise, VDenoiser, WConditioned
from mezzotint.objective import Batch, EncoderDistillation, GuidedDistillation, ProgressiveDistillation, guided_target

C = Condition({"label": torch.arange(4) % 2}, {"label": torch.tensor([2])})


class _Net(torch.nn.Module):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.seen = torch.nn.Parameter(torch.tensor(0.5)), []

    def forward(self, x, time, c):
        self.seen.append((x.detach(), time, None if c is None else dict(c)))
        return self.scale * x


def _plain() -> VDenoiser:
    return VDenoiser(_Net(), Cosine())


def _student(**settings) -> WConditioned:
    return WConditioned(_plain(), (1.0, 5.0), **settings)


def _batch(b: int = 4) -> Batch:
    return Batch(Noise(range(b))("x", 0, (3,)), C.rows([i % 4 for i in range(b)]))


def test_stage_1_draws_weights_and_times_from_each_samples_seed():
    teacher, student, noise = _plain(), _student(), Noise(range(10, 410))
    goal = GuidedDistillation(teacher, (1.0, 5.0))
    loss = goal(student, _batch(400), noise)
    (z, time, told), (z2, _, both) = student.net.seen[0], teacher.net.seen[0]
    assert 1.0 <= float(told["guidance"].min()) < 1.05 and 4.95 < float(told["guidance"].max()) <= 5.0
    assert float(told["guidance"].mean()) == pytest.approx(3, abs=0.2)
    assert torch.equal(told["label"], _batch(400).c["label"])  # nothing is dropped for the student
    assert torch.equal(z2, torch.cat([z, z])) and set(both["label"][:400].tolist()) == {2}
    assert "guidance" not in both
    # one sample alone has what it has in the batch
    alone = _student()
    goal(alone, Batch(_batch(400).x[7:8], C.rows([3])), noise.rows([7]))
    (z3, time3, told3) = alone.net.seen[0]
    assert torch.equal(z3[0], z[7]) and torch.equal(time3[0], time[7])
    assert torch.equal(told3["guidance"][0], told["guidance"][7])
    loss.total.backward()
    assert teacher.net.scale.grad is None and student.net.scale.grad is not None
    assert loss.terms["mse"] >= loss.total >= 0.5 * loss.terms["mse"]  # the weight of v lies in [1/2, 1]


def test_stage_1_of_a_student_that_is_right_has_no_loss():
    teacher = _plain()
    assert float(GuidedDistillation(teacher)(_student(), _batch(), Noise(range(4))).total.detach()) < 1e-12


def test_halving_asks_the_teacher_twice_at_the_same_weight():
    teacher, student = _student(steps=8), _student(steps=4)
    loss = ProgressiveDistillation(teacher, 4, (1.0, 5.0))(student, _batch(64), Noise(range(64)))
    (z, t0, first), (_, t1, second) = teacher.net.seen
    (z_student, t, told) = student.net.seen[0]
    assert torch.equal(first["guidance"], told["guidance"]) and torch.equal(second["guidance"], told["guidance"])
    assert torch.equal(z, z_student) and torch.equal(t0, t)
    torch.testing.assert_close(t1, t - 1000 / 8)
    assert set((t / 250).tolist()) == {1.0, 2.0, 3.0, 4.0}
    loss.total.backward()
    assert teacher.net.scale.grad is None and student.net.scale.grad is not None


def test_without_guidance_it_is_plain_progressive_distillation():
    exact = Gaussian(torch.zeros(3), std=0.5).denoiser(Cosine())
    loss = ProgressiveDistillation(exact, 2)(_plain(), Batch(_batch().x), Noise(range(4)))
    assert loss.total.isfinite() and loss.total > 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GuidedDistillation(_plain(), (5.0, 1.0)), "w_range"),
        (lambda: ProgressiveDistillation(_student(), 0, (1.0, 5.0)), "steps=0"),
        (lambda: ProgressiveDistillation(_student(), 4), "give the w_range"),
        (lambda: ProgressiveDistillation(_student(steps=4), 4, (1.0, 5.0)), "teaches a student of 2"),
        (lambda: EncoderDistillation(_student(steps=6), 4, (1.0, 5.0)), "teaches a student of 3"),
        (lambda: ProgressiveDistillation(_student(), 4, (1.0, 5.0), starts=6), "multiple of the 4"),
    ],
)
def test_settings_out_of_range(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_unknown_target(unchecked):
    with pytest.raises(ValueError, match="unknown target 'score'"):
        GuidedDistillation(_plain(), target="score")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: GuidedDistillation(_student())(_student(), _batch(), Noise(range(4))), "guided twice"),
        (lambda: GuidedDistillation(_plain())(_plain(), _batch(), Noise(range(4))), "takes no guidance weight"),
        (lambda: GuidedDistillation(_plain())(_student(), Batch(_batch().x), Noise(range(4))), "with a null"),
        (lambda: GuidedDistillation(_plain())(_student(), _batch(), Noise(range(3))), "3 seeds for 4"),
        (
            lambda: GuidedDistillation(_plain(), (1.0, 9.0))(_student(), _batch(64), Noise(range(64))),
            r"outside \[1, 5\]",
        ),
        (
            lambda: ProgressiveDistillation(_student(), 4, (1.0, 5.0))(_plain(), _batch(), Noise(range(4))),
            "takes no guidance weight",
        ),
    ],
)
def test_calls_that_would_train_the_wrong_thing(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_condition_without_a_null_cannot_be_guided():
    t = torch.full((4,), 0.5)
    with pytest.raises(ValueError, match="with a null"):
        guided_target(VDenoiser(_Net(), Flow()), torch.zeros(4, 3), t, Condition({"label": torch.zeros(4)}), t)
