"""Condition encoders: what a user writes (text, class, boxes, maps, images) to what a network reads."""

from mezzotint.nn.conditioner.base import Conditioner
from mezzotint.nn.conditioner.inpaint import InpaintConditioner, paste
from mezzotint.nn.conditioner.label import ClassConditioner
from mezzotint.nn.conditioner.layout import Layout, LayoutConditioner
from mezzotint.nn.conditioner.semantic import SemanticMapConditioner
from mezzotint.nn.conditioner.superresolution import SuperResolutionConditioner, degrade
from mezzotint.nn.conditioner.text import TextConditioner
from mezzotint.nn.conditioner.tokenizer import WordPieces, train_vocabulary

__all__ = [
    "ClassConditioner",
    "Conditioner",
    "InpaintConditioner",
    "Layout",
    "LayoutConditioner",
    "SemanticMapConditioner",
    "SuperResolutionConditioner",
    "TextConditioner",
    "WordPieces",
    "degrade",
    "paste",
    "train_vocabulary",
]
