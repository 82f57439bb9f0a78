import dataclasses
import hashlib
import json
import math

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from paretoscope.base.errors import CompressionError, RecipeError
from paretoscope.recipe.recipe import (
    BITS,
    CALIBRATIONS,
    CODERS,
    GRANULARITIES,
    IMPORTANCES,
    LAYER_SETTINGS,
    MAX_CLUSTERS,
    MIN_CLUSTERS,
    MOVES,
    REST_FORMATS,
    ROUNDINGS,
    SCOPES,
    STARTS,
    STEPS,
    Code,
    LayerRecipe,
    Override,
    Prune,
    Quantize,
    Recipe,
    Recover,
    Repair,
    Share,
    Simplify,
)

examples = settings(derandomize=True, deadline=None, database=None, max_examples=100)

SETTINGS = st.fixed_dictionaries(
    {
        "sparsity": st.sampled_from([0.0, 0.5, 0.8, math.nextafter(1, 0), 5e-324, 0.1 + 0.2])
        | st.floats(0, 1, exclude_max=True),
        "scope": st.sampled_from(SCOPES),
        "clusters": st.none() | st.integers(MIN_CLUSTERS, MAX_CLUSTERS),
        "bits": st.sampled_from(BITS),
        "granularity": st.sampled_from(GRANULARITIES),
        "calibration": st.sampled_from(CALIBRATIONS),
        "coder": st.sampled_from(CODERS),
        "rest": st.sampled_from(REST_FORMATS),
    }
)
FRACTIONS = st.sampled_from([0.0, 0.5]) | st.floats(0, 1, exclude_max=True)
NAMES = st.sampled_from(["layer2.1", "layer3.0", "encoder.layers.4"])
PRUNING = st.one_of(
    st.fixed_dictionaries({"sparsity": FRACTIONS, "scope": st.sampled_from(SCOPES)}),
    st.fixed_dictionaries({"threshold": st.floats(0, 1e300)}),
    st.fixed_dictionaries({"pattern": st.sampled_from(["", "2:4", "1:2", "998:999"])}),
)
SHARING = st.fixed_dictionaries(
    {
        "clusters": st.none() | st.integers(9, MAX_CLUSTERS),
        "start": st.sampled_from(STARTS),
        "population": st.integers(0, 1000),
        "rarest": st.integers(0, 8),
        "moved": st.sampled_from(MOVES),
    }
)
QUANTIZING = st.fixed_dictionaries(
    {
        "bits": st.sampled_from(BITS),
        "granularity": st.sampled_from(GRANULARITIES),
        "calibration": st.sampled_from(CALIBRATIONS),
        "percentile": st.floats(50, 100, exclude_min=True),
        "symmetric": st.booleans(),
        "power_of_two": st.booleans(),
        "ternary": st.floats(0, 3),
    }
)
REST_OF_IT = st.fixed_dictionaries(
    {
        "nodes": FRACTIONS,
        "importance": st.sampled_from(IMPORTANCES),
        "drop": st.lists(NAMES, max_size=2).map(tuple),
        "blocks": st.integers(0, 3),
        "fold": st.booleans(),
        "merge": st.booleans(),
        "energy": st.floats(0, 1, exclude_min=True),
        "activations": st.sampled_from([8, 32]),
        "rounding": st.sampled_from(ROUNDINGS),
        "bias": st.booleans(),
        "batchnorm": st.booleans(),
        "coder": st.sampled_from(CODERS),
        "rest": st.sampled_from(REST_FORMATS),
        "keep_ends": st.booleans(),
    }
)


@st.composite
def layer_settings(draw):
    """Settings that an override may have: some of those of prune, and all of share or quantize."""
    parts = draw(st.lists(st.sampled_from([PRUNING, SHARING, QUANTIZING]), min_size=1, max_size=3, unique_by=id))
    return {name: value for part in parts for name, value in draw(part).items()}


OVERRIDES = st.lists(
    st.builds(Override, st.sampled_from(["conv1", "layer1.*", "fc?", "*"]), layer_settings()), max_size=2
).map(tuple)


@st.composite
def whole_settings(draw):
    overrides = {"overrides": draw(OVERRIDES)} if draw(st.booleans()) else {}
    return {**draw(PRUNING), **draw(SHARING), **draw(QUANTIZING), **draw(REST_OF_IT), **overrides}


RECIPES = (SETTINGS | whole_settings()).map(lambda values: Recipe.of(**values))

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def mutated(data: dict) -> st.SearchStrategy[dict]:
    """A copy of an object with one or two of its fields, or of its steps' fields, replaced, added or left out."""
    names = st.sampled_from([*data, "extra"])

    @st.composite
    def build(draw):
        result = dict(data)
        for _ in range(draw(st.integers(1, 2))):
            name = draw(names)
            inner = result.get(name)
            if isinstance(inner, dict) and inner and draw(st.booleans()):
                result[name] = {**inner, draw(st.sampled_from([*inner, "extra"])): draw(JSON_VALUES)}
            elif draw(st.integers(0, 3)) == 0:
                result.pop(name, None)
            else:
                result[name] = draw(JSON_VALUES)
        return result

    return build()


NEARLY_RECIPES = RECIPES.flatmap(lambda recipe: mutated(recipe.to_dict()))


def parsed(text: str | bytes) -> Recipe | None:
    """The recipe, or None where it was refused as a recipe should be; anything else is an error of the test."""
    try:
        recipe = Recipe.from_json(text)
    except RecipeError as error:
        assert len(str(error)) > 20
        return None
    assert isinstance(recipe, Recipe)
    return recipe


