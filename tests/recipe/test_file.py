"""Recipe files from anywhere: a recipe, or one error that says why not, soon."""

import json
import random

import pytest
import yaml
from paretoscope.base.errors import RecipeError
from paretoscope.base.text import MOST_NAMES
from paretoscope.recipe.file import LARGEST, open_recipe, read_recipe, to_yaml
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe

NAMES = ("recipe.json", "recipe.yaml")
WHOLE = Recipe.of(
    sparsity=0.5, bits=4, rounding="gptq", drop=("b.1",), overrides=[{"layers": "1e5", "bits": 2}, {"layers": "on"}][:1]
)
# What a recipe may hold although it does nothing: it was made on a screen, and comes back as it was.
IDLE = Recipe.of(clusters=8, bits=8, granularity="tensor", symmetric=False, overrides=[{"layers": "a", "ternary": 0.7}])


def written(recipe: Recipe, name: str) -> bytes:
    return (to_yaml(recipe) if name.endswith("yaml") else recipe.to_json(indent=2)).encode()


@pytest.mark.parametrize("name", NAMES)
def test_what_was_exported_comes_back(name):
    for recipe in (Recipe(), WHOLE, IDLE, *(preset.recipe for preset in presets)):
        assert read_recipe(written(recipe, name), name) == recipe


@pytest.mark.parametrize(
    "text", ["on", "1e5", "0x10", "1:30", "null", "2020-01-01", "~", "true", ".5", "0o7", "=", "<<"]
)
def test_names_stay_text_in_yaml(text):
    recipe = Recipe.of(overrides=[{"layers": text, "bits": 4}])
    assert read_recipe(to_yaml(recipe).encode(), "r.yaml") == recipe
    assert yaml.safe_load(to_yaml(recipe)) == recipe.to_dict()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prune": {"threshold": 0.1, "scope": "layer"}}, "scope has an effect only with"),
        ({"quantize": {"bits": 8, "ternary": 0.7}}, "Set bits 1 or leave ternary out."),
        ({"recover": {"epochs": 0, "seed": 3}}, "seed has an effect only with epochs"),
        ({"keep_ends": True}, "keep_ends has an effect only with"),
        ({"quantize": {"bits": 8}, "overrides": [{"layers": "fc1", "ternary": 0.7}]}, "ternary of the override 'fc1'"),
    ],
)
def test_a_setting_without_effect_is_refused(fields, words):
    for name, write in (("r.json", json.dumps), ("r.yaml", yaml.safe_dump)):
        with pytest.raises(RecipeError) as caught:
            read_recipe(write({"version": 1, **fields}).encode(), name)
        assert words in str(caught.value)


def test_defaults_may_be_written():
    fields = {"version": 1, "quantize": {"bits": 8, "ternary": 0.0, "percentile": 99.9}, "recover": {"seed": 0}}
    assert read_recipe(json.dumps(fields).encode(), "r.json") == Recipe.of(bits=8)


def test_a_pattern_in_yaml_is_text_and_no_number_of_base_60():
    assert read_recipe(b"version: 1\nprune: {pattern: 2:4}", "r.yaml") == Recipe.of(pattern="2:4")


def test_what_the_command_adds_counts():
    text = b'{"version": 1, "repair": {"rounding": "gptq"}}'
    with pytest.raises(RecipeError, match="something to round"):
        read_recipe(text, "r.json")
    assert read_recipe(text, "r.json", {"bits": 8}) == Recipe.of(rounding="gptq")


def deep(depth: int) -> str:
    return "[" * depth + "]" * depth


