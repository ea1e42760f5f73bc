"""Condition encoders: what a user writes (text, class, boxes, maps, images) to what a network reads."""

from mezzotint.nn.conditioner.base import Conditioner
from mezzotint.nn.conditioner.text import TextConditioner
from mezzotint.nn.conditioner.tokenizer import WordPieces, train_vocabulary

__all__ = ["Conditioner", "TextConditioner", "WordPieces", "train_vocabulary"]
