"""One number for the whole model: the exchange rate of bits and harm that meets a wanted size or a wanted harm."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paretoscope import codec
from paretoscope.base.errors import RecipeError
from paretoscope.base.progress import SILENT, Progress
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Quantize, Recipe

# Exchange rates are tried on a grid of this many to a decade: sizes about half a percent apart. Chosen by hand; no
# benchmark shows it.
FINENESS = 50
LEAST, GREATEST = -9 * FINENESS, FINENESS
# Bits of codes, where the recipe names none: enough that no step is widened to hold the largest weight.
MOST_BITS = 12


@dataclass(frozen=True, slots=True)
class Allotment:
    """recipe: with the exchange rate that was found. measured: what it costs, in the unit of the wish. reached: whether
    that meets the wish; if not, this is the nearest."""

    recipe: Recipe
    measured: float
    reached: bool


def by_rate(recipe: Recipe) -> Recipe:
    """The recipe with steps allotted by an exchange rate, whatever its calibration was; raises RecipeError."""
    if recipe.share is not None or (recipe.quantize is not None and recipe.quantize.bits == 1):
        raise RecipeError(
            f"steps are allotted to integer codes; got {recipe.describe()}. Leave clusters out and take 2 bits or more."
        )
    if recipe.quantize is not None and recipe.quantize.calibration == "rate":
        return recipe
    step = recipe.quantize or Quantize(MOST_BITS)
    return dataclasses.replace(recipe, quantize=dataclasses.replace(step, calibration="rate"))


def allot(
    subject: Subject,
    recipe: Recipe,
    *,
    size: int | None = None,
    harm: float | None = None,
    progress: Progress = SILENT,
) -> Allotment:
    """The exchange rate that meets a wanted size of the artefact, in bytes, or a wanted harm over the train split, in
    nats; raises RecipeError unless it is one of them."""
    if size is not None and harm is None:
        return for_size(recipe, size, lambda each: len(codec.write(subject.compress(each))), progress)
    if harm is not None and size is None:
        return for_harm(recipe, harm, lambda each: subject.train_harm(subject.compress(each)), progress)
    raise RecipeError(f"allot needs a wanted size or a wanted harm, one of them; got {size} and {harm}. Pass one.")


def for_size(recipe: Recipe, wanted: int, measure: Callable[[Recipe], int], progress: Progress = SILENT) -> Allotment:
    """The lowest exchange rate at which `measure` gives at most `wanted` bytes.

    progress: told before each measurement; what it raises ends the search. Raises RecipeError for what is no size.
    """
    _check_size(wanted)
    return _search(recipe, wanted, measure, progress, fits_from_above=True)


def pack_for_size(recipe: Recipe, plain: Sequence[Recipe], wanted: int, measure: Callable[[Recipe], int]) -> Recipe:
    """The recipe of a file of at most `wanted` bytes that loses the least.

    plain: recipes without quantization, of which the smallest is taken where it fits; none for not to be tried. recipe:
    by rate, or without quantization, which it then gets, with harm weighted by magnitudes. Raises RecipeError where
    nothing fits.
    """
    _check_size(wanted)
    sizes = {each: measure(each) for each in plain}
    if sizes and min(sizes.values()) <= wanted:
        return min(sizes, key=lambda each: sizes[each])
    if recipe.quantize is None:
        step = Quantize(MOST_BITS, calibration="rate", weighting="magnitude")
        recipe = dataclasses.replace(recipe, quantize=step)
    elif recipe.quantize.calibration != "rate":
        raise RecipeError(
            f"a size is met by an exchange rate; got {recipe.describe()}, which has none. Calibrate by rate, or leave "
            "out the size."
        )
    found = for_size(recipe, wanted, measure)
    if not found.reached:
        raise RecipeError(
            f"the smallest file of this recipe has {found.measured:,} bytes; {wanted:,} are wanted. Pass "
            f"--size {found.measured} or more, or pack fewer tensors."
        )
    return found.recipe


def for_harm(
    recipe: Recipe, wanted: float, measure: Callable[[Recipe], float], progress: Progress = SILENT
) -> Allotment:
    """The highest exchange rate at which `measure` gives at most `wanted` nats.

    progress: as for `for_size`. Raises RecipeError for what is no harm.
    """
    if not 0 <= wanted < math.inf:
        raise RecipeError(f"a wanted harm must be a number of at least 0; got {wanted:g}. Pass e.g. 0.01.")
    return _search(recipe, wanted, measure, progress, fits_from_above=False)


def _check_size(wanted: int) -> None:
    if wanted < 1:
        raise RecipeError(f"a wanted size must be at least 1 byte; got {wanted}. Pass e.g. 500000.")


def _search(
    recipe: Recipe, wanted: float, measure: Callable[[Recipe], float], progress: Progress, *, fits_from_above: bool
) -> Allotment:
    recipe = by_rate(recipe)
    found: dict[int, float] = {}
    total = (GREATEST - LEAST).bit_length() + 1

    def fits(place: int) -> bool:
        progress.report(len(found), total)
        found[place] = measure(_at(recipe, place))
        return found[place] <= wanted

    # The end that fits most easily, and the other one: between them lies the last place that fits.
    inside, outside = (GREATEST, LEAST) if fits_from_above else (LEAST, GREATEST)
    if not fits(inside):
        return Allotment(_at(recipe, inside), found[inside], reached=False)
    while abs(inside - outside) > 1:
        middle = (inside + outside) // 2
        if fits(middle):
            inside = middle
        else:
            outside = middle
    return Allotment(_at(recipe, inside), found[inside], reached=True)


def _at(recipe: Recipe, place: int) -> Recipe:
    assert recipe.quantize is not None  # `by_rate` gives every recipe one
    exchange = float(f"{10 ** (place / FINENESS):.3g}")
    return dataclasses.replace(recipe, quantize=dataclasses.replace(recipe.quantize, exchange=exchange))
