"""What a recipe asks for in each epoch of its training: sparsity and bits may come gradually."""

from dataclasses import replace

from paretoscope.recipe.recipe import INTEGER_BITS, Recipe

# By rate, the ramp begins at so small a part of the exchange rate.
FINEST = 100.0


def stage(recipe: Recipe, epoch: int) -> Recipe:
    """The recipe that weights follow in an epoch, from 1; without the training itself.

    Over the ramp the sparsity rises as 1 - (1 - t)**3 (Zhu and Gupta, To prune, or not to prune, 2017, equation 1) and
    the bits fall from 8 in even steps, or the exchange rate rises a hundredfold; weights are shared after it. Rules
    that know no half (patterns, thresholds, overrides) hold from the start.
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
    if plain.quantize is not None and plain.quantize.bits < INTEGER_BITS and plain.quantize.calibration != "rate":
        bits = INTEGER_BITS - (INTEGER_BITS - plain.quantize.bits) * epoch // ramp
        plain = replace(plain, quantize=replace(plain.quantize, bits=bits))
    if plain.quantize is not None and plain.quantize.calibration == "rate":
        exchange = max(plain.quantize.exchange * FINEST ** (done - 1), 1e-12)
        plain = replace(plain, quantize=replace(plain.quantize, exchange=exchange))
    return plain


def ramp_epochs(recipe: Recipe) -> int:
    """How many epochs come before the recipe holds in full."""
    step = recipe.recover
    return min(round(step.ramp * step.epochs), step.epochs - 1)


def pruning_of(recipe: Recipe) -> Recipe:
    """The recipe's pruning and nothing else: what tells pruned weights from those that rounding makes zero."""
    rules = ("sparsity", "scope", "threshold", "pattern")
    overrides = [
        {"layers": override.layers, **own}
        for override in recipe.overrides
        if (own := {name: value for name, value in override.settings if name in rules})
    ]
    pruned = {name: value for name, value in recipe.settings().items() if name in rules}
    return Recipe.of(**pruned, overrides=overrides)