class TestForms:
    @pytest.mark.slow
    @given(RECIPES, st.sampled_from([None, 2]))
    @examples
    def test_json_round_trip(self, recipe, indent):
        text = recipe.to_json(indent)
        assert Recipe.from_json(text) == recipe
        assert Recipe.from_json(text.encode()) == recipe
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        assert json.loads(text) == recipe.to_dict()
        assert recipe.to_dict()["version"] == 1

    @given(RECIPES)
    @examples
    def test_settings_round_trip(self, recipe):
        assert Recipe.of(**recipe.settings()) == recipe

    @pytest.mark.slow
    @given(RECIPES)
    @examples
    def test_link_round_trip(self, recipe):
        query = recipe.to_query()
        assert all(type(text) is str for text in query.values())
        assert Recipe.from_query(query) == recipe

    def test_link_shows_the_sliders_and_what_differs_from_the_default(self):
        assert Recipe().to_query() == {"sparsity": "0.0", "clusters": "off", "bits": "32"}
        recipe = Recipe.of(sparsity=0.8, clusters=16, bits=4, calibration="mse", coder="huffman")
        assert recipe.to_query() == {
            "sparsity": "0.8",
            "clusters": "16",
            "bits": "4",
            "calibration": "mse",
            "coder": "huffman",
        }

    def test_part_of_a_link_is_enough(self):
        assert Recipe.from_query({}) == Recipe()
        assert Recipe.from_query({"bits": "8"}) == Recipe.of(bits=8)
        assert Recipe.from_query({"clusters": "off", "sparsity": ".5"}) == Recipe.of(sparsity=0.5)

    def test_steps_have_one_canonical_order(self):
        assert tuple(STEPS) == ("simplify", "prune", "share", "quantize", "repair", "recover", "code")
        fields = tuple(field.name for field in dataclasses.fields(Recipe))
        assert fields == (*STEPS, "keep_ends", "overrides")

    def test_an_override_may_set_all_that_concerns_a_layer(self):
        fields = {f.name for step in (Prune, Share, Quantize) for f in dataclasses.fields(step)}
        assert set(LAYER_SETTINGS) == fields - {"activations", "weighting"}

    def test_plain_data_is_small_and_readable(self):
        recipe = Recipe.of(sparsity=0.8, clusters=16, bits=8)
        assert recipe.to_dict() == {
            "version": 1,
            "prune": {"sparsity": 0.8, "scope": "global"},
            "share": {"clusters": 16},
            "quantize": {"bits": 8, "granularity": "channel", "calibration": "range"},
            "code": {"coder": "ans", "rest": "fp32"},
        }
        assert Recipe().to_dict() == {"version": 1, "code": {"coder": "ans", "rest": "fp32"}}

    def test_a_whole_recipe_as_text(self):
        text = (
            '{"code":{"coder":"ans","rest":"fp16"},"keep_ends":true,'
            '"overrides":[{"bits":2,"layers":"fc*"},{"layers":"conv1","sparsity":0.25}],'
            '"prune":{"pattern":"2:4","scope":"global","sparsity":0.0},'
            '"quantize":{"activations":8,"bits":4,"calibration":"percentile","granularity":"channel",'
            '"percentile":99.0,"symmetric":false},'
            '"recover":{"augment":false,"average":0.9,"distill":0.5,"epochs":20,"learning_rate":0.01,"minibatch":32,"patience":3,'
            '"ramp":0.4,"schedule":"constant","seed":7,"stopped":12,"teacher":"lenet-5","temperature":2.0},'
            '"repair":{"batchnorm":true,"bias":true,"rounding":"gptq"},'
            '"share":{"clusters":16,"moved":"zero","population":5,"rarest":2,"start":"best"},'
            '"simplify":{"blocks":1,"drop":["a","b"],"energy":0.9,"fold":true,"importance":"bn","merge":true,'
            '"nodes":0.5},"version":1}'
        )
        recipe = Recipe(
            Simplify(0.5, "bn", ("b", "a"), 1, True, True, 0.9),
            Prune(pattern="2:4"),
            Share(16, "best", 5, 2, "zero"),
            Quantize(4, calibration="percentile", percentile=99, symmetric=False, activations=8),
            Repair("gptq", True, True),
            Recover(20, 0.01, "constant", 32, 0.4, 0.5, 2, "lenet-5", 0.9, 3, False, 7, 12),
            Code(rest="fp16"),
            True,
            (Override("fc*", {"bits": 2}), Override("conv1", (("sparsity", 0.25),))),
        )
        assert recipe.to_json() == text
        assert Recipe.from_json(text) == recipe
        assert Recipe.from_query(recipe.to_query()) == recipe
        assert Recipe.of(**recipe.settings()) == recipe

    def test_switches_and_lists_in_a_link(self):
        recipe = Recipe.of(
            fold=True, drop=("a.1", "b"), bits=8, symmetric=False, overrides=[Override("f", {"bits": 4})]
        )
        query = recipe.to_query()
        assert (query["fold"], query["drop"], query["symmetric"]) == ("on", "a.1,b", "off")
        assert query["overrides"] == '[{"layers":"f","bits":4}]'
        assert Recipe.from_query({"fold": "off", "drop": "", "overrides": "[]", "symmetric": "on"}) == Recipe()

    def test_fields_left_out_take_their_default(self):
        assert Recipe.from_dict({"version": 1}) == Recipe()
        assert Recipe.from_dict({"version": 1, "quantize": {"bits": 4}, "code": {}}) == Recipe.of(bits=4)


class TestTraining:
    def test_no_epochs_are_no_training(self):
        assert Recipe.of(epochs=0, learning_rate=0.1, distill=0.5) == Recipe()
        assert Recipe(recover=Recover()) == Recipe()
        assert Recipe.of(epochs=3).untrained == Recipe()

    def test_settings_without_effect_have_their_default(self):
        assert Recipe.of(epochs=3, temperature=9.0) == Recipe.of(epochs=3)
        assert Recipe.of(epochs=3, temperature=9.0, distill=0.1) != Recipe.of(epochs=3, distill=0.1)
        assert Recipe.of(epochs=3, teacher="lenet-5") == Recipe.of(epochs=3)
        assert Recipe.of(epochs=3, teacher="lenet-5", distill=0.1) != Recipe.of(epochs=3, distill=0.1)
        assert Recipe.of(epochs=3, stopped=3) == Recipe.of(epochs=3)

    def test_a_slider_that_moves_ends_it(self):
        trained = Recipe.of(sparsity=0.5, epochs=3)
        assert trained.with_setting("bits", 4) == Recipe.of(sparsity=0.5, bits=4)
        assert not Recipe.of(epochs=1).lossless

    def test_it_is_told(self):
        assert Recipe.of(epochs=1).describe() == "trained 1 epoch"
        told = Recipe.of(bits=4, epochs=20, stopped=12, distill=0.5, ramp=0.3).describe()
        assert told == "4 bits, trained 12 of 20 epochs, distilled, gradually"
        told = Recipe.of(epochs=2, distill=1, teacher="b", average=0.5).describe()
        assert told == "trained 2 epochs, distilled from b, averaged"

    @pytest.mark.parametrize(
        ("settings", "rule"),
        [
            ({"epochs": -1}, "epochs must be 0 or more"),
            ({"epochs": 1.5}, "epochs must be a whole number"),
            ({"epochs": 3, "learning_rate": 0}, "learning_rate must be in"),
            ({"epochs": 3, "learning_rate": float("nan")}, "learning_rate must be a number"),
            ({"epochs": 3, "schedule": "step"}, "schedule must be 'cosine' or 'constant'"),
            ({"epochs": 3, "minibatch": 0}, "minibatch must be in 1"),
            ({"epochs": 3, "ramp": 1.0}, "ramp must be in"),
            ({"epochs": 3, "distill": 1.1}, "distill must be in"),
            ({"epochs": 3, "distill": 1.0, "temperature": 0}, "temperature must be in"),
            ({"epochs": 3, "teacher": 5}, "teacher must be the name of a model; got 5"),
            ({"epochs": 3, "teacher": "a b"}, "teacher must be the name of a model; got 'a b'"),
            ({"epochs": 3, "teacher": "x" * 65}, "teacher must be the name of a model"),
            ({"epochs": 3, "average": 1.0}, "average must be in"),
            ({"epochs": 3, "patience": -1}, "patience must be 0 or more"),
            ({"epochs": 3, "augment": 1}, "augment must be true or false"),
            ({"epochs": 3, "stopped": 4}, "stopped must be an epoch of the 3"),
        ],
    )
    def test_bad_settings_are_refused(self, settings, rule):
        with pytest.raises(RecipeError, match=rule):
            Recipe.of(**settings)


