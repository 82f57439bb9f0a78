"""The schema of settings: each stands there once; checks, command line, widgets and rows of methods come from it."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from paretoscope.base.errors import RecipeError
from paretoscope.cli.main import app
from paretoscope.cli.options import help_of
from paretoscope.figures.learn import PICTURED
from paretoscope.methods.catalogue import methods
from paretoscope.recipe.recipe import DEFAULTS, SETTINGS, STEPS, Recipe
from paretoscope.recipe.values import Choice, Either, Number, Switch, Term, Text, Whole
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from pages.components import controls, state, widgets

ROOT = Path(__file__).parents[2]
MODEL = "lenet-300-100"
ALL = pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda each: each.name)
# The field's terms, where the name in recipes is another word.
TERMS = {
    "exchange": "--lambda",
    "average": "--ema-decay",
    "nodes": "--channel-ratio",
    "distill": "--distillation-weight",
    "start": "--kmeans-init",
    "population": "--min-cluster-size",
    "minibatch": "--batch-size",
}


def test_a_text_must_say_what_is_allowed() -> None:
    """The properties of the base class are no defaults of its fields."""
    with pytest.raises(TypeError, match="'values' and 'metavar'"):
        Text(str.isalpha, "letters", "Pass e.g. a.")


def test_there_is_a_setting_for_every_field_of_every_step() -> None:
    fields = [each.name for step in STEPS.values() for each in dataclasses.fields(step)]
    assert [*fields, "keep_ends", "overrides"] == list(SETTINGS) == list(DEFAULTS) and len(SETTINGS) == 46
    flags = [flag for each in SETTINGS.values() for flag in (*each.option.split("/"), *each.aliases)]
    assert len(flags) == len(set(flags))


@ALL
def test_every_setting_is_described_whole(setting) -> None:
    assert setting.step in ("", *STEPS) and setting.kind.values
    assert re.fullmatch(r"--[a-z][a-z-]+", setting.flag)
    assert setting.label and setting.label[0].isupper() and not setting.label.endswith(".")
    assert setting.help[0].isupper() or setting.help[0].isdigit()
    assert setting.help.endswith(".") and setting.reference and not setting.reference.endswith(".")
    assert callable(setting.effect.holds) and (setting.effect.needs or setting.effect.holds(DEFAULTS))
    if setting.default is not None:
        assert setting.kind.check(setting.name, setting.default) == setting.default
    assert Recipe.from_query({setting.name: setting.sample}).settings().keys() == SETTINGS.keys()


@ALL
def test_what_a_screen_offers_is_allowed_and_has_a_word(setting) -> None:
    kind = setting.kind
    for value in kind.offered:
        assert (value == 0 and setting.default is None) or kind.check(setting.name, value) == value
        assert setting.word(value)
    if isinstance(kind, (Number, Whole)) and not kind.offered:
        for end in (kind.field.low, kind.field.high):
            assert end is None or kind.check(setting.name, end) == end


@ALL
def test_every_kind_of_value_refuses_nonsense(setting) -> None:
    with pytest.raises(RecipeError, match=f"^{setting.name} must be "):
        setting.kind.check(setting.name, b"nonsense")


def test_choices_are_enums_and_either_form_is_taken() -> None:
    for setting in SETTINGS.values():
        if isinstance(setting.kind, Choice):
            assert issubclass(setting.kind.terms, Term)
            for term in setting.kind.terms:
                assert type(setting.kind.check(setting.name, term)) is str and term.label


def test_flags_are_the_terms_of_the_field_and_older_ones_stay() -> None:
    assert {name: SETTINGS[name].flag for name in TERMS} == TERMS
    assert {each.name: each.aliases for each in SETTINGS.values() if each.aliases} == {
        name: (f"--{name}",) for name in TERMS
    }


def options() -> list[click.Option]:
    command = typer.main.get_command(app).commands["recipe"]
    return [each for each in command.params if each.name in SETTINGS or "__" in each.name]


def test_the_command_line_has_one_option_a_setting_with_its_help_and_default() -> None:
    shown = {each.name: each for each in options() if not each.hidden}
    assert list(shown) == list(SETTINGS)
    for name, option in shown.items():
        setting = SETTINGS[name]
        assert setting.flag in (*option.opts, *option.secondary_opts)
        assert option.help == help_of(setting) and option.help.startswith(setting.help) and option.default is None
        told = option.help.removeprefix(setting.help)
        default = "none" if setting.default in ((), "") else setting.default
        assert isinstance(setting.kind, (Switch, Text)) or default is None or f"default {default:}" in _floats(told)
    hidden = [option.opts for option in options() if option.hidden]
    assert hidden == [[flag] for each in SETTINGS.values() for flag in each.aliases]


def _floats(told: str) -> str:
    """The default of a float as Python writes it."""
    return re.sub(r"(?<=default )[\d.e-]+(?=\))", lambda m: f"{m[0]} default {float(m[0])}", told)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "beside"),
    [
        ("exchange", "0.001", "--bits 8 --calibration rate"),
        ("average", "0.9", "--epochs 2"),
        ("nodes", "0.5", ""),
        ("distill", "0.5", "--epochs 2"),
        ("start", "density", "--clusters 8"),
        ("population", "4", "--clusters 8"),
        ("minibatch", "20", "--epochs 2"),
    ],
)
def test_an_older_flag_is_the_same_setting_and_is_not_given_twice(name, value, beside) -> None:
    def run(*words: str):
        return CliRunner().invoke(app, ["recipe", *beside.split(), *words])

    new, old = run(TERMS[name], value), run(f"--{name}", value)
    assert new.exit_code == 0 and new.stdout == old.stdout != run().stdout
    twice = run(TERMS[name], value, f"--{name}", value)
    assert twice.exit_code == 1 and f"{name} must be given once; got {TERMS[name]} and --{name}." in twice.stderr
    assert f"--{name} " not in run("--help").stdout


def sidebar(recipe: Recipe) -> AppTest:
    page = AppTest.from_string("from pages.components import controls\n\ncontrols.draw()", default_timeout=60)
    page.session_state["view"] = state.View(model=MODEL, recipe=recipe)
    for title in controls.GROUPS:
        page.session_state[f"group_{title}"] = True
    page.run()
    assert not page.exception
    return page


def training() -> AppTest:
    script = (
        "from paretoscope.recipe.recipe import Recover\n\nfrom pages.components import training_settings\n\n"
        f"training_settings.details({MODEL!r}, Recover(epochs=9, distill=0.5, ramp=0.5))"
    )
    page = AppTest.from_string(script, default_timeout=60).run()
    assert not page.exception
    return page


def elements(page: AppTest, prefix: str) -> dict[str, object]:
    kinds = (page.select_slider, page.selectbox, page.number_input, page.toggle)
    found = {each.key: each for kind in kinds for each in kind if each.key}
    return {key.removeprefix(prefix): each for key, each in found.items() if key.startswith(prefix)}


@pytest.mark.slow
def test_every_widget_has_label_help_and_range_of_its_setting() -> None:
    seen = {}
    marks = {}
    for recipe in (Recipe.of(bits=8, calibration="rate"), Recipe.of(threshold=0.1), Recipe.of(pattern="2:4")):
        page = sidebar(recipe)
        seen |= elements(page, "control_")
        marks |= {str(each.key).removeprefix("lesson_mark_"): each.help for each in page.button}
    seen["activations"] = seen.pop("integer")
    trained = elements(training(), "training_")
    seen |= trained | {"distill": trained["mix"]}
    for name in seen.keys() & SETTINGS.keys():
        setting, element = SETTINGS[name], seen[name]
        kind = setting.kind
        # Beside a setting with a picture stands a mark of its own, whose help this is.
        shown = marks.get(name, element.help)
        assert (name in marks) == (name in PICTURED)
        assert element.label == setting.label and setting.explained in shown
        if name in ("activations", "teacher") or isinstance(kind, Switch):
            continue
        if kind.offered:
            assert element.options == [setting.word(value) for value in kind.offered]
        else:
            field = kind.field
            assert element.min == (kind.low if field.low is None else field.low)
            assert element.max == (kind.high if field.high is None else field.high)
    # The rest has a place of its own: the page of layers, above the training's settings, or nowhere to be moved.
    assert SETTINGS.keys() - seen.keys() == {"drop", "overrides", "epochs", "stopped"}


def test_what_no_widget_can_hold_is_an_error_of_the_program() -> None:
    with pytest.raises(TypeError, match="no widget for drop"):
        widgets.draw(SETTINGS["drop"], (), "key")


def test_the_rows_of_methods_come_from_the_schema() -> None:
    rows = [row for entry in methods for row in entry.settings if entry.name != "combine"]
    assert {row.name for row in rows} == set(SETTINGS)
    for row in rows:
        setting = SETTINGS[row.name]
        assert row.values == setting.kind.values and row.meaning.endswith(setting.explained)


# A setting of a step without training and one of training, as somebody would add them.
ADDED = {
    "simplify": """
    gloss: int = setting(
        0,
        of=Whole(0, 9, remedy="Pass e.g. 3.", field=Field(0, 9, 1)),
        flag="--polish",
        label="Gloss of weights",
        help="How much they shine.",
        reference="weight polish",
    )
