import json

import pytest

from compression.errors import CompressionError, UnknownNameError
from compression.presets import PATH, Preset, presets
from compression.recipe import Recipe


def test_the_named_starting_points_are_there():
    assert presets.names()[0] == "baseline"
    assert {"baseline", "int8", "deep-compression", "tiny", "binary"} <= set(presets.names())
    assert {"Baseline", "Int8", "Deep Compression", "Tiny", "Binary"} <= {preset.title for preset in presets}


@pytest.mark.parametrize("preset", presets, ids=lambda preset: preset.name)
def test_a_preset_is_ready_to_show_and_to_load(preset):
    assert preset.title.strip() == preset.title != ""
    assert preset.summary.endswith(".") and "\n" not in preset.summary
    assert presets.get(preset.name) is preset
    assert Recipe.from_json(preset.recipe.to_json()) == preset.recipe
    assert Recipe.from_query(preset.recipe.to_query()) == preset.recipe


def test_presets_differ():
    assert len({preset.recipe.digest for preset in presets}) == len(presets)
    assert len({preset.title for preset in presets}) == len(presets)


def test_presets_do_what_their_names_say():
    recipe = {preset.name: preset.recipe for preset in presets}
    assert recipe["baseline"] == Recipe() and recipe["baseline"].lossless
    assert [name for name, each in recipe.items() if each.lossless] == ["baseline"]
    assert (recipe["int8"].bits, recipe["int8"].prune, recipe["int8"].share) == (8, None, None)
    assert recipe["binary"].bits == 1 and recipe["binary"].prune is None
    deep = recipe["deep-compression"]
    assert deep.prune and deep.share and deep.quantize and deep.code.coder == "huffman"


def test_the_file_says_what_is_loaded():
    entries = json.loads(PATH.read_text())
    assert [entry["name"] for entry in entries] == list(presets.names())
    for entry in entries:
        assert Recipe.from_dict(entry["recipe"]) == presets.get(entry["name"]).recipe


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        UnknownNameError, match=r"^a preset must be registered; got 'small'\. Choose one of: baseline, "
    ):
        presets.get("small")
    assert "small" not in presets


def test_a_name_is_taken_once():
    before = presets.names()
    with pytest.raises(CompressionError, match="'tiny' is registered already"):
        presets.add(Preset("tiny", "Tiny again", "Another one.", Recipe()))
    assert presets.names() == before and presets.get("tiny").title == "Tiny"
