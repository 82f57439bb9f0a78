"""The steps of a recipe, one file each: what each can be told, described beside it, and its canonical form."""

from paretoscope.recipe.steps.code import Code
from paretoscope.recipe.steps.prune import Prune
from paretoscope.recipe.steps.quantize import Quantize
from paretoscope.recipe.steps.recover import Recover
from paretoscope.recipe.steps.repair import Repair
from paretoscope.recipe.steps.share import Share
from paretoscope.recipe.steps.simplify import Simplify

__all__ = ["STEPS", "Code", "Prune", "Quantize", "Recover", "Repair", "Share", "Simplify"]

# In the order in which they run.
STEPS = {
    "simplify": Simplify,
    "prune": Prune,
    "share": Share,
    "quantize": Quantize,
    "repair": Repair,
    "recover": Recover,
    "code": Code,
}
