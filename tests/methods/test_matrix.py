"""Every setting of every method on all six models: it works and keeps its promise, or it is refused with a reason.

To work means: the artefact alone builds a network whose logits are those of the network in memory, bit for bit.
"""

import copy
import dataclasses
import itertools
import math
import re
from collections import OrderedDict
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from paretoscope import codec
from paretoscope.base.errors import CompressionError, RecipeError
from paretoscope.base.text import listed
from paretoscope.measure.subject import Subject
from paretoscope.measure.variant import Variant
from paretoscope.methods.pipeline import compress, layer_plans
from paretoscope.model import compressed
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.powers import to_steps
from paretoscope.model.structure import Structure, build
from paretoscope.model.tensors import Codebook, Integers, Plain
from paretoscope.model.trellis import follows
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import CALIBRATIONS, CLIPPINGS, CODERS, IMPORTANCES, STARTS, Override, Recipe, Recover
from paretoscope.service import subjects
from torch import nn

MODELS = zoo.models_of("digits")
# Its networks take a fraction of the others' time to build, so it takes every combination of the grids.
QUICKEST = "lenet-300-100"
IMAGES, CALIBRATION_IMAGES = 16, 32

BLOCKS = {
    "resnet-20": ("stage1.1", "stage3.2"),
    "mobilenet-v2": ("features.3",),
    "vit-tiny": ("encoder.layers.encoder_layer_1", "encoder.layers.encoder_layer_2"),
}
CONVOLUTIONAL, NORMALISED = ("lenet-5", "simple-cnn", "resnet-20", "mobilenet-v2"), ("resnet-20", "mobilenet-v2")


def quantizers() -> list[dict[str, Any]]:
    names = ("bits", "granularity", "calibration", "symmetric")
    values = itertools.product((16, 9, 8, 4, 2), ("channel", "tensor"), CLIPPINGS, (True, False))
    return [dict(zip(names, each, strict=True)) for each in values]


