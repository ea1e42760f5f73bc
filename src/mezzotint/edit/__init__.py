"""What a user does to an image with a denoiser, a file a method."""

from mezzotint.edit.cycle import Cycled, CycleDiffusion
from mezzotint.edit.cycle_choice import BestOf, Chosen
from mezzotint.edit.filter_prompt import Compared, FilterPrompt, LeakReport, Prompted
from mezzotint.edit.image_condition import ConvTokens, ImageTokens, Picture, SoftEdge
from mezzotint.edit.pixelman import Edited, PixelMan
from mezzotint.edit.pixelman_branches import EditTrace
from mezzotint.edit.pixelman_energy import EditEnergy
from mezzotint.edit.pixelman_paste import Pasted, Placement, paste_object, place
from mezzotint.edit.pixelman_plan import EditPlan, plan_move, plan_paste
from mezzotint.edit.spacetime import Faithful, SpaceTimeAttention
from mezzotint.edit.spacetime_score import faithfulness_loss

__all__ = [
    "BestOf",
    "Chosen",
    "Compared",
    "ConvTokens",
    "CycleDiffusion",
    "Cycled",
    "EditEnergy",
    "EditPlan",
    "EditTrace",
    "Edited",
    "Faithful",
    "FilterPrompt",
    "ImageTokens",
    "LeakReport",
    "Pasted",
    "Picture",
    "PixelMan",
    "Placement",
    "Prompted",
    "SoftEdge",
    "SpaceTimeAttention",
    "faithfulness_loss",
    "paste_object",
    "place",
    "plan_move",
    "plan_paste",
]
