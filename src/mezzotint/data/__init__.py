"""Data sets, addressed by index; order and augmentation are functions of (seed, step)."""

from mezzotint.data.array_file import ArrayFile
from mezzotint.data.augment import VIEWS, Mirror, View
from mezzotint.data.broken import Broken, TooManyBroken
from mezzotint.data.buckets import Bucketed, assign, buckets, image_sizes
from mezzotint.data.caption import STYLE_WORDS
from mezzotint.data.decode import BrokenImage, decode
from mezzotint.data.emoji import GROUPS, Emoji
from mezzotint.data.framing import Cover, Framing, Placed, resize
from mezzotint.data.hf import HFSource
from mezzotint.data.image_folder import ImageFolder
from mezzotint.data.images import ImageSource, as_images
from mezzotint.data.latent_batches import LatentBatches, Latents
from mezzotint.data.latent_cache import LatentCache
from mezzotint.data.latent_encode import cache_latents
from mezzotint.data.loader import Loader, Samples
from mezzotint.data.open_source import open_source
from mezzotint.data.order import Order, Shuffled, indices
from mezzotint.data.parquet import ParquetSource
from mezzotint.data.pool import WorkerDied
from mezzotint.data.scenes import Scenes
from mezzotint.data.source import ArraySource, Example, Source
from mezzotint.data.webdataset import WebDatasetSource

__all__ = [
    "GROUPS",
    "STYLE_WORDS",
    "ArrayFile",
    "ArraySource",
    "Broken",
    "BrokenImage",
    "Bucketed",
    "Cover",
    "Emoji",
    "Example",
    "Framing",
    "HFSource",
    "ImageFolder",
    "ImageSource",
    "LatentBatches",
    "LatentCache",
    "Latents",
    "Loader",
    "Order",
    "ParquetSource",
    "Placed",
    "Samples",
    "Scenes",
    "Shuffled",
    "Source",
    "TooManyBroken",
    "WebDatasetSource",
    "WorkerDied",
    "as_images",
    "assign",
    "buckets",
    "cache_latents",
    "decode",
    "image_sizes",
    "indices",
    "open_source",
    "resize",
    "VIEWS",
    "Mirror",
    "View",
]
