"""Measures, each with its card."""

from mezzotint.metric.augment import augment
from mezzotint.metric.calibration import calibration_error, coverage, spread_correlation
from mezzotint.metric.card import MetricCard, weights_hash
from mezzotint.metric.classifier import FeatureNet, load_features
from mezzotint.metric.dinov2 import DinoV2, load_dinov2
from mezzotint.metric.direction_similarity import DirectionSimilarity
from mezzotint.metric.edit_regions import EditRegions, edit_regions, region_error, region_psnr
from mezzotint.metric.efficientnet import EfficientNetLite0, load_efficientnet_lite0
from mezzotint.metric.evaluate import PairMeasure, compare, evaluate
from mezzotint.metric.features import Extractor, Features, extract
from mezzotint.metric.frechet import frechet_distance, frechet_error, frechet_gaussians
from mezzotint.metric.ged import best_match_dice, ged
from mezzotint.metric.ghost import ghosts, windows
from mezzotint.metric.inception import InceptionV3, load_inception
from mezzotint.metric.kernel import GaussianKernel, PolynomialKernel, kernel_distance, kernel_distance_subsets
from mezzotint.metric.layout_agreement import Agreement, Seen, Wanted, layout_agreement
from mezzotint.metric.leak import Leaks, colour_distance, edge_similarity, leaks
from mezzotint.metric.luma import luma, luma_psnr
from mezzotint.metric.manifold import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from mezzotint.metric.measures import MEASURES, Density, Frechet, KernelDistance, Measure, Precision
from mezzotint.metric.moments import Moments
from mezzotint.metric.overlap import dice, iou
from mezzotint.metric.perceptual import PerceptualDistance
from mezzotint.metric.psnr import psnr
from mezzotint.metric.ranking import BestDice, auprc, auroc, best_possible_dice
from mezzotint.metric.reconstruction import consistency, mean_absolute_error, nmse, spectral_angle, volume_psnr
from mezzotint.metric.result import Estimate, MetricResult, mean_of
from mezzotint.metric.retrieval import ranks, retrieval
from mezzotint.metric.ssim import ssim
from mezzotint.metric.surface import SurfaceDistances, hausdorff, surface_dice, surface_distances
from mezzotint.metric.textscore import CLIP, TextScore, load_clip
from mezzotint.metric.trunks import Trunk, load_lpips
from mezzotint.metric.volume_report import volume_report

__all__ = [
    "Agreement",
    "Seen",
    "Wanted",
    "layout_agreement",
    "DirectionSimilarity",
    "Leaks",
    "MEASURES",
    "Density",
    "DensityCoverage",
    "Estimate",
    "Extractor",
    "FeatureNet",
    "Features",
    "Frechet",
    "GaussianKernel",
    "KernelDistance",
    "Measure",
    "MetricCard",
    "MetricResult",
    "Moments",
    "PairMeasure",
    "PolynomialKernel",
    "Precision",
    "PrecisionRecall",
    "augment",
    "colour_distance",
    "compare",
    "density_coverage",
    "edge_similarity",
    "evaluate",
    "extract",
    "frechet_distance",
    "frechet_error",
    "frechet_gaussians",
    "kernel_distance",
    "kernel_distance_subsets",
    "leaks",
    "load_features",
    "mean_of",
    "precision_recall",
    "psnr",
    "ranks",
    "retrieval",
    "ssim",
    "weights_hash",
    "DinoV2",
    "load_dinov2",
    "EfficientNetLite0",
    "load_efficientnet_lite0",
    "InceptionV3",
    "load_inception",
    "PerceptualDistance",
    "CLIP",
    "TextScore",
    "load_clip",
    "Trunk",
    "load_lpips",
    "BestDice",
    "SurfaceDistances",
    "auprc",
    "auroc",
    "best_match_dice",
    "best_possible_dice",
    "calibration_error",
    "consistency",
    "coverage",
    "dice",
    "ged",
    "hausdorff",
    "iou",
    "luma",
    "luma_psnr",
    "mean_absolute_error",
    "nmse",
    "spectral_angle",
    "spread_correlation",
    "surface_dice",
    "surface_distances",
    "volume_psnr",
    "volume_report",
    "EditRegions",
    "edit_regions",
    "ghosts",
    "region_error",
    "region_psnr",
    "windows",
]
