"""From a model and a recipe to a compressed model: the steps in their canonical order.

simplify -> prune -> share -> quantize -> repair -> recover -> code. Here are the methods on the weights, prune to
quantize and repair's rounding (`compress`), and repair's methods on the outputs (`repair_outputs`). What needs data is
given it by `measure.variant`; `simplify` runs the methods on the network before. No method is known by its name here.
"""

import copy
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from paretoscope.base.batch import Batch
from paretoscope.base.errors import RecipeError
from paretoscope.base.lock import machine, released
from paretoscope.base.text import listed, nearest, shown
from paretoscope.methods import rest
from paretoscope.methods.catalogue import MethodEntry, Row, Section, explained
from paretoscope.methods.registry import OutputWork, Sampled, Work, in_order, output_methods, run, weight_methods
from paretoscope.model import powers, trellis
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.model.structure import Structure
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.recipe import effects
from paretoscope.recipe.recipe import INTEGER_BITS, RULES, LayerRecipe, Override, Quantize, Recipe

# Below about so many weights, handing layers to threads costs more than it saves: chosen by hand, no benchmark.
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
        prepared = {method.name: method.prepare(statistics, plans, recipe) for method in in_order(weight_methods)}

    @machine(exclusive=False)
    def step(layer: LayerStatistics) -> CompressedTensor:
        own = {name: found[layer.name] for name, found in prepared.items() if layer.name in found}
        given = (hessians or {}).get(layer.name), (fisher or {}).get(layer.name)
        return compress_layer(layer, plans[layer.name], own, *given)

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
        rest={name: rest.coded(array, recipe, (fisher or {}).get(name)) for name, array in statistics.rest.items()},
        order=statistics.order,
        structure=structure or Structure(),
        ties=statistics.ties,
        turned=statistics.turned,
        graph=statistics.graph,
        notes=(
            *notes,
            *notes_of({name: layer.weight.shape for name, layer in statistics.layers.items()}, recipe),
            *_emptied(statistics, dict(zip(names, tensors, strict=True)), recipe),
            *_without_moments(plans, hessians),
        ),
    )


def samples(recipe: Recipe) -> frozenset[Sampled]:
    """What a recipe wants to have measured on calibration samples before its weights are compressed."""
    return frozenset(each for method in weight_methods for each in method.samples(recipe))


def repair_outputs(compressed: CompressedModel, reference: nn.Module, samples: Batch) -> CompressedModel:
    """The compressed model after the methods on outputs that its recipe asks for, in their order.

    reference: the network that it was made from, in evaluation mode, with its own weights; not changed. samples: of
    the train split. Raises ModelError for no samples.
    """
    if (step := compressed.recipe.repair) is None:
        return compressed
    for method in in_order(output_methods):
        if method.takes(step):
            module = compressed.load_into(copy.deepcopy(reference))
            work = OutputWork(reference, module, samples, compressed.structure)
            changed = method.apply(work)
            compressed = with_rest(compressed, changed)
            notes = method.notes(work, changed)
            compressed = replace(compressed, notes=(*compressed.notes, *notes))
    return compressed


def with_rest(compressed: CompressedModel, changed: Mapping[str, np.ndarray]) -> CompressedModel:
    """The model with other values of some entries that are not compressed, in the recipe's format."""
    own = {name: array for name, array in changed.items() if name not in compressed.ties}
    new = {name: rest.like(compressed.rest[name], array, compressed.recipe) for name, array in own.items()}
    return replace(compressed, rest={**compressed.rest, **new})


def layer_plans(names: tuple[str, ...], recipe: Recipe) -> dict[str, LayerRecipe]:
    """Each layer's steps; `names` in the order of the state dict, its first and last being the ends."""
    if not recipe.overrides and not recipe.keep_ends:
        return dict.fromkeys(names, LayerRecipe(recipe.prune, recipe.share, recipe.quantize))
    return {name: recipe.for_layer(name, end=name in (names[0], names[-1])) for name in names}


def compress_layer(
    layer: LayerStatistics,
    plan: LayerRecipe | Recipe,
    prepared: Mapping[str, Any] | None = None,
    hessian: np.ndarray | None = None,
    fisher: np.ndarray | None = None,
) -> CompressedTensor:
    """Run the steps on one layer.

    prepared: what methods prepared for it, by their names, such as where it is pruned by magnitude. hessian: float64
    (groups, columns, columns), second moments of its inputs; with it, rounding errors are made good by the weights that
    are rounded after them. fisher: float64 (rows,), mean diagonal Fisher information of each output channel, for
    quantization by rate. A weight that codes would make larger stays floats, but where integer kernels need the codes.
    """
    work = run(Work(layer, plan, layer.weight, prepared=prepared or {}, hessian=hessian, fisher=fisher))
    tensor = Plain(work.weight) if work.tensor is None else work.tensor
    for_kernels = plan.quantize is not None and plan.quantize.activations <= INTEGER_BITS
    return Plain(work.weight) if not for_kernels and _is_larger(tensor, work.weight) else tensor


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
    own = [note for method in in_order(weight_methods) for note in method.notes(shapes, plans)]
    return (*own, *_without_effect(tuple(shapes), recipe), *effects.notes(recipe))


