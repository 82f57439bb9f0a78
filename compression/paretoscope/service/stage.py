"""The steps of a demonstration for a network: what ships for the zoo, and what the store has of others."""

from dataclasses import replace

from paretoscope.measure.stage import Slide, Step
from paretoscope.networks.zoo import models
from paretoscope.recipe.presets import presets, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.presets import best_known, known
from paretoscope.service.study import StudyKind


def recipes(bench: Knowledge, model: str) -> dict[Step, Recipe | None]:
    """The recipe of each step; None for training where none is known of the network.

    The steps build up the preset Deep Compression: in whole numbers, then pruned, then with shared values, then coded.
    """
    whole = presets.get("deep-compression").recipe
    return {
        Step.BASELINE: Recipe(),
        Step.INT8: presets.get("int8").recipe,
        Step.PRUNE: replace(whole, share=None),
        Step.SHARE: whole,
        Step.CODE: whole,
        Step.TRAINED: _trained(bench, model),
    }


def _trained(bench: Knowledge, model: str) -> Recipe | None:
    """Of the zoo, what ships trained, the best first; of others the smallest that nothing tells from the baseline."""
    if model in models:
        offered = [best_known(model), *presets_of(model)]
        return next((each.recipe for each in offered if each.recipe.recover is not None), None)
    board = bench.board(model)
    found = [board.record(place) for place in board.trained()]
    held = [each for each in found if not each.figures.distinguishable]
    if held:
        return min(held, key=lambda each: each.size.artefact).recipe
    return max(found, key=lambda each: each.figures.value).recipe if found else None


def slides(bench: Knowledge, model: str) -> list[Slide]:
    """The steps with what is known of them; nothing is measured for it."""
    found = []
    for step, recipe in recipes(bench, model).items():
        measured = None
        if recipe is not None and step is not Step.BASELINE:
            measured = bench.known(StudyKind.STAGE, model, recipe)
        untrained = known(model, recipe.untrained) if recipe is not None and recipe.recover is not None else None
        found.append(Slide(step, recipe, measured, None if untrained is None else untrained.accuracy))
    return found