class TestDigest:
    def test_is_pinned(self):
        """Stored records are found by it: when this fails, old stores and artefacts are orphaned."""
        recipe = Recipe.of(sparsity=0.8, clusters=16, bits=8)
        text = (
            '{"code":{"coder":"ans","rest":"fp32"},"prune":{"scope":"global","sparsity":0.8},'
            '"quantize":{"bits":8,"calibration":"range","granularity":"channel"},"share":{"clusters":16},"version":1}'
        )
        assert recipe.to_json() == text
        assert recipe.digest == "1aa345da017e9e2d2b9868872b9b189daa77bb8e0fda104802af1fd8a4b4099b"
        assert Recipe().digest == "2988439258413d17ce5c62f44e95bada49d1f797aa17d3f1c9df49f6dc8a65d5"

    @given(RECIPES)
    @examples
    def test_is_the_hash_of_the_json_form(self, recipe):
        assert recipe.digest == hashlib.sha256(recipe.to_json().encode()).hexdigest()

    @pytest.mark.slow
    @given(RECIPES, RECIPES)
    @examples
    def test_is_equal_exactly_for_equal_recipes(self, one, other):
        assert (one.digest == other.digest) == (one == other)
        assert one != other or hash(one) == hash(other)

    @given(SETTINGS, st.data())
    @examples
    def test_every_effective_setting_changes_it(self, values, data):
        # One bit knows two ways to choose its magnitude, not four.
        values = {**values, "sparsity": values["sparsity"] or 0.5, "bits": min(max(values["bits"], 2), 16)}
        name = data.draw(st.sampled_from(sorted(values)))
        other = data.draw(SETTINGS)[name]
        other = max(other, 2) if name == "bits" else other
        # A codebook's grid is not chosen by rate, and without a rate there is none for the rest.
        assume(name != "calibration" or values["clusters"] is None or "rate" not in (other, values[name]))
        values = {**values, "rest": "fp16" if values["rest"] == "rate" else values["rest"]}
        other = "fp16" if (name, other) == ("rest", "rate") else other
        if values["calibration"] == "rate" and name == "clusters":
            values = {**values, "calibration": "mse"}
        recipe = Recipe.of(**values)
        assert (Recipe.of(**{**values, name: other}).digest == recipe.digest) == (other == values[name])

    def test_a_rate_is_for_integer_codes(self):
        recipe = Recipe.of(bits=8, calibration="rate", exchange=1e-3, weighting="magnitude", rest="rate")
        assert recipe.quantize == Quantize(8, calibration="rate", exchange=1e-3, weighting="magnitude")
        assert recipe.quantize.symmetric and not recipe.by_fisher and recipe.code.rest == "rate"
        assert Recipe.of(bits=8, calibration="rate").by_fisher
        # The grid of a codebook, magnitudes of one bit, floats: nothing there is allotted.
        shared = Recipe.of(bits=8, clusters=4, calibration="rate", rest="rate")
        assert shared == Recipe.of(bits=8, clusters=4, calibration="mse", rest="fp16")
        assert Recipe.of(bits=1, calibration="rate") == Recipe.of(bits=1, calibration="mse")
        assert Recipe.of(calibration="rate", rest="rate") == Recipe.of(rest="fp16")
        assert Recipe.of(bits=8, exchange=1e-3) == Recipe.of(bits=8) == Recipe.of(bits=8, weighting="magnitude")
        # One layer by rate is enough to need samples.
        assert Recipe.of(bits=8, overrides=[{"layers": "a", "calibration": "rate"}]).by_fisher

    @pytest.mark.parametrize("exchange", [0, -1, 1e-13, 1e4, math.nan, math.inf, "much", True, None])
    def test_an_exchange_rate_out_of_range_is_refused(self, exchange):
        with pytest.raises(RecipeError, match=r"exchange must be (a number )?in"):
            Quantize(8, calibration="rate", exchange=exchange)

    @pytest.mark.parametrize("scope", SCOPES)
    @pytest.mark.parametrize("zero", [0, 0.0, -0.0])
    def test_no_sparsity_is_no_step(self, zero, scope):
        recipe = Recipe(prune=Prune(zero, scope))
        assert recipe.prune is None
        assert recipe == Recipe() and recipe.digest == Recipe().digest

    @pytest.mark.parametrize("granularity", GRANULARITIES)
    @pytest.mark.parametrize("calibration", CALIBRATIONS)
    def test_full_precision_is_no_step(self, granularity, calibration):
        recipe = Recipe.of(bits=32, granularity=granularity, calibration=calibration)
        assert recipe.quantize is None
        assert recipe == Recipe() and recipe.digest == Recipe().digest

    def test_a_step_that_does_nothing_is_dropped_from_a_file_too(self):
        data = {"version": 1, "prune": {"sparsity": 0, "scope": "layer"}, "quantize": {"bits": 32}}
        assert Recipe.from_dict(data).digest == Recipe().digest

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (Simplify(), None),
            (Simplify(importance="l1"), None),
            (Prune(scope="layer"), None),
            (Repair(), None),
            (Simplify(fold=True, importance="bn"), Simplify(fold=True)),
            (Simplify(drop=["b", "a", "b"]), Simplify(drop=("a", "b"))),
            (Prune(threshold=0.1, scope="layer"), Prune(threshold=0.1)),
            (Prune(pattern="2:4", scope="layer"), Prune(pattern="2:4")),
            (Share(4, moved="zero"), Share(4)),
            (Quantize(1, calibration="kl"), Quantize(1, calibration="mse")),
            (Quantize(1, calibration="percentile", percentile=90, symmetric=False), Quantize(1, calibration="mse")),
            (Quantize(8, percentile=90), Quantize(8)),
            (Quantize(8, power_of_two=True, ternary=0.7), Quantize(8)),
            (Quantize(9, activations=8), Quantize(9)),
        ],
        ids=repr,
    )
    def test_a_setting_without_effect_is_its_default(self, one, other):
        name = next(name for name, kind in STEPS.items() if isinstance(one, kind))
        assert Recipe(**{name: one}) == Recipe(**{name: other})
        assert Recipe(**{name: one}).digest == Recipe(**{name: other}).digest

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (Simplify(0.5, "l1"), Simplify(0.5)),
            (Simplify(energy=0.9), Simplify(energy=0.8)),
            (Simplify(blocks=1), Simplify(blocks=2)),
            (Simplify(merge=True), Simplify(fold=True)),
            (Simplify(drop=["a"]), Simplify(drop=["b"])),
            (Prune(threshold=0.5), Prune(0.5)),
            (Prune(pattern="2:4"), Prune(pattern="4:8")),
            (Share(4, "linear"), Share(4)),
            (Share(4, population=2), Share(4, rarest=2)),
            (Share(4, rarest=2, moved="zero"), Share(4, rarest=2)),
            (Quantize(8, calibration="percentile"), Quantize(8, calibration="kl")),
            (Quantize(8, calibration="percentile", percentile=90), Quantize(8, calibration="percentile")),
            (Quantize(8, symmetric=False), Quantize(8)),
            (Quantize(8, activations=8), Quantize(8)),
            (Quantize(1, power_of_two=True), Quantize(1)),
            (Quantize(1, ternary=0.7), Quantize(1, ternary=0.5)),
            (Repair("gptq"), Repair(bias=True)),
            (Repair(batchnorm=True), Repair(bias=True)),
        ],
        ids=repr,
    )
    def test_a_setting_with_an_effect_changes_it(self, one, other):
        name = next(name for name, kind in STEPS.items() if isinstance(one, kind))
        assert Recipe(**{name: one}).digest != Recipe(**{name: other}).digest

    def test_keep_ends_and_overrides_change_it(self):
        recipes = [
            Recipe.of(bits=4, **more)
            for more in (
                {},
                {"keep_ends": True},
                {"overrides": [Override("a", {"bits": 2})]},
                {"overrides": [Override("b", {"bits": 2})]},
                {"overrides": [Override("a", {"bits": 3})]},
                {"overrides": [Override("a", {"bits": 2}), Override("b", {"bits": 2})]},
                {"overrides": [Override("b", {"bits": 2}), Override("a", {"bits": 2})]},
            )
        ]
        assert len({recipe.digest for recipe in recipes}) == len(recipes)

    def test_form_of_the_number_and_order_of_the_fields_do_not_matter(self):
        one = Recipe.from_json('{"version": 1, "prune": {"scope": "layer", "sparsity": 0.5}, "share": {"clusters": 4}}')
        other = Recipe.from_json('{"share":{"clusters":4},"prune":{"sparsity":50e-2,"scope":"layer"},"version":1}')
        assert one.digest == other.digest