def few_quantizers(model: str) -> list[dict[str, Any]]:
    """Half of the pairs of bits and calibration, the other half for the next model; the other settings take turns."""
    first = MODELS.index(model) % 2
    bits, scales = (16, 9, 8, 4, 2), tuple(itertools.product(("channel", "tensor"), (True, False)))
    pairs = list(itertools.product(range(len(bits)), range(len(CLIPPINGS))))
    chosen = [(i, j, *scales[(i + j // 2 + 2 * (j % 2)) % 4]) for i, j in pairs if (i + j) % 2 == first]
    return [
        {"bits": bits[i], "granularity": granularity, "calibration": CLIPPINGS[j], "symmetric": symmetric}
        for i, j, granularity, symmetric in chosen
    ]


SETTINGS: list[dict[str, Any]] = [
    {},
    {"rest": "fp16", "coder": "huffman"},
    # prune
    {"sparsity": 0.7},
    {"sparsity": 0.7, "scope": "layer"},
    {"sparsity": 0.999},
    {"threshold": 0.02},
    {"threshold": 1e9},
    {"pattern": "2:4"},
    {"pattern": "1:3"},
    # share
    *({"clusters": 8, "start": start} for start in STARTS),
    {"clusters": 2},
    {"clusters": 256, "sparsity": 0.5},
    {"clusters": 16, "population": 40, "moved": "zero"},
    {"clusters": 16, "population": 40},
    {"clusters": 16, "rarest": 5, "moved": "zero"},
    {"clusters": 16, "rarest": 15},
    {"clusters": 16, "bits": 4, "rarest": 3, "sparsity": 0.5},
    {"clusters": 64, "bits": 8, "pattern": "2:4", "start": "best"},
    # binarize
    *(
        {"bits": 1, "granularity": granularity, "calibration": calibration, "power_of_two": power}
        for granularity in ("channel", "tensor")
        for calibration in ("range", "mse")
        for power in (False, True)
    ),
    {"bits": 1, "ternary": 0.7},
    {"bits": 1, "ternary": 0.7, "calibration": "mse", "granularity": "tensor"},
    {"bits": 1, "ternary": 3.0},
    {"bits": 1, "sparsity": 0.5},
    {"bits": 1, "clusters": 4},
    # quantize, beside its grid
    {"bits": 8, "activations": 8},
    {"bits": 4, "activations": 8, "symmetric": False, "sparsity": 0.5},
    {"bits": 3, "percentile": 75.0, "calibration": "percentile"},
    {"bits": 2, "keep_ends": True},
    {"clusters": 4, "keep_ends": True, "sparsity": 0.6},
    {"bits": 4, "overrides": [{"layers": "*1*", "bits": 6, "sparsity": 0.25}, {"layers": "*2*", "clusters": 3}]},
    {"overrides": [{"layers": "*", "pattern": "1:2", "bits": 1}]},
    # by rate and harm
    {"bits": 8, "calibration": "rate", "exchange": 1e-4, "coder": "context", "rest": "rate"},
    {
        "bits": 8,
        "calibration": "rate",
        "rounding": "gptq",
        "bias": True,
        "fold": True,
        "rest": "rate",
        "activations": 8,
    },
    {"bits": 12, "calibration": "rate", "weighting": "magnitude", "exchange": 1e-3, "coder": "smallest"},
    {"bits": 4, "calibration": "rate", "granularity": "tensor", "sparsity": 0.5, "rounding": "gptq"},
    {"bits": 6, "calibration": "rate", "pattern": "2:4", "keep_ends": True, "coder": "huffman"},
    # simplify
    *({"nodes": 0.3, "importance": importance} for importance in IMPORTANCES),
    {"nodes": 0.99},
    {"blocks": 1},
    {"drop": "by name"},
    {"fold": True},
    {"merge": True},
    {"energy": 0.9},
    {"nodes": 0.25, "fold": True, "merge": True, "energy": 0.95, "bits": 8, "activations": 8},
    # repair
    {"bits": 4, "rounding": "gptq"},
    {"bits": 1, "calibration": "mse", "rounding": "gptq", "sparsity": 0.3},
    {"clusters": 16, "rounding": "gptq", "sparsity": 0.3},
    {"clusters": 16, "bits": 6, "rarest": 2, "moved": "zero", "rounding": "gptq"},
    {"bits": 3, "symmetric": False, "rounding": "gptq", "pattern": "2:4"},
    {"bits": 3, "bias": True},
    {"bits": 3, "batchnorm": True},
    {
        "nodes": 0.2,
        "fold": True,
        "energy": 0.95,
        "sparsity": 0.5,
        "clusters": 16,
        "bits": 8,
        "activations": 8,
        "keep_ends": True,
        "rounding": "gptq",
        "bias": True,
        "batchnorm": True,
        "rest": "fp16",
        "coder": "huffman",
    },
]

CASES = [
    (model, settings)
    for model in MODELS
    for settings in SETTINGS + (quantizers() if model == QUICKEST else few_quantizers(model))
]

# What each model refuses, and nothing else.
REFUSED = {
    **{
        (model, "nodes=0.3 importance=bn"): "importance 'bn' needs a batch normalisation"
        for model in set(MODELS) - set(NORMALISED)
    },
    **{
        (model, settings): "only a network of residual blocks has blocks to drop"
        for model in set(MODELS) - set(BLOCKS)
        for settings in ("blocks=1", "drop=by name")
    },
}


def label(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items()) or "lossless"


def recipe_for(model: str, settings: dict[str, Any]) -> Recipe:
    named = {"drop": BLOCKS.get(model, ("stage1.1",))} if "drop" in settings else {}
    return Recipe.of(**{**settings, **named})


@cache
def subject_of(model: str) -> Subject:
    """With a quarter of the calibration images, which the slow methods take their time for."""
    whole = subjects.load(model)
    data = dataclasses.replace(whole.data, calibration=whole.data.calibration[:CALIBRATION_IMAGES])
    return dataclasses.replace(whole, data=data, _forms=OrderedDict(), _variants=OrderedDict())


@cache
def network(architecture: str, structure: Structure, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> nn.Module:
    return build(architecture, structure, dict(shapes))


@pytest.fixture(autouse=True)
def networks_are_built_once(monkeypatch):
    """Checking that the layers of a network fit each other takes longer than all else, and most recipes change none."""
    monkeypatch.setattr(
        compressed,
        "build",
        # The zoo's networks bring no graph of their own.
        lambda architecture, structure, shapes, graph: copy.deepcopy(
            network(architecture, structure, tuple(shapes.items()))
        ),
    )


def variant_of(subject: Subject, recipe: Recipe) -> Variant:
    return subject.variant(recipe.simplify, reestimate=recipe.repair is not None and recipe.repair.batchnorm)


def logits(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(images)


@pytest.mark.parametrize(("model", "settings"), CASES, ids=[f"{model}-{label(each)}" for model, each in CASES])
def test_works_or_is_refused(model, settings):
    subject, recipe = subject_of(model), recipe_for(model, settings)
    if (model, label(settings)) in REFUSED:
        with pytest.raises(CompressionError) as raised:
            subject.compress(recipe)
        rule, _, remedy = str(raised.value).rpartition("; ")
        assert REFUSED[model, label(settings)] in rule
        # The value, and what to do instead.
        assert re.fullmatch(r"(this one|the group of \S+) has none\. (Set|Choose) .+\.", remedy)
        return

    compressed = subject.compress(recipe)
    data = codec.write(compressed)
    read = codec.read(data)
    state, again = compressed.state_dict(), read.state_dict()
    assert list(state) == list(again)
    assert all(
        torch.equal(state[name].view(-1).view(torch.uint8), again[name].view(-1).view(torch.uint8)) for name in state
    )

    module = compressed.load_into(copy.deepcopy(variant_of(subject, recipe).module))
    images = subject.data.test_images[:IMAGES]
    wanted = logits(module, images)
    assert torch.isfinite(wanted).all()
    assert torch.equal(logits(read.build(), images), wanted)
    assert (read.recipe, read.source, read.structure) == (recipe, subject.statistics.digest, compressed.structure)
    keeps_its_promise(subject, recipe, compressed)


def keeps_its_promise(subject: Subject, recipe: Recipe, compressed: CompressedModel) -> None:
    variant = variant_of(subject, recipe)
    layers = variant.statistics.layers
    decoded = {name: tensor.decode() for name, tensor in compressed.weights.items()}
    assert list(decoded) == list(layers)
    plans = layer_plans(tuple(layers), recipe)
    for name, tensor in compressed.weights.items():
        holds_its_values(tensor, decoded[name], plans[name])
        prunes_by_its_own_rule(layers[name].weight, decoded[name], plans[name])
    prunes_to_the_rate(recipe, {name: layer.weight for name, layer in layers.items()}, decoded)
    simplifies(subject, recipe, compressed)
    repairs(variant, recipe, compressed)
    for name, tensor in compressed.rest.items():
        if isinstance(tensor, Integers):
            assert recipe.code.rest == "rate" and tensor.scale.shape == () and tensor.codes.dtype == np.int16, name
            continue
        kinds = {"fp32": ("float32", "int64")}.get(recipe.code.rest, ("float16", "int64"))
        assert tensor.values.dtype.name in kinds, name
        # What has no gradient, or is positive throughout, keeps its digits.
        values = tensor.decode()
        assert recipe.code.rest != "rate" or "running_" in name or values.dtype == np.int64 or (values > 0).all(), name


def holds_its_values(tensor, decoded: np.ndarray, plan) -> None:
    values = np.unique(decoded)
    if plan.share:
        assert isinstance(tensor, Codebook)
        groups = tensor.entries.shape[0]
        assert np.count_nonzero(values) <= groups <= max(1, plan.share.clusters - plan.share.rarest)
        if plan.share.rarest == plan.share.clusters - 1:
            assert groups == 1
        uses = np.bincount(tensor.indices.reshape(-1), minlength=groups + 1)[1:]
        if plan.share.population and plan.share.moved == "zero" and groups > 1:
            assert uses.min() >= plan.share.population
    elif plan.quantize is None:
        assert isinstance(tensor, Plain)
    if plan.quantize is None:
        return
    grid = tensor.entries if plan.share else tensor
    bits = plan.quantize.bits
    assert isinstance(grid, Integers) and grid.bits == bits
    assert grid.trellis == (plan.quantize.calibration == "rate")
    if grid.trellis:
        assert follows(grid.codes) and to_steps(grid.scale) is not None
        assert np.abs(grid.codes).max() < 2 ** (bits - 1)
    rows = decoded if plan.quantize.granularity == "channel" and not plan.share else decoded.reshape(1, -1)
    # One bit stands for two values; what was pruned or is below the ternary threshold is zero beside them.
    most = 2 + (0 in values) if bits == 1 else 2**bits - plan.quantize.symmetric
    assert max(len(np.unique(row)) for row in rows) <= most
    assert (grid.zero is not None) == (not plan.quantize.symmetric and not plan.share)
    if bits == 1:
        assert np.isin(grid.codes, (-1, 0, 1)).all()
        if not plan.quantize.ternary and not plan.prune and not plan.share:
            assert grid.codes.all()
        if plan.quantize.power_of_two:
            assert (np.frexp(grid.scale[grid.scale > 0])[0] == 0.5).all()


def prunes_by_its_own_rule(weight: np.ndarray, decoded: np.ndarray, plan) -> None:
    if plan.prune is None:
        return
    if plan.prune.pattern and weight.shape[1] % plan.prune.kept_of[1] == 0:
        kept, group = plan.prune.kept_of
        groups = decoded.reshape(len(decoded), -1, group, math.prod(decoded.shape[2:]))
        assert np.count_nonzero(groups, axis=2).max() <= kept
    if plan.prune.threshold:
        assert not decoded[np.abs(weight) < np.float32(plan.prune.threshold)].any()
    if plan.prune.sparsity and (plan.own_rate or plan.prune.scope == "layer"):
        assert np.count_nonzero(decoded == 0) >= math.floor(plan.prune.sparsity * weight.size)


def prunes_to_the_rate(recipe: Recipe, weights: dict[str, np.ndarray], decoded: dict[str, np.ndarray]) -> None:
    zeros = {name: int(np.count_nonzero(values == 0)) for name, values in decoded.items()}
    alone = recipe.share is None and recipe.quantize is None and not recipe.overrides
    if recipe.prune is None or recipe.overrides:
        return
    prune = recipe.prune
    if prune.sparsity and prune.scope == "global":
        count = math.floor(prune.sparsity * sum(weight.size for weight in weights.values()))
        assert sum(zeros.values()) == count if alone else sum(zeros.values()) >= count
    if prune.sparsity and prune.scope == "layer" and alone:
        assert zeros == {name: math.floor(prune.sparsity * weight.size) for name, weight in weights.items()}
    if alone:
        for name, weight in weights.items():
            assert ((decoded[name] == weight) | (decoded[name] == 0)).all()


def simplifies(subject: Subject, recipe: Recipe, compressed: CompressedModel) -> None:
    step, structure = recipe.simplify, compressed.structure
    baseline = subject.statistics
    parameters = sum(p.numel() for p in variant_of(subject, recipe).module.parameters())
    if step is None:
        assert structure == Structure() and compressed.order == baseline.order
        return
    assert parameters <= subject.parameters
    if step.nodes:
        whole = {name: layer.weight.size for name, layer in baseline.layers.items()}
        assert parameters < (1 - step.nodes / 2) * subject.parameters
        assert sum(whole.values()) > sum(math.prod(tensor.shape) for tensor in compressed.weights.values())
        assert any("nodes removed" in note for note in compressed.notes)
    if step.drop or step.blocks:
        assert len(structure.dropped) == len(step.drop) + step.blocks
        assert set(step.drop) <= set(structure.dropped)
        assert not any(name.startswith(f"{block}.") for block in structure.dropped for name in compressed.order)
    if step.fold:
        assert bool(structure.folded) == (subject.name in NORMALISED)
        assert not any("running_mean" in name for name in compressed.order)
    if step.energy < 1:
        assert all(f"{name}.{i}.weight" in compressed.weights for name, _ in structure.factored for i in (0, 1))
        assert structure.factored or any("energy" in note or "rank" in note for note in compressed.notes)
    if recipe == Recipe.of(fold=True) or recipe == Recipe.of(merge=True):
        images = subject.data.test_images[:IMAGES]
        torch.testing.assert_close(
            logits(compressed.build(), images), logits(subject.model, images), rtol=1e-4, atol=1e-4
        )


def repairs(variant: Variant, recipe: Recipe, compressed: CompressedModel) -> None:
    if recipe.repair is None:
        return
    repair = recipe.repair
    plain = compress(
        variant.statistics,
        recipe,
        source=variant.source,
        structure=variant.structure,
        fisher=variant.fisher if recipe.by_fisher else None,
    )
    codes = {name for name in compressed.weights if not np.array_equal(compressed.decode(name), plain.decode(name))}
    rest = {name for name in compressed.rest if not np.array_equal(compressed.decode(name), plain.decode(name))}
    statistics = {name for name in rest if "running_" in name}
    norms = any("running_mean" in name for name in compressed.rest)
    assert bool(codes) == (repair.rounding == "gptq")
    assert bool(statistics) == (norms and (repair.batchnorm or repair.bias))
    assert bool(rest - statistics) == repair.bias
    if repair.batchnorm and not norms:
        folded = "Batch normalisation re-estimated before it was folded."
        said = folded if compressed.structure.folded else "There is no batch normalisation to re-estimate."
        assert said in compressed.notes


def test_the_settings_are_all_there():
    """A setting that is added to the recipe must be walked too."""
    walked: dict[str, set[Any]] = {}
    for settings in (*SETTINGS, *quantizers()):
        for name, value in settings.items():
            walked.setdefault(name, set()).add(str(value))
    # Those of training are walked in tests/training.
    training = {each.name for each in dataclasses.fields(Recover)}
    assert walked.keys() == Recipe().settings().keys() - training
    assert walked["start"] == set(STARTS) and walked["importance"] == set(IMPORTANCES)
    assert walked["calibration"] == set(CALIBRATIONS)
    assert walked["coder"] | {"ans"} == set(CODERS)
    for model in MODELS:
        few = few_quantizers(model)
        assert all(each in quantizers() for each in few)
        for name in ("bits", "granularity", "calibration", "symmetric"):
            assert {each[name] for each in few} == {each[name] for each in quantizers()}


@pytest.mark.parametrize("model", MODELS)
def test_what_is_not_possible_is_said(model):
    subject = subject_of(model)
    sparse = compress(subject.statistics, Recipe.of(pattern="2:4"))
    dense = [name for name, layer in subject.statistics.layers.items() if layer.weight.shape[1] % 4]
    assert sparse.notes == (
        (f"Left dense, because the inputs of a weight do not divide into groups of 4: {listed(dense)}.",)
        if dense
        else ()
    )
    for name in dense:
        np.testing.assert_array_equal(sparse.decode(name), subject.statistics.layers[name].weight)
    with pytest.raises(RecipeError, match="must match a layer; got 'no such layer', which matches none"):
        compress(subject.statistics, Recipe(overrides=(Override("no such layer", {"bits": 4}),)))


@pytest.mark.parametrize("model", sorted(BLOCKS))
def test_blocks_that_are_not_there_are_refused(model):
    subject = subject_of(model)
    with pytest.raises(CompressionError, match=r"drop must name blocks .* got no\.such\.block\. Name some of "):
        subject.compress(Recipe.of(drop=("no.such.block",)))
    with pytest.raises(CompressionError, match=r"blocks must be at most .* got 99\. Pass fewer\."):
        subject.compress(Recipe.of(blocks=99))
