"""What every autoencoder has: a spec, normalised latents outside, raw latents inside."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core.noise import Noise
from mezzotint.latent._check import check_image, check_latent
from mezzotint.latent.spec import LatentSpec


class Autoencoder(nn.Module, ABC):
    """Images to normalised latents and back.

    ``encode(x) = (raw - mean) / std`` with ``raw`` the encoder's latent, and ``decode`` inverts both steps.
    The statistics travel with the weights (two buffers of the state) and are read through :attr:`spec`.

    Args:
        spec: geometry and statistics.
        image_channels: channels of the images.
        config: JSON-able constructor keywords, with which the class can be built again.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, spec: LatentSpec, image_channels: int, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.image_channels = image_channels
        self.register_buffer("latent_mean", torch.empty(0))
        self.register_buffer("latent_std", torch.empty(0))
        self.spec = spec

    @property
    def spec(self) -> LatentSpec:
        """Geometry and statistics; assign one to replace the statistics (they are kept in float32)."""
        return self._spec

    @spec.setter
    def spec(self, spec: LatentSpec) -> None:
        old = getattr(self, "_spec", spec)
        if (old.factor, old.channels, old.codes) != (spec.factor, spec.channels, spec.codes):
            raise ValueError(
                f"this autoencoder has factor {old.factor}, {old.channels} channels and codes {old.codes}; "
                f"the spec given is for {spec.factor}, {spec.channels} and {spec.codes}"
            )
        # on the CPU, so that the rounded numbers can be read where the device is busy, or "meta"
        mean, std = (torch.tensor(v, dtype=torch.float32, device="cpu") for v in (spec.mean, spec.std))
        self.latent_mean, self.latent_std = (v[:, None, None].to(self.latent_mean.device) for v in (mean, std))
        self._spec = replace(spec, mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    @abstractmethod
    def moments(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor | None]:
        """Mean and variance (None: zero) of the raw latent of images already checked; differentiable."""

    @abstractmethod
    def raw_decode(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """Raw latents to images; differentiable."""

    def raw_encode(self, x: Float[Tensor, "b c h w"], noise: Noise | None = None) -> Float[Tensor, "b k hz wz"]:
        """Images to raw latents: a posterior sample with noise, the posterior mean without."""
        check_image(x, self.image_channels, self.spec.factor)
        mean, variance = self.moments(x)
        if noise is None or variance is None:
            return mean
        if len(noise) != len(x):
            raise ValueError(f"noise has {len(noise)} seeds for a batch of {len(x)}; give one seed an image")
        draw = noise("posterior", 0, tuple(mean.shape[1:]), dtype=mean.dtype, device=mean.device)
        return mean + variance.sqrt() * draw

    def encode(self, x: Float[Tensor, "b c h w"], noise: Noise | None = None) -> Float[Tensor, "b k hz wz"]:
        """Images to normalised latents.

        Args:
            x: images in [-1, 1]; height and width multiples of ``spec.factor``.
            noise: one seed an image; draws a posterior sample (purpose "posterior"). None takes its mean.
        Returns:
            Latents with about zero mean and unit spread in each channel.
        Raises:
            ValueError: for another shape, integer images, values outside [-1.5, 1.5] or not finite
                (values are checked on the CPU only; an image in [0, 1] cannot be told from a light one).
        """
        return self.normalise(self.raw_encode(x, noise))

    def decode(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """Normalised latents to images in about [-1, 1] (not clipped). Raises ValueError for bad latents."""
        check_latent(z, self.spec.channels)
        return self.raw_decode(self.denormalise(z))

    def forward(self, x: Float[Tensor, "b c h w"], noise: Noise | None = None) -> Float[Tensor, "b c h w"]:
        """Reconstruct: ``raw_decode(raw_encode(x, noise))``."""
        return self.raw_decode(self.raw_encode(x, noise))

    def normalise(self, raw: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b k hz wz"]:
        """(raw - mean) / std, channel by channel."""
        return (raw - self.latent_mean.to(raw)) / self.latent_std.to(raw)

    def denormalise(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b k hz wz"]:
        """z * std + mean, channel by channel."""
        return z * self.latent_std.to(z) + self.latent_mean.to(z)

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Float[Tensor, "_ c h w"]]) -> LatentSpec:
        """Measure the raw latents of some images, set :attr:`spec` to the result and return it.

        A posterior sample has ``Var[raw] = Var[mean(x)] + E[variance(x)]`` (law of total variance): both are
        accumulated in float64 per channel, so the result needs no noise.

        Args:
            batches: image batches in [-1, 1]; a few hundred images are enough.
        Returns:
            The new spec.
        Raises:
            ValueError: with no images, or where a channel has no spread.
        """
        count = 0
        mean, square = (torch.zeros(self.spec.channels, dtype=torch.float64) for _ in range(2))
        within = torch.zeros_like(mean)
        for x in batches:
            check_image(x, self.image_channels, self.spec.factor)
            m, v = self.moments(x)
            m = m.double().cpu()
            batch, size = m.mean((0, 2, 3)), m.numel() // m.shape[1]
            if not size:
                continue
            # Chan's update: squares are taken about the mean, so a large offset costs no digits.
            delta, total = batch - mean, count + size
            square += (m - batch[:, None, None]).square().sum((0, 2, 3))
            square += delta.square() * (count * size / total)
            mean += delta * (size / total)
            count = total
            if v is not None:
                within += v.double().cpu().sum((0, 2, 3))
        if not count:
            raise ValueError("no images to fit the latent statistics on; give at least one batch")
        variance = ((square + within) / count).tolist()
        self.spec = replace(self.spec, mean=tuple(mean.tolist()), std=tuple(math.sqrt(v) for v in variance))
        return self.spec

    def _measured(self, spec: LatentSpec) -> LatentSpec:
        # Read back from the buffers, so that a saved and loaded autoencoder has the very same spec.
        mean, std = self.latent_mean.flatten().tolist(), self.latent_std.flatten().tolist()
        return replace(spec, mean=tuple(mean), std=tuple(std))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if not self.latent_mean.is_meta:
            self._spec = self._measured(self._spec)
