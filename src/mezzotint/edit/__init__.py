"""What a user does to an image with a denoiser, a file a method."""

from mezzotint.edit.cycle import Cycled, CycleDiffusion
from mezzotint.edit.cycle_choice import BestOf, Chosen
from mezzotint.edit.pixelman import Edited, PixelMan
from mezzotint.edit.pixelman_branches import EditTrace
from mezzotint.edit.pixelman_energy import EditEnergy
from mezzotint.edit.pixelman_paste import Pasted, Placement, paste_object, place
from mezzotint.edit.pixelman_plan import EditPlan, plan_move, plan_paste

__all__ = [
    "BestOf",
    "Chosen",
    "CycleDiffusion",
    "Cycled",
    "EditEnergy",
    "EditPlan",
    "EditTrace",
    "Edited",
    "Pasted",
    "PixelMan",
    "Placement",
    "paste_object",
    "place",
    "plan_move",
    "plan_paste",
]