class TestValue:
    def test_is_immutable_and_a_key(self):
        recipe = Recipe.of(sparsity=0.5)
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe.prune = None
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe.prune.sparsity = 0.9
        assert {recipe: 1}[Recipe(prune=Prune(0.5))] == 1

    @pytest.mark.parametrize(
        ("values", "lossless"),
        [
            ({}, True),
            ({"coder": "huffman"}, True),
            ({"sparsity": 0.0, "bits": 32}, True),
            ({"sparsity": 0.1}, False),
            ({"clusters": 256}, False),
            ({"bits": 16}, False),
            ({"threshold": 1e-9}, False),
            ({"pattern": "2:4"}, False),
            ({"fold": True}, False),
            ({"bias": True}, False),
            ({"overrides": [{"layers": "fc", "bits": 8}]}, False),
            ({"rest": "fp16"}, False),
        ],
    )
    def test_lossless(self, values, lossless):
        assert Recipe.of(**values).lossless is lossless

    @pytest.mark.parametrize("bits", BITS)
    def test_bits(self, bits):
        assert Recipe.of(bits=bits).bits == bits

    @pytest.mark.parametrize(
        ("values", "line"),
        [
            ({}, "no change"),
            ({"sparsity": 0.8, "clusters": 16, "bits": 8}, "80 % sparse, 16 clusters, 8 bits"),
            ({"sparsity": 0.125, "scope": "layer"}, "12.5 % sparse in each layer"),
            ({"bits": 1, "granularity": "tensor", "calibration": "mse"}, "binary, per tensor"),
            ({"coder": "huffman", "rest": "fp16"}, "no change, Huffman, fp16 rest"),
            ({"threshold": 0.02, "clusters": 8, "start": "best"}, "weights below 0.02 zero, 8 clusters, best start"),
            ({"pattern": "2:4", "bits": 8, "symmetric": False}, "2:4 sparse, 8 bits, asymmetric"),
            (
                {"clusters": 8, "population": 5, "rarest": 2, "moved": "zero"},
                "8 clusters, groups under 5 weights and 2 rarest to zero",
            ),
            ({"bits": 4, "calibration": "percentile", "percentile": 99}, "4 bits, 99th percentile"),
            ({"bits": 4, "calibration": "kl", "activations": 8}, "4 bits, kl, integer kernels"),
            ({"bits": 1, "ternary": 0.7, "power_of_two": True}, "ternary (0.7), power of two"),
            (
                {"nodes": 0.25, "importance": "bn", "drop": ("a",), "blocks": 1, "fold": True, "merge": True},
                "2 blocks dropped, 25 % of nodes removed (bn), batch norm folded, linear merged",
            ),
            ({"energy": 0.9, "rounding": "gptq", "bias": True}, "rank at 90 % energy, gptq, bias corrected"),
            (
                {"bits": 4, "batchnorm": True, "keep_ends": True, "overrides": [{"layers": "a", "bits": 2}]},
                "4 bits, batch norm re-estimated, ends at 8 bits, 1 override",
            ),
        ],
    )
    def test_describe(self, values, line):
        assert Recipe.of(**values).describe() == line

    @given(RECIPES)
    @examples
    def test_describe_is_one_line(self, recipe):
        assert recipe.describe().strip() and "\n" not in recipe.describe()


HALF = {"sparsity": 0.5}

SPARSITY = "sparsity must be in [0, 1)", "Pass a fraction"
SPARSITY_KIND = "sparsity must be a number in [0, 1)", "Pass a fraction"
CLUSTERS = "clusters must be in 2..256", "leave the step out"
CLUSTERS_KIND = "clusters must be a whole number", "Pass an integer"
BITS_RULE = "bits must be 32 or 1..16", "or 32 for none"
CALIBRATION = "calibration must be 'range' or 'mse' or 'percentile' or 'kl'"
SWITCH = "must be true or false", "Pass one of the two"
PATTERN = "pattern must be N:M with 1 <= N < M, N weights of every M stay", "Pass e.g. 2:4"
THRESHOLD = "threshold must be of at least 0", "Pass a magnitude"
THRESHOLD_KIND = "threshold must be a number of at least 0", "Pass a magnitude"
PERCENTILE = "percentile must be in (50, 100]", "Pass e.g. 99.9"
ENERGY = "energy must be in (0, 1]", "or 1 for none"
DROP = "drop must be a list of block names", 'Pass e.g. ["layer2.1"]'

BITS_KIND = "bits must be a whole number", "Pass an integer"
CHOICE = "Choose one of these names"
VERSION = "version must be 1", 'Add "version": 1'

