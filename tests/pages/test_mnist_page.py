"""Models on MNIST: what is said where their data are not on this machine, and their own presets where they are."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from compression import zoo
from compression.figures.theme import format_bytes, format_percent
from compression.measure.subject import Subject
from compression.presets import Preset, presets, presets_of
from compression.recipe import Recipe
from compression.recover import shelf
from compression.zoo import mnist
from pages.components import state

APP = str(Path(__file__).parents[2] / "app.py")
PAGES = ("explore", "layers", "latency", "export", "methods")
TRAINED = [preset for preset in presets if preset.recipe.recover is not None]
LENET_5 = presets.get("lenet-5-trained")
PATIENCE_S = 120.0


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data, and no network."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network")

    # As after a start without data: tests before this one may have loaded them.
    zoo.dataset._load_data.cache_clear()
    monkeypatch.setattr(state.workbench(), "_subjects", {})
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv(mnist.ENVIRONMENT, str(tmp_path))
    return tmp_path


@pytest.fixture
def here() -> Iterator[None]:
    """The real data, or the test is skipped."""
    if not mnist.here():
        pytest.skip(f"no MNIST on this machine: set {mnist.ENVIRONMENT} to a folder that has MNIST/raw")
    zoo.dataset._load_data.cache_clear()
    yield


def open_page(name: str, model: str = "lenet-5-mnist", recipe: Recipe | None = None) -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60)
    if name != "explore":
        page.switch_page(f"pages/{name}.py")
    page.query_params.update({"model": model, **(recipe.to_query() if recipe else {})})
    return page.run()


def settled(page: AppTest) -> AppTest:
    """The page once its evaluation is exact, or has failed."""
    deadline = time.monotonic() + PATIENCE_S
    while not page.error and any(each.value == "…" or each.label.startswith("Accuracy,") for each in page.metric):
        assert time.monotonic() < deadline and not page.exception
        page.run()
    return page


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("name", PAGES)
def test_every_page_says_where_the_data_go(name: str, nowhere: Path) -> None:
    page = open_page(name)
    assert not page.exception
    (error,) = page.error
    assert str(nowhere / "MNIST" / "raw") in error.value and mnist.ENVIRONMENT in error.value


@pytest.mark.usefixtures("nowhere")
def test_the_picker_offers_the_six_first_and_another_choice_mends_the_page() -> None:
    page = open_page("methods")
    picker = page.selectbox(key="control_model")
    titles = [zoo.models.get(name).title for name in zoo.models.names()]
    assert picker.options == titles and titles[-2:] == ["LeNet-300-100 (MNIST)", "LeNet-5 (MNIST)"]
    page = picker.set_value("lenet-5").run()
    assert not page.error and not page.exception
    assert page.session_state.view.model == "lenet-5"


@pytest.mark.usefixtures("nowhere")
def test_the_presets_follow_the_model() -> None:
    page = open_page("methods")
    for model in ("lenet-5-mnist", "lenet-300-100-mnist", "lenet-5"):
        page = page.selectbox(key="control_model").set_value(model).run()
        shown = {button.key: button.label for button in page.button if (button.key or "").startswith("preset_")}
        assert shown == {f"preset_{preset.name}": preset.title for preset in presets_of(model)}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("preset", TRAINED, ids=lambda preset: preset.name)
def test_a_trained_preset_opens_with_the_file_that_ships(preset: Preset) -> None:
    subject = Subject.load(preset.model)
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
    assert record.figures.n == 10_000
    # Another model has not been trained by it, and goes on without the training.
    page = settled(page.selectbox(key="control_model").set_value("lenet-300-100").run())
    assert not page.exception and not page.error and not page.warning
    assert page.session_state.view.recipe == preset.recipe.untrained


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", [*PAGES, "recover"])
def test_every_page_takes_a_trained_preset(name: str) -> None:
    page = open_page(name, LENET_5.model, LENET_5.recipe)
    assert not page.exception and not page.error and not page.warning
    assert page.session_state.view.recipe == LENET_5.recipe


def test_the_link_of_a_trained_preset_with_another_model_says_what_to_do() -> None:
    page = settled(open_page("explore", "lenet-5", LENET_5.recipe))
    assert not page.exception
    (error,) = page.error
    assert "must have been trained on this machine; lenet-5 with" in error.value
