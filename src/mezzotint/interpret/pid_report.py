"""Tables over words: which group a model takes a word for (bias), whether context changes a word (ambiguity)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.interpret.pid import Atoms
from mezzotint.interpret.pid_levels import InformationLevels
from mezzotint.interpret.pid_prompt import conditions_of, explain_pid, prompts_of
from mezzotint.model import Model
from mezzotint.papers.interval import paired_interval

__all__ = ["FEWEST", "AmbiguityTable", "BiasTable", "ambiguity_table", "redundancy_table"]

FEWEST = 8  # images a cell; fewer are noise


@dataclass(frozen=True)
class BiasTable:
    """Redundancy of words with groups, in images that were asked for without a group.

    Args:
        words, groups: the rows and the columns.
        nats: (words, groups, images): redundancy; an image is the same in all columns of its row.
    """

    words: tuple[str, ...]
    groups: tuple[str, ...]
    nats: Tensor

    @property
    def share(self) -> Float[Tensor, "words groups"]:
        """Means over images, over the largest of the table: in [0, 1]. Nats say whether there is anything to share."""
        means = self.nats.mean(2).clamp_min(0)
        return means / means.max().clamp_min(1e-12)

    def interval(self, word: int, one: int, other: int) -> tuple[float, float]:
        """95 % interval of the mean of nats[word, one] - nats[word, other], paired by image."""
        return paired_interval(self.nats[word, one].tolist(), self.nats[word, other].tolist())

    def leaning(self, word: int) -> str | None:
        """The group of the largest mean, if it lies above every other beyond doubt (95 %, each paired)."""
        best = int(self.nats[word].mean(1).argmax())
        others = [k for k in range(len(self.groups)) if k != best]
        return self.groups[best] if all(self.interval(word, best, k)[0] > 0 for k in others) else None

    def rows(self) -> list[str]:
        """Markdown: a word a row; mean nats and its share of the largest in each column; where it leans."""
        lines = [f"| word | {' | '.join(self.groups)} | leans to |", "| --- " * (len(self.groups) + 2) + "|"]
        means, share = self.nats.mean(2), self.share
        for k, word in enumerate(self.words):
            cells = " | ".join(f"{float(m):.3g} ({float(s):.2f})" for m, s in zip(means[k], share[k], strict=True))
            lines.append(f"| {word} | {cells} | {self.leaning(k) or 'neither'} |")
        return lines


@dataclass(frozen=True)
class AmbiguityTable:
    """Atoms of words with contexts, in images of both.

    Args:
        pairs: (word, context) of each row.
        atoms: (pairs, images) each.
    """

    pairs: tuple[tuple[str, str], ...]
    atoms: Atoms

    @property
    def synergy(self) -> Float[Tensor, " pairs"]:
        """Mean synergy over mean information of both: the share that only the combination tells."""
        return self.atoms.s.mean(1) / self.atoms.i12.mean(1).clamp_min(1e-12)

    def interval(self, one: int, other: int) -> tuple[float, float]:
        """95 % interval of the mean difference of synergy in nats between two rows, paired by seed."""
        return paired_interval(self.atoms.s[one].tolist(), self.atoms.s[other].tolist())

    def rows(self) -> list[str]:
        """Markdown: a pair a row; mean nats and the share of synergy."""
        lines = [
            "| word | context | both | redundant | only word | only context | synergy | share |",
            "| --- " * 8 + "|",
        ]
        a = self.atoms
        for k, (word, context) in enumerate(self.pairs):
            cells = " | ".join(f"{float(v[k].mean()):.3g}" for v in (a.i12, a.r, a.u1, a.u2, a.s))
            lines.append(f"| {word} | {context} | {cells} | {float(self.synergy[k]):+.2f} |")
        return lines


@torch.no_grad()
def redundancy_table(
    model: Model,
    words: Sequence[str],
    groups: Sequence[str] = ("male", "female"),
    *,
    template: str = "a {group} {word}",
    images_per_prompt: int = 8,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    levels: InformationLevels | None = None,
) -> BiasTable:
    """Which of the groups a word stands for, as a model draws it.

    r(word, group) of images of the template without the group: how much of what the word tells, the group would tell.
    It describes a model, at the wording of the template; it says nothing of people.

    Args:
        model: reads words.
        words: occupations, say.
        groups: two or more; "{group}" in the template.
        template: holds "{group}" and "{word}".
        images_per_prompt: at least 8; the same images for all groups of a word.
        seed: of the first image; image i has seed + i.
        steps, guidance: of the samples.
        levels: see `information`.

    Raises:
        ValueError: for a template without both places, fewer images, fewer than two groups, no words, or what
            `explain_pid` refuses.

    Source: arXiv 2406.05191, section 4 (bias): normalised redundancy of 188 occupations with groups; images without
    the group, the paired interval and the scale are our choice.
    """
    words, groups = _texts(words, "words", 1), _texts(groups, "groups", 2)
    pairs = [
        [(prompt := _filled(template, word=w, group=g), prompts_of(prompt, (w, g))) for g in groups] for w in words
    ]
    seeds, rows = _seeds(seed, images_per_prompt), []
    conditions_of(model, pairs[0][0][1])
    for word, row in zip(words, pairs, strict=True):
        images = model.sample(row[0][1][1], seeds=seeds, steps=steps, guidance=guidance)
        told = [explain_pid(model, images, prompt, (word, g), seeds=seeds, levels=levels)
                for g, (prompt, _) in zip(groups, row, strict=True)]  # fmt: skip
        rows.append(torch.stack([t.atoms.totals.r for t in told]))
    return BiasTable(words, groups, torch.stack(rows))


@torch.no_grad()
def ambiguity_table(
    model: Model,
    pairs: Sequence[tuple[str, str]],
    *,
    template: str = "a {context} {word}",
    images_per_prompt: int = 8,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    levels: InformationLevels | None = None,
) -> AmbiguityTable:
    """Whether context changes what a word means to a model: synergy of the two in images of both.

    Args:
        model: reads words.
        pairs: (word, context): a homonym with its contexts, and words with one meaning to compare with.
        template: holds "{context}" and "{word}".
        images_per_prompt, seed, steps, guidance, levels: see `redundancy_table`.

    Raises:
        ValueError: as `redundancy_table`.

    Source: arXiv 2406.05191, section 4 (homonyms, modifiers); the table is our choice.
    """
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"pairs {list(pairs)!r}; expected (word, context) of one row or more")
    prompts = [_filled(template, word=w, context=c) for w, c in pairs]
    four = [prompts_of(p, pair) for p, pair in zip(prompts, pairs, strict=True)]
    seeds, kept = _seeds(seed, images_per_prompt), []
    conditions_of(model, four[0])
    for prompt, pair in zip(prompts, pairs, strict=True):
        images = model.sample(prompt, seeds=seeds, steps=steps, guidance=guidance)
        kept.append(explain_pid(model, images, prompt, pair, seeds=seeds, levels=levels).atoms.totals)
    atoms = Atoms(*(torch.stack([getattr(t, name) for t in kept]) for name in Atoms.names))
    return AmbiguityTable(tuple((w, c) for w, c in pairs), atoms)


def _filled(template: str, **words: str) -> str:
    for name in words:
        if template.count(f"{{{name}}}") != 1:
            raise ValueError(f"the template {template!r} must hold {{{name}}} once")
    for name, word in words.items():
        template = template.replace(f"{{{name}}}", word)
    return template


def _texts(values: Sequence[str], name: str, fewest: int) -> tuple[str, ...]:
    if isinstance(values, str) or len(values) < fewest or len(set(values)) < len(values):
        raise ValueError(f"{name} {values!r}; expected a list of at least {fewest}, each once")
    return tuple(values)


def _seeds(seed: int, count: int) -> list[int]:
    if count < FEWEST:
        raise ValueError(f"images_per_prompt={count}; expected at least {FEWEST}: a table of fewer is noise")
    return list(range(seed, seed + count))
