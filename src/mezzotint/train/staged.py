"""Latent diffusion in two stages, as one recipe: first the autoencoder, then a denoiser of its latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mezzotint.core import EncodedDenoiser, NetworkDenoiser
from mezzotint.latent import Autoencoder
from mezzotint.model import Model
from mezzotint.train.autoencoder_recipe import AutoencoderRecipe
from mezzotint.train.closing import closing
from mezzotint.train.denoising import DenoisingTask
from mezzotint.train.engine import Engine
from mezzotint.train.loop import Progress, Report
from mezzotint.train.recipe import Recipe
from mezzotint.train.report.reporting import STANDARD, Reporting

__all__ = ["LatentRecipe", "assemble", "trained_model"]


class _Trained:
    """() -> the autoencoder of a finished run, with its latent statistics measured."""

    def __init__(self, recipe: AutoencoderRecipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self._made: Autoencoder | None = None

    def __call__(self) -> Autoencoder:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _make(self) -> Autoencoder:
        autoencoder = self.recipe.trained(self.out).autoencoder  # type: ignore[attr-defined]
        batches = self.recipe.data(64, self.recipe.seed)
        with closing(batches):
            autoencoder.fit_statistics(batches(step).x for step in range(16))
        return autoencoder


@dataclass(frozen=True)
class LatentRecipe:
    """Both stages of latent diffusion.

    Args:
        name: of the model.
        autoencoder: the first stage; trained in OUT/autoencoder.
        diffusion: the second stage; trained in OUT/diffusion, in the latent space of the first (its `latent` is
            replaced).
        size: pixels a side.

    Source: arXiv 2112.10752, section 3.
    """

    name: str
    autoencoder: AutoencoderRecipe
    diffusion: Recipe
    size: int = 64

    def second(self, out: str | Path) -> Recipe:
        """The second stage over the first one's result."""
        return replace(self.diffusion, latent=_Trained(self.autoencoder, Path(out) / "autoencoder"))

    def run(
        self,
        out: str | Path,
        engine: Engine,
        *,
        on_step: Callable[[Progress], None] | None = None,
        reporting: Reporting | None = STANDARD,
    ) -> Report:
        """Train both stages in the folder `out`, going on from what it holds; the report is the last one's."""
        first = self.autoencoder.run(Path(out) / "autoencoder", engine, on_step=on_step, reporting=reporting)
        if not first.finished:
            return first
        return self.second(out).run(Path(out) / "diffusion", engine, on_step=on_step, reporting=reporting)

    def holds(self, out: str | Path) -> bool:
        """Whether the folder holds a run of this recipe to go on with."""
        return self.autoencoder.holds(Path(out) / "autoencoder")

    def model(self, out: str | Path) -> Model:
        """The trained model, with averaged weights."""
        return assemble(self.second(out), Path(out) / "diffusion", self.size, self.name)


def assemble(recipe: Recipe, out: str | Path, size: int, name: str) -> Model:
    """The Model that a run folder of a recipe has trained, with averaged weights.

    Args:
        recipe: whose denoiser is a network denoiser, with or without a jointly trained conditioner.
        out: its run's folder.
        size: pixels a side.
        name: of the model.

    Raises:
        ValueError: for another kind of denoiser, or a folder without a run.
    """
    task = recipe.trained(out)
    assert isinstance(task, DenoisingTask)
    denoiser, conditioner = task.denoiser, None
    if isinstance(denoiser, EncodedDenoiser):
        denoiser, conditioner = denoiser.denoiser, denoiser.conditioner
    if not isinstance(denoiser, NetworkDenoiser):
        raise ValueError(f"recipe {name} trains a {type(denoiser).__name__}; a model folder holds network denoisers")
    autoencoder = recipe.latent().eval()
    return Model(denoiser, autoencoder, conditioner, size=(size, size), name=name)  # type: ignore[arg-type]


def trained_model(recipe: Any, out: str | Path) -> Model | None:
    """What a finished run can be used as: a Model, or None for one that trained an autoencoder or an encoder alone."""
    if hasattr(recipe, "model"):  # a recipe of several stages knows
        return recipe.model(out)
    size = getattr(getattr(recipe, "data", None), "size", None)
    if not isinstance(recipe, Recipe) or size is None:
        return None
    return assemble(recipe, out, size, recipe.name)
