"""When settings have an effect: every one of them is walked, and every remedy is followed."""

import dataclasses
import json
from typing import Any

import pytest
from paretoscope.base.errors import RecipeError
from paretoscope.recipe import effects
from paretoscope.recipe.effects import EFFECTS
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import DEFAULTS, LAYER_SETTINGS, SETTINGS, STEPS, Recipe

# A value of each setting that is not its default; of those that may say two kinds of things, both.
VALUES: dict[str, tuple[Any, ...]] = {
    "nodes": (0.25,),
    "importance": ("l1",),
    "drop": (("layer2.1",),),
    "blocks": (1,),
    "fold": (True,),
    "merge": (True,),
    "energy": (0.9,),
    "sparsity": (0.3,),
    "scope": ("layer",),
    "threshold": (0.1,),
    "pattern": ("2:4",),
    "clusters": (8,),
    "start": ("linear",),
    "population": (3,),
    "rarest": (40,),
    "moved": ("zero",),
    "bits": (5,),
    "granularity": ("tensor",),
    "calibration": ("kl", "rate"),
    "percentile": (99.0,),
    "symmetric": (False,),
    "power_of_two": (True,),
    "ternary": (0.7,),
    "exchange": (1e-3,),
    "weighting": ("magnitude",),
    "activations": (8,),
    "rounding": ("gptq",),
    "bias": (True,),
    "batchnorm": (True,),
    "epochs": (3,),
    "learning_rate": (0.1,),
    "schedule": ("constant",),
    "minibatch": (7,),
    "ramp": (0.5, 0.05),
    "distill": (0.5,),
    "temperature": (2.0,),
    "teacher": ("lenet-5",),
    "average": (0.9,),
    "patience": (4,),
    "augment": (False,),
    "seed": (3,),
    "stopped": (0,),  # without epochs none can be named, but that it was not stopped
    "coder": ("context",),
    "rest": ("fp16", "rate"),
    "keep_ends": (True,),
    "overrides": ([{"layers": "fc1", "bits": 4}],),
}
CASES = [(name, value) for name, values in VALUES.items() for value in values]
# Settings beside which others do nothing.
CONTEXTS: list[dict[str, Any]] = [
    {},
    {"bits": 8},
    {"bits": 1},
    {"bits": 16},
    {"clusters": 16},
    {"clusters": 16, "bits": 8},
    {"clusters": 16, "keep_ends": True, "bits": 4},
    {"bits": 8, "calibration": "rate"},
    {"pattern": "2:4"},
    {"threshold": 0.1},
    {"epochs": 1},
    {"epochs": 3},
    {"epochs": 20, "sparsity": 0.5},
    {"overrides": [{"layers": "fc1", "bits": 4}]},
]


def test_every_setting_has_its_condition():
    assert set(EFFECTS) == set(VALUES) == set(DEFAULTS) == set(Recipe().settings())
    fields = {each.name for step in STEPS.values() for each in dataclasses.fields(step)}
    assert fields | {"keep_ends", "overrides"} == set(EFFECTS)
    # What an override may set is judged by the plan of its layers.
    conditional = {name for name in LAYER_SETTINGS if EFFECTS[name].needs}
    assert all(EFFECTS[name].layers for name in conditional)


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_setting_alone_changes_the_recipe_or_is_refused(name, value):
    given = {name: value}
    recipe = Recipe.of(**given)
    try:
        effects.check(given, recipe, options=True)
    except RecipeError as error:
        assert str(error).startswith(f"{SETTINGS[name].flag} has an effect")
        assert len(str(error)) < 500
    else:
        assert recipe != Recipe()


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_every_remedy_works(context):
    refused = 0
    for name, value in CASES:
        if name in context or (name in ("sparsity", "threshold", "pattern") and context.keys() & set(VALUES)):
            continue
        if name == "rarest" and "clusters" in context:
            value = 3
        given = {**context, name: value}
        found = [each for each in effects.idle(given, Recipe.of(**given), defaults=True) if each.name == name]
        if not found:
            continue
        refused += 1
        (idle,) = found
        assert idle.remedy, (given, idle.text())
        mended = {**given, **dict(idle.remedy)}
        with_it = Recipe.of(**mended)
        assert name not in [each.name for each in effects.idle(mended, with_it, defaults=True)]
        if value != DEFAULTS[name]:
            without = Recipe.of(**{**mended, name: "range" if name == "calibration" else DEFAULTS[name]})
            assert with_it != without
        # Nothing of the remedy can be spared.
        for spared in dict(idle.remedy):
            fewer = {**given, **{key: each for key, each in idle.remedy if key != spared}}
            try:
                left = effects.idle(fewer, Recipe.of(**fewer), defaults=True)
            except RecipeError:
                continue  # two rules of pruning
            assert name in [each.name for each in left]
    assert refused


