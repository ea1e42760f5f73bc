"""Phantoms for a survey's demonstration: what each network is trained on, and how a slice is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.core import VP, Condition, Denoiser, Flow, Noise, VDenoiser, X0Denoiser, fold
from mezzotint.data import indices
from mezzotint.data.medical import PhantomSlices, Volume, phantom_slices, read_nifti, write_nifti
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise, Loss, Objective, Structured
from mezzotint.papers.trained import trained
from mezzotint.restore import coded
from mezzotint.restore.operators import Fourier, LinearOperator, Radon, cartesian_mask

__all__ = ["SIDE", "Measured", "MedicalArms", "at_once", "body_psnr", "measured", "reread", "told", "tossed"]

SIDE, _BATCH, _MOST = 32, 16, 10**6
_STD = {"mri": 0.02, "ct": 0.2}  # of k-space in units of the model; of line integrals of a density in [0, 1]
_CENTRE = {2: 0.08, 4: 0.08, 8: 0.04}
D = TypeVar("D", bound=Denoiser)


@dataclass(frozen=True, eq=False)
class Measured:
    """What a scanner gives of a batch of slices in [-1, 1], and the picture that needs no prior."""

    operator: LinearOperator
    y: Tensor
    std: float
    plain: Tensor


def measured(x: Tensor, task: str, seeds: Sequence[int]) -> Measured:
    """Measure slices.

    Args:
        x: (b, 1, h, w) in [-1, 1].
        task: "mri 4": columns of k-space, a quarter of them; or "ct 20": parallel views.
        seeds: of masks and noise, one a slice.
    """
    kind, amount = task.split()
    noise = Noise(seeds)
    if kind == "mri":
        mask = cartesian_mask(SIDE, int(amount), noise, centre=_CENTRE[int(amount)])
        operator, std = Fourier(mask, real=True), _STD[kind]
        y = operator(x)
        y = y + std * operator.keep(noise("measured", 0, tuple(y.shape[1:])))
        return Measured(operator, y, std, operator.guess(y))
    radon, std = Radon.sparse(int(amount), SIDE), _STD[kind]
    y = radon((x + 1) / 2)
    y = y + std * noise("measured", 0, tuple(y.shape[1:]))
    return Measured(radon, 2 * y - radon(torch.ones_like(x)), 2 * std, 2 * radon.fbp(y) - 1)  # linear in x


@dataclass(frozen=True)
class MedicalArms:
    """What the networks of one seed share: phantoms, order, processor seconds, and the size of the network.

    Args:
        seed: of phantoms, weights, order and noise.
        seconds: processor seconds of training, of an arm.
        pool: phantoms in the training set.
    """

    seed: int
    seconds: float
    pool: int

    def slices(
        self, split: str, count: int, lesions: float = 0.0, radius: tuple[float, float] = (2.0, 6.0)
    ) -> PhantomSlices:
        """Phantoms of a split, `count` patients of one slice each; no split shares a patient with another."""
        seeds = [fold(self.seed, split, i) for i in range(count)]
        return phantom_slices(Noise(seeds), SIDE, lesions, radius=radius)

    @cached_property
    def _healthy(self) -> Tensor:
        return self.slices("train", self.pool).t1

    @cached_property
    def _ill(self) -> PhantomSlices:
        return self.slices("train", self.pool, 1.0)

    @property
    def data_std(self) -> float:
        """Of healthy slices around their mean."""
        return float((self._healthy - self._healthy.mean(0)).square().mean().sqrt())

    def prior(self, law: Callable[[Sequence[int]], Noise] = Noise) -> VDenoiser:
        """Of healthy slices, under a law of noise."""
        objective = Structured(law, Denoise("v", drop=0.0))
        return self._trained(lambda: VDenoiser(_net(0), VP()), objective, lambda k: Batch(self._healthy[self._rows(k)]))

    def supervised(self) -> X0Denoiser:
        """From the zero-filled image at R = 4 to the slice, in mean square."""

        def batch(step: int) -> Batch:
            x, seeds = self._healthy[self._rows(step)], [fold(self.seed, "mask", step, i) for i in range(_BATCH)]
            return Batch(x, Condition({"concat": measured(x, "mri 4", seeds).plain}))

        return self._trained(lambda: X0Denoiser(_net(1), Flow()), _regression, batch)

    def segmenter(self) -> VDenoiser:
        """Diffusion of masks, told both contrasts."""
        return self._trained(lambda: VDenoiser(_net(2), VP()), Denoise("v", drop=0.0), self._annotated)

    def deterministic(self) -> X0Denoiser:
        """Logits of the mask, pixel by pixel, from both contrasts."""
        return self._trained(lambda: X0Denoiser(_net(2), Flow()), _cross_entropy, self._annotated)

    def _rows(self, step: int) -> Tensor:
        return indices(self.seed, step, _BATCH, self.pool)

    def _annotated(self, step: int) -> Batch:
        """Each slice with the mask of one annotator, drawn anew."""
        rows, ill = self._rows(step), self._ill
        who = Noise([fold(self.seed, "annotator", step)]).uniform("annotator", 0, (_BATCH,))[0]
        drawn = ill.annotations[rows, (who * ill.annotations.shape[1]).long()][:, None]
        return Batch(coded(drawn), told(ill, rows))

    def _trained(self, build: Callable[[], D], objective: Objective, batch: Callable[[int], Batch]) -> D:
        batch(0)  # the phantoms are made before the clock starts
        return trained(build, objective, batch, seconds=self.seconds, seed=self.seed)


def told(slices: PhantomSlices, rows: Tensor | slice = slice(None)) -> Condition:
    """Both contrasts."""
    return Condition({"concat": torch.cat([slices.t1, slices.t2], 1)[rows]})


def body_psnr(x: Tensor, truth: PhantomSlices) -> float:
    """Mean over slices of 10 log10(4 / mean squared error inside the body)."""
    error = ((x - truth.t1).square() * truth.body).sum((1, 2, 3)) / truth.body.sum((1, 2, 3))
    return float((10 * (4 / error).log10()).mean())


def tossed(p: Tensor, count: int, seed: int) -> Tensor:
    """Masks whose pixels are 1 with probability p, each by itself, (b, count, h, w) of p (b, h, w)."""
    noise = Noise([fold(seed, "coin", i) for i in range(len(p))])
    return torch.stack([noise.uniform("coin", k, tuple(p.shape[1:])) < p for k in range(count)], 1)


def reread(label: Tensor) -> float:
    """Write labels (d, h, w) as NIfTI on an oblique volume, read them, compare: greatest difference of the affines, mm.

    Raises:
        AssertionError: if a label changed.
    """
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.3, -0.1], [-0.3, 0, 0.2], [0.1, -0.2, 0]]).double())
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3], affine[:3, 3] = turn * torch.tensor([1.5, 1.5, 3.0]), torch.tensor([-20.0, 10.0, 30.0])
    volume = Volume(label[None].float(), affine)
    with tempfile.TemporaryDirectory() as folder:
        read = read_nifti(write_nifti(Path(folder) / "label.nii.gz", label, like=volume))
    if not torch.equal(read.data[0] > 0, label):
        raise AssertionError("labels changed on their way through a file")
    return float((read.affine - affine).abs().max())


def at_once(d: Denoiser, c: Condition) -> Tensor:
    """What a network that is no diffusion says, told c: one call."""
    image = c["concat"]
    return d(torch.zeros_like(image[:, :1]), image.new_ones(len(image)), c).x0


def _net(concat: int) -> UNet:
    return UNet(1, channels=16, mult=(1, 2, 2), blocks=1, attention=(4,), concat=concat)


def _regression(d: Denoiser, batch: Batch, noise: Noise) -> Loss:
    assert batch.c is not None
    return Loss((at_once(d, batch.c) - batch.x).square().mean())


def _cross_entropy(d: Denoiser, batch: Batch, noise: Noise) -> Loss:
    assert batch.c is not None
    return Loss(F.binary_cross_entropy_with_logits(at_once(d, batch.c), (batch.x + 1) / 2))
