"""The cliff finder: how far one slider can go before the model is told from the baseline.

Bisection over the slider's grid, from the mildest to the strongest value. Figures need not fall evenly along it, so a
value beyond the cliff may pass again; what bisection finds is a passing value whose next stronger one fails.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretoscope.base.errors import RecipeError
from paretoscope.base.progress import SILENT, Progress
from paretoscope.measure.record import FIRST_TASK
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import Figures, tasks

# From the mildest to the strongest. The sliders' "off" is not among them: without the step there is no cliff.
GRIDS: dict[str, tuple[float, ...]] = {
    "sparsity": tuple(percent / 100 for percent in range(1, 100)),
    "clusters": (256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 7, 6, 5, 4, 3, 2),
    "bits": tuple(range(16, 0, -1)),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluation of the search. value: of the setting. figures: the task's, of the whole test split."""

    value: float
    figures: Figures


@dataclass(frozen=True, slots=True)
class Cliff:
    """Where a setting's cliff is.

    last: the last value that is indistinguishable from the baseline, None when not even the mildest one is.
    first: the next stronger value, which is distinguishable, None when not even the strongest one is.
    steps: the evaluations, in the order in which they were made.
    """

    setting: str
    last: float | None
    first: float | None
    steps: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; figures of every task are stored under "accuracy", the name that the first task gave them."""
        steps = [{"value": each.value, "accuracy": dataclasses.asdict(each.figures)} for each in self.steps]
        return {"setting": self.setting, "last": self.last, "first": self.first, "steps": steps}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], task: str = FIRST_TASK) -> "Cliff":
        """What `to_dict` wrote, with figures of a task; KeyError or TypeError when it is not that."""
        read = tasks.get(task).read_figures
        steps = tuple(Trial(each["value"], read(each["accuracy"])) for each in data["steps"])
        return cls(**{**data, "steps": steps})


def find_cliff(
    evaluate: Callable[[Recipe], Figures],
    recipe: Recipe,
    setting: str,
    grid: Sequence[float] | None = None,
    progress: Progress = SILENT,
) -> Cliff:
    """Bisect `setting` ("sparsity", "clusters" or "bits") of the recipe; every other setting stays.

    evaluate: the exact figures of a recipe; called at most log2(len(grid)) + 2 times. grid: values from the mildest to
    the strongest, GRIDS[setting] by default. progress: told after each evaluation, with the cliff so far;
    what it raises ends the search. Raises RecipeError.
    """
    if setting not in GRIDS:
        raise RecipeError(f"the cliff is found along {', '.join(GRIDS)}; got {setting!r}. Name one of these.")
    grid = GRIDS[setting] if grid is None else grid
    if not grid:
        raise RecipeError("a grid must have at least one value; got none. Pass the slider's values.")
    steps: list[Trial] = []
    # All up to `passing` is taken to pass and all from `failing` on to fail; both ends are imagined at first.
    passing, failing = -1, len(grid)

    def cliff() -> Cliff:
        last = grid[passing] if passing >= 0 else None
        return Cliff(setting, last, grid[failing] if failing < len(grid) else None, tuple(steps))

    most = len(grid).bit_length()
    while failing - passing > 1:
        middle = (passing + failing) // 2
        figures = evaluate(recipe.with_setting(setting, grid[middle]))
        steps.append(Trial(grid[middle], figures))
        if figures.distinguishable:
            failing = middle
        else:
            passing = middle
        progress.report(1.0 if failing - passing <= 1 else len(steps) / (most + 1), partial=cliff())
    return cliff()
