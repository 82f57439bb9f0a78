"""The Explore page without a browser: what it shows, against the library; links, presets, bad input."""

import os
import time
from pathlib import Path

import pytest
from paretoscope.measure.subject import Subject
from paretoscope.recipe.presets import presets, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from paretoscope.service.pins import Pin
from streamlit.testing.v1 import AppTest

from pages.components import plain

ROOT = Path(__file__).parents[2]
FAST = {"model": "lenet-300-100"}


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subjects.load("lenet-300-100")


def open_page(**query: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        page.query_params[name] = value
    return page.run()


def settle(page: AppTest, seconds: float = 60) -> AppTest:
    """Run the page again until its evaluation is exact, as the polling fragment does in a browser."""
    deadline = time.monotonic() + seconds
    while any(metric.value.startswith(("…", "≈")) for metric in page.metric):
        assert time.monotonic() < deadline, "the evaluation did not end"
        page.run()
    return page


def metric(page: AppTest, start: str):
    return next(item for item in page.metric if item.label.startswith(start))


@pytest.mark.slow
def test_default_page_is_whole() -> None:
    page = settle(open_page())
    assert not page.exception and not page.error and not page.warning
    assert [item.label.split(",")[0] for item in page.metric] == [
        "Accuracy",
        "Macro F1",
        "Size",
        "Latency",
        "Zeros",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("preset", [preset.name for preset in presets_of(FAST["model"])])
def test_preset_shows_what_the_library_measures(preset: str, subject: Subject) -> None:
    page = open_page(**FAST)
    page.button(key=f"preset_{preset}").click().run()
    settle(page)
    *_, evaluation = subject.evaluate(presets.get(preset).recipe)
    record = evaluation.record
    from paretoscope.base.units import format_bytes, format_percent

    assert not page.exception
    assert metric(page, "Accuracy").value == format_percent(record.figures.accuracy)
    assert metric(page, "Macro F1").value == f"{record.figures.f1:.4f}"
    assert metric(page, "Size").value == format_bytes(record.size.artefact)
    assert metric(page, "Zeros").value == format_percent(record.rates.sparse_rate)


@pytest.mark.slow
def test_link_opens_its_view() -> None:
    page = open_page(
        model="lenet-300-100", sparsity="0.333", clusters="17", bits="4", scope="layer", calibration="mse", threads="2"
    )
    assert not page.exception and not page.warning
    state = page.session_state
    expected = Recipe.of(sparsity=0.333, clusters=17, bits=4, scope="layer", calibration="mse")
    assert (state.view.model, state.view.recipe, state.view.timing.threads) == ("lenet-300-100", expected, 2)
    assert page.select_slider(key="control_sparsity").value == 0.333
    assert page.select_slider(key="control_clusters").value == 17


@pytest.mark.slow
def test_slider_changes_recipe_and_link() -> None:
    page = open_page(**FAST, **presets.get("tiny").recipe.to_query())
    page.select_slider(key="control_sparsity").set_value(0.6).run()
    page.select_slider(key="control_clusters").set_value(0).run()
    page.select_slider(key="control_bits").set_value(4).run()
    assert page.session_state.view.recipe == Recipe.of(
        sparsity=0.6, bits=4, activations=8, coder="context", rest="fp16"
    )
    assert {name: page.query_params[name] for name in ("model", "sparsity", "clusters", "bits")} == {
        "model": "lenet-300-100",
        "sparsity": "0.6",
        "clusters": "off",
        "bits": "4",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ({"sparsity": "95"}, "sparsity must be in [0, 1); got 95"),
        ({"sparsity": "much"}, "sparsity in a link must be a number; got 'much'"),
        ({"clusters": "1"}, "clusters must be in 2..256; got 1"),
        ({"bits": "17"}, "bits must be 32 or 1..16; got 17"),
        ({"scope": "galaxy"}, "scope must be 'global' or 'layer'; got 'galaxy'"),
        ({"model": "gpt-9"}, "There is no model 'gpt-9'. Choose one of lenet-300-100"),
        ({"runtime": "abacus"}, "There is no runtime 'abacus'. Choose one of"),
        ({"batch": "0"}, "batch in a link must be one of"),
        ({"colour": "blue"}, "A link has no setting 'colour'."),
    ],
)
def test_nonsense_link_is_told_and_the_page_works(query: dict[str, str], rule: str) -> None:
    page = settle(open_page(**query))
    assert not page.exception
    assert plain.escape(rule) in page.warning[0].value
    page.button(key="preset_int8").click().run()
    settle(page)
    assert not page.exception and not page.warning
    assert page.session_state.view.recipe == presets.get("int8").recipe


@pytest.mark.slow
def test_pin_and_unpin() -> None:
    page = open_page(**FAST)
    recipe = page.session_state.view.recipe
    page.button(key="pin").click().run()
    assert page.session_state.pins == [Pin("lenet-300-100", recipe)]
    page.button(key="pin").click().run()
    assert page.session_state.pins == []


@pytest.mark.slow
def test_models_keep_their_own_trails() -> None:
    page = open_page(**FAST)
    page.selectbox(key="control_model").set_value("lenet-5").run()
    page.selectbox(key="control_model").set_value("lenet-300-100").run()
    assert set(page.session_state.trails) == {"lenet-300-100", "lenet-5"}
    assert not page.exception


@pytest.mark.slow
def test_store_that_is_no_database_is_told_and_measuring_goes_on(tmp_path: Path, monkeypatch) -> None:
    from pages.components import state

    path = tmp_path / "records.sqlite"
    path.write_bytes(b"this is not a database, but a text of some length" * 100)
    monkeypatch.setitem(os.environ, "PARETOSCOPE_STORE", str(path))
    state.workbench.clear()
    try:
        page = settle(open_page(**FAST))
        assert not page.exception
        assert "the record store must be a SQLite file" in page.warning[0].value
        assert metric(page, "Size").value
        assert path.read_bytes().startswith(b"this is not a database")
    finally:
        state.workbench.clear()
