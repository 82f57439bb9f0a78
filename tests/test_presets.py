import json

import pytest

from compression import codec, zoo
from compression.errors import CompressionError, RecipeError, UnknownNameError
from compression.presets import PATH, Preset, preset_for, presets, presets_of
from compression.recipe import Recipe
from compression.recover import shelf
from compression.statistics import ModelStatistics

TRAINED = [preset for preset in presets if preset.recipe.recover is not None]


def digest_of(model: str) -> str:
    return ModelStatistics.of(zoo.load_model(model), model).digest


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


@pytest.mark.parametrize("model", zoo.models.names())
def test_what_a_model_is_offered_differs(model):
    offered = presets_of(model)
    assert len({preset.recipe.digest for preset in offered}) == len(offered)
    assert len({preset.title for preset in offered}) == len(offered)


def test_a_model_is_offered_the_presets_for_all_and_then_its_own():
    for_all = [preset.name for preset in presets if preset.model is None]
    for model in zoo.models.names():
        own = [preset.name for preset in presets if preset.model == model]
        assert [preset.name for preset in presets_of(model)] == for_all + own
    assert presets_of("lenet-5")[-1] is presets.get("digits-lenet-5")
    assert presets_of("lenet-300-100-mnist")[-3:] == [
        presets.get(f"lenet-300-100-{name}") for name in ("shared", "trained", "smallest")
    ]
    assert presets_of("lenet-5-mnist")[-3:] == [
        presets.get(f"lenet-5-{name}") for name in ("shared", "trained", "smallest")
    ]


def test_models_of_presets_are_of_the_zoo():
    assert {preset.model for preset in presets if preset.model is not None} <= set(zoo.models.names())


def test_training_is_for_one_model():
    assert TRAINED and all(preset.model is not None for preset in TRAINED)


def test_the_preset_of_another_model_is_refused():
    trained = presets.get("lenet-5-trained")
    assert preset_for("lenet-5-trained") is preset_for("lenet-5-trained", "lenet-5-mnist") is trained
    assert preset_for("tiny", "lenet-5") is presets.get("tiny")
    with pytest.raises(
        RecipeError,
        match=r"^a preset must be for all models or for lenet-5; got lenet-5-trained, which is for lenet-5-mnist\. "
        r"Choose one of: baseline, .*ternary, digits-lenet-5\.$",
    ):
        preset_for("lenet-5-trained", "lenet-5")
    with pytest.raises(UnknownNameError, match=r"got 'small'"):
        preset_for("small", "lenet-5")


@pytest.mark.parametrize("preset", TRAINED, ids=lambda preset: preset.name)
def test_the_model_of_a_trained_preset_ships(preset, tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "folder_of_own", lambda: tmp_path)
    found = shelf.find(digest_of(preset.model), preset.recipe)
    assert found is not None, "train it and ship it: --ship of benchmarks.deep_compression or benchmarks.recovery"
    assert (found.architecture, found.source) == (preset.model, digest_of(preset.model))
    assert found.recipe == preset.recipe


@pytest.mark.parametrize("path", sorted(shelf.SHIPPED.iterdir()), ids=lambda path: path.name)
def test_what_ships_is_the_model_of_a_preset(path):
    found = codec.read(path.read_bytes())
    assert found.recipe in [preset.recipe for preset in TRAINED if preset.model == found.architecture]
    assert found.source == digest_of(found.architecture)
    assert path.name == f"{found.recipe.digest[:24]}-{found.source[:12]}.psc"


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
        preset = presets.get(entry["name"])
        assert (preset.recipe, preset.model) == (Recipe.from_dict(entry["recipe"]), entry.get("model"))


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
