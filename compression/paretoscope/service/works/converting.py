"""Conversions, each run in its own runtime before it is given away."""

from paretoscope.base.progress import Progress
from paretoscope.export import Checked, produce
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.study import StudyKind


def convert(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, format: str) -> Checked:
    """Convert a recipe's model and check the files; the figures are kept, and the files for a while."""
    checked = produce(bench.compressed(model, recipe), format, bench.subject(model), progress=progress)
    # What could not even be made says nothing about the next time.
    if checked.verification.size:
        bench.keep(StudyKind.CONVERT, (model, recipe, format), checked.verification)
    if checked.conversion is not None:
        bench.keep_conversion(model, recipe, checked.conversion)
    return checked
