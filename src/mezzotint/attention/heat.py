"""Where each word of a prompt is looked for: cross-attention maps of all layers, brought to one size."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.attention.tap import Record

__all__ = ["token_maps"]


def token_maps(record: Record, size: tuple[int, int]) -> Float[Tensor, "b m h w"]:
    """One map a key token: h_j(p) = mean over sites of maps[p, j], laid out over the places of the queries.

    At every place the maps of all tokens sum to one. Sites are resized bilinearly (antialiased where they shrink) and
    count alike; gradients flow where the tap kept them.

    Args:
        record: of a tap on cross-attention, heads averaged, over calls of one size and batch.
        size: (height, width) of the result.

    Raises:
        ValueError: nothing was recorded, or maps without a grid or over other tokens are among it.

    Source: in the style of DAAM (arXiv 2210.04885), whose maps are sums over steps, heads and layers.

    >>> import torch; from mezzotint.attention import tap
    >>> from mezzotint.nn import UNet
    >>> net = UNet(4, channels=16, context=8)
    >>> with tap(net, "*cross") as record:
    ...     y = net(torch.zeros(1, 4, 8, 8), torch.zeros(1), {"text": torch.ones(1, 2, 8)})
    >>> token_maps(record, (8, 8))[0, :, 0, 0].tolist()
    [0.5, 0.5]
    """
    if not len(record):
        raise ValueError("the tap has recorded nothing yet; run the model inside its block first")
    if record.heads or not record.average:
        raise ValueError("token maps need a tap that averages over heads and calls: tap(..., heads=False)")
    total: Tensor | None = None
    for site in record:
        maps, grid = record[site], record.grids[site]
        if grid is None or maps.ndim != 3 or maps.shape[1] != grid[0] * grid[1]:
            raise ValueError(
                f"the maps {tuple(maps.shape)} at {site!r} are not over the places of an image; tap cross-attention "
                "alone ('*cross'), whole maps"
            )
        if total is not None and (len(maps), maps.shape[2]) != tuple(total.shape[:2]):
            raise ValueError(
                f"the maps at {site!r} are of {maps.shape[2]} tokens and a batch of {len(maps)}, those before of "
                f"{total.shape[1]} and {len(total)}; tap cross-attention alone ('*cross')"
            )
        laid = maps.transpose(1, 2).unflatten(2, grid)
        laid = F.interpolate(laid, size, mode="bilinear", antialias=True) if grid != size else laid
        total = laid if total is None else total + laid
    assert total is not None
    return total / len(record)
