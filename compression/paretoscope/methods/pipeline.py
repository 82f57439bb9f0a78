"""From a model and a recipe to a compressed model: the steps in their canonical order.

simplify -> prune -> share -> quantize -> repair -> code. Here are the steps on the weights, prune to quantize, with
repair's rounding among them; `measure.variant` simplifies before and repairs the rest after, because both need data.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from paretoscope.base.errors import RecipeError
from paretoscope.base.lock import machine, released
from paretoscope.base.text import listed, nearest, shown
from paretoscope.methods import binarize, bound, compensate, dependent, groups, moments, prune, quantize, share
from paretoscope.methods.compensate import Entries, Steps
from paretoscope.methods.prune import Cut
from paretoscope.model import powers, trellis
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.model.structure import Structure
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.recipe import effects
from paretoscope.recipe.recipe import INTEGER_BITS, RULES, LayerRecipe, Override, Quantize, Recipe

# Measured: below about this much work, handing layers to threads costs more than it saves.
WEIGHTS_FOR_THREADS = 1_000_000


def compress(
    statistics: ModelStatistics,
    recipe: Recipe,
    *,
    source: str | None = None,
    structure: Structure | None = None,
    hessians: Mapping[str, np.ndarray] | None = None,
    fisher: Mapping[str, np.ndarray] | None = None,
    notes: tuple[str, ...] = (),
    known: Collection[str] = (),
) -> CompressedModel:
    """Compress the weights of a model, given its statistics. The model itself is not touched; same input, same output.

    source, structure, notes: of a simplified model, whose statistics these are. hessians: second moments of the layers'
    inputs, for rounding with error compensation. fisher: diagonal Fisher information, as `methods.fisher` gives it, for
    quantization by rate. known: names of layers that an override may be for beside those that are there: of the network
    before it was simplified. Raises RecipeError where a recipe needs fisher and there is none, and for an override that
    matches no layer.
    """
    names = tuple(statistics.layers)
    check_overrides(recipe, (*names, *known))
    plans = layer_plans(names, recipe)
    with machine(exclusive=False):
        cuts = prune.cuts_of(statistics, plans, recipe.prune)

    @machine(exclusive=False)
    def step(layer: LayerStatistics) -> CompressedTensor:
        given = (hessians or {}).get(layer.name), (fisher or {}).get(layer.name)
        return compress_layer(layer, plans[layer.name], cuts.get(layer.name), *given)

    layers = statistics.layers.values()
    if len(statistics.magnitudes) < WEIGHTS_FOR_THREADS:
        tensors = list(map(step, layers))
    else:
        # Each thread shares the machine by itself: a timing that they wait for must not wait for this one.
        with released(), ThreadPoolExecutor(os.cpu_count()) as pool:
            tensors = list(pool.map(step, layers))
    return CompressedModel(
        architecture=statistics.architecture,
        source=source or statistics.digest,
        recipe=recipe,
        weights=dict(zip(names, tensors, strict=True)),
        rest={name: _rest(array, recipe, (fisher or {}).get(name)) for name, array in statistics.rest.items()},
        order=statistics.order,
        structure=structure or Structure(),
        ties=statistics.ties,
        turned=statistics.turned,
        notes=(
            *notes,
            *notes_of({name: layer.weight.shape for name, layer in statistics.layers.items()}, recipe),
            *_emptied(statistics, dict(zip(names, tensors, strict=True)), recipe),
        ),
    )


def with_rest(compressed: CompressedModel, changed: Mapping[str, np.ndarray]) -> CompressedModel:
    """The model with other values of some entries that are not compressed, in the recipe's format."""
    own = {name: array for name, array in changed.items() if name not in compressed.ties}
    rest = {name: _like(compressed.rest[name], array, compressed.recipe) for name, array in own.items()}
    return replace(compressed, rest={**compressed.rest, **rest})


def layer_plans(names: tuple[str, ...], recipe: Recipe) -> dict[str, LayerRecipe]:
    """Each layer's steps; `names` in the order of the state dict, its first and last being the ends."""
    if not recipe.overrides and not recipe.keep_ends:
        return dict.fromkeys(names, LayerRecipe(recipe.prune, recipe.share, recipe.quantize))
    return {name: recipe.for_layer(name, end=name in (names[0], names[-1])) for name in names}


