"""FilterPrompt: filters in pixel space over image prompts, so that each tells the model only what it is meant to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.attention.image_denoiser import ImagePrompted, Strength
from mezzotint.core import Condition, Denoiser, Noise, resolve_grid
from mezzotint.edit.cycle_models import check_picture
from mezzotint.edit.filters import Filter, FilterChain, parse
from mezzotint.edit.image_condition import ImageTokens, Structure
from mezzotint.guide import CFG
from mezzotint.metric.leak import Chance, Leaks, leaks
from mezzotint.model import Model, Resizes
from mezzotint.sample.loop import OnStep, Sampler
from mezzotint.sample.names import sampler_named

__all__ = ["Compared", "FilterPrompt", "Filters", "LeakReport", "Prompted"]

Filters = str | Filter | FilterChain | None


@dataclass(frozen=True)
class Prompted:
    """What FilterPrompt gives.

    Args:
        images: (n, c, h, w) in [-1, 1], one a seed.
        latents: (n, k, hz, wz).
        structure, appearance: the prompts as the filters left them, which the encoders saw; None for none.
        filters_s, filters_a: the chains, in their text form; "" for none.
        alpha, beta: strengths.
        nfe: evaluations of the network a sample.
    """

    images: Float[Tensor, "n c h w"]
    latents: Float[Tensor, "n k hz wz"]
    structure: Tensor | None
    appearance: Tensor | None
    filters_s: str
    filters_a: str
    alpha: Strength
    beta: Strength
    nfe: int


@dataclass(frozen=True)
class LeakReport:
    """Leaks of results, with the settings that made them; its text is one row of figures under a heading."""

    leaks: Leaks
    filters_s: str
    filters_a: str
    alpha: Strength
    beta: Strength

    def row(self) -> str:
        """The means, for a table under `heading`."""
        m = self.leaks.means()
        names = f"{self.filters_s or 'none':<34}  {self.filters_a or 'none':<20}"
        strengths = f"{_told(self.alpha):>5} {_told(self.beta):>5}"
        return (
            f"{names}  {strengths}  {m['colour_error']:>12.2f} {m['colour_leak']:>12.3f} {m['chroma_leak']:>12.3f} "
            f"{m['structure']:>10.3f} {m['shape_leak']:>10.3f}"
        )

    @staticmethod
    def heading() -> str:
        """The names of the columns."""
        return (
            f"{'filters of the structure':<34}  {'of the appearance':<20}  {'alpha':>5} {'beta':>5}  "
            f"{'colour error':>12} {'colour leak':>12} {'chroma leak':>12} {'structure':>10} {'shape leak':>10}"
        )

    def __str__(self) -> str:
        return f"{self.heading()}\n{self.row()}"


@dataclass(frozen=True)
class Compared:
    """Several choices of filters with the same prompts and seeds; its text is a table, the unfiltered row first."""

    reports: tuple[LeakReport, ...]
    results: tuple[Prompted, ...]

    def __str__(self) -> str:
        return "\n".join([LeakReport.heading(), *(r.row() for r in self.reports)])


@dataclass(frozen=True)
class FilterPrompt:
    """A picture with the structure of one image and the appearance of another, each through filters of its own.

        C_s = E_a(F_a(I_a)),  C_c = E_s(F_s(I_s))                 once, before the first step
        eps = eps_0 + w (eps_c - eps_0),  eps_c = net(x_t, C_t, beta C_s, alpha C_c)

    Nothing inside the network changes: a filter that removes colour from the structure prompt leaves no colour to
    leak. Filtered prompts are unlike what the encoders were trained on, so look at the unfiltered result beside it
    (`compare`), and choose filters on other pairs than those you report.

    Args:
        model: with cross-attention for an appearance, and with channels ("concat") for a structure.
        structure: its encoder, as `Picture` or `SoftEdge`; None for a model that takes none.
        appearance: its encoder, with the keys and values of its tokens; None for none.

    Raises:
        ValueError: for neither.

    Source: in the style of arXiv 2404.13263, of which no code was released and the method's text was not available to
    us: pipeline and filters are its figures', definitions, parameters, channels in place of a ControlNet, and scores
    are our choice (sheet sections 3.4 to 3.6).
    """

    model: Model
    structure: Structure | None = None
    appearance: ImageTokens | None = None

    def __post_init__(self) -> None:
        if self.structure is None and self.appearance is None:
            raise ValueError(
                "FilterPrompt filters image prompts: give an encoder of the structure, the appearance or both"
            )

    def __call__(
        self,
        structure: Float[Tensor, "*n c h w"] | None = None,
        appearance: Float[Tensor, "*k c i j"] | None = None,
        *,
        filters_s: Filters = None,
        filters_a: Filters = None,
        alpha: Strength = 1.0,
        beta: Strength = 1.0,
        text: str | int | None = None,
        null: Literal["keep", "drop"] = "keep",
        guidance: float | int | None = None,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        seeds: Sequence[int] = (0,),
        on_step: OnStep | None = None,
    ) -> Prompted:
        """Draw.

        Args:
            structure, appearance: I_s of the size that is drawn, and I_a of any size that its encoder takes, in
                [-1, 1]: (c, h, w) for all seeds, or one each. Resize before, as filters see pixels.
            filters_s, filters_a: chains or their text, as "desaturate|invert|contrast:1.5".
            alpha, beta: strengths of structure and appearance: numbers, tensors of one a seed, or functions of the
                times (b,) in [0, 1]; 0 leaves no trace of the prompt.
            text: words or a class number, for a model that reads them.
            null: whether eps_0 keeps the structure, or sees channels of zeros; the appearance is a grey picture's in
                both.
            guidance: w; the model's own by default; 1 is none.
            steps, sampler: as of `Model.sample`.
            seeds: one a result.
            on_step: called with (k, state).

        Raises:
            ValueError: for a prompt without its encoder or an encoder without its prompt, filters that are none,
                pictures that do not suit, or another null.
        """
        if null not in ("keep", "drop"):
            raise ValueError(f"null={null!r}; expected 'keep' or 'drop', of the structure in the null branch")
        noise, model = Noise(seeds), self.model
        chains = chain_of(filters_s), chain_of(filters_a)
        s = self._prompt("structure", structure, self.structure, len(noise), chains[0])
        a = self._prompt("appearance", appearance, self.appearance, len(noise), chains[1])
        height, width = model.size if s is None else (int(s.shape[2]), int(s.shape[3]))
        spec = model.autoencoder.spec
        shape = (spec.channels, height // spec.factor, width // spec.factor)
        w = float(model.defaults["guidance"] if guidance is None else guidance)
        chosen = model.defaults["sampler"] if sampler is None else sampler
        solver = sampler_named(chosen) if isinstance(chosen, str) else chosen
        with torch.inference_mode(False), torch.no_grad():
            c = self._condition(s, a, text, null, len(noise), shape[1:])
            plain = model.denoiser.at(*shape[1:]) if isinstance(model.denoiser, Resizes) else model.denoiser
            attention = None if self.appearance is None else self.appearance.attention
            d: Denoiser = ImagePrompted(plain, attention, alpha=alpha, beta=beta)
            guided = w != 1 and bool(c.null_rows)
            d = CFG(w)(d) if guided else d
            times = resolve_grid(None, plain.schedule, model.defaults["steps"] if steps is None else steps)
            x_T = float(plain.schedule.sigma(times[:1])) * noise("x_T", 0, shape, device=model.device)
            z = solver(d, x_T, grid=times, c=c, noise=noise, on_step=on_step)
            images = model.autoencoder.decode(z).clamp(-1, 1)
        nfe = solver.plan(plain.schedule, times).nfe * (2 if guided and w != 0 else 1)
        return Prompted(images, z, s, a, str(chains[0]), str(chains[1]), alpha, beta, nfe)

    def report(
        self,
        made: Prompted,
        structure: Float[Tensor, "*n c h w"],
        appearance: Float[Tensor, "*k c i j"],
        *,
        where: Float[Tensor, "m 1 h w"] | None = None,
        chance: Chance = "prompts",
    ) -> LeakReport:
        """Leaks of what was made, against the unfiltered prompts.

        Args:
            made: the result.
            structure, appearance: the prompts before their filters, as they were given.
            where, chance: as of `mezzotint.metric.leaks`.
        """
        y = made.images
        s, a = (p.to(y).expand(len(y), *p.shape[-3:]) for p in (structure, appearance))
        return LeakReport(
            leaks(y, s, a, where=where, chance=chance), made.filters_s, made.filters_a, made.alpha, made.beta
        )  # fmt: skip

    def compare(
        self,
        structure: Float[Tensor, "*n c h w"],
        appearance: Float[Tensor, "*k c i j"],
        grid: Iterable[tuple[Filters, Filters]],
        *,
        where: Float[Tensor, "m 1 h w"] | None = None,
        chance: Chance = "prompts",
        **settings: object,
    ) -> Compared:
        """The same prompts and seeds without filters and with each choice of them; print it for a table.

        Args:
            structure, appearance: both prompts.
            grid: pairs (filters_s, filters_a).
            where, chance: as of `report`.
            settings: of the call.
        """
        made = [
            self(structure, appearance, filters_s=s, filters_a=a, **settings)  # type: ignore[arg-type]
            for s, a in ((None, None), *grid)
        ]
        reports = [self.report(m, structure, appearance, where=where, chance=chance) for m in made]
        return Compared(tuple(reports), tuple(made))

    def _prompt(
        self, name: str, image: Tensor | None, encoder: object | None, count: int, chain: FilterChain
    ) -> Tensor | None:
        """The filtered pictures, one a seed."""
        if image is None:
            if encoder is not None:
                raise ValueError(
                    f"no {name} prompt, but there is an encoder for it; give one, or leave the encoder out"
                )
            if len(chain):
                raise ValueError(f"filters of the {name}, but no {name} prompt; give one")
            return None
        if encoder is None:
            raise ValueError(f"a {name} prompt, but no encoder for it; FilterPrompt(model, {name}=...)")
        if name == "structure":
            x = check_picture(image, count, self.model)
        else:
            x = image.expand(count, *image.shape[-3:]) if image.ndim == 3 or len(image) == 1 else image
            if x.ndim != 4 or len(x) != count:
                raise ValueError(
                    f"an appearance of {tuple(image.shape)} for {count} seeds; expected (3, h, w), or one each"
                )
        # filtered once where one picture serves all seeds
        one = image.ndim == 3 or len(image) == 1
        made = chain(x[:1] if one else x)
        return made.expand(count, *made.shape[1:]) if one else made

    def _condition(
        self, s: Tensor | None, a: Tensor | None, text: str | int | None, null: str, count: int, size: tuple[int, ...]
    ) -> Condition:
        model = self.model
        _, told = model.prior(text)
        c = Condition({}) if told is None else told.rows([0] * count)
        width = getattr(getattr(model.denoiser.net, "reads", None), "context", 0)
        if told is None and width:  # a model whose cross-attention knows no words: a token of zeros says nothing
            c = c.updated({"text": torch.zeros(count, 1, width, device=model.device)})
        if s is not None and self.structure is not None:
            channels = self.structure(s.to(model.device, torch.float32), (int(size[0]), int(size[1])))
            dropped = {"concat": torch.zeros_like(channels[:1])} if null == "drop" else None
            c = c.updated({"concat": channels}, dropped)
        if a is not None and self.appearance is not None:
            encoded = self.appearance(self.appearance.prepare(a.to(torch.float32)).to(model.device))
            c = c.updated(dict(encoded), dict(encoded.null_rows))
        return c


def chain_of(filters: Filters) -> FilterChain:
    """A chain from what a user may give; None is the identity."""
    if filters is None:
        return FilterChain()
    if isinstance(filters, str):
        return parse(filters)
    if not isinstance(filters, (Filter, FilterChain)):
        raise ValueError(
            f"filters={filters!r}; expected a text such as 'desaturate|blur:2', a filter or a chain of them"
        )
    return filters if isinstance(filters, FilterChain) else FilterChain((filters,))


def _told(strength: Strength) -> str:
    return f"{float(strength):g}" if isinstance(strength, (float, int)) else "f(t)"
