"""Samplers: from noise to data, with a declared order and a declared number of network evaluations."""

from mezzotint.sample.adaptive import Adaptive, AdaptiveState
from mezzotint.sample.ancestral import DPMSolverPP2SAncestral, DPMSolverPPSDE, EulerAncestral
from mezzotint.sample.brownian import Brownian, StationaryPath
from mezzotint.sample.calibrate import calibrate_ems
from mezzotint.sample.calibrate_c import Calibration, calibrate_c
from mezzotint.sample.cascade import Cascaded, CascadeSampler
from mezzotint.sample.churn import Churn
from mezzotint.sample.consistency import Consistency
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.ddpm import DDPM
from mezzotint.sample.deis import DEIS
from mezzotint.sample.distilled import DistilledDDIM, DistilledStochastic, encode
from mezzotint.sample.dpm import DPMSolver, DPMSolverSingle
from mezzotint.sample.dpm_encoder import EncodedStep, dpm_decode, dpm_encode, encoded_steps
from mezzotint.sample.dpmpp import DPMSolverPP
from mezzotint.sample.dpmv3 import DPMSolverV3
from mezzotint.sample.dualfast import DualFast
from mezzotint.sample.ems import EMS
from mezzotint.sample.error_split import ErrorSplit, error_split
from mezzotint.sample.euler import Euler
from mezzotint.sample.from_noise import FromNoise
from mezzotint.sample.heun import Heun
from mezzotint.sample.invert import fixed_point, invert
from mezzotint.sample.likelihood import Likelihood, log_likelihood
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.multistep import Multistep
from mezzotint.sample.names import NAMED, NamedSampler, sampler_named
from mezzotint.sample.noise_code import NoiseCode
from mezzotint.sample.plan import Node, Plan, nodes_of
from mezzotint.sample.restart import Restart, RestartInterval
from mezzotint.sample.rungekutta import RungeKutta
from mezzotint.sample.sde import SDEDPMSolverPP
from mezzotint.sample.singlestep import DPMSolverPPSingle
from mezzotint.sample.staged import Move, Stage, Staged
from mezzotint.sample.unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "EMS",
    "NAMED",
    "Adaptive",
    "AdaptiveState",
    "Brownian",
    "Calibration",
    "Churn",
    "Consistency",
    "DPMSolver",
    "DPMSolverPP",
    "DPMSolverPP2SAncestral",
    "DPMSolverPPSDE",
    "DPMSolverPPSingle",
    "DPMSolverSingle",
    "DistilledDDIM",
    "DistilledStochastic",
    "DPMSolverV3",
    "DualFast",
    "EncodedStep",
    "ErrorSplit",
    "Euler",
    "FromNoise",
    "EulerAncestral",
    "Heun",
    "Likelihood",
    "Move",
    "Multistep",
    "NamedSampler",
    "NoiseCode",
    "Node",
    "Plan",
    "Restart",
    "RestartInterval",
    "RungeKutta",
    "SDEDPMSolverPP",
    "Sampler",
    "Stage",
    "Staged",
    "State",
    "StationaryPath",
    "UniPC",
    "calibrate_c",
    "calibrate_ems",
    "dpm_decode",
    "dpm_encode",
    "encode",
    "encoded_steps",
    "error_split",
    "fixed_point",
    "invert",
    "log_likelihood",
    "nodes_of",
    "sampler_named",
    "Cascaded",
    "CascadeSampler",
]
