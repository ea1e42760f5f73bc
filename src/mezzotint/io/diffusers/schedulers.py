"""A diffusers scheduler read as a noise schedule, a prediction kind and a sampler: an explicit table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.core import Discrete, Flow, Schedule, Shifted
from mezzotint.io.diffusers.zero_snr import ZeroTerminal, rescaled_betas

__all__ = ["SCHEDULERS", "Reading", "schedule_of", "times_of"]

# class -> the sampler of ours that does what it does
SCHEDULERS: dict[str, str] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "PNDMScheduler": "dpmpp-2m",  # PLMS, which DPM-Solver++ 2M replaces
    "LMSDiscreteScheduler": "dpmpp-2m",
    "LCMScheduler": "lcm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler-a",
    "HeunDiscreteScheduler": "heun",
    "KDPM2DiscreteScheduler": "dpm-2s",
    "KDPM2AncestralDiscreteScheduler": "dpmpp-2s-a",
    "DPMSolverMultistepScheduler": "dpmpp-2m",
    "DPMSolverSinglestepScheduler": "dpmpp-2s",
    "DPMSolverSDEScheduler": "dpmpp-sde",
    "DEISMultistepScheduler": "deis-2",
    "UniPCMultistepScheduler": "unipc-2",
    "FlowMatchEulerDiscreteScheduler": "euler",
    "FlowMatchHeunDiscreteScheduler": "heun",
}
_KINDS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0", "flow_prediction": "flow"}
_FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
# alpha^2 at the last step of a table rescaled to zero terminal SNR: 0 in these, in the others next to it
_EXACTLY_ZERO = ("DDIMScheduler", "DDPMScheduler", "LCMScheduler")
_NEARLY_ZERO = 2.0**-24


@dataclass(frozen=True)
class Reading:
    """What a scheduler says of the model it belongs to.

    Args:
        schedule: noise schedule, training times.
        kind: "eps", "v", "x0" or "flow": what the network predicts.
        sampler: the sampler of ours that stands nearest to the scheduler.
    """

    schedule: Schedule
    kind: str
    sampler: str


def schedule_of(scheduler: Any, tokens: int | None = None) -> Reading:
    """Read a scheduler.

    Betas become `Discrete(betas)`; flows become `Shifted(Flow(), shift)`. With dynamic shifting the shift is e^mu
    (or mu, for time_shift_type "linear"), mu linear in the number of image tokens.

    Args:
        scheduler: a scheduler of diffusers, or a mapping of its configuration with its `_class_name`.
        tokens: image tokens of what is drawn; needed for dynamic shifting.

    Raises:
        ValueError: for a class, beta schedule or prediction type outside the table, or one with settings that make
            another model of it; names it.

    >>> schedule_of({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}).schedule.shift
    3.0
    """
    name, config = _config(scheduler)
    if name not in SCHEDULERS:
        raise ValueError(f"unknown scheduler {name!r}; this version reads {', '.join(SCHEDULERS)}")
    sampler = _sampler(SCHEDULERS[name])
    if name in _FLOWS:
        return Reading(_flow(name, config, tokens), "flow", sampler)
    given = config.get("prediction_type", "epsilon")
    if given not in _KINDS:
        raise ValueError(f"{name} has the unknown prediction_type {given!r}; known: {', '.join(_KINDS)}")
    if config.get("timestep_type", "discrete") != "discrete":
        raise ValueError(f"{name} has timestep_type {config['timestep_type']!r}: only 'discrete' networks are read")
    if given == "flow_prediction" or config.get("use_flow_sigmas"):
        if given != "flow_prediction":
            raise ValueError(f"{name} has use_flow_sigmas but predicts {given!r}; expected flow_prediction")
        return Reading(_shifted(float(config.get("flow_shift", 1.0))), "flow", sampler)
    return Reading(_betas(name, config), _KINDS[given], sampler)


def times_of(scheduler: Any, steps: int, schedule: Schedule, **settings: Any) -> Tensor:
    """The times of a scheduler's own run, (steps + 1,) falling: the grid with which its pictures are matched.

    The last is the state its last step leads to: t = 0, or 1/N for schedulers that stop at the first trained step;
    where the step before is there already, the last step changes nothing and is left out. A network is told the very
    time of each node; on grids between the trained steps (Karras) diffusers' DPM-Solvers round it to a whole step, so
    that those pictures differ a little.

    Args:
        scheduler: of diffusers; a copy of it is set.
        steps: >= 1.
        schedule: the denoiser's, of `schedule_of`.
        settings: further keywords of its `set_timesteps` (`mu`, `sigmas`).
    """
    # PNDM's Runge-Kutta start has nodes of its own, which no solver of ours takes
    start = {"skip_prk_steps": True} if "skip_prk_steps" in scheduler.config else {}
    own = type(scheduler).from_config(scheduler.config, **start)
    own.set_timesteps(**({} if "sigmas" in settings else {"num_inference_steps": steps}), **settings)
    sigmas = getattr(own, "sigmas", None)
    if sigmas is None:
        return _integer_times(own)
    s = torch.as_tensor(sigmas).to("cpu", torch.float64)
    lam = (torch.log1p(-s) - s.log()) if schedule.curve == "straight" else -s.log()
    times = schedule.t_of(lam)
    if isinstance(schedule, Discrete):  # float32 sigmas put integer steps 1e-4 beside themselves
        place = times * schedule.steps
        times = torch.where((place - place.round()).abs() < 1e-2, place.round() / schedule.steps, times)
    return torch.unique_consecutive(times)  # solvers of two evaluations a step (Heun, KDPM2) stand at a node twice


def _integer_times(own: Any) -> Tensor:
    n = own.config.num_train_timesteps
    times = (torch.as_tensor(own.timesteps).to("cpu", torch.float64) + 1) / n
    last = 1 / n if own.config.get("set_alpha_to_one") is False else 0.0
    return torch.unique_consecutive(torch.cat([times, times.new_tensor([last])]))  # PNDM's warm-up repeats a node


def _config(scheduler: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(scheduler, Mapping):
        return str(scheduler.get("_class_name")), scheduler
    return type(scheduler).__name__, dict(scheduler.config)


def _sampler(name: str) -> str:
    from mezzotint.sample.names import NAMED

    return name if name in NAMED else "dpmpp-2m"


def _shifted(shift: float) -> Schedule:
    return Flow() if shift == 1 else Shifted(Flow(), shift)  # type: ignore[return-value]


def _flow(name: str, config: Mapping[str, Any], tokens: int | None) -> Schedule:
    if config.get("invert_sigmas"):
        raise ValueError(f"{name} has invert_sigmas, a model with noise at 0; not supported")
    if not config.get("use_dynamic_shifting"):
        return _shifted(float(config.get("shift", 1.0)))
    if tokens is None:
        raise ValueError(f"{name} has dynamic shifting; give the number of image tokens")
    kind = config.get("time_shift_type", "exponential")
    if kind not in ("exponential", "linear"):
        raise ValueError(f"{name} has the unknown time_shift_type {kind!r}; known: exponential, linear")
    mu = shift_mu(config, tokens)
    return _shifted(math.exp(mu) if kind == "exponential" else mu)


def shift_mu(config: Mapping[str, Any], tokens: int) -> float:
    """mu of dynamic shifting, linear in the number of image tokens.

    Source: the pipelines of Flux and SD3 in diffusers (`calculate_shift`); arXiv 2403.03206, section 5.3.2.

    >>> shift_mu({}, 256), round(shift_mu({}, 4096), 9)
    (0.5, 1.15)
    """
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    first, last = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return first + (last - first) * (tokens - low) / (high - low)


def _betas(name: str, config: Mapping[str, Any]) -> Discrete:
    n, first, last = (config.get(k, v) for k, v in _DEFAULTS.items())
    kind = config.get("beta_schedule", "linear")
    if (trained := config.get("trained_betas")) is not None:
        schedule = Discrete(list(map(float, trained)))
    elif kind == "linear":
        schedule = Discrete.linear(n, first, last)
    elif kind == "scaled_linear":
        schedule = Discrete.scaled_linear(n, first, last)
    elif kind == "squaredcos_cap_v2":
        schedule = Discrete.cosine(n)
    else:
        raise ValueError(
            f"{name} has the unknown beta_schedule {kind!r}; known: linear, scaled_linear, squaredcos_cap_v2, "
            "or trained_betas"
        )
    if not config.get("rescale_betas_zero_snr"):
        return schedule
    if name in _EXACTLY_ZERO:
        return ZeroTerminal(rescaled_betas(schedule.betas))
    return Discrete(rescaled_betas(schedule.betas, _NEARLY_ZERO))


_DEFAULTS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
