"""DiT: a class-conditional transformer that also predicts a variance, of which only the mean is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from mezzotint.core import Condition
from mezzotint.io.diffusers.autoencoder import DiffusersKL
from mezzotint.io.diffusers.denoiser import Backbone, denoiser_of
from mezzotint.io.diffusers.family import Pieces
from mezzotint.io.diffusers.prompts import required
from mezzotint.io.diffusers.schedulers import schedule_of
from mezzotint.nn.conditioner import ClassConditioner

__all__ = ["DiT", "NamedClasses"]


class NamedClasses(ClassConditioner):
    """Classes by number or by name; null = classes.

    Args:
        classes: number of classes.
        names: name -> number.

    >>> NamedClasses(3, {"tench": 0, "cock": 2}).prepare(["cock", 1])["label"].tolist()
    [2, 1]
    """

    def __init__(self, classes: int, names: Mapping[str, int]) -> None:
        super().__init__(classes)
        self.names = dict(names)

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """See ClassConditioner.prepare; a str is looked up.

        Raises:
            ValueError: for a name that no class has.
        """
        if not isinstance(inputs, str):
            for entry in inputs:
                if isinstance(entry, str) and entry not in self.names:
                    known = f"such as {', '.join(sorted(self.names)[:5])}" if self.names else "but this model has none"
                    raise ValueError(f"no class is named {entry!r}; give its number or one of its names, {known}")
            inputs = [self.names[entry] if isinstance(entry, str) else entry for entry in inputs]
        return super().prepare(inputs)


class _Net(Backbone):
    """DiTTransformer2DModel; told the integer step."""

    def predict(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        (label,) = required(c, "DiT", "label")
        if x.shape[-1] != x.shape[-2]:
            raise ValueError(f"DiT draws squares only, got latents of {x.shape[-2]} x {x.shape[-1]}")
        return self.module(x, time, label, return_dict=False)[0]


class DiT:
    """DiT-XL/2 and its kin (arXiv 2212.09748)."""

    pipelines: ClassVar[tuple[str, ...]] = ("DiTPipeline",)
    needs: ClassVar[tuple[str, ...]] = ("vae", "transformer", "scheduler")

    def build(self, parts: Mapping[str, Any], index: Mapping[str, Any]) -> Pieces:
        """See Family.build."""
        vae, config, read = DiffusersKL(parts["vae"]), parts["transformer"].config, schedule_of(parts["scheduler"])
        net = _Net(parts["transformer"], config.in_channels, config.patch_size)
        side = config.sample_size * vae.spec.factor
        return Pieces(
            denoiser_of(net, read.schedule, read.kind),
            vae,
            NamedClasses(config.num_embeds_ada_norm, _names(index.get("id2label") or {})),
            (side, side),
            {"sampler": read.sampler, "steps": 50, "guidance": 4.0},
        )


def _names(id2label: Mapping[str, str]) -> dict[str, int]:
    """Each of a class's names, which its label lists between commas."""
    return {name.strip(): int(key) for key, label in id2label.items() for name in label.split(",")}