""",
    "recover": """
    warmup: int = setting(
        0,
        of=Whole(field=Field(0, 30)),
        label="Warm-up, epochs",
        help="Epochs over which the learning rate rises.",
        reference="learning rate warm-up, Goyal et al. 2017",
        effect=TRAINING,
    )
""",
}
LOOK = f"""
from paretoscope.base.errors import RecipeError
from paretoscope.cli.main import app
from paretoscope.recipe import effects
from paretoscope.recipe.recipe import Recipe
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from pages.components import state


def refused(given, act):
    try:
        act()
    except RecipeError as error:
        return str(error)


def run(*words):
    result = CliRunner().invoke(app, ["recipe", *words])
    return result.stdout + result.stderr


assert refused("gloss", lambda: Recipe.of(gloss=10)) == "gloss must be in 0..9; got 10. Pass e.g. 3."
assert Recipe.from_query(Recipe.of(gloss=4).to_query()).simplify.gloss == 4
assert "gloss" not in Recipe.of(nodes=0.5).to_json() and Recipe.from_json(Recipe.of(gloss=4).to_json()).simplify.gloss
assert "--warmup has an effect only with epochs" in run("--warmup", "3")
assert '"gloss": 4' in run("--polish", "4") and '"gloss": 4' in run("--gloss", "4")
help = run("--help")
assert "How much they shine." in help and "--warmup" in help