def compress_layer(
    layer: LayerStatistics,
    plan: LayerRecipe | Recipe,
    cut: Cut | None,
    hessian: np.ndarray | None = None,
    fisher: np.ndarray | None = None,
) -> CompressedTensor:
    """Run the steps on one layer.

    cut: where it is pruned by magnitude, None for not at all. hessian: float64 (groups, columns, columns), second
    moments of its inputs; with it, rounding errors are made good by the weights that are rounded after them. fisher:
    float64 (rows,), mean diagonal Fisher information of each output channel, for quantization by rate. A weight that
    codes would make larger stays floats, but where integer kernels need the codes.
    """
    weight = layer.weight
    if cut:
        weight = prune.apply(weight, cut)
    elif plan.prune and plan.prune.pattern and prune.divides(weight.shape, plan.prune.kept_of[1]):
        weight = prune.apply_pattern(weight, *plan.prune.kept_of)
    if plan.quantize and weight.ndim < 2 and plan.quantize.granularity == "channel":
        # A row would be one value, with a scale of its own.
        plan = replace(plan, quantize=replace(plan.quantize, granularity="tensor"))
    tensor = _coded(layer, weight, plan, hessian, fisher)
    for_kernels = plan.quantize is not None and plan.quantize.activations <= INTEGER_BITS
    return Plain(weight) if not for_kernels and _is_larger(tensor, weight) else tensor


def _coded(
    layer: LayerStatistics,
    weight: np.ndarray,
    plan: LayerRecipe | Recipe,
    hessian: np.ndarray | None,
    fisher: np.ndarray | None,
) -> CompressedTensor:
    """The layer's weight, as pruning left it, in the form that the plan asks for."""
    pruned = weight is not layer.weight
    if plan.share:
        return _shared(layer, weight, plan, hessian)
    if plan.quantize is None:
        return Plain(weight)
    kept = weight != 0 if pruned else None
    if plan.quantize.calibration == "rate":
        # Codes of 2 bits are rounded one by one, and make nothing good.
        if hessian is None and plan.quantize.weighting == "magnitude" and plan.quantize.bits > 2:
            hessian = moments.assumed(weight.shape)
        return _by_rate(layer.weight if hessian is not None else weight, kept, plan.quantize, hessian, fisher)
    if plan.quantize.bits == 1:
        tensor = binarize.apply(weight, kept, plan.quantize)
    else:
        tensor = quantize.apply(weight, layer.channel_max, plan.quantize)
    return (
        tensor
        if hessian is None
        else bound.bounded(layer.weight, _compensated(layer.weight, kept, tensor, hessian), hessian)
    )


def _is_larger(tensor: CompressedTensor, weight: np.ndarray) -> bool:
    """Whether codes and what is stored beside them take as many bytes as the floats.

    Scales cost the most where rows are short, which bytes before entropy coding tell. Floats of 16 bits, held in 32,
    are worth a closer look: many of their bits are no chance, and codes of as many are.
    """
    match tensor:
        case Integers(scale=scale, bits=bits, zero=zero):
            each = 1 if powers.to_steps(scale) is not None else scale.itemsize
            beside = scale.size * (each if zero is None else each + bits / 8)
        case _:
            return False
    spent = weight.size * bits / 8 + beside
    if spent < weight.size or not weight.any():
        return False
    if spent >= 4 * weight.size:
        return True
    patterns = np.ascontiguousarray(weight).view(np.uint32)
    if (patterns & np.uint32(0x1FFF)).any():
        return False
    codes = tensor.codes.astype(np.int32)
    if zero is not None:
        codes -= zero.reshape(zero.shape + (1,) * (codes.ndim - zero.ndim))
    parts = trellis.split(tensor.codes) if tensor.trellis else (codes,)
    spent = sum(entropy_bytes((2 * np.abs(part) - (part > 0)).astype(np.uint32)) for part in parts)
    return spent + beside >= float_bytes(weight)


def float_bytes(weight: np.ndarray) -> float:
    """`entropy_bytes` of float32 values, rotated as in the file, so that the exponent fills a byte."""
    patterns = np.ascontiguousarray(weight).view(np.uint32)
    return entropy_bytes(patterns << np.uint32(1) | patterns >> np.uint32(31))


def entropy_bytes(values: np.ndarray) -> float:
    """Bytes that the non-zero values, uint32, take byte by byte, by how often each byte is there.

    Zeros are left out: in a file they cost every form of a tensor the same.
    """
    values, total = values[values != 0], 0.0
    for shift in range(0, 32, 8):
        counts = np.bincount((values >> np.uint32(shift) & np.uint32(255)).astype(np.uint8), minlength=256)
        counts = counts[counts > 0]
        total += float((counts * np.log2(len(values) / counts)).sum()) / 8
    return total


def _by_rate(
    weight: np.ndarray,
    kept: np.ndarray | None,
    step: Quantize,
    hessian: np.ndarray | moments.Assumed | None,
    fisher: np.ndarray | None,
) -> Integers:
    return dependent.quantize(
        weight,
        kept,
        _sensitivity(weight, step, fisher),
        hessian,
        exchange=step.exchange,
        bits=step.bits,
        per_channel=step.granularity == "channel",
    )


