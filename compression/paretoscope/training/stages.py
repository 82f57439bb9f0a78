"""The stages of a training: in each epoch, the recipe that weights follow; sparsity and bits may come gradually."""

from dataclasses import replace

from paretoscope.recipe.recipe import INTEGER_BITS, Recipe
from paretoscope.recipe.steps.quantize import Calibration

# By rate, the ramp begins at the recipe's exchange rate divided by this; chosen by hand, no benchmark.
FINEST = 100.0
# The exchange rate never falls to zero over a ramp, which a recipe by rate cannot have.
_LEAST_EXCHANGE = 1e-12


def stage(recipe: Recipe, epoch: int) -> Recipe:
    """The recipe that weights follow in an epoch, from 1; without the training itself.

    Over the ramp the sparsity rises as 1 - (1 - t)**3 (Zhu and Gupta, To prune, or not to prune, 2017, equation 1) and
    the bits fall from 8 in even steps, or the exchange rate rises a hundredfold; weights are shared after it. Patterns,
    thresholds and overrides cannot come gradually, and hold from the start.
    """
    plain = recipe.untrained
    ramp = ramp_epochs(recipe)
    if epoch > ramp:
        return plain
    done = epoch / ramp
    if plain.prune is not None and plain.prune.sparsity:
        sparsity = plain.prune.sparsity * (1 - (1 - done) ** 3)
        plain = replace(plain, prune=replace(plain.prune, sparsity=sparsity))
    if plain.share is not None:
        return replace(plain, share=None, quantize=None)
    quantize = plain.quantize
    if quantize is None:
        return plain
    if quantize.calibration == Calibration.RATE:
        exchange = max(quantize.exchange * FINEST ** (done - 1), _LEAST_EXCHANGE)
        return replace(plain, quantize=replace(quantize, exchange=exchange))
    if quantize.bits < INTEGER_BITS:
        bits = INTEGER_BITS - (INTEGER_BITS - quantize.bits) * epoch // ramp
        return replace(plain, quantize=replace(quantize, bits=bits))
    return plain


def ramp_epochs(recipe: Recipe) -> int:
    """How many epochs come before the recipe holds in full; 0 for a recipe without training."""
    step = recipe.recover
    if step is None:
        return 0
    return min(round(step.ramp * step.epochs), step.epochs - 1)


def pruning_of(recipe: Recipe) -> Recipe:
    """The recipe's pruning alone, by which pruned weights are told from those that rounding makes zero."""
    rules = ("sparsity", "scope", "threshold", "pattern")
    overrides = [
        {"layers": override.layers, **own}
        for override in recipe.overrides
        if (own := {name: value for name, value in override.settings if name in rules})
    ]
    pruned = {name: value for name, value in recipe.settings().items() if name in rules}
    return Recipe.of(**pruned, overrides=overrides)