# The step, its fields, the value that is refused as the message shows it, the rule and the remedy.
REFUSED_FIELDS = [
    ("prune", {"sparsity": 95}, "95", *SPARSITY),
    ("prune", {"sparsity": 1}, "1", *SPARSITY),
    ("prune", {"sparsity": -0.1}, "-0.1", *SPARSITY),
    ("prune", {"sparsity": math.nan}, "nan", *SPARSITY_KIND),
    ("prune", {"sparsity": math.inf}, "inf", *SPARSITY_KIND),
    ("prune", {"sparsity": -math.inf}, "-inf", *SPARSITY_KIND),
    ("prune", {"sparsity": True}, "True", *SPARSITY_KIND),
    ("prune", {"sparsity": False}, "False", *SPARSITY_KIND),
    ("prune", {"sparsity": "0.5"}, "'0.5'", *SPARSITY_KIND),
    ("prune", {"sparsity": None}, "None", *SPARSITY_KIND),
    ("prune", {"sparsity": [0.5]}, "[0.5]", *SPARSITY_KIND),
    ("prune", {**HALF, "scope": "model"}, "'model'", "scope must be 'global' or 'layer'", CHOICE),
    ("prune", {**HALF, "scope": "Global"}, "'Global'", "scope must be 'global' or 'layer'", CHOICE),
    ("prune", {**HALF, "scope": None}, "None", "scope must be 'global' or 'layer'", CHOICE),
    ("prune", {**HALF, "scope": ["layer"]}, "['layer']", "scope must be 'global' or 'layer'", CHOICE),
    ("share", {"clusters": 1}, "1", *CLUSTERS),
    ("share", {"clusters": 0}, "0", *CLUSTERS),
    ("share", {"clusters": -16}, "-16", *CLUSTERS),
    ("share", {"clusters": 257}, "257", *CLUSTERS),
    ("share", {"clusters": 2.5}, "2.5", *CLUSTERS_KIND),
    ("share", {"clusters": 16.0}, "16.0", *CLUSTERS_KIND),
    ("share", {"clusters": True}, "True", *CLUSTERS_KIND),
    ("share", {"clusters": "16"}, "'16'", *CLUSTERS_KIND),
    ("share", {"clusters": None}, "None", *CLUSTERS_KIND),
    ("quantize", {"bits": 17}, "17", *BITS_RULE),
    ("quantize", {"bits": 31}, "31", *BITS_RULE),
    ("quantize", {"bits": 0}, "0", *BITS_RULE),
    ("quantize", {"bits": -8}, "-8", *BITS_RULE),
    ("quantize", {"bits": 64}, "64", *BITS_RULE),
    ("quantize", {"bits": True}, "True", *BITS_KIND),
    ("quantize", {"bits": 8.0}, "8.0", *BITS_KIND),
    ("quantize", {"bits": "8"}, "'8'", *BITS_KIND),
    (
        "quantize",
        {"bits": 8, "granularity": "row"},
        "'row'",
        "granularity must be 'channel' or 'tensor'",
        CHOICE,
    ),
    ("quantize", {"bits": 8, "calibration": "max"}, "'max'", CALIBRATION, CHOICE),
    ("quantize", {"bits": 8, "calibration": 3}, "3", CALIBRATION, CHOICE),
    ("quantize", {"bits": 8, "percentile": 50}, "50", *PERCENTILE),
    ("quantize", {"bits": 8, "percentile": 100.5}, "100.5", *PERCENTILE),
    ("quantize", {"bits": 8, "percentile": "99"}, "'99'", "percentile must be a number in (50, 100]", PERCENTILE[1]),
    ("quantize", {"bits": 8, "symmetric": 1}, "1", f"symmetric {SWITCH[0]}", SWITCH[1]),
    ("quantize", {"bits": 1, "power_of_two": "on"}, "'on'", f"power_of_two {SWITCH[0]}", SWITCH[1]),
    ("quantize", {"bits": 1, "ternary": -0.1}, "-0.1", "ternary must be in [0, 3]", "Pass e.g. 0.7"),
    ("quantize", {"bits": 1, "ternary": 3.5}, "3.5", "ternary must be in [0, 3]", "or 0 for none"),
    ("quantize", {"bits": 8, "activations": 16}, "16", "activations must be 8 or 32", "Pass 8 for integer kernels"),
    ("quantize", {"bits": 8, "activations": True}, "True", "activations must be 8 or 32", "Pass 8 for integer kernels"),
    ("prune", {"threshold": -0.5}, "-0.5", *THRESHOLD),
    ("prune", {"threshold": math.inf}, "inf", *THRESHOLD_KIND),
    ("prune", {"threshold": math.nan}, "nan", *THRESHOLD_KIND),
    ("prune", {"threshold": "0.1"}, "'0.1'", *THRESHOLD_KIND),
    ("prune", {"threshold": True}, "True", *THRESHOLD_KIND),
    *[
        ("prune", {"pattern": value}, repr(value), *PATTERN)
        for value in ("4:2", "2:2", "0:4", "2", "2:4:8", "a:b", " 2:4", "2:4\n", "2:1000", "-1:4", 24, None, ["2:4"])
    ],
    ("share", {"clusters": 4, "start": "random"}, "'random'", "start must be 'optimal' or 'linear' or ", CHOICE),
    ("share", {"clusters": 4, "moved": "away"}, "'away'", "moved must be 'zero' or 'nearest'", CHOICE),
    ("share", {"clusters": 4, "population": -1}, "-1", "population must be 0 or more", "or 0 for none"),
    ("share", {"clusters": 4, "population": 1.5}, "1.5", "population must be a whole number", "Pass an integer"),
    ("share", {"clusters": 4, "rarest": True}, "True", "rarest must be a whole number", "Pass an integer"),
    ("share", {"clusters": 4, "rarest": 4}, "4 of 4", "rarest must be less than clusters", "Keep one group"),
    ("simplify", {"nodes": 1}, "1", "nodes must be in [0, 1)", "Pass a fraction"),
    ("simplify", {"nodes": 0.5, "importance": "l0"}, "'l0'", "importance must be 'l1' or 'l2' or 'bn'", CHOICE),
    ("simplify", {"blocks": -1}, "-1", "blocks must be 0 or more", "or 0 for none"),
    ("simplify", {"blocks": "1"}, "'1'", "blocks must be a whole number", "Pass an integer"),
    ("simplify", {"fold": "yes"}, "'yes'", f"fold {SWITCH[0]}", SWITCH[1]),
    ("simplify", {"merge": None}, "None", f"merge {SWITCH[0]}", SWITCH[1]),
    ("simplify", {"energy": 0}, "0", *ENERGY),
    ("simplify", {"energy": 1.01}, "1.01", *ENERGY),
    ("simplify", {"drop": "layer2.1"}, "'layer2.1'", *DROP),
    ("simplify", {"drop": [1]}, "[1]", *DROP),
    ("repair", {"rounding": "up"}, "'up'", "rounding must be 'nearest' or 'gptq'", CHOICE),
    ("repair", {"bias": 1}, "1", f"bias {SWITCH[0]}", SWITCH[1]),
    ("repair", {"batchnorm": "on"}, "'on'", f"batchnorm {SWITCH[0]}", SWITCH[1]),
    ("code", {"coder": "zip"}, "'zip'", "coder must be 'ans' or 'huffman'", CHOICE),
    ("code", {"rest": "fp8"}, "'fp8'", "rest must be 'fp32' or 'fp16'", CHOICE),
    ("code", {"rest": {}}, "{}", "rest must be 'fp32' or 'fp16'", CHOICE),
]


@pytest.mark.parametrize(("step", "fields", "value", "rule", "remedy"), REFUSED_FIELDS)
class TestRefusedValues:
    def test_as_a_step(self, step, fields, value, rule, remedy):
        self._check(lambda: STEPS[step](**fields), value, rule, remedy)

    def test_as_plain_data(self, step, fields, value, rule, remedy):
        self._check(lambda: Recipe.from_dict({"version": 1, step: fields}), value, rule, remedy)

    def test_as_json(self, step, fields, value, rule, remedy):
        self._check(lambda: Recipe.from_json(json.dumps({"version": 1, step: fields})), value, rule, remedy)

    def test_as_settings(self, step, fields, value, rule, remedy):
        if fields == {"clusters": None}:
            assert Recipe.of(**fields) == Recipe()  # the setting that means: share nothing
        else:
            self._check(lambda: Recipe.of(**fields), value, rule, remedy)

    @staticmethod
    def _check(make, value, rule, remedy):
        with pytest.raises(RecipeError) as caught:
            make()
        message = str(caught.value)
        assert message.startswith(rule) and f"; got {value}. " in message
        assert remedy in message and message.endswith(".")


@pytest.mark.parametrize("sparsity", [1.0, -5e-324, 100.0, -math.nextafter(0, 1), math.nextafter(1, 2)])
def test_edges_of_the_sparsity_are_outside(sparsity):
    with pytest.raises(RecipeError, match=r"^sparsity must be in \[0, 1\); got "):
        Prune(sparsity)


