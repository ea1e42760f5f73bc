"""Model = conditioner + denoiser + autoencoder: what a user loads and calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core import Condition, Denoiser, NetworkDenoiser, Noise, Schedule, grid_named, resolve_grid, student_in
from mezzotint.core.grid import Grid
from mezzotint.io.folder import Parts, read_folder, write_folder
from mezzotint.latent import Autoencoder

if TYPE_CHECKING:
    from mezzotint.nn.conditioner import Conditioner
    from mezzotint.sample import Sampler

__all__ = ["WEIGHTS", "Model", "load", "shipped"]

WEIGHTS = Path(__file__).parent / "weights"


@runtime_checkable
class Attaches(Protocol):
    """A conditioner that uses the model's autoencoder (inpainting encodes what is known)."""

    def attach(self, autoencoder: Any) -> None: ...


@runtime_checkable
class Resizes(Protocol):
    """A denoiser whose schedule depends on the size of what is drawn."""

    def at(self, height: int, width: int) -> NetworkDenoiser: ...


class Model(nn.Module):
    """A conditioner (words to tensors), a denoiser and an autoencoder, used together.

    image = decode(sample(guided denoiser, x_T ~ N(0, sigma(1)^2), condition)).

    Args:
        denoiser: a network denoiser.
        autoencoder: Identity for a pixel-space model.
        conditioner: None for an unconditional model.
        size: (height, width) it was trained at, pixels.
        defaults: "sampler", "steps" and "guidance" used when a call names none.
        card: the model card, Markdown.
        name: for messages.
    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        autoencoder: Autoencoder,
        conditioner: Conditioner | None = None,
        *,
        size: tuple[int, int],
        defaults: dict[str, Any] | None = None,
        card: str = "",
        name: str = "model",
    ) -> None:
        super().__init__()
        self.denoiser, self.autoencoder, self.conditioner = denoiser, autoencoder, conditioner
        self.size = (int(size[0]), int(size[1]))
        self.defaults = {"sampler": "dpmpp-2m", "steps": 20, "guidance": 3.0, **(defaults or {})}
        self.card, self.name = card, name
        self._replayed: dict[str, Sampler] = {}  # what compile=True has recorded
        self.source: Any = None  # the components of a diffusers pipeline, where it was loaded from one
        if isinstance(conditioner, Attaches):
            conditioner.attach(autoencoder)

    @property
    def device(self) -> torch.device:
        """Where the network is (where it computes, if its weights wait elsewhere)."""
        return getattr(self.denoiser.net, "device", None) or next(self.denoiser.parameters()).device

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this: the autoencoder's factor times the network's."""
        return self.autoencoder.spec.factor * getattr(self.denoiser.net, "multiple", 1)

    @torch.no_grad()
    def sample(
        self,
        prompt: str | int | Sequence[Any] | None = None,
        *,
        count: int | None = None,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        grid: str | Grid | Tensor | None = None,
        guidance: float | None = None,
        seeds: Sequence[int] | None = None,
        size: int | tuple[int, int] | None = None,
        negative: str | int | None = None,
        batch: int = 64,
        on_step: Callable[[int, Any], None] | None = None,
        compile: bool = False,
        rescale: bool = False,
    ) -> Float[Tensor, "n 3 h w"]:
        """Images for a prompt.

        Args:
            prompt: words (or class numbers, for a class-conditional model); a list gives images for each entry, and is
                how anything else is asked for: what the conditioner's `prepare` takes (layouts, maps, images). None
                asks for nothing in particular.
            count: images a prompt; by default as many as the seeds allow, or 1.
            steps: sampling steps; the model's default if None.
            sampler: a name (see `mezzotint.sample.names.NAMED`) or a Sampler.
            grid: the times: a name (see `mezzotint.core.GRIDS`), a grid function, or a falling tensor of steps + 1
                times; the sampler's own if None.
            guidance: w of eps_w = eps_null + w (eps_c - eps_null); 1 is no guidance, and what is used for a condition
                that has no null (an image to restore, a semantic map); otherwise the model's default if None. A model
                distilled with its guidance inside takes the weights it has learned.
            seeds: one a image; 0, 1, 2, ... if None. Image i depends on its seed alone.
            size: pixels, a number or (height, width), multiples of `multiple`; the training size if None.
            negative: what to be guided away from, in place of the null condition.
            batch: images computed at once.
            on_step: called after each step with (k, state).
            compile: compile the network's repeated blocks (minutes, once a size; worth it on an accelerator) and, on
                CUDA, replay each step of a multistep sampler as one graph. See docs/speed.md.
            rescale: at another number of pixels than in training, scale self-attention to its number of keys
                (`mezzotint.attention.attention_scaling`); at the training size it changes nothing.

        Returns:
            (n, channels, h, w) in [-1, 1], prompts in order, each with its `count` images.

        Raises:
            ValueError: for an empty prompt, a count, size, seed or guidance out of range, an unknown sampler or
                grid, or one that does not suit the model's schedule; for rescale with compile.
        """
        prompts, conditioned = self._prompts(prompt)
        n, seeds = _seeds(len(prompts), count, seeds)
        height, width = self._size(size)
        solver = _sampler(self.defaults["sampler"] if sampler is None else sampler)
        if steps is None and not isinstance(grid, Tensor):
            steps = self.defaults["steps"]
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ValueError(f"batch={batch!r}; expected a whole number >= 1")
        c = self._condition(prompts, negative, conditioned)
        if guidance is None:
            guidance = self.defaults["guidance"] if c is None or c.null_rows else 1.0
        guidance = float(guidance)
        spec = self.autoencoder.spec
        shape = (spec.channels, height // spec.factor, width // spec.factor)
        plain = self.denoiser.at(*shape[1:]) if isinstance(self.denoiser, Resizes) else self.denoiser
        times, level = _times(plain.schedule, grid, steps)
        if student_in(plain) is None:
            denoiser = self._guided(plain, guidance, conditioned)
        else:  # one evaluation a step: the weight is told, there is no null to move away from
            denoiser, c = plain, self._told(plain, c if conditioned else None, guidance, solver, times, steps, negative)
        if rescale and compile:
            raise ValueError("rescale watches the attention layers, which a compiled network does not show; choose one")
        counts = self._token_counts(plain, c) if rescale and (height, width) != self.size else {}
        out = []
        for start in range(0, len(seeds), batch):
            noise = Noise(seeds[start : start + batch])
            rows = [i // n for i in range(start, start + len(noise))]
            x_T = level * noise("x_T", 0, shape, device=self.device)
            part = None if c is None else c.rows(rows)
            with self._compiled(solver) if compile else nullcontext(solver) as chosen, self._scaled(counts):
                z = chosen(denoiser, x_T, steps=steps, grid=times, c=part, noise=noise, on_step=on_step)
            out.append(self.autoencoder.decode(z).clamp(-1, 1))
        images = torch.cat(out)
        if not bool(torch.isfinite(images).all()):
            raise ValueError(f"{self.name}: the images are not finite; lower the guidance ({guidance})")
        return images

    @torch.no_grad()
    def prior(self, prompt: str | int | None = None, guidance: float = 1.0) -> tuple[Denoiser, Condition | None]:
        """What the model knows of images, for restoration: the denoiser, and its condition with one row.

        Args:
            prompt: words, or a class number; None asks for nothing in particular.
            guidance: towards the prompt; 1 is none.

        Raises:
            ValueError: for a prompt that does not suit the model, or a model with its guidance inside.
        """
        if student_in(self.denoiser) is not None:
            raise ValueError(f"{self.name} is distilled to a few steps and is no prior; take the model it comes from")
        if isinstance(prompt, (list, tuple)):
            raise ValueError("a prior has one prompt, not a list of them")
        prompts, conditioned = self._prompts(prompt)
        return self._guided(self.denoiser, float(guidance), conditioned), self._condition(prompts, None, conditioned)

    def save(
        self,
        path: str | Path,
        dtype: torch.dtype | None = None,
        format: Literal["mezzotint", "diffusers"] | None = None,
    ) -> Path:
        """Write a model folder that `mezzotint.load` reads; it appears whole or not at all.

        Args:
            path: a new or empty folder, or one of a model, which is replaced.
            dtype: of the weights on disk; None keeps each tensor's own. Only for our own format.
            format: None keeps the format the model was loaded from; "diffusers" is for models that came from it.

        Raises:
            ValueError: if it cannot be written, or not in this format.
        """
        if format not in (None, "mezzotint", "diffusers"):
            raise ValueError(f"unknown format {format!r}; expected 'mezzotint' or 'diffusers'")
        if format == "diffusers" or (format is None and self.source is not None):
            from mezzotint.io.diffusers.save import write_pipeline

            if dtype is not None:
                raise ValueError("dtype is for our own format; convert the model first, or load it with dtype=")
            return write_pipeline(self.source, path)
        parts = Parts(self.denoiser, self.autoencoder, self.conditioner, self.size, self.defaults, self.card)
        return write_folder(parts, path, dtype)

    def _prompts(self, prompt: Any) -> tuple[list[Any], bool]:
        if prompt is None:
            return [None], False
        if self.conditioner is None:
            raise ValueError(f"{self.name} is unconditional and takes no prompt; leave it out")
        if isinstance(prompt, (str, int)):
            prompts = [prompt]
        elif isinstance(prompt, Iterable):
            prompts = list(prompt)
        else:
            raise ValueError(f"prompt={prompt!r:.80}; expected words, a class number, or a list of prompts")
        if not prompts:
            raise ValueError("no prompt in the list; give at least one, or None for an unconditional sample")
        for entry in prompts:
            if isinstance(entry, str) and not entry.strip():
                raise ValueError("the prompt is empty; give some words, or leave it out for an unconditional sample")
        return prompts, True

    def _condition(self, prompts: list[Any], negative: str | int | None, conditioned: bool) -> Condition | None:
        if negative is not None and not conditioned:
            raise ValueError("a negative prompt needs a prompt to be guided towards")
        if self.conditioner is None:
            return None
        if not conditioned:
            return self.conditioner(self._null_rows(len(prompts)).to(self.device))
        raw = self.conditioner.prepare(prompts)
        if negative is not None:
            raw = self.conditioner.with_negative(raw, negative)
        return self.conditioner(raw.to(self.device))

    def _null_rows(self, count: int) -> Condition:
        assert self.conditioner is not None
        return self.conditioner.prepare([self.conditioner.example] * count).null()

    def _token_counts(self, plain: NetworkDenoiser, c: Condition | None) -> dict[str, int]:
        """How many keys each self-attention layer had in training; none where there is no attention."""
        from mezzotint.attention import token_counts
        from mezzotint.nn.site import Door

        if not any(isinstance(module, Door) for module in plain.modules()):
            return {}
        spec = self.autoencoder.spec
        return token_counts(
            plain, (spec.channels, *(s // spec.factor for s in self.size)), None if c is None else c.rows([0])
        )

    def _scaled(self, counts: dict[str, int]) -> AbstractContextManager[None]:
        if not counts:
            return nullcontext()
        from mezzotint.attention import attention_scaling

        return attention_scaling(self.denoiser.net, counts)

    @contextmanager
    def _compiled(self, solver: Sampler) -> Iterator[Sampler]:
        """The network compiled for a while, and the sampler that makes most of it there."""
        from mezzotint.sample import compiled, graph

        if self.device.type == "cuda" and graph.replayable(solver):
            solver = self._replayed.setdefault(repr(solver), graph.Replayed(solver))  # type: ignore[arg-type]
        with compiled.compiled(self.denoiser.net):
            yield solver

    def _guided(self, denoiser: NetworkDenoiser, guidance: float, conditioned: bool) -> Any:
        from mezzotint.guide import CFG

        return CFG(guidance)(denoiser) if conditioned else denoiser

    def _told(
        self, student: Any, c: Condition | None, w: float, solver: Any, times: Any, steps: Any, negative: Any
    ) -> Condition:
        from mezzotint.sample.distilled import told

        if c is None or negative is not None:
            raise ValueError(
                f"{self.name} has its guidance inside, towards a prompt and away from the null it was distilled with: "
                "it needs a prompt and takes no negative one; the model it was distilled from takes either"
            )
        return told(student, c, w, solver, times, steps)

    def _size(self, size: int | tuple[int, int] | None) -> tuple[int, int]:
        pair = self.size if size is None else (size, size) if isinstance(size, int) else tuple(size)
        good = len(pair) == 2 and all(isinstance(s, int) and s > 0 and s % self.multiple == 0 for s in pair)
        if not good:
            raise ValueError(f"size {size!r}; expected height and width as positive multiples of {self.multiple}")
        return pair[0], pair[1]


def _seeds(prompts: int, count: int | None, seeds: Sequence[int] | None) -> tuple[int, list[int]]:
    """(images a prompt, all seeds)."""
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"count={count!r}; expected a whole number >= 1")
    if seeds is None:
        count = count or 1
        return count, list(range(prompts * count))
    seeds = list(seeds)
    if count is None and len(seeds) % prompts == 0:
        count = len(seeds) // prompts
    if not count or len(seeds) != prompts * count:
        raise ValueError(f"{len(seeds)} seeds for {prompts} prompts of {count} images; give one seed an image")
    return count, seeds


def _times(schedule: Schedule, grid: str | Grid | Tensor | None, steps: int | None) -> tuple[Tensor | None, float]:
    """The times of a run, None for the sampler's own, and sigma at the first."""
    times, first = None, torch.ones((), dtype=torch.float64)
    if grid is not None:
        times = resolve_grid(grid_named(grid) if isinstance(grid, str) else grid, schedule, steps)
        first = times[0]
    return times, float(schedule.sigma(first))


def _sampler(sampler: str | Sampler) -> Any:
    if not isinstance(sampler, str):
        return sampler
    from mezzotint.sample.names import sampler_named

    return sampler_named(sampler)


def _device(device: torch.device | str) -> torch.device:
    """Found out before minutes of loading."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r}; expected one of torch, such as 'cpu' or 'cuda'") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={str(device)!r}, but torch sees {torch.cuda.device_count()} CUDA devices here")
    return found


def _is_component(path: Path) -> bool:
    index = path.resolve().parent / "model_index.json"
    return index.is_file() and f'"{path.resolve().name}"' in index.read_text(encoding="utf-8", errors="replace")


def shipped() -> dict[str, Path]:
    """Name -> folder of the models that travel with the package."""
    if not WEIGHTS.is_dir():
        return {}
    return {path.parent.name: path.parent for path in sorted(WEIGHTS.glob("*/denoiser.safetensors"))}


def load(name: str | Path, device: torch.device | str | None = None, **options: Any) -> Model:
    """A model by its shipped name, its folder (ours, or of a diffusers pipeline), or its hub id.

    Args:
        name: "emoji", "emoji-pixel"; the path of a folder; or a hub id "owner/model" of a diffusers pipeline.
        device: where to put it; the CPU if None.
        options: for diffusers pipelines only. `dtype` (as torch.bfloat16) and `variant` (as "fp16") of the weights;
            `device_map`, `max_memory`, `offload_folder`, `offload_state_dict`, `low_cpu_mem_usage`, handed to
            diffusers and transformers; `offload`: "model" or "sequential", weights wait on the CPU and visit `device`
            when needed; `revision`, `cache_dir`, `token`, `local_files_only` for the hub;
            `allow_pickle=True` also opens weights that are pickles, which can run code: only for files you trust.

    Raises:
        ValueError: if there is no such model or device, or its files are damaged (the message names the file).

    >>> import mezzotint as mz
    >>> mz.load("emoji").size
    (64, 64)
    """
    known = shipped()
    path = known.get(str(name), Path(name))
    device = None if device is None else _device(device)
    if path.is_file():
        raise ValueError(f"{path} is a file; expected a folder: one of ours, or of a diffusers pipeline")
    if _is_component(path):
        raise ValueError(f"{path} is a part of the diffusers pipeline {path.parent}; load that folder")
    if not path.is_dir() or ((path / "model_index.json").is_file() and not (path / "config.json").is_file()):
        from mezzotint.io.diffusers import is_hub_id, load_pipeline

        if not path.is_dir() and not is_hub_id(str(name)):
            raise ValueError(
                f"no model {str(name)!r}: neither shipped ({', '.join(known) or 'none'}) nor a folder, "
                "nor of the form of a hub id, owner/model"
            )
        return load_pipeline(path if path.is_dir() else str(name), device, **options)
    if options:
        raise ValueError(f"{', '.join(sorted(options))}: options for diffusers pipelines; {path} is a folder of ours")
    parts = read_folder(path)
    model = Model(
        parts.denoiser,
        parts.autoencoder,
        parts.conditioner,
        size=parts.size,
        defaults=parts.defaults,
        card=parts.card,
        name=path.resolve().name,
    ).eval()
    return model if device is None else model.to(device)
