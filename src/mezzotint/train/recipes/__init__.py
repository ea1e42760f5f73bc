"""Named recipes: what `mezzotint train NAME` runs."""

from collections.abc import Callable

from mezzotint.train.named import AnyRecipe
from mezzotint.train.recipes.emoji import emoji, emoji_autoencoder, emoji_pixel
from mezzotint.train.recipes.emoji_fast import emoji_fast
from mezzotint.train.recipes.photo import photo
from mezzotint.train.recipes.pixels import emoji_epg, emoji_pretraining

RECIPES: dict[str, Callable[[], AnyRecipe]] = {
    "emoji": emoji,
    "emoji-autoencoder": emoji_autoencoder,
    "emoji-epg": emoji_epg,
    "emoji-pixel": emoji_pixel,
    "emoji-fast": emoji_fast,
    "emoji-pretraining": emoji_pretraining,
    "photo": photo,
}

__all__ = [
    "RECIPES",
    "emoji",
    "emoji_autoencoder",
    "emoji_epg",
    "emoji_fast",
    "emoji_pixel",
    "emoji_pretraining",
    "photo",
]