@pytest.mark.parametrize(
    ("data", "value", "rule", "remedy"),
    [
        ({}, "got None", *VERSION),
        ({"version": None}, "got None", *VERSION),
        ({"version": 2}, "got 2", *VERSION),
        ({"version": "1"}, "got '1'", *VERSION),
        ({"version": 1.0}, "got 1.0", *VERSION),
        ({"version": True}, "got True", *VERSION),
        ([], "got []", "a recipe must be a JSON object", "Write it as {...}"),
        (None, "got None", "a recipe must be a JSON object", "Write it as {...}"),
        ("recipe", "got 'recipe'", "a recipe must be a JSON object", "Write it as {...}"),
        (7, "got 7", "a recipe must be a JSON object", "Write it as {...}"),
        ({"version": 1, "prune": 0.5}, "got 0.5", "prune must be a JSON object", "Write it as {...}"),
        ({"version": 1, "prune": None}, "got None", "prune must be a JSON object", "Write it as {...}"),
        ({"version": 1, "share": [16]}, "got [16]", "share must be a JSON object", "Write it as {...}"),
        ({"version": 1, "quantize": "8"}, "got '8'", "quantize must be a JSON object", "Write it as {...}"),
        ({"version": 1, "code": None}, "got None", "code must be a JSON object", "Write it as {...}"),
        ({"version": 1, "share": {}}, "it is missing", "share must state clusters", "leave the step out"),
        (
            {"version": 1, "quantize": {"calibration": "mse"}},
            "it is missing",
            "quantize must state bits",
            "leave the step out",
        ),
        (
            {"version": 1, "pruning": {}},
            "got 'pruning'",
            f"a recipe may have the fields version, {', '.join(STEPS)}, keep_ends, overrides",
            "Remove or rename",
        ),
        (
            {"version": 1, "share": {"clusters": 4, "k": 4, "init": "k-means++"}},
            "got 'init', 'k'",
            "share may have the fields clusters, start, population, rarest, moved",
            "Remove or rename",
        ),
        (
            {"version": 1, "code": {"coder": "ans", "level": 9}},
            "got 'level'",
            "code may have the fields coder, rest",
            "Remove or rename",
        ),
        ({"version": 1, "keep_ends": 1}, "got 1", "keep_ends must be true or false", "Pass one of the two"),
        ({"version": 1, "overrides": {}}, "got {}", "overrides must be a list", "Write it as [{...}]"),
        ({"version": 1, "overrides": [3]}, "got 3", "an override must be a JSON object", "Write it as {...}"),
        (
            {"version": 1, "overrides": [{"bits": 8}]},
            "got None",
            "an override must say for which layers",
            'Pass a name or a pattern, "conv*"',
        ),
        (
            {"version": 1, "overrides": [{"layers": "", "bits": 8}]},
            "got ''",
            "an override must say for which layers",
            'Pass a name or a pattern, "conv*"',
        ),
        ({"version": 1, "overrides": [{"layers": "a"}]}, "got nothing", "an override may set", "Name one of these"),
        (
            {"version": 1, "overrides": [{"layers": "a", "coder": "ans"}]},
            "got 'coder'",
            "an override may have the fields layers, sparsity",
            "Remove or rename",
        ),
        (
            {"version": 1, "overrides": [{"layers": "a", "bits": 17}]},
            "got 17",
            "bits must be 32 or 1..16",
            "or 32 for none",
        ),
        (
            {"version": 1, "share": {"clusters": 16}, "overrides": [{"layers": "a", "rarest": 16}]},
            "got 16 of 16",
            "rarest must be less than clusters",
            "Keep one group",
        ),
        (
            {"version": 1, "prune": {"sparsity": 0.5, "threshold": 0.1}},
            "got sparsity 0.5, threshold 0.1",
            "prune must follow one rule of sparsity, threshold and pattern",
            "Leave two of them out",
        ),
        (
            {"version": 1, "overrides": [{"layers": "a", "pattern": "2:4", "threshold": 0.1}]},
            "pattern '2:4'",
            "prune must follow one rule of sparsity, threshold and pattern",
            "Leave two of them out",
        ),
    ],
)
def test_refused_shapes(data, value, rule, remedy):
    for read in (lambda: Recipe.from_dict(data), lambda: Recipe.from_json(json.dumps(data))):
        with pytest.raises(RecipeError) as caught:
            read()
        message = str(caught.value)
        assert message.startswith(rule) and value in message and remedy in message and message.endswith(".")


@pytest.mark.parametrize(
    "text", ["", " ", "{", "sparsity=0.5", "{'version': 1}", '{"version": 1}}', b"\xff\xfe\x00", b"\x89PSC\r\n", "NaN,"]
)
def test_text_that_is_not_json(text):
    with pytest.raises(RecipeError, match=r"^a recipe must be JSON text; .*\. Export one to see the form\.$"):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"prune": 0.5}, r"^prune must be a Prune step; got 0\.5\. Pass Prune\(\.\.\.\)\.$"),
        ({"share": Quantize(4)}, r"^share must be a Share step; got Quantize"),
        ({"quantize": {"bits": 8}}, r"^quantize must be a Quantize step; got \{'bits': 8\}"),
        ({"code": None}, r"^code must be a Code step; got None"),
        ({"code": Share(4)}, r"^code must be a Code step; got Share"),
        ({"simplify": 0.5}, r"^simplify must be a Simplify step; got 0\.5"),
        ({"repair": True}, r"^repair must be a Repair step; got True"),
        ({"keep_ends": 1}, r"^keep_ends must be true or false; got 1"),
        ({"overrides": Override("a", {"bits": 8})}, r"^overrides must be a list of overrides; got Override"),
        ({"overrides": [{"layers": "a"}]}, r"^overrides must be a list of overrides; got \["),
    ],
)
def test_a_recipe_takes_steps_of_the_right_kind(fields, rule):
    with pytest.raises(RecipeError, match=rule):
        Recipe(**fields)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"sparsity": "most"}, r"^sparsity in a link must be a number; got 'most'\. Write e\.g\. sparsity=0\.8\.$"),
        ({"sparsity": ""}, r"^sparsity in a link must be a number; got ''"),
        ({"clusters": "many"}, r"^clusters in a link must be a number; got 'many'\. Write e\.g\. clusters=16\.$"),
        ({"clusters": "16.0"}, r"^clusters in a link must be a number; got '16\.0'"),
        ({"clusters": "None"}, r"^clusters in a link must be a number; got 'None'"),
        ({"bits": "8b"}, r"^bits in a link must be a number; got '8b'\. Write e\.g\. bits=8\.$"),
        ({"sparsity": "95"}, r"^sparsity must be in \[0, 1\); got 95\. Pass a fraction, e\.g\. 0\.95\.$"),
        ({"sparsity": "nan"}, r"^sparsity must be a number in \[0, 1\); got nan"),
        ({"sparsity": "1e999"}, r"^sparsity must be a number in \[0, 1\); got inf"),
        ({"clusters": "257"}, r"^clusters must be in 2\.\.256; got 257"),
        ({"bits": "17"}, r"^bits must be 32 or 1\.\.16; got 17"),
        ({"fold": "true"}, r"^fold in a link must be on or off; got 'true'\. Write e\.g\. fold=on\.$"),
        ({"pattern": "4:2"}, r"^pattern must be N:M .*; got '4:2'"),
        ({"blocks": "1.5"}, r"^blocks in a link must be a number; got '1\.5'"),
        ({"overrides": "conv1"}, r"^overrides must be JSON text; .*\. Export one to see the form\.$"),
        ({"overrides": "{}"}, r"^overrides must be a list; got \{\}"),
        ({"scope": "<script>"}, r"^scope must be 'global' or 'layer'; got '<script>'"),
        ({"bits": "8", "sparsty": "0.5"}, r"^a link may set .*; got 'sparsty'\. Did you mean sparsity.*\? Remove"),
    ],
)
def test_refused_links(query, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_query(query)


def said(step: object, name: str, value: object) -> bool:
    """Whether the step has that value, or the one that stands for all values without effect."""
    now = getattr(step, name)
    if name == "drop":
        return now == tuple(sorted(set(value)))
    if name == "calibration" and step.bits == 1:
        return now == ("range" if value == "range" else "mse")
    default = next(field.default for field in dataclasses.fields(step) if field.name == name)
    return now in (value, default)


class TestAnythingFromOutside:
    """Whatever comes in, it is a recipe or a RecipeError; nothing else gets out."""

    @pytest.mark.slow
    @given(JSON_VALUES | NEARLY_RECIPES)
    @example({"version": 1, "prune": {"sparsity": 10**400}})
    @example({"version": 1, "share": {"clusters": 10**400}})
    @example({"version": 1, "quantize": {"bits": -(10**400)}})
    @example({"version": 10**400})
    @example({"version": 1, "prune": {"sparsity": 0.5, "\ud800": 0}})
    @settings(examples, max_examples=400)
    def test_json_values(self, data):
        recipe = parsed(json.dumps(data))
        if recipe is not None:
            assert parsed(recipe.to_json()) == recipe

    @pytest.mark.slow
    @given(NEARLY_RECIPES)
    @examples
    def test_what_is_accepted_says_what_the_data_say(self, data):
        recipe = parsed(json.dumps(data))
        if recipe is None:
            return
        assert set(data) <= {"version", *STEPS, "keep_ends", "overrides"}
        for name, fields in data.items():
            step = getattr(recipe, name, None)
            if name == "keep_ends":
                assert recipe.keep_ends is fields
            elif name == "overrides":
                assert recipe.to_dict().get("overrides", []) == fields
            elif name != "version" and step is not None:
                assert all(said(step, key, value) for key, value in fields.items())

    @given(st.text(max_size=40) | st.binary(max_size=40))
    @examples
    def test_any_text(self, text):
        assert parsed(text) is None

    @given(st.dictionaries(st.sampled_from([*Recipe().settings(), "x"]), st.text(max_size=6) | st.just("9" * 5000)))
    @examples
    def test_links(self, query):
        try:
            recipe = Recipe.from_query(query)
        except RecipeError:
            return
        assert Recipe.from_query(recipe.to_query()) == recipe

    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    @pytest.mark.parametrize(
        "frame",
        [
            "%s",
            '{"version":%s}',
            '{"version":1,"prune":%s}',
            '{"version":1,"share":{"clusters":%s}}',
            '{"version":1,"prune":{"sparsity":0.5,"scope":%s}}',
            '{"version":1,"simplify":{"drop":%s}}',
            '{"version":1,"overrides":[{"layers":"a","scope":%s}]}',
        ],
    )
    def test_nesting_of_any_depth(self, frame, opening):
        """Near the recursion limit reading may succeed where writing the value into a message would not."""
        closing = {"[": "]", "{": "}"}[opening[0]]
        for depth in [*range(1, 1010, 3), *range(900, 1005), 100_000]:
            value = opening * depth + "0" + closing * depth
            assert parsed(frame % value) is None

    @pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=["huge", "huge and negative"])
    @pytest.mark.parametrize(
        "path",
        [
            ("version",),
            ("keep_ends",),
            ("overrides",),
            ("prune", "sparsity"),
            ("prune", "threshold"),
            ("prune", "pattern"),
            ("share", "clusters"),
            ("share", "population"),
            ("quantize", "bits"),
            ("quantize", "percentile"),
            ("quantize", "activations"),
            ("simplify", "blocks"),
            ("simplify", "drop"),
            ("simplify", "energy"),
        ],
        ids=".".join,
    )
    def test_integers_too_long_to_print(self, path, value):
        data = {"version": 1, "share": {"clusters": 4}, "quantize": {"bits": 8}}
        if len(path) == 1:
            data[path[0]] = value
        else:
            data[path[0]] = {**data.get(path[0], {}), path[1]: value}
        with pytest.raises(RecipeError):
            Recipe.from_dict(data)

    def test_keys_that_are_no_text(self):
        with pytest.raises(RecipeError, match="may have the fields"):
            Recipe.from_dict({"version": 1, 2: 3, "x": 4})
        with pytest.raises(RecipeError, match="may have the fields"):
            Recipe.from_dict({"version": 1, "code": {None: 3, "x": 4}})


