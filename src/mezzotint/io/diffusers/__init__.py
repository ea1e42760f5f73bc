"""diffusers pipelines in and out: their folders as `Model`s, their networks behind our types (extra `[diffusers]`)."""

from .conditioner_flux import Distilled
from .load import download, is_hub_id, read_pipeline
from .pipeline import load_pipeline
from .save import Source, write_pipeline
from .schedulers import Reading, schedule_of, times_of

__all__ = [
    "Distilled",
    "Reading",
    "Source",
    "download",
    "is_hub_id",
    "load_pipeline",
    "read_pipeline",
    "schedule_of",
    "times_of",
    "write_pipeline",
]
