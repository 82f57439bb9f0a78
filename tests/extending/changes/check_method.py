"""The method clips, and is on the command line, on the Methods page and in the sidebar."""

from pathlib import Path

import numpy as np
import paretoscope
from paretoscope.cli.main import app
from paretoscope.methods.catalogue import methods
from paretoscope.recipe.recipe import SETTINGS
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from pages.components import controls

NAME = "lenet-300-100"
CLIPPED = paretoscope.Recipe.of(bits=4, clip=2.0)


def test_this_is_the_changed_copy() -> None:
    assert Path(paretoscope.__file__).is_relative_to(Path.cwd())


def test_it_compresses_a_network() -> None:
    before = paretoscope.open_network(NAME).load().state_dict()["fc1.weight"].numpy()
    clipped, plain = paretoscope.compress(NAME, CLIPPED), paretoscope.compress(NAME, paretoscope.Recipe.of(bits=4))
    # A grid's ends lie above the largest weight, by less than a quarter.
    assert 2 < np.abs(clipped.decode("fc1.weight")).max() / before.std() < 2.5
    assert np.abs(plain.decode("fc1.weight")).max() / before.std() > 4
    record = paretoscope.evaluate(clipped)
    assert record.figures.value > 0.9 and record.recipe.describe() == "4 bits, clipped at 2 sd"
    assert paretoscope.Recipe.from_json(CLIPPED.to_json()) == CLIPPED


def test_it_is_on_the_command_line() -> None:
    shown = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "200"}).stdout
    assert "--clip " in shown and "Weights beyond so many standard deviations" in shown
    printed = CliRunner().invoke(app, ["recipe", "--bits", "4", "--clip", "2"]).stdout
    assert paretoscope.Recipe.from_json(printed) == CLIPPED
    refused = CliRunner().invoke(app, ["recipe", "--clip", "2"])
    assert refused.exit_code == 1 and "2 to 16 bits" in refused.stderr


def test_it_is_explained_and_has_a_widget() -> None:
    entry = methods.get("clip")
    assert [(row.name, row.values) for row in entry.settings] == [("clip", SETTINGS["clip"].kind.values)]
    assert entry.used_by(CLIPPED) and not entry.used_by(paretoscope.Recipe.of(bits=4))
    assert "clip" in controls.grouped(("quantize", ""))
    page = AppTest.from_file(Path("app.py").absolute(), default_timeout=120)
    page.switch_page("pages/methods.py")
    page.query_params.update({"model": NAME, **CLIPPED.to_query(), "method": "clip"})
    page.session_state["group_Quantization"] = True
    page.run()
    assert not page.exception
    assert page.number_input(key="control_clip").value == 2.0
    assert entry.title in [heading.value for heading in page.subheader]
