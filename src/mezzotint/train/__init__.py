"""Training: a task, the loop over it, and checkpoints that survive a crash."""

from mezzotint.train.adversarial import AdversarialTask
from mezzotint.train.autoencoder_recipe import AutoencoderRecipe
from mezzotint.train.autoencoding import AutoencodingTask
from mezzotint.train.checkpoint import CheckpointError, newest_checkpoint, verify
from mezzotint.train.ddp import DDP
from mezzotint.train.denoising import DenoisingTask
from mezzotint.train.distil import Annealed, DistillationRecipe, Guiding, Halving, LinearDecay
from mezzotint.train.ema import EMA
from mezzotint.train.engine import Engine, Single
from mezzotint.train.group import Group, PeerFailed
from mezzotint.train.launch import launched
from mezzotint.train.log import read_log
from mezzotint.train.loop import Progress, Report, fit
from mezzotint.train.meter import NonFiniteError
from mezzotint.train.named import AnyRecipe
from mezzotint.train.overrides import with_overrides
from mezzotint.train.power_ema import Power, PowerEMA, reconstruct
from mezzotint.train.pretrain import PretrainingRecipe, PretrainingTask
from mezzotint.train.recipe import AdamW, Budget, RAdam, Recipe
from mezzotint.train.schedule import Constant, CosineDecay
from mezzotint.train.state import load_newest
from mezzotint.train.task import Task

__all__ = [
    "DDP",
    "EMA",
    "AdamW",
    "AdversarialTask",
    "AnyRecipe",
    "AutoencoderRecipe",
    "AutoencodingTask",
    "Budget",
    "CheckpointError",
    "Constant",
    "CosineDecay",
    "DenoisingTask",
    "Engine",
    "Group",
    "NonFiniteError",
    "PeerFailed",
    "Power",
    "PowerEMA",
    "PretrainingRecipe",
    "PretrainingTask",
    "Progress",
    "RAdam",
    "Recipe",
    "Report",
    "Single",
    "Task",
    "fit",
    "launched",
    "load_newest",
    "newest_checkpoint",
    "read_log",
    "reconstruct",
    "verify",
    "with_overrides",
    "Annealed",
    "DistillationRecipe",
    "Guiding",
    "Halving",
    "LinearDecay",
]
