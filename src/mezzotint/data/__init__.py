"""Data sets, addressed by index; order and augmentation are functions of (seed, step)."""

from mezzotint.data.augment import VIEWS, Mirror, View
from mezzotint.data.caption import STYLE_WORDS
from mezzotint.data.emoji import GROUPS, Emoji
from mezzotint.data.order import indices
from mezzotint.data.scenes import Scenes
from mezzotint.data.source import ArraySource, Example, Source

__all__ = [
    "GROUPS",
    "STYLE_WORDS",
    "ArraySource",
    "Emoji",
    "Example",
    "Scenes",
    "Source",
    "indices",
    "VIEWS",
    "Mirror",
    "View",
]
