"""Restorers that are trained for one task: processes from a picture to its degraded twin, and back."""

from mezzotint.restore.bridge.denoiser import BlindBridgeDenoiser, BridgeDenoiser, EpsBridgeDenoiser, I2SBDenoiser
from mezzotint.restore.bridge.i2sb import I2SB
from mezzotint.restore.bridge.indi import InDI
from mezzotint.restore.bridge.irsde import IRSDE
from mezzotint.restore.bridge.process import Process, check_ends
from mezzotint.restore.bridge.resshift import ResShift
from mezzotint.restore.bridge.restorer import OneCall, TrainedRestorer
from mezzotint.restore.bridge.sampler import BridgeSampler

__all__ = [
    "I2SB",
    "IRSDE",
    "BlindBridgeDenoiser",
    "BridgeDenoiser",
    "BridgeSampler",
    "EpsBridgeDenoiser",
    "I2SBDenoiser",
    "InDI",
    "OneCall",
    "Process",
    "ResShift",
    "TrainedRestorer",
    "check_ends",
]
