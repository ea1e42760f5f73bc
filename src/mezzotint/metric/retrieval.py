"""Does the feature of a made image find the real image of its caption among N?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["ranks", "retrieval"]


def ranks(
    queries: Float[Tensor, "n d"], gallery: Float[Tensor, "m d"], targets: Int[Tensor, "n"] | None = None
) -> Int[Tensor, "n"]:
    """Place (0 = first) of each query's target in the gallery ordered by cosine similarity to the query.

        rank_i = #{j != target_i : cos(q_i, g_j) >= cos(q_i, g_target_i)}

    Ties count against the query, so features that are all the same find nothing.

    Args:
        queries: features of the made images.
        gallery: features of the real images.
        targets: row of the gallery each query should find; None means row i for query i.

    Raises:
        ValueError: for shapes that do not fit, a target outside the gallery, or values that are not finite.

    >>> ranks(torch.eye(3), torch.eye(3)).tolist()
    [0, 0, 0]
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"features are {tuple(queries.shape)} and {tuple(gallery.shape)}; expected (n, d) and (m, d)")
    if targets is None:
        if len(queries) != len(gallery):
            raise ValueError(f"{len(queries)} queries for {len(gallery)} gallery rows: give `targets`")
        targets = torch.arange(len(queries))
    if targets.shape != (len(queries),) or not bool(((targets >= 0) & (targets < len(gallery))).all()):
        raise ValueError(f"targets must be one row of the gallery (0 to {len(gallery) - 1}) for each query")
    if not bool(torch.isfinite(queries).all() and torch.isfinite(gallery).all()):
        raise ValueError("features have NaN or infinite values; look where they were made")
    similarity = _unit(queries) @ _unit(gallery).T
    own = similarity.gather(1, targets[:, None])
    # a margin above rounding, so that equal features tie whatever order the sums were made in
    return (similarity >= own - 1e-9).sum(1) - 1


def retrieval(
    queries: Float[Tensor, "n d"],
    gallery: Float[Tensor, "m d"],
    targets: Int[Tensor, "n"] | None = None,
    ks: Sequence[int] = (1, 5),
) -> dict[int, float]:
    """Share of queries whose target is among the k most similar rows of the gallery, for each k.

    Chance is k / m. Arguments and errors as for `ranks`.

    >>> retrieval(torch.eye(3), torch.eye(3)[[1, 0, 2]], ks=(1, 3))
    {1: 0.3333333333333333, 3: 1.0}
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"ks is {tuple(ks)}; give positive numbers of places, for example (1, 5)")
    place = ranks(queries, gallery, targets)
    return {k: float((place < k).double().mean()) for k in ks}


def _unit(features: Tensor) -> Tensor:
    rows = features.detach().cpu().double()
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
