"""What a model knows: local spectra and directions of a denoiser, and the theory of data on subspaces;
what the words of a prompt tell of each pixel."""

from mezzotint.interpret.pid import ATOMS, Atoms, Decomposition, decompose
from mezzotint.interpret.pid_information import Information, information
from mezzotint.interpret.pid_levels import InformationLevels
from mezzotint.interpret.pid_picture import heat, pid_sheet, pid_strip
from mezzotint.interpret.pid_prompt import PromptInformation, conditions_of, explain_pid, prompts_of, without_words
from mezzotint.interpret.pid_report import AmbiguityTable, BiasTable, ambiguity_table, redundancy_table
from mezzotint.interpret.subspace import (
    Directions,
    SubspaceIteration,
    local_directions,
    semantic_directions,
    without,
)
from mezzotint.interpret.subspace_copies import HalfPoint, half_point, nearest, novelty
from mezzotint.interpret.subspace_denoiser import LowRankDenoiser, TrainedSubspaces, low_rank_loss
from mezzotint.interpret.subspace_edit import edit_along, edit_strip, state_at
from mezzotint.interpret.subspace_fit import PCA, KSubspaces, SubspaceSolver, captured, subspace_error
from mezzotint.interpret.subspace_jacobian import Jacobian
from mezzotint.interpret.subspace_phase import PhaseTransition, balanced, phase_transition
from mezzotint.interpret.subspace_picture import PictureDirections, directions_sheet, explain_subspace
from mezzotint.interpret.subspace_rank import (
    IntrinsicDimension,
    RankCurve,
    intrinsic_dimension,
    jacobian_rank,
    neighbour_dimension,
    numerical_rank,
    rank_curve,
)

__all__ = [
    "ATOMS",
    "AmbiguityTable",
    "Atoms",
    "BiasTable",
    "Decomposition",
    "Information",
    "InformationLevels",
    "PromptInformation",
    "ambiguity_table",
    "conditions_of",
    "decompose",
    "explain_pid",
    "heat",
    "information",
    "pid_sheet",
    "pid_strip",
    "prompts_of",
    "redundancy_table",
    "without_words",
    "PCA",
    "Directions",
    "HalfPoint",
    "IntrinsicDimension",
    "Jacobian",
    "KSubspaces",
    "LowRankDenoiser",
    "PhaseTransition",
    "RankCurve",
    "SubspaceIteration",
    "SubspaceSolver",
    "TrainedSubspaces",
    "balanced",
    "captured",
    "edit_along",
    "edit_strip",
    "half_point",
    "intrinsic_dimension",
    "jacobian_rank",
    "local_directions",
    "low_rank_loss",
    "nearest",
    "neighbour_dimension",
    "novelty",
    "numerical_rank",
    "phase_transition",
    "rank_curve",
    "semantic_directions",
    "state_at",
    "subspace_error",
    "without",
    "PictureDirections",
    "directions_sheet",
    "explain_subspace",
]