def _sensitivity(values: np.ndarray, step: Quantize, fisher: np.ndarray | None) -> np.ndarray:
    if step.weighting == "magnitude":
        return dependent.magnitude_sensitivity(values)
    if fisher is None:
        raise RecipeError(
            'weighting "fisher" needs calibration samples; there are none here. Choose weighting "magnitude".'
        )
    return fisher


def _compensated(
    weight: np.ndarray, kept: np.ndarray | None, tensor: Integers | Codebook, hessian: np.ndarray
) -> Integers | Codebook:
    """The tensor with its codes chosen anew, by the error of the layer's output rather than of each weight.

    weight: as it was before pruning, so that what pruning takes away is made good too.
    """
    rounded = compensate.round_with_compensation
    if isinstance(tensor, Codebook):
        symbols = rounded(weight, hessian, tensor.indices != 0, Entries(tensor.entries.decode()))
        return replace(tensor, indices=symbols)
    if tensor.bits == 1:
        alpha = np.broadcast_to(tensor.scale, (len(weight),))
        symbols = rounded(weight, hessian, tensor.codes != 0, Entries(np.stack([-alpha, alpha], axis=1)))
        return replace(tensor, codes=np.array([0, -1, 1], np.int8)[symbols])
    top = quantize.levels(tensor.bits)
    low = -top if tensor.zero is None else -top - 1
    codes = rounded(weight, hessian, kept, Steps(tensor.scale, low, top, tensor.zero))
    return replace(tensor, codes=codes.astype(tensor.codes.dtype))


def _shared(
    layer: LayerStatistics, weight: np.ndarray, plan: LayerRecipe | Recipe, hessian: np.ndarray | None
) -> Codebook:
    codebook = _grouped(layer, weight, plan)
    if plan.share.population or plan.share.rarest:
        codebook = groups.drop(codebook, plan.share.population, plan.share.rarest, plan.share.moved, weight)
        codebook = bound.bounded(weight, codebook, None)
    if hessian is not None and codebook.entries.shape[0]:
        codebook = bound.bounded(layer.weight, _compensated(layer.weight, None, codebook, hessian), hessian)
    return codebook


def _grouped(layer: LayerStatistics, weight: np.ndarray, plan: LayerRecipe | Recipe) -> Codebook:
    negatives, positives = np.count_nonzero(weight < 0), np.count_nonzero(weight > 0)
    # Survivors of a pattern are not those of largest magnitude, so only their own statistics describe them.
    scattered = negatives + positives < weight.size and plan.prune is not None and plan.prune.pattern
    described = LayerStatistics.of(layer.name, weight[weight != 0]) if scattered and negatives + positives else layer
    entries = share.fit(described, negatives, positives, plan.share.clusters, plan.share.start)
    symbols = share.assign(weight, entries)
    if plan.quantize is None:
        return _merged(symbols, Plain(entries))
    if len(entries) == 0:
        kind = np.int8 if plan.quantize.bits <= 8 else np.int16
        return Codebook(symbols, Integers(np.zeros(0, kind), np.float32(1).reshape(()), plan.quantize.bits))
    # The largest weight does not ask how often each entry is used; every other choice of a scale does.
    weighted = plan.quantize.calibration != "range"
    counts = np.bincount(symbols.reshape(-1), minlength=len(entries) + 1)[1:] if weighted else np.ones(len(entries))
    to_grid = binarize.grid if plan.quantize.bits == 1 else quantize.grid
    return _merged(symbols, to_grid(entries, counts, plan.quantize))


def check_overrides(recipe: Recipe, names: Collection[str]) -> None:
    """Raises RecipeError where an override matches none of these names of layers, with the nearest of them.

    The two parts that low rank makes of a layer are names too, whether the recipe makes them or not.
    """
    for override in unmatched(recipe, names):
        short = [name.removesuffix(".weight") for name in names]
        raise RecipeError(
            f"an override must match a layer; got {shown(override.layers)}, which matches none."
            f"{nearest(override.layers, dict.fromkeys(short))} The layers are {listed(dict.fromkeys(short))}."
        )


def unmatched(recipe: Recipe, names: Collection[str]) -> tuple[Override, ...]:
    """The overrides that match none of these names of layers, nor what low rank would make of them."""
    parts = [f"{name.removesuffix('.weight')}.{part}.weight" for name in names for part in (0, 1)]
    return tuple(each for each in recipe.overrides if not any(each.matches(name) for name in (*names, *parts)))


def notes_of(shapes: Mapping[str, tuple[int, ...]], recipe: Recipe) -> tuple[str, ...]:
    """What a person should know of how a recipe acts on layers of these shapes, by name: what does nothing."""
    plans = layer_plans(tuple(shapes), recipe)
    return (*_left_dense(shapes, plans), *_without_effect(tuple(shapes), recipe), *effects.notes(recipe))