def test_a_refusal_is_an_error_of_the_library():
    assert issubclass(RecipeError, CompressionError)


def test_defaults_are_the_documented_ones():
    assert Recipe() == Recipe(None, None, None, None, None, None, Code("ans", "fp32"), False, ())
    assert Simplify() == Simplify(0.0, "l2", (), 0, False, False, 1.0)
    assert Prune(0.5) == Prune(0.5, "global", 0.0, "")
    assert Share(4) == Share(4, "optimal", 0, 0, "nearest")
    assert Quantize(8) == Quantize(8, "channel", "range", 99.9, True, False, 0.0, 32)
    assert Repair() == Repair("nearest", False, False)


@pytest.mark.parametrize(("pattern", "kept_of"), [("2:4", (2, 4)), ("1:2", (1, 2)), ("99:100", (99, 100))])
def test_numbers_of_a_pattern(pattern, kept_of):
    assert Prune(pattern=pattern).kept_of == kept_of


@pytest.mark.parametrize(
    ("settings", "integer"),
    [
        ({"bits": 8, "activations": 8}, True),
        ({"bits": 1, "activations": 8}, True),
        ({"bits": 8}, False),
        ({"bits": 9, "activations": 8}, False),
        ({"sparsity": 0.5}, False),
    ],
)
def test_integer_kernels_run_where_activations_are_integers_too(settings, integer):
    assert Recipe.of(**settings).integer is integer


class TestMovingASlider:
    def test_only_that_setting_changes(self):
        recipe = Recipe.of(sparsity=0.5, clusters=16, bits=4, calibration="mse", fold=True)
        assert recipe.with_setting("bits", 8) == Recipe.of(**{**recipe.settings(), "bits": 8})
        assert recipe.with_setting("clusters", None).share is None
        assert recipe.with_setting("sparsity", 0.0) == Recipe.of(clusters=16, bits=4, calibration="mse", fold=True)

    @pytest.mark.parametrize("other", [{"threshold": 0.1}, {"pattern": "2:4"}])
    def test_a_rate_takes_the_place_of_another_rule(self, other):
        assert Recipe.of(**other).with_setting("sparsity", 0.5) == Recipe.of(sparsity=0.5)
        assert Recipe.of(**other).with_setting("sparsity", 0.0) == Recipe.of(**other)

    def test_fewer_clusters_leave_fewer_to_drop(self):
        recipe = Recipe.of(clusters=16, rarest=8)
        assert recipe.with_setting("clusters", 4) == Recipe.of(clusters=4, rarest=3)
        assert recipe.with_setting("clusters", 32) == Recipe.of(clusters=32, rarest=8)


