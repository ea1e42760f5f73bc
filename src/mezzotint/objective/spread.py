"""Whether data have the standard deviation that a preconditioning counts on."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["check_spread"]


@torch.no_grad()
def check_spread(x: Float[Tensor, "b *s"], sigma_data: float = 0.5, tolerance: float = 0.05) -> None:
    """Refuse a batch whose standard deviation is not sigma_data; for the first batch, as it waits for the device.

        | std(x) - sigma_data | <= tolerance + 3 standard errors of std(x), by the spread of the samples' mean squares

    Args:
        x: clean samples; fewer than two tell nothing and pass.
        sigma_data: what is expected.
        tolerance: besides sampling error (0.05; the allowance for the error is our choice).

    Raises:
        ValueError: names the standard deviation found and where the statistics that set it are kept.

    Source: arXiv 2502.01441 normalises latents to 0.5; a model trained on others fails without a word.

    >>> check_spread(torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
    """
    if len(x) < 2:
        return
    flat = x.double().flatten(1)
    center = flat.mean()
    squares = (flat - center).square().mean(1)
    std = squares.mean().sqrt()
    error = squares.std() / len(x) ** 0.5 / (2 * std.clamp(min=1e-12))
    found, slack = float(std), float(error)
    if not abs(found - sigma_data) <= tolerance + 3 * slack:
        raise ValueError(
            f"the data have standard deviation {found:.4g} (standard error {slack:.2g}); the denoiser counts on "
            f"sigma_data={sigma_data:g}. Normalise them: the statistics are mean and std of the autoencoder's spec, "
            f"saved with its weights (fit_statistics, then mezzotint.latent.with_spread(spec, {sigma_data:g})); "
            "or set sigma_data to what they have"
        )
