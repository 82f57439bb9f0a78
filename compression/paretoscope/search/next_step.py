"""One step further on a slider, in the direction that compresses more."""

import math

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import shown
from paretoscope.recipe.recipe import SETTINGS, Recipe

# The sliders that are always in sight.
SLIDERS = tuple(name for name, setting in SETTINGS.items() if setting.prominent)


def next_value(recipe: Recipe, slider: str, steps: int = 1) -> float | None:
    """The value so many steps further on a slider's own grid, at most its last; None where there is none.

    The right end of a slider compresses most. Raises RecipeError for what is no slider.
    """
    if slider not in SLIDERS:
        raise RecipeError(f"a slider must be one of {', '.join(SLIDERS)}; got {shown(slider)}. Name one of these.")
    if steps < 1:
        raise RecipeError(f"a slider goes one step further or more; got {steps}. Pass e.g. 1.")
    offered = SETTINGS[slider].kind.offered
    rising = offered[-1] > offered[-2]

    def strength(value: float | None) -> float:
        # None and 0 of a slider that falls are off: weaker than all others.
        return float(value or 0) if rising else -(value or math.inf)

    now = strength(recipe.settings()[slider])
    stronger: list[float] = [each for each in offered if strength(each) > now]
    return stronger[min(steps, len(stronger)) - 1] if stronger else None


def further(recipe: Recipe, slider: str, steps: int = 1) -> Recipe | None:
    """The recipe with a slider so many steps further, without its training; None at its end. Raises RecipeError."""
    value = next_value(recipe, slider, steps)
    return None if value is None else recipe.with_setting(slider, value)
