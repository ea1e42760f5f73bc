"""deepinv's methods over the same denoiser, operator, measurement and number of network calls.

deepinv works on images in [0, 1]. With x = 2 u - 1 a linear A measures y_u = A u + (std / 2) n = (y + A 1) / 2, and
another y_u = (A(2 u - 1) + 1) / 2. Its denoisers take u + s n and s: those are the states of our denoiser at the time t
with sigma_t / alpha_t = 2 s, times alpha_t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.bench.peers import load_peer
from mezzotint.bench.restore_case import Case, Prior
from mezzotint.restore.operators import LinearOperator, SpectralOperator

__all__ = ["THEIRS", "AsDenoiser", "measured", "physics"]

_LEAST = 1e-5


class AsDenoiser(nn.Module):
    """Our denoiser as deepinv calls one: (u + s n, s) -> u, images in [0, 1], s a number or one a row."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, u: Tensor, sigma: Any, *args: Any, **options: Any) -> Tensor:
        """The data prediction."""
        schedule = self.prior.schedule
        level = torch.as_tensor(sigma, dtype=torch.float64).detach().reshape(-1)[:1]
        t = schedule.t_of(-(2 * level.cpu()).clamp_min(_LEAST).log())
        alpha = schedule.alpha(t).to(u)
        times = t.to(device=u.device, dtype=torch.float32).expand(len(u))
        return (self.prior((2 * u - 1) * alpha, times).x0 + 1) / 2


def measured(case: Case) -> Tensor:
    """y_u."""
    if isinstance(case.operator, LinearOperator):
        return (case.y + case.operator(torch.ones_like(case.x))) / 2
    return (case.y + 1) / 2


def physics(case: Case) -> Any:
    """The operator in deepinv's classes: with its singular value decomposition where we have it."""
    deepinv = load_peer("deepinv")
    a, noise = case.operator, deepinv.physics.GaussianNoise(case.std / 2)
    if isinstance(a, SpectralOperator):

        class Ours(deepinv.physics.DecomposablePhysics):
            """Its own products leave out the singular values that ours count as 0."""

            def A(self, u: Tensor, *args: Any, **options: Any) -> Tensor:
                return a(u)

            def A_adjoint(self, v: Tensor, *args: Any, **options: Any) -> Tensor:
                return a.adjoint(v)

        like = case.x[:1]
        singulars = a.singulars(like).expand(a.to_spectrum(like).shape)
        return Ours(
            U=a.measured_from_spectrum, U_adjoint=a.measured_to_spectrum, V=a.from_spectrum, V_adjoint=a.to_spectrum,
            mask=torch.where(a.seen(singulars), singulars, torch.zeros_like(singulars)), noise_model=noise,
        )  # fmt: skip
    if isinstance(a, LinearOperator):
        return deepinv.physics.LinearPhysics(
            A=lambda u, **_: a(u), A_adjoint=lambda v, **_: a.adjoint(v), noise_model=noise
        )
    return deepinv.physics.Physics(A=lambda u, **_: (a(2 * u - 1) + 1) / 2, noise_model=noise)


def _image(u: Tensor) -> Tensor:
    return (2 * u - 1).float()


def _seed(case: Case) -> int:
    return case.seeds[0] % 2**31


def _ddrm(prior: Prior, case: Case, nfe: int) -> Tensor:
    import numpy

    with torch.random.fork_rng():  # its seed sets NumPy's state too; torch's alone is enough
        torch.manual_seed(_seed(case))
        run = load_peer("deepinv").sampling.DDRM(AsDenoiser(prior), sigmas=numpy.linspace(1, 0, nfe))
        return _image(run(measured(case), physics(case)))


def _diffpir(prior: Prior, case: Case, nfe: int) -> Tensor:
    deepinv = load_peer("deepinv")
    with torch.random.fork_rng():
        torch.manual_seed(_seed(case))
        run = deepinv.sampling.DiffPIR(
            AsDenoiser(prior), deepinv.optim.data_fidelity.L2(), sigma=case.std / 2, max_iter=nfe, device=case.x.device
        )
        start = (case.operator.guess(case.y) + 1) / 2 if case.y.shape != case.x.shape else None
        return _image(run(measured(case), physics(case), x_init=start))


def _posterior(fidelity: str) -> Callable[[Prior, Case, int], Tensor]:
    """Their general sampler, DDPM steps of a variance-preserving process as in their DPS, with another likelihood."""

    def run(prior: Prior, case: Case, nfe: int) -> Tensor:
        sampling, device = load_peer("deepinv").sampling, case.x.device
        times = torch.linspace(1, 0, nfe + 1, device=device, dtype=torch.float64)
        d = AsDenoiser(prior)
        whole = sampling.PosteriorDiffusion(
            data_fidelity=getattr(sampling, fidelity)(denoiser=d), denoiser=d,
            sde=sampling.VariancePreservingDiffusion(alpha=1.0, device=device), device=device,
            solver=sampling.DDPMSolver(timesteps=times, rng=torch.Generator(device)),
        )  # fmt: skip
        return _sampled(whole, case)

    return run


def _dps(prior: Prior, case: Case, nfe: int) -> Tensor:
    device = case.x.device
    run = load_peer("deepinv").sampling.DPS(
        AsDenoiser(prior), num_steps=nfe + 1, device=device, rng=torch.Generator(device)
    )
    return _sampled(run, case)


def _sampled(run: Any, case: Case) -> Tensor:
    return _image(run(measured(case), physics(case), x_init=tuple(case.x.shape), seed=_seed(case)).detach())


# our method's name -> theirs and what makes it
THEIRS: dict[str, tuple[str, Callable[[Prior, Case, int], Tensor]]] = {
    "dps": ("DPS", _dps),
    "pigdm": ("PosteriorDiffusion(PiGDMDataFidelity)", _posterior("PiGDMDataFidelity")),
    "moment": ("PosteriorDiffusion(MomentMatchingDataFidelity)", _posterior("MomentMatchingDataFidelity")),
    "diffpir": ("DiffPIR", _diffpir),
    "ddrm": ("DDRM", _ddrm),
}