def test_what_the_recipe_drops_is_always_refused():
    """Against the recipe itself: a value that it does not keep did nothing."""
    for context in CONTEXTS:
        for name, value in CASES:
            if name in context or name in ("overrides", "drop", "rarest", "sparsity", "threshold", "pattern"):
                continue
            given = {**context, name: value}
            recipe = Recipe.of(**given)
            if recipe.settings()[name] != value and value != DEFAULTS[name]:
                assert name in [each.name for each in effects.idle(given, recipe)], given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bits": 8, "ternary": 0.7}, "--ternary has an effect only with 1 bit; got 0.7 without. Set --bits 1 or"),
        ({"bits": 1, "calibration": "mse"}, "Set --bits 8 or leave --calibration out."),
        ({"clusters": 8, "bits": 8, "calibration": "rate"}, "Take out --clusters or leave --calibration out."),
        ({"bits": 8, "keep_ends": True}, "clusters or fewer than 8 bits elsewhere"),
        ({"clusters": 8, "bits": 8, "symmetric": False}, "--asymmetric has an effect only with"),
        ({"epochs": 5, "patience": 9}, "--patience has an effect only with more epochs than that"),
        ({"epochs": 5, "ramp": 0.5}, "Set --sparsity 0.5 or leave --ramp out."),
        ({"rounding": "gptq", "sparsity": 0.5}, "something to round"),
        ({"seed": 0, "schedule": "cosine"}, "The same goes for --schedule."),
        ({"bits": 32, "granularity": "channel"}, "Set --bits 8 or leave --granularity out."),
    ],
)
def test_what_is_said(given, words):
    with pytest.raises(RecipeError) as caught:
        effects.check(given, Recipe.of(**given), options=True)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "idle"),
    [
        ({"bits": 8, "overrides": [{"layers": "fc1", "ternary": 0.7}]}, ["ternary"]),
        ({"bits": 1, "overrides": [{"layers": "fc1", "ternary": 0.7}]}, []),
        ({"bits": 8, "overrides": [{"layers": "fc*", "bits": 1}, {"layers": "fc1", "ternary": 0.7}]}, []),
        ({"bits": 8, "overrides": [{"layers": "fc2", "bits": 1}, {"layers": "fc1", "ternary": 0.7}]}, ["ternary"]),
        ({"overrides": [{"layers": "fc1", "sparsity": 0.5, "scope": "layer"}]}, ["scope"]),
        ({"sparsity": 0.5, "overrides": [{"layers": "fc1", "scope": "layer"}]}, []),
        ({"clusters": 4, "bits": 8, "overrides": [{"layers": "fc1", "symmetric": False}]}, ["symmetric"]),
        ({"clusters": 4, "bits": 8, "overrides": [{"layers": "fc1", "symmetric": False, "clusters": None}]}, []),
        ({"overrides": [{"layers": "fc1", "bits": 8, "calibration": "rate", "exchange": 0.1}]}, []),
        ({"overrides": [{"layers": "fc1", "bits": 8, "exchange": 0.1}]}, ["exchange"]),
        # The mean magnitude, which is what one bit has.
        ({"overrides": [{"layers": "fc1", "bits": 1, "calibration": "mse"}]}, []),
        ({"overrides": [{"layers": "fc1", "bits": 1, "calibration": "kl"}]}, ["calibration"]),
    ],
)
def test_overrides(recipe, idle):
    found = effects.idle({}, Recipe.of(**recipe))
    assert [each.name for each in found] == idle
    assert all(each.layers == "fc1" and "fc1" in each.text(options=True) for each in found)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        # What a layer does with a setting of the recipe is enough.
        ({"clusters": 8, "bits": 8, "symmetric": False, "overrides": [{"layers": "a", "clusters": None}]}, "symmetric"),
        ({"clusters": 8, "bits": 8, "granularity": "tensor", "keep_ends": True}, "granularity"),
        ({"rounding": "gptq", "overrides": [{"layers": "a", "bits": 8}]}, "rounding"),
        ({"bits": 8, "keep_ends": True, "overrides": [{"layers": "a", "bits": 4}]}, "keep_ends"),
    ],
)
def test_a_layer_is_enough(given, name):
    assert not effects.idle(given, Recipe.of(**given))
    alone = {key: value for key, value in given.items() if key in (name, "bits", "clusters")}
    assert [each.name for each in effects.idle(alone, Recipe.of(**alone))] == [name]


def test_presets_and_the_plain_recipe_hold_nothing_idle():
    assert effects.notes(Recipe()) == []
    for preset in presets:
        assert effects.notes(preset.recipe) == [], preset.name


def test_notes_are_few():
    many = Recipe.of(overrides=[{"layers": f"fc{i}", "exchange": 0.1} for i in range(9)])
    assert len(effects.notes(many)) == 4 and effects.notes(many)[-1].startswith("6 more")


def test_links():
    assert effects.problems({"bits": "8", "ternary": "0.7"})[0].startswith("ternary has an effect only with 1 bit")
    assert effects.problems({"bits": "1", "ternary": "0.7"}) == []
    assert effects.problems(Recipe.of(sparsity=0.5, bits=4, epochs=3).to_query()) == []
    link = {"bits": "8", "overrides": json.dumps([{"layers": "x", "ternary": 0.7}])}
    assert "override 'x'" in effects.problems(link)[0]


@pytest.mark.parametrize(
    ("recipe", "name", "works"),
    [
        ({}, "importance", False),
        ({"nodes": 0.5}, "importance", True),
        ({}, "calibration", False),
        ({"bits": 8, "clusters": 4}, "calibration", True),
        ({"bits": 1}, "calibration", False),
        ({"bits": 1}, "ternary", True),
        ({}, "rest", True),
        ({"bits": 8, "clusters": 4}, "symmetric", False),
        ({"epochs": 3}, "patience", True),
        ({}, "no setting", True),
    ],
)
def test_what_a_screen_may_offer(recipe, name, works):
    assert effects.works(name, Recipe.of(**recipe)) is works
