"""What a family of diffusers pipelines is to us: the pipelines it reads and the pieces of a Model it makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from mezzotint.core import NetworkDenoiser
    from mezzotint.latent import Autoencoder
    from mezzotint.nn.conditioner import Conditioner

__all__ = ["Family", "Pieces"]


@dataclass(frozen=True)
class Pieces:
    """What a Model is made of.

    Args:
        denoiser: around the pipeline's own network (`denoiser_of`).
        autoencoder: `Identity` for a pipeline that works on pixels.
        conditioner: None for an unconditional one.
        size: (height, width) in pixels the pipeline draws by default.
        defaults: "sampler", "steps" and "guidance" of the pipeline, each optional.
    """

    denoiser: NetworkDenoiser
    autoencoder: Autoencoder
    conditioner: Conditioner | None
    size: tuple[int, int]
    defaults: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Family(Protocol):
    """One family: how its loaded components become the pieces of a Model.

    `pipelines` are the values of `_class_name` in model_index.json that it reads; `needs` the components it takes;
    what a folder has beside them (a safety checker, an image encoder) is not loaded. A family may name components in
    `optional`: those are None where the folder has none.
    """

    pipelines: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]]

    def build(self, parts: Mapping[str, Any], index: Mapping[str, Any]) -> Pieces:
        """The pieces.

        Args:
            parts: component name -> loaded object of diffusers or transformers; all of `needs` are there.
            index: the content of model_index.json.

        Raises:
            ValueError: for a configuration that this family does not cover; names it.
        """
        ...
