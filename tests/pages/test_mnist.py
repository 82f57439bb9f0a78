"""Models on MNIST, where their data are not on this machine: what is said, and the ways out."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from paretoscope.data import dataset, mnist
from paretoscope.networks import zoo
from paretoscope.recipe.presets import presets_of
from streamlit.testing.v1 import AppTest

from pages.components import plain, state

pytestmark = pytest.mark.slow

APP = str(Path(__file__).parents[2] / "app.py")
PAGES = ("explore", "layers", "latency", "export", "methods")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data, and no network."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network")

    # As after a start without data: tests before this one may have loaded them.
    dataset._load_data.cache_clear()
    monkeypatch.setattr(state.workbench(), "_subjects", {})
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv(mnist.ENVIRONMENT, str(tmp_path))
    return tmp_path


def open_page(name: str) -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60)
    if name != "explore":
        page.switch_page(f"pages/{name}.py")
    page.query_params["model"] = "lenet-5-mnist"
    return page.run()


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("name", PAGES)
def test_every_page_says_where_the_data_go(name: str, nowhere: Path) -> None:
    page = open_page(name)
    assert not page.exception
    (error,) = page.error
    assert plain.escape(nowhere / "MNIST" / "raw") in error.value and plain.escape(mnist.ENVIRONMENT) in error.value


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