class TestOverride:
    @pytest.mark.parametrize(
        ("pattern", "layer", "matches"),
        [
            ("conv1", "conv1.weight", True),
            ("conv1.weight", "conv1.weight", True),
            ("conv1", "conv10.weight", False),
            ("conv?", "conv1.weight", True),
            ("layer1.*", "layer1.0.conv2.weight", True),
            ("layer1.*", "layer10.0.conv2.weight", False),
            ("*.conv[12]", "layer1.0.conv2.weight", True),
            ("Conv1", "conv1.weight", False),
            ("*in_proj_weight", "encoder.in_proj_weight", True),
            ("weight", "conv1.weight", False),
        ],
    )
    def test_matches_by_name_with_or_without_weight(self, pattern, layer, matches):
        assert Override(pattern, {"bits": 8}).matches(layer) is matches

    def test_settings_from_a_mapping_or_pairs_in_one_order(self):
        one, other = Override("a", {"bits": 8, "clusters": 4}), Override("a", (("clusters", 4), ("bits", 8)))
        assert one == other and one.settings == (("bits", 8), ("clusters", 4)) and hash(one) == hash(other)

    @pytest.mark.parametrize(
        ("layers", "settings", "message"),
        [
            ("", {"bits": 8}, r"^an override must say for which layers; got ''"),
            (None, {"bits": 8}, r"^an override must say for which layers; got None"),
            ("a", {}, r"^an override may set sparsity, .*; got nothing\. Name one of these\.$"),
            ("a", {"coder": "ans"}, r"^an override may set .*; got 'coder'"),
            ("a", {"activations": 32}, r"^an override may set .*; got 'activations'"),
            ("a", {"nodes": 0.5, "bits": 8}, r"^an override may set .*; got 'nodes'"),
            ("a", {1: 2, "x": 3}, r"^an override may set .*; got 'x', 1"),
            ("a", 8, r"^the settings of an override must be names with values; got 8\. Pass e\.g\. \{\"bits\": 8\}\.$"),
            ("a", ["bits"], r"^the settings of an override must be names with values; got \['bits'\]"),
        ],
    )
    def test_refused(self, layers, settings, message):
        with pytest.raises(RecipeError, match=message):
            Override(layers, settings)

    @pytest.mark.parametrize(
        "settings", [{"bits": 33}, {"sparsity": 1.0}, {"pattern": "4:2"}, {"clusters": 1}, {"symmetric": "no"}]
    )
    def test_values_are_checked_by_the_recipe(self, settings):
        override = Override("a", settings)
        with pytest.raises(RecipeError, match=f"^{next(iter(settings))} must be"):
            Recipe(overrides=(override,))

    def test_overrides_in_all_forms(self):
        override = Override("fc*", {"bits": 2})
        recipes = [
            Recipe(overrides=[override]),
            Recipe.of(overrides=[override]),
            Recipe.of(overrides=({"layers": "fc*", "bits": 2},)),
            Recipe.of(overrides='[{"bits": 2, "layers": "fc*"}]'),
            Recipe.from_dict({"version": 1, "overrides": [{"layers": "fc*", "bits": 2}]}),
        ]
        assert len(set(recipes)) == 1 and recipes[0].overrides == (override,)


class TestForLayer:
    def test_without_overrides_it_is_the_recipe(self):
        recipe = Recipe.of(sparsity=0.5, clusters=8, bits=4)
        plan = recipe.for_layer("conv1.weight", end=True)
        assert plan == LayerRecipe(recipe.prune, recipe.share, recipe.quantize, own_rate=False)

    @pytest.mark.slow
    @given(RECIPES)
    @examples
    def test_a_layer_that_no_override_means_has_the_recipes_steps(self, recipe):
        recipe = dataclasses.replace(recipe, overrides=[o for o in recipe.overrides if o.layers != "*"])
        assert recipe.for_layer("head") == LayerRecipe(recipe.prune, recipe.share, recipe.quantize)

    def test_only_what_an_override_names_differs(self):
        recipe = Recipe.of(
            sparsity=0.5, scope="layer", clusters=8, bits=4, calibration="mse", overrides=[Override("fc", {"bits": 8})]
        )
        plan = recipe.for_layer("fc.weight")
        assert plan.prune == recipe.prune and plan.share == recipe.share and not plan.own_rate
        assert plan.quantize == Quantize(8, calibration="mse")
        assert recipe.for_layer("conv.weight").quantize == recipe.quantize

    def test_steps_go_and_come(self):
        recipe = Recipe.of(
            clusters=8,
            bits=4,
            overrides=[Override("a", {"bits": 32, "clusters": None}), Override("b", {"sparsity": 0.5})],
        )
        assert recipe.for_layer("a") == LayerRecipe(None, None, None)
        assert recipe.for_layer("b") == LayerRecipe(Prune(0.5), Share(8), Quantize(4), own_rate=True)

    def test_later_ones_win_setting_by_setting(self):
        overrides = [Override("conv*", {"bits": 2, "granularity": "tensor"}), Override("*1", {"bits": 6})]
        recipe = Recipe.of(bits=4, overrides=overrides)
        assert recipe.for_layer("conv1.weight").quantize == Quantize(6, "tensor")
        assert recipe.for_layer("conv2.weight").quantize == Quantize(2, "tensor")
        assert recipe.for_layer("fc1.weight").quantize == Quantize(6)
        turned = Recipe.of(bits=4, overrides=overrides[::-1])
        assert turned.for_layer("conv1.weight").quantize == Quantize(2, "tensor")

    @pytest.mark.parametrize("rule", [{"sparsity": 0.25}, {"threshold": 0.1}, {"pattern": "2:4"}])
    @pytest.mark.parametrize("own", [{"sparsity": 0.75}, {"threshold": 0.2}, {"pattern": "1:4"}, {"sparsity": 0.0}])
    def test_a_rule_of_its_own_takes_the_place_of_the_recipes(self, rule, own):
        plan = Recipe.of(**rule, overrides=[Override("a", own)]).for_layer("a.weight")
        assert plan.own_rate
        assert plan.prune == Recipe.of(**own).prune

    def test_a_scope_alone_is_no_rate(self):
        plan = Recipe.of(sparsity=0.5, overrides=[Override("a", {"scope": "layer"})]).for_layer("a")
        assert plan.prune == Prune(0.5, "layer") and not plan.own_rate


class TestKeepEnds:
    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 9, 16])
    def test_ends_have_at_least_eight_bits(self, bits):
        recipe = Recipe.of(bits=bits, clusters=4, sparsity=0.5, calibration="mse", keep_ends=True)
        end, inner = recipe.for_layer("a", end=True), recipe.for_layer("a")
        assert end == LayerRecipe(Prune(0.5), None, Quantize(max(bits, 8), calibration="mse"))
        assert inner == LayerRecipe(recipe.prune, recipe.share, recipe.quantize)

    def test_shared_only_means_eight_bits(self):
        end = Recipe.of(clusters=4, keep_ends=True).for_layer("a", end=True)
        assert end == LayerRecipe(None, None, Quantize(8))

    def test_without_anything_to_keep_them_from_nothing_happens(self):
        assert Recipe.of(sparsity=0.5, keep_ends=True).for_layer("a", end=True) == LayerRecipe(Prune(0.5), None, None)

    def test_ternary_and_power_of_two_end_with_one_bit(self):
        recipe = Recipe.of(bits=1, ternary=0.7, power_of_two=True, keep_ends=True)
        assert recipe.for_layer("a", end=True).quantize == Quantize(8, calibration="mse")

    def test_off_by_default(self):
        assert Recipe.of(bits=2).for_layer("a", end=True).quantize == Quantize(2)

    def test_counts_for_overridden_ends_too(self):
        recipe = Recipe.of(keep_ends=True, overrides=[Override("a", {"bits": 2}), Override("b", {"bits": 12})])
        assert recipe.for_layer("a", end=True).quantize == Quantize(8)
        assert recipe.for_layer("b", end=True).quantize == Quantize(12)


class TestGraphKey:
    """Recipes of one key run the same kernels on the same shapes."""

    def test_is_empty_for_the_baselines_graph(self):
        for values in ({}, {"sparsity": 0.5}, {"clusters": 4, "bits": 8}, {"bits": 8, "activations": 8}):
            assert Recipe.of(**values).graph_key == ""

    def test_differs_with_the_shapes(self):
        keys = [
            Recipe.of(**s).graph_key for s in ({}, {"nodes": 0.5}, {"nodes": 0.25}, {"fold": True}, {"energy": 0.9})
        ]
        assert len(set(keys)) == len(keys)
        assert Recipe.of(nodes=0.5, sparsity=0.5).graph_key == Recipe.of(nodes=0.5, clusters=4).graph_key
