"""Measures, each with its card."""

from mezzotint.metric.augment import augment
from mezzotint.metric.card import MetricCard, weights_hash
from mezzotint.metric.classifier import FeatureNet, load_features
from mezzotint.metric.frechet import frechet_distance, frechet_gaussians
from mezzotint.metric.psnr import psnr
from mezzotint.metric.retrieval import ranks, retrieval

__all__ = [
    "FeatureNet",
    "MetricCard",
    "augment",
    "frechet_distance",
    "frechet_gaussians",
    "load_features",
    "psnr",
    "ranks",
    "retrieval",
    "weights_hash",
]
