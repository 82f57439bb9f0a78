import json
from dataclasses import replace

import pytest
from paretoscope import codec
from paretoscope.base.errors import CompressionError, RecipeError, UnknownNameError
from paretoscope.codec import shelf
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks import zoo
from paretoscope.recipe.presets import PATH, Preset, preset_for, presets, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import presets as module
from paretoscope.service import subjects
from paretoscope.service.presets import PresetFigures, best_known, cautions, chosen, known, movable
from paretoscope.tasks.classification import Classification
from scipy.special import ndtri

from benchmarks.presets import measured

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


@pytest.mark.parametrize("model", zoo.models.names())
def test_figures_of_all_that_is_offered_ship(model):
    for preset in presets_of(model):
        figures = known(model, preset.recipe)
        assert figures is not None, "measure it: python -m benchmarks.presets --write"
        assert (figures.model, figures.preset) == (model, preset.name)
        assert (figures.model_digest, figures.recipe_digest) == (digest_of(model), preset.recipe.digest)


@pytest.mark.parametrize(("model", "preset"), [("lenet-300-100", "int8"), ("vit-tiny", "digits-vit-tiny")])
def test_figures_are_what_is_measured_now(model, preset):
    found = presets.get(preset)
    assert measured(subjects.load(model), found.name, found.recipe) == known(model, found.recipe)


def test_figures_of_other_weights_recipes_or_methods_are_not_believed(monkeypatch):
    recipe = presets.get("tiny").recipe
    assert known("resnet-20", recipe).chance
    assert known("resnet-20", replace(recipe, share=None)) is None
    monkeypatch.setattr(module, "_digest", lambda model: digest_of("lenet-5")[::-1])
    assert known("resnet-20", recipe) is None
    monkeypatch.undo()
    monkeypatch.setattr(module, "METHODS", module.METHODS + 1)
    assert known("resnet-20", recipe) is None and cautions("resnet-20", recipe) == ()
    assert best_known("resnet-20") is presets.get("int8")


def figures_of(preset, size, validation, p, correct=500):
    """Made up, of 797 test images and 1,000 of validation, of which the baseline has 990 right."""
    digests = "0" * 64, presets.get(preset).recipe.digest
    return presets.get(preset), PresetFigures(
        "any", preset, *digests, 1, size, 797, correct, 82, 1000, validation, 990, p
    )


def test_the_smallest_that_validation_does_not_tell_from_the_baseline_is_chosen():
    baseline = figures_of("baseline", 900, 990, 1.0)
    int8 = figures_of("int8", 300, 985, 0.06)
    tiny = figures_of("tiny", 100, 979, 0.049)
    assert chosen([baseline, int8, tiny]).name == "int8"
    # A point less is not held against it, be it told from the baseline or not.
    assert chosen([baseline, int8, figures_of("tiny", 100, 980, 0.01)]).name == "tiny"
    assert chosen([tiny, baseline]).name == "baseline"
    assert chosen([tiny]).name == chosen([]).name == "int8"


def test_the_test_split_has_no_say_in_the_choice():
    settings = [("baseline", 900, 990, 1.0), ("int8", 300, 985, 0.06), ("tiny", 100, 900, 1e-20)]
    for right in ((0, 0, 797), (797, 0, 797), (797, 797, 0)):
        found = [figures_of(*each, correct=correct) for each, correct in zip(settings, right, strict=True)]
        assert chosen(found).name == "int8"


@pytest.mark.parametrize("model", zoo.models.names())
def test_a_model_opens_on_what_answers_like_its_baseline(model):
    best = best_known(model)
    assert best in presets_of(model) and not known(model, best.recipe).chance
    held = [preset for preset in presets_of(model) if known(model, preset.recipe).holds]
    assert best is min(held, key=lambda preset: known(model, preset.recipe).size)


@pytest.mark.parametrize("preset", [each for each in presets if each.recipe.recover], ids=lambda preset: preset.name)
def test_a_slider_moves_what_holds_without_training(preset):
    moved, untrained = movable(preset.model, preset.recipe), known(preset.model, preset.recipe.untrained)
    assert moved.recover is None and known(preset.model, moved).holds
    # What the recipe says stays, where that can be.
    assert (moved == preset.recipe.untrained) is untrained.holds
    assert movable(preset.model, moved) is moved


def test_training_of_ones_own_leaves_what_it_is_without():
    recipe = Recipe.of(sparsity=0.5, bits=4, epochs=3)
    assert movable("lenet-5", recipe) == recipe.untrained


def test_a_trained_preset_whose_artefact_is_gone_is_not_opened_on(tmp_path, monkeypatch):
    assert best_known("lenet-5").name == "digits-lenet-5"
    monkeypatch.setattr(shelf, "SHIPPED", tmp_path)
    monkeypatch.setattr(shelf, "folder_of_own", lambda: tmp_path)
    assert best_known("lenet-5").name == "least-harm"


@pytest.mark.parametrize("n", [797, 10_000])
@pytest.mark.parametrize("share", [0.1, 0.1135, 0.5])
def test_chance_is_what_the_score_test_does_not_tell_from_the_largest_class(n, share):
    # Wilson's interval is the score test inverted: it holds the shares that lie within z standard errors of their own.
    z = float(ndtri(0.975))
    for correct in range(0, n + 1, 1 if n < 1000 else 17):
        assert Classification.at_chance(correct, n, share) == (
            correct / n - share <= z * (share * (1 - share) / n) ** 0.5
        )
    assert Classification.at_chance(0, n, share) and not Classification.at_chance(n, n, share)


@pytest.mark.parametrize("model", zoo.models.names())
def test_summaries_are_true_together(model):
    said = [preset for preset in presets_of(model) if "smallest" in preset.summary.lower()]
    assert len(said) == 1
    assert said[0] is min(presets_of(model), key=lambda preset: known(model, preset.recipe).size)
    assert not [preset for preset in presets_of(model) if "answers like the baseline" in preset.summary]
