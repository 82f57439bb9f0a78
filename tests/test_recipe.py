import dataclasses
import hashlib
import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compression.errors import CompressionError, RecipeError
from compression.recipe import (
    BITS,
    CALIBRATIONS,
    CODERS,
    GRANULARITIES,
    MAX_CLUSTERS,
    MIN_CLUSTERS,
    REST_FORMATS,
    SCOPES,
    STEPS,
    Code,
    Prune,
    Quantize,
    Recipe,
    Share,
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
RECIPES = SETTINGS.map(lambda values: Recipe.of(**values))

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def mutated(data: dict) -> st.SearchStrategy[dict]:
    """The same object with one or two of its fields, or of its steps' fields, replaced, added or left out."""
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
        assert tuple(STEPS) == ("prune", "share", "quantize", "code")
        assert tuple(field.name for field in dataclasses.fields(Recipe)) == tuple(STEPS)

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

    def test_fields_left_out_take_their_default(self):
        assert Recipe.from_dict({"version": 1}) == Recipe()
        assert Recipe.from_dict({"version": 1, "quantize": {"bits": 4}, "code": {}}) == Recipe.of(bits=4)


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

    @given(RECIPES, RECIPES)
    @examples
    def test_is_equal_exactly_for_equal_recipes(self, one, other):
        assert (one.digest == other.digest) == (one == other)
        assert one != other or hash(one) == hash(other)

    @given(SETTINGS, st.data())
    @examples
    def test_every_effective_setting_changes_it(self, values, data):
        values = {**values, "sparsity": values["sparsity"] or 0.5, "bits": min(values["bits"], 16)}
        name = data.draw(st.sampled_from(sorted(values)))
        other = data.draw(SETTINGS)[name]
        recipe = Recipe.of(**values)
        assert (Recipe.of(**{**values, name: other}).digest == recipe.digest) == (other == values[name])

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
            ({"bits": 1, "granularity": "tensor", "calibration": "mse"}, "binary, per tensor, mse"),
            ({"coder": "huffman", "rest": "fp16"}, "no change, Huffman, fp16 rest"),
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
BITS_RULE = "bits must be 32, 16 or 1..8", "or 32 for none"
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
    ("quantize", {"bits": 9}, "9", *BITS_RULE),
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
    ("quantize", {"bits": 8, "calibration": "kl"}, "'kl'", "calibration must be 'range' or 'mse'", CHOICE),
    ("quantize", {"bits": 8, "calibration": 3}, "3", "calibration must be 'range' or 'mse'", CHOICE),
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
        assert message.startswith(f"{rule}; got {value}. ")
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
        ({"version": 1, "prune": {}}, "it is missing", "prune must state sparsity", "leave the step out"),
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
            "a recipe may have the fields version, prune, share, quantize, code",
            "Remove or rename",
        ),
        (
            {"version": 1, "share": {"clusters": 4, "k": 4, "init": "k-means++"}},
            "got 'init', 'k'",
            "share may have the fields clusters",
            "Remove or rename",
        ),
        (
            {"version": 1, "code": {"coder": "ans", "level": 9}},
            "got 'level'",
            "code may have the fields coder, rest",
            "Remove or rename",
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
        ({"bits": "9"}, r"^bits must be 32, 16 or 1\.\.8; got 9"),
        ({"scope": "<script>"}, r"^scope must be 'global' or 'layer'; got '<script>'"),
        ({"bits": "8", "sparsty": "0.5"}, r"^a link may set sparsity, .*, rest; got sparsty\. Remove"),
    ],
)
def test_refused_links(query, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_query(query)


class TestAnythingFromOutside:
    """Whatever comes in, it is a recipe or a RecipeError; nothing else gets out."""

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

    @given(NEARLY_RECIPES)
    @examples
    def test_what_is_accepted_says_what_the_data_say(self, data):
        recipe = parsed(json.dumps(data))
        if recipe is None:
            return
        assert set(data) <= {"version", *STEPS}
        for name, fields in data.items():
            step = getattr(recipe, name, None)
            if name != "version" and step is not None:
                assert {key: getattr(step, key) for key in fields} == fields

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
        ],
    )
    def test_nesting_of_any_depth(self, frame, opening):
        """Near the recursion limit reading may succeed where writing the value into a message would not."""
        closing = {"[": "]", "{": "}"}[opening[0]]
        for depth in [*range(1, 1010, 3), *range(900, 1005), 100_000]:
            value = opening * depth + "0" + closing * depth
            assert parsed(frame % value) is None

    @pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=["huge", "huge and negative"])
    @pytest.mark.parametrize("path", [("version",), ("prune", "sparsity"), ("share", "clusters"), ("quantize", "bits")])
    def test_integers_too_long_to_print(self, path, value):
        data = {"version": 1}
        if len(path) == 1:
            data[path[0]] = value
        else:
            data[path[0]] = {path[1]: value}
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
    assert Recipe() == Recipe(None, None, None, Code("ans", "fp32"))
    assert Prune(0.5) == Prune(0.5, "global")
    assert Quantize(8) == Quantize(8, "channel", "range")
