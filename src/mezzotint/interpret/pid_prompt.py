"""Concepts of a prompt: finding them, leaving them out, and what a model's images know of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, student_in
from mezzotint.interpret.pid import Decomposition, decompose
from mezzotint.interpret.pid_levels import InformationLevels
from mezzotint.model import Model, Resizes

__all__ = ["PromptInformation", "conditions_of", "explain_pid", "prompts_of", "without_words"]


def without_words(prompt: str, *concepts: str, place: int | None = None) -> str:
    """The prompt with every occurrence of the concepts left out (or one of them, by its place from 0).

    Args:
        prompt: the words.
        concepts: a word or several each, whole words; case does not matter.
        place: which occurrence; all if None.

    Raises:
        ValueError: for a concept that is empty or not in the prompt, or a place that does not exist.

    >>> without_words("A king and a queen", "king")
    'A and a queen'
    """
    for concept in concepts:
        if not concept.strip():
            raise ValueError("a concept is empty; give a word or several of the prompt")
        inside = r"\s+".join(map(re.escape, concept.split()))
        found = list(re.finditer(rf"(?<!\w){inside}(?!\w)", prompt, re.IGNORECASE))
        if not found:
            raise ValueError(f"{concept!r} is not in the prompt {prompt!r}; name whole words of it")
        if place is not None and not 0 <= place < len(found):
            raise ValueError(f"{concept!r} occurs {len(found)} times in {prompt!r}; place {place} does not exist")
        for match in reversed(found if place is None else [found[place]]):
            prompt = prompt[: match.start()] + prompt[match.end() :]
    return re.sub(r"\s+([,.;:])", r"\1", " ".join(prompt.split()))


def prompts_of(prompt: str, concepts: Sequence[str], conditional: bool = True) -> tuple[str, str, str, str]:
    """The four prompts of a decomposition: the reference, with one concept, with the other, with both.

    conditional: the rest of the prompt, the prompt without the other, without the one, the prompt.
    else: "" (nothing), one concept alone, the other alone, the prompt (our choice).

    Raises:
        ValueError: unless there are two concepts of the prompt that share no words.

    >>> prompts_of("a king and a queen", ("king", "queen"))
    ('a and a', 'a king and a', 'a and a queen', 'a king and a queen')
    """
    if isinstance(concepts, str) or len(concepts) != 2:
        raise ValueError(f"concepts {concepts!r}; expected two of the prompt's words")
    one, two = concepts
    if not prompt.strip():
        raise ValueError("the prompt is empty; give some words")
    only_two, only_one = without_words(prompt, one), without_words(prompt, two)
    try:
        rest = without_words(only_two, two)
        without_words(only_one, one)  # "red heart" is no longer there where every "red" was left out
    except ValueError:
        raise ValueError(f"the concepts {one!r} and {two!r} overlap in {prompt!r}; name words apart") from None
    return (rest, only_one, only_two, prompt) if conditional else ("", one.strip(), two.strip(), prompt)


def conditions_of(model: Model, prompts: Sequence[str]) -> Condition:
    """What the network reads for prompts, "" being the model's null, one row each.

    Raises:
        ValueError: for a model that reads no words or has no null.
    """
    if model.conditioner is None or not isinstance(model.conditioner.example, str):
        raise ValueError(f"{model.name} reads no words, so there is none to explain; take a text-to-image model")
    with torch.no_grad():
        c = model.conditioner(
            model.conditioner.prepare([p if _says(p) else "nothing" for p in prompts]).to(model.device)
        )
    if not c.null_rows:
        raise ValueError(f"{model.name} has no null condition, so what a word adds to nothing is not known")
    return c.drop(torch.tensor([not _says(p) for p in prompts]))


def _says(prompt: str) -> bool:
    return any(letter.isalnum() for letter in prompt)


@dataclass(frozen=True)
class PromptInformation:
    """The decomposition of two concepts in images of a model.

    Args:
        prompts: reference, with the first concept, with the second, with both.
        concepts: the two.
        atoms: see `Decomposition`; nats a pixel of x (a latent pixel, for a latent model).
        interval: least and largest lambda of the integral.
        missing: share of the levels asked for that the model's schedule cut off.
    """

    prompts: tuple[str, str, str, str]
    concepts: tuple[str, str]
    atoms: Decomposition
    interval: tuple[float, float]
    missing: float


@torch.no_grad()
def explain_pid(
    model: Model,
    images: Float[Tensor, "b c h w"],
    prompt: str,
    concepts: Sequence[str],
    *,
    conditional: bool = True,
    seeds: Sequence[int] | None = None,
    levels: InformationLevels | None = None,
    form: Literal["orthogonal", "standard"] = "orthogonal",
    batch: int = 64,
) -> PromptInformation:
    """Which parts of images two concepts of their prompt control: unique, redundant, synergistic.

    Args:
        model: a text-to-image model.
        images: in [-1, 1]; best its own. For others the maps tell what the model believes of them.
        prompt: of the images.
        concepts: two of its words, or groups of words.
        conditional: given the rest of the prompt (as a model of whole sentences needs), or each word by itself.
        seeds: one an image, of the noise of the estimate; 0, 1, 2, ... if None.
        levels, form, batch: see `information`. Guidance is off.

    Raises:
        ValueError: for a concept not in the prompt, a model without words or distilled, images of a wrong size.

    Source: arXiv 2406.05191, sections 3 and 4.
    """
    prompts, levels = prompts_of(prompt, concepts, conditional), levels or InformationLevels()
    seeds = range(len(images)) if seeds is None else seeds
    if student_in(model.denoiser) is not None:
        raise ValueError(f"{model.name} is distilled, with its guidance inside; take the model it comes from")
    c = conditions_of(model, prompts)
    z = model.autoencoder.encode(images.to(model.device))
    denoiser = plain_denoiser(model, z)
    atoms = decompose(denoiser, z, c, Noise(seeds), levels=levels, form=form, batch=batch)
    schedule = denoiser.schedule
    one, two = concepts
    return PromptInformation(prompts, (one, two), atoms, levels.interval(schedule), levels.missing(schedule))


def plain_denoiser(model: Model, z: Tensor) -> Denoiser:
    """The model's denoiser for latents of this size, without guidance."""
    known: Any = model.denoiser
    return known.at(*z.shape[2:]) if isinstance(known, Resizes) else known