def _emptied(statistics: ModelStatistics, tensors: Mapping[str, CompressedTensor], recipe: Recipe) -> list[str]:
    """What is told of layers of which nothing is left."""
    names = [
        name for name, tensor in tensors.items() if not _has_values(tensor) and statistics.layers[name].weight.any()
    ]
    return [f"Nothing is left of {listed(names)}: every weight became zero. {_keeping(recipe)}"] * bool(names)


def _without_moments(plans: Mapping[str, LayerRecipe], hessians: Mapping[str, np.ndarray] | None) -> list[str]:
    """What is told of layers whose rounding errors nothing makes good, where those of others are."""
    rounded = [name for name, plan in plans.items() if plan.share is not None or plan.quantize is not None]
    names = [name for name in rounded if hessians is not None and name not in hessians]
    told = "Rounded value by value, because samples do not show inputs that are multiplied with them:"
    return [f"{told} {listed(names)}."] * bool(names)


def _keeping(recipe: Recipe) -> str:
    """What keeps some weights of a layer that a recipe empties."""
    ways = ["An override", *filter(None, (method.keeping(recipe) for method in in_order(weight_methods)))]
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


METHODS = (
    MethodEntry(
        name="combine",
        title="How the steps combine",
        summary=(
            "A recipe runs up to seven steps, always in the same order: make the network itself smaller, remove the "
            "weights that matter least, let the rest share a few values, round those values to a coarse grid, repair "
            "what can be repaired without training, train what is left, and write the result down with as few bits as "
            "possible. Each step makes the next one's work easier: many zeros and few different values cost few bits."
        ),
        formula=(
            r"\begin{gathered} f \;\xrightarrow{\text{simplify}}\; w \;\xrightarrow{\text{prune}}\; w \odot m \\ "
            r"\xrightarrow{\text{share}}\; c_{a(i)} \;\xrightarrow{\text{quantize}}\; s\,q_{a(i)} \\ "
            r"\xrightarrow{\text{repair}}\; s\,q'_{a(i)} \;\xrightarrow{\text{recover}}\; s'\,q''_{a(i)} \\ "
            r"\xrightarrow{\text{code}}\; \text{bits} \end{gathered}"
        ),
        settings=(
            Row("simplify", "on or off", "fewer channels, neurons and layers; all later steps see the result"),
            Row("prune", "on or off", "zero is its own symbol; sharing only groups the weights that survive"),
            Row("share", "on or off", "the entries of the shared table are what gets rounded"),
            Row("quantize", "on or off", "8 bits and below run on integer kernels"),
            Row("repair", "on or off", "uses samples of the training split, never of the test split"),
            Row("recover", "on or off", "takes minutes; the result still follows all the other steps"),
            Row("code", "always on", "without loss: what is read back is exactly what was measured"),
        ),
        reference=(
            "Han, Mao and Dally, *Deep Compression: compressing deep neural networks with pruning, trained "
            "quantization and Huffman coding*, ICLR 2016, [arXiv:1510.00149](https://arxiv.org/abs/1510.00149)"
        ),
        section=Section.OVERVIEW,
        example=Recipe.of(sparsity=0.8, clusters=16, bits=8),
        used_by=lambda recipe: recipe != Recipe(),
    ),
    MethodEntry(
        name="overrides",
        title="Settings of single layers",
        summary=(
            "Layers differ in what they can bear. The first one sees every pixel and the last one makes the decision; "
            "both are small, and keeping them at 8 bits often saves most of the loss for a few bytes. Any other layer "
            "can be given settings of its own too."
        ),
        formula=(
            r"\begin{gathered} \text{settings}(\ell) = \text{recipe} \triangleleft o_1 \triangleleft \cdots "
            r"\triangleleft o_k \\ o_1, \dots, o_k \text{ the overrides that match layer } \ell \end{gathered}"
        ),
        settings=explained(overrides="", keep_ends=""),
        reference=(
            "Dong et al., *HAWQ: Hessian aware quantization of neural networks with mixed precision*, ICCV 2019, "
            "[arXiv:1905.03696](https://arxiv.org/abs/1905.03696)"
        ),
        section=Section.LAYERS,
        example=Recipe(quantize=Quantize(4), keep_ends=True, overrides=(Override("*1*", (("bits", 2),)),)),
        used_by=lambda recipe: recipe.keep_ends or bool(recipe.overrides),
    ),
)