page = AppTest.from_string(
    "from pages.components import controls\\n\\ncontrols.open_view('made-up')\\ncontrols.draw()", default_timeout=60
)
page.session_state["view"] = state.View(model={MODEL!r}, recipe=Recipe.of(nodes=0.5))
page.session_state["group_Architecture"] = True
page.run()
field = page.number_input(key="control_gloss")
assert (field.label, field.max) == ("Gloss of weights", 9) and field.help.startswith("How much they shine.")
field.set_value(3).run()
assert not page.exception and page.session_state.view.recipe == Recipe.of(nodes=0.5, gloss=3)

script = "from paretoscope.recipe.recipe import Recover\\nfrom pages.components import training_settings\\n"
script += "training_settings.details({MODEL!r}, Recover(epochs=9, warmup=2))"
page = AppTest.from_string(script, default_timeout=60).run()
assert page.number_input(key="training_warmup").value == 2
print("seen")
"""


@pytest.mark.slow
def test_a_setting_that_is_added_to_a_step_appears_everywhere(tmp_path: Path) -> None:
    """A copy of the product in which two steps have one more setting each, and nothing else is changed."""
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("compression", "pages"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    for step, added in ADDED.items():
        path = tmp_path / "compression" / "paretoscope" / "recipe" / "steps" / f"{step}.py"
        before, after = path.read_text().split("\n    def __post_init__", 1)
        path.write_text(f"{before.rstrip()}{added}\n    def __post_init__{after}")
    wide = {**os.environ, "COLUMNS": "300"}
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['compression', '.']\n{LOOK}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=wide)
    assert done.stdout.endswith("seen\n"), done.stderr[-3000:]


def test_a_kind_of_two_numbers_is_off_by_default() -> None:
    kind = SETTINGS["activations"].kind
    assert isinstance(kind, Either) and kind.check("activations", 8.0) == 8 and kind.off == DEFAULTS["activations"]