def _left_dense(shapes: Mapping[str, tuple[int, ...]], plans: Mapping[str, LayerRecipe]) -> list[str]:
    dense: dict[str, list[str]] = {}
    for name, plan in plans.items():
        pattern = plan.prune.pattern if plan.prune else ""
        if pattern and not prune.divides(shapes[name], plan.prune.kept_of[1]):
            dense.setdefault(pattern, []).append(name)
    return [
        f"Left dense, because the inputs of a weight do not divide into groups of {pattern.split(':')[1]}: "
        f"{listed(names)}."
        for pattern, names in dense.items()
    ]


def _emptied(statistics: ModelStatistics, tensors: Mapping[str, CompressedTensor], recipe: Recipe) -> list[str]:
    """What is told of layers of which nothing is left."""
    names = [
        name for name, tensor in tensors.items() if not _has_values(tensor) and statistics.layers[name].weight.any()
    ]
    return [f"Nothing is left of {listed(names)}: every weight became zero. {_keeping(recipe)}"] * bool(names)


def _keeping(recipe: Recipe) -> str:
    """What keeps some weights of a layer that a recipe empties."""
    ways = ["An override"]
    if (step := recipe.prune) is not None:
        ways.append("scope layer" if step.sparsity and step.scope == "global" else "less pruning")
    if recipe.quantize is not None and recipe.quantize.calibration == "rate":
        ways.append("a lower exchange rate")
    return f"{' or '.join(ways)} keeps some."


def _has_values(tensor: CompressedTensor) -> bool:
    match tensor:
        case Plain(values=values):
            return bool(values.any())
        case Codebook(indices=indices):
            return bool(indices.any())
        case Integers(codes=codes, zero=None):
            return bool(codes.any())
    return bool(tensor.decode().any())


def _without_effect(names: tuple[str, ...], recipe: Recipe) -> Iterator[str]:
    """Overrides whose layers are gone, and those of which later ones replace everything."""
    matched, heard = set(), set()
    for name in names:
        said: set[str] = set()
        for place in reversed(range(len(recipe.overrides))):
            override = recipe.overrides[place]
            if override.matches(name):
                own = {each for each, _ in override.settings}
                matched.add(place)
                if own - said:
                    heard.add(place)
                said |= own | (set(RULES) if own & set(RULES) else set())
    absent = [o for place, o in enumerate(recipe.overrides) if place not in matched]
    hidden = [o for place, o in enumerate(recipe.overrides) if place in matched - heard]
    if absent:
        yield f"No layer is called {listed(shown(o.layers) for o in absent)} here: what is set for it has no effect."
    if hidden:
        yield f"Later overrides replace all that is set for {listed(shown(o.layers) for o in hidden)}."


def _merged(symbols: np.ndarray, entries: Plain | Integers) -> Codebook:
    """The codebook without what rounding made equal or zero: zero has its own symbol, and every entry one."""
    codes = entries.codes if isinstance(entries, Integers) else entries.values
    kept = np.unique(codes[codes != 0])
    if len(kept) == len(codes):
        return Codebook(symbols, entries)
    table = np.zeros(len(codes) + 1, np.uint8 if len(kept) <= 255 else np.uint16)
    table[1:] = np.where(codes == 0, 0, np.searchsorted(kept, codes) + 1)
    merged = Integers(kept, entries.scale, entries.bits) if isinstance(entries, Integers) else Plain(kept)
    return Codebook(table[symbols], merged)


def _rest(array: np.ndarray, recipe: Recipe, fisher: np.ndarray | None) -> Plain | Integers:
    if recipe.code.rest == "rate" and array.dtype == np.float32 and array.size:
        by_magnitude = recipe.quantize.weighting == "magnitude"
        # Variances and gains span orders of magnitude, and no harm is known of statistics: they keep their digits.
        if (fisher is not None or by_magnitude) and not (array > 0).all() and np.isfinite(array).all():
            sensitivity = float(_sensitivity(array.reshape(1, -1), recipe.quantize, fisher).mean())
            return dependent.round_values(array, sensitivity, recipe.quantize.exchange)
    return _plain(array, recipe.code.rest)


def _like(before: Plain | Integers, array: np.ndarray, recipe: Recipe) -> Plain | Integers:
    """New values of an entry, in the format that it had."""
    return dependent.on_grid(array, before.scale) if isinstance(before, Integers) else _plain(array, recipe.code.rest)


def _plain(array: np.ndarray, form: str) -> Plain:
    if form != "fp32" and array.dtype == np.float32:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if np.array_equal(np.isfinite(half), np.isfinite(array)):
            return Plain(half)
    return Plain(array)