HOSTILE = {
    "base 60": (".yaml", b"version: 1\nprune: {threshold: " + b"1:" * 280 + b"1.5}"),
    "base 60, int": (".yaml", b"version: " + b"1:" * 280 + b"1"),
    "aliases": (".yaml", b"a: &a [1]\nb: *a"),
    "merge": (".yaml", b"version: 1\nprune: {<<: {sparsity: 0.5}}"),
    "date": (".yaml", b"version: 2020-01-01"),
    "tagged date": (".yaml", b"version: !!timestamp 2020-01-01"),
    "tagged base 60": (".yaml", b"version: !!int 1:30"),
    "python": (".yaml", b"!!python/object/apply:os.system [echo]"),
    "binary": (".yaml", b"version: !!binary aGk="),
    "two documents": (".yaml", b"version: 1\n---\nversion: 1"),
    "twice": (".yaml", b"version: 1\nversion: 1"),
    "keys": (".yaml", b"version: 1\n? [1]\n: 2"),
    "deep": (".yaml", deep(20_000).encode()),
    "deep blocks": (".yaml", b"".join(b" " * i + b"a:\n" for i in range(300))),
    "explicit keys": (".yaml", b"? " * 20_000),
    "huge int": (".yaml", b"version: " + b"9" * 5000),
    "huge float": (".yaml", b"version: 1\nprune: {sparsity: 1e400}"),
    "nan": (".yaml", b"version: 1\nprune: {sparsity: .nan}"),
    "nul": (".yaml", b"version: 1\0"),
    "latin": (".yaml", b"version: \xe9"),
    "utf-16": (".yaml", b"\xff\xfe\x00"),
    "empty yaml": (".yaml", b""),
    "quotes": (".yaml", b"'" * 60_000),
    "twice json": (".json", b'{"version": 1, "version": 1}'),
    "twice within": (".json", b'{"version": 1, "prune": {"sparsity": 0.1, "sparsity": 0.2}}'),
    "deep json": (".json", deep(20_000).encode()),
    "huge int json": (".json", b'{"version": 1, "share": {"clusters": ' + b"9" * 5000 + b"}}"),
    "large int json": (".json", b'{"version": 1, "share": {"clusters": ' + b"9" * 4000 + b"}}"),
    "bits": (".json", b'{"version": 1, "quantize": {"bits": 1e400}}'),
    "infinity": (".json", b'{"version": 1, "prune": {"threshold": Infinity}}'),
    "nan json": (".json", b'{"version": 1, "prune": {"sparsity": NaN}}'),
    "nul json": (".json", b'{"version": 1}\0'),
    "latin json": (".json", b'{"version": "\xe9"}'),
    "many fields": (".json", json.dumps({f"field {i}": i for i in range(3000)}).encode()),
    "a long field": (".json", json.dumps({"f" * 60_000: 1}).encode()),
    "many unknown": (".json", json.dumps({"version": 1, "overrides": [{"layers": "a", "x" * 50_000: 1}]}).encode()),
    "a long name": (".json", json.dumps({"version": 1, "overrides": [{"layers": "a" * 201, "bits": 4}]}).encode()),
    "control": (".json", b'{"version": 1, "overrides": [{"layers": "a\\u0000", "bits": 4}]}'),
    "half a pair": (".json", b'{"version": 1, "overrides": [{"layers": "\\ud800", "bits": 4}]}'),
    "a long block": (".json", json.dumps({"version": 1, "simplify": {"drop": ["a" * 5000]}}).encode()),
    "many overrides": (
        ".json",
        json.dumps({"version": 1, "overrides": [{"layers": "*", "bits": 4}] * (MOST_NAMES + 1)}).encode(),
    ),
    "too large": (".json", b" " * LARGEST + b"{}"),
    "too large yaml": (".yaml", b"#" * (LARGEST + 1)),
}


@pytest.mark.parametrize(("ending", "data"), HOSTILE.values(), ids=HOSTILE)
def test_a_bad_file_is_one_short_error(ending, data, tmp_path):
    path = tmp_path / f"recipe{ending}"
    path.write_bytes(data)
    for read in (lambda: read_recipe(data, path.name), lambda: open_recipe(path)):
        with pytest.raises(RecipeError) as caught:
            read()
        message = str(caught.value)
        assert len(message) <= 500 and message.isprintable() and message.endswith(".")


def test_a_byte_order_mark_is_no_matter():
    for name in NAMES:
        assert read_recipe(b"\xef\xbb\xbf" + written(WHOLE, name), name) == WHOLE


def test_a_large_file_is_not_read_whole(tmp_path):
    path = tmp_path / "recipe.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: a terabyte that no memory holds
    with pytest.raises(RecipeError, match="at most 65,536 bytes"):
        open_recipe(path)


def test_as_many_overrides_as_there_may_be_fit_a_file():
    names = [f"encoder.layers.encoder_layer_{i}.self_attention.out_proj" for i in range(MOST_NAMES)]
    recipe = Recipe.of(overrides=[{"layers": each, "sparsity": 0.5, "bits": 4, "calibration": "mse"} for each in names])
    for name in NAMES:
        assert read_recipe(written(recipe, name), name) == recipe


def test_patterns_are_matched_in_little_time():
    """Counted, not timed: were it exponential, this test would not end."""
    stars = Recipe.of(overrides=[{"layers": ("*a" * 99)[: 198 - i % 9] + "b", "bits": 4} for i in range(MOST_NAMES)])
    assert all(not override.matches("a" * 400) for override in stars.overrides)


def test_mutated_files_are_recipes_or_refused():
    draw = random.Random(15)
    for name in NAMES:
        whole = written(WHOLE, name)
        for _ in range(400):
            data = bytearray(whole)
            for _ in range(draw.randint(1, 4)):
                place = draw.randrange(len(data))
                piece = draw.choice(
                    [b"", b"1:2", b"&a", b"*a", b"!!", b"{", b"]", b"\0", b"\xff", b": ", b"- ", b"9" * 40]
                )
                data[place : place + draw.randint(0, 4)] = piece or bytes([draw.randrange(256)])
            try:
                found = read_recipe(bytes(data), name)
            except RecipeError as error:
                assert len(str(error)) <= 500
            else:
                assert read_recipe(written(found, name), name) == found
