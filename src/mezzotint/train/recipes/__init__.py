"""Named recipes: what `mezzotint train NAME` runs."""

from mezzotint.train.recipes.emoji import emoji, emoji_autoencoder, emoji_pixel

RECIPES = {"emoji": emoji, "emoji-autoencoder": emoji_autoencoder, "emoji-pixel": emoji_pixel}

__all__ = ["RECIPES", "emoji", "emoji_autoencoder", "emoji_pixel"]
