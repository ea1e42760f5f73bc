"""Noise codes: the noises of one stochastic run, kept with its plan, in memory or in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.io.safe import read_state, save_state
from mezzotint.sample.plan import Plan

__all__ = ["CodedPlan", "NoiseCode", "Replayed", "plan_of"]

_NEAR = 1e-9  # schedules evaluated on another machine differ by roundings
_KIND = "mezzotint noise code"


@dataclass(frozen=True)
class CodedPlan:
    """What a code must be replayed by: float64 tables on the CPU.

    Args:
        nodes: (n + 1, 3): t, alpha, sigma.
        rows: (n, columns): the coefficients of the steps.
        columns: their names.
    """

    nodes: Tensor
    rows: Tensor
    columns: tuple[str, ...]


def plan_of(plan: Plan) -> CodedPlan:
    """The part of a plan that a code is kept with."""
    nodes = [(node.t, node.alpha, node.sigma) for node in plan.nodes]
    return CodedPlan(torch.tensor(nodes, dtype=torch.float64), plan.table(), plan.columns)


@dataclass(frozen=True)
class NoiseCode:
    """The latent code of images under a stochastic sampler: x_T, one noise a step, and what is left at the end.

    Tensors may be replaced (`edited`), the plan may not.

    Args:
        x_T: (b, *s), the state at the first time.
        eps: (n, b, *s), the noise of each step; zeros where a step draws none.
        residual: (b, *s), what is added to the state at the last time.
        plan: of the run.
        scale: (2, c), mean and std by which an autoencoder normalises the states' channels, where one made them.

    Raises:
        ValueError: if their shapes do not belong together.

    Source: arXiv 2210.05559, section 3.1 of the sheet.
    """

    x_T: Float[Tensor, "b *s"]
    eps: Float[Tensor, "n b *s"]
    residual: Float[Tensor, "b *s"]
    plan: CodedPlan
    scale: Float[Tensor, "2 c"] | None = None

    def __post_init__(self) -> None:
        steps, shape = len(self.plan.rows), tuple(self.x_T.shape)
        if tuple(self.eps.shape) != (steps, *shape) or tuple(self.residual.shape) != shape:
            raise ValueError(
                f"a code of {steps} steps with x_T of {shape} needs noises of {(steps, *shape)} and a residual of "
                f"{shape}; got {tuple(self.eps.shape)} and {tuple(self.residual.shape)}"
            )

    @property
    def steps(self) -> int:
        """n."""
        return len(self.eps)

    @property
    def times(self) -> Float[Tensor, " n"]:
        """The grid, (n + 1,), float64."""
        return self.plan.nodes[:, 0]

    def noise(self) -> Replayed:
        """The noises as a `Noise` that any run of this plan can be given."""
        return Replayed(range(len(self.x_T)), dict(enumerate(self.eps)))

    def edited(self, **parts: Tensor) -> NoiseCode:
        """The code with x_T, eps or residual replaced.

        Raises:
            ValueError: for another name, or a shape that does not fit.

        >>> plan = CodedPlan(torch.zeros(2, 3), torch.zeros(1, 2), ("x", "noise"))
        >>> code = NoiseCode(torch.zeros(1, 2), torch.zeros(1, 1, 2), torch.zeros(1, 2), plan)
        >>> code.edited(x_T=torch.ones(1, 2)).x_T.tolist()
        [[1.0, 1.0]]
        """
        if unknown := sorted(set(parts) - {"x_T", "eps", "residual"}):
            raise ValueError(f"a code has x_T, eps and residual to edit, not {', '.join(unknown)}")
        return replace(self, **parts)  # type: ignore[arg-type]  # its plan is not among them

    def rows(self, index: slice | Sequence[int]) -> NoiseCode:
        """The code of some of the images."""
        return replace(self, x_T=self.x_T[index], eps=self.eps[:, index], residual=self.residual[index])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> NoiseCode:
        """The code on a device or in another type; its plan stays where it is."""
        parts = {name: getattr(self, name).to(device=device, dtype=dtype) for name in ("x_T", "eps", "residual")}
        return replace(self, **parts)

    def check(self, plan: Plan) -> None:
        """Refuse a plan that is not the code's.

        Raises:
            ValueError: says in what they differ, with both values.
        """
        mine, other = self.plan, plan_of(plan)
        if len(mine.rows) != len(other.rows):
            raise ValueError(f"the code was made in {len(mine.rows)} steps, this run has {len(other.rows)}; use one")
        for column, name in enumerate(("time", "alpha", "sigma")):
            _same(mine.nodes[:, column], other.nodes[:, column], f"{name} of node", "grid and schedule")
        if mine.columns != other.columns:
            raise ValueError(
                f"the code was made by a sampler with coefficients {', '.join(mine.columns)}, this one has "
                f"{', '.join(other.columns)}; decode with the encoder's sampler and order"
            )
        for column, name in enumerate(mine.columns):
            _same(mine.rows[:, column], other.rows[:, column], f"weight {name} of step", "sampler and eta")

    def check_scale(self, scale: Float[Tensor, "2 c"]) -> None:
        """Refuse states of another autoencoder's scale; a code without one is taken as it is.

        Raises:
            ValueError: with both values.
        """
        if self.scale is None:
            return
        if self.scale.shape != scale.shape:
            raise ValueError(f"the code's states have {self.scale.shape[1]} channels, here are {scale.shape[1]}")
        for row, what in enumerate(("mean", "std")):
            mine, other = self.scale[row].cpu().double(), scale[row].cpu().double()
            if not torch.allclose(mine, other, rtol=1e-3, atol=1e-3):
                k = int((mine - other).abs().argmax())
                raise ValueError(
                    f"the code's latents are scaled otherwise: the {what} of channel {k} is {float(mine[k]):.6g} there "
                    f"and {float(other[k]):.6g} here; noises of one mean nothing to the other"
                )

    def save(self, path: str | Path) -> None:
        """Write the code to a safetensors file, atomically: x_T, eps, residual, the scale, and the plan as tables.

        The tensors can be edited in the file by whatever reads safetensors.

        Raises:
            OSError: naming the file, where it cannot be written.
        """
        tables = {"plan.nodes": self.plan.nodes, "plan.rows": self.plan.rows}
        names = torch.tensor(list("\n".join(self.plan.columns).encode()), dtype=torch.uint8)
        parts = {"x_T": self.x_T, "eps": self.eps, "residual": self.residual}
        if self.scale is not None:
            parts["scale"] = self.scale
        save_state({**parts, **tables, "plan.columns": names}, path, metadata={"format": _KIND})

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None) -> NoiseCode:
        """Read a code from a file.

        Raises:
            ValueError: naming the file, where it is missing, damaged or no noise code.

        >>> import tempfile
        >>> plan = CodedPlan(torch.zeros(2, 3), torch.zeros(1, 2), ("x", "noise"))
        >>> path = Path(tempfile.mkdtemp()) / "code.safetensors"
        >>> NoiseCode(torch.ones(1, 2), torch.zeros(1, 1, 2), torch.zeros(1, 2), plan).save(path)
        >>> NoiseCode.load(path).x_T.tolist()
        [[1.0, 1.0]]
        """
        state = read_state(path)
        needed = {"x_T", "eps", "residual", "plan.nodes", "plan.rows", "plan.columns"}
        if missing := sorted(needed - set(state)):
            raise ValueError(f"{path}: no noise code, it has no {', '.join(missing)}; write one with NoiseCode.save")
        try:
            columns = tuple(bytes(state["plan.columns"].tolist()).decode().split("\n"))
            made = cls(
                state["x_T"], state["eps"], state["residual"],
                CodedPlan(state["plan.nodes"], state["plan.rows"], columns), state.get("scale"),
            )  # fmt: skip
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: a damaged noise code ({error})") from error
        if made.plan.rows.shape[1:] != (len(columns),) or made.plan.nodes.shape != (made.steps + 1, 3):
            raise ValueError(f"{path}: a damaged noise code (its plan's tables do not belong together)")
        return made.to(device)


class Replayed(Noise):
    """Noises that are known, in place of drawn ones: step k gets eps[k].

    Args:
        seeds: one a sample; only their number matters.
        eps: step -> (b, *s).
    """

    def __init__(self, seeds: Sequence[int], eps: Mapping[int, Tensor]) -> None:
        super().__init__(seeds)
        self.eps = eps

    def __call__(
        self,
        purpose: str,
        k: int,
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """The noise of step k.

        Raises:
            ValueError: for a draw other than a step's, or of another shape.
        """
        known = self.eps.get(k) if purpose == "step" else None
        if known is None or tuple(known.shape[1:]) != tuple(shape):
            has = "none" if known is None else f"one of {tuple(known.shape[1:])}"
            raise ValueError(f"a noise for {purpose!r} {k} of shape {tuple(shape)} is asked, but the code has {has}")
        return known.to(dtype=dtype, device=device)

    def rows(self, index: slice | Sequence[int]) -> Replayed:
        """The known noises of some of the samples."""
        return Replayed(super().rows(index).seeds, {k: e[index] for k, e in self.eps.items()})

    def uniform(self, purpose: str, k: int, shape: Sequence[int] = (), **options: Any) -> Tensor:
        """Never: a code holds normal numbers alone."""
        raise ValueError(f"uniform numbers for {purpose!r} are asked, but a noise code has none")


def _same(mine: Tensor, other: Tensor, what: str, which: str) -> None:
    near = torch.isclose(mine, other, rtol=_NEAR, atol=1e-12)
    if bool(near.all()):
        return
    k = int((~near).nonzero()[0])
    raise ValueError(
        f"the code belongs to another plan: {what} {k} is {float(mine[k]):.9g} there and {float(other[k]):.9g} in this "
        f"run; decode with the {which} that it was encoded with"
    )
