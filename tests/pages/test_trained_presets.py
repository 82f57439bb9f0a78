"""Presets with training: each opens with the file that ships for it."""

import time
from pathlib import Path

import pytest
from paretoscope.base.units import format_bytes, format_percent
from paretoscope.codec import shelf
from paretoscope.data import dataset, mnist
from paretoscope.measure.subject import Subject
from paretoscope.networks import zoo
from paretoscope.recipe.presets import Preset, presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from paretoscope.service.presets import movable
from streamlit.testing.v1 import AppTest

pytestmark = pytest.mark.slow

APP = str(Path(__file__).parents[2] / "app.py")
PAGES = ("explore", "layers", "latency", "export", "methods", "recover")
TRAINED = [preset for preset in presets if preset.recipe.recover is not None]
LENET_5 = presets.get("digits-lenet-5")
PATIENCE_S = 120.0


def subject_of(preset: Preset) -> Subject:
    """Skips the test of a model on MNIST where its data are not on this machine."""
    if zoo.models.get(preset.model).dataset == "mnist":
        if not mnist.here():
            pytest.skip(f"no MNIST on this machine: set {mnist.ENVIRONMENT} to a folder that has MNIST/raw")
        dataset._load_data.cache_clear()
    return subjects.load(preset.model)


def open_page(name: str, model: str, recipe: Recipe | None = None) -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60)
    if name != "explore":
        page.switch_page(f"pages/{name}.py")
    page.query_params.update({"model": model, **(recipe.to_query() if recipe else {})})
    return page.run()


def settled(page: AppTest) -> AppTest:
    """The page once its evaluation is exact, or has failed."""
    deadline = time.monotonic() + PATIENCE_S
    while not page.error and any(each.value.startswith(("…", "≈")) for each in page.metric):
        assert time.monotonic() < deadline and not page.exception
        page.run()
    return page


@pytest.mark.parametrize("preset", TRAINED, ids=lambda preset: preset.name)
def test_a_trained_preset_opens_with_the_file_that_ships(preset: Preset) -> None:
    subject = subject_of(preset)
    page = open_page("explore", preset.model)
    page = settled(page.button(key=f"preset_{preset.name}").click().run())
    assert not page.exception and not page.error and not page.warning
    assert page.session_state.view.recipe == preset.recipe
    assert page.button(key=f"preset_{preset.name}").proto.type == "primary"
    *_, evaluation = subject.evaluate(preset.recipe)
    record, shown = evaluation.record, {each.label: each.value for each in page.metric}
    (file,) = shelf.SHIPPED.glob(f"{preset.recipe.digest[:24]}-*")
    assert record.size.artefact == file.stat().st_size
    assert shown["Size"] == format_bytes(file.stat().st_size)
    assert shown["Accuracy"] == format_percent(record.figures.accuracy)
    assert record.figures.n == len(subject.data.test_labels)
    # Another model has not been trained by it, and takes over what can be without the training.
    other = "lenet-5" if preset.model == "simple-cnn" else "simple-cnn"
    page = page.selectbox(key="control_model").set_value(other).run()
    page = settled(page.button(key="carry_over").click().run())
    assert not page.exception and not page.error and not page.warning
    assert page.session_state.view.recipe == movable(preset.model, preset.recipe)


@pytest.mark.parametrize("name", [*PAGES, "recover"])
def test_every_page_takes_a_trained_preset(name: str) -> None:
    page = open_page(name, LENET_5.model, LENET_5.recipe)
    assert not page.exception and not page.error and not page.warning
    assert page.session_state.view.recipe == LENET_5.recipe


def test_the_link_of_a_trained_preset_with_another_model_says_what_to_do() -> None:
    page = settled(open_page("explore", "simple-cnn", LENET_5.recipe))
    assert not page.exception
    (error,) = page.error
    assert "must have been trained on this machine; simple-cnn with" in error.value
