"""The Compare page without a browser: its tables and samples against the library, pins, bad input."""

import html
import re
import time
from pathlib import Path

import own_files
import pytest
from paretoscope.measure.comparison import chosen, flipped, pair
from paretoscope.measure.subject import Evaluation
from paretoscope.recipe.presets import presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.next_step import further
from paretoscope.service import adding
from paretoscope.service.pins import Pin
from paretoscope.service.subjects import task_of
from paretoscope.tasks import Flip
from paretoscope.tasks import plain as plain_text
from streamlit.testing.v1 import AppTest

from pages.components import compare, compare_flips, compare_sheet, state

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODEL = "lenet-300-100"
RECIPE, A, B = Recipe.of(sparsity=0.8, clusters=16), Recipe.of(bits=4), Recipe.of(sparsity=0.9, clusters=8)
PINS = [Pin(MODEL, A, "four <b>bits</b>", "for <i>the</i> phone"), Pin(MODEL, B)]
PATIENCE_S = 120.0


def open_page(
    tab: str = "What differs", pins: list[Pin] | None = None, recipe: Recipe = RECIPE, model: str = MODEL, **kept
) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=90)
    page.query_params.update({"model": model, **recipe.to_query()})
    page.session_state["compare_tab"] = tab
    page.session_state["pins"] = PINS if pins is None else pins
    for key, value in kept.items():
        page.session_state[key] = value
    page.switch_page("pages/compare.py").run()
    return wait_for(page, lambda: not any(word in sheets(page)[0] for word in ("wait", "so far")))


def wait_for(page: AppTest, met) -> AppTest:
    """Run the page again until something holds, as the polling fragment does in a browser."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert not page.exception
        if met():
            return page
        assert time.monotonic() < deadline, "what was waited for did not come"
        page.run()


def sheets(page: AppTest) -> list[str]:
    """The tables of the page, as HTML without its style."""
    found = [element.proto.body for element in page.get("html")]
    return [body.split("</style>")[1] for body in found if "compare-sheet" in body]


def lines(table: str) -> list[list[str]]:
    """The texts of a table's cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [
        [html.unescape(re.sub(r"<[^>]+>", " ", cell)).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in rows
    ]


def texts(page: AppTest) -> str:
    return "\n".join(element.value for element in (*page.markdown, *page.caption))


def evaluated(recipe: Recipe) -> Evaluation:
    found = state.workbench().find(MODEL, recipe)
    assert found is not None
    return found


def test_figures_stand_side_by_side_and_text_of_pins_is_text() -> None:
    page = open_page()
    head, accuracy, *_ = table = lines(sheets(page)[0])
    assert [cell.split()[0] for cell in head[1:]] == ["Current", "A", "B"]
    assert "four <b>bits</b>" in head[2] and "<b>bits" not in sheets(page)[0]
    for cell, recipe in zip(accuracy[1:], (RECIPE, A, B), strict=True):
        figures = evaluated(recipe).record.figures
        assert cell.startswith(f"{100 * figures.value:.1f} %") and f"[{100 * figures.low:.1f}, " in cell
        assert ("no measurable loss" in cell) is not figures.distinguishable
    by_name = {row[0]: row[1:] for row in table}
    assert by_name["Note"] == ["", "for <i>the</i> phone", ""]
    differs = {row[0]: row[1:] for row in lines(sheets(page)[1])}
    assert differs["Pruning sparsity"] == ["80 %", "0 %", "90 %"] and "Entropy coder" not in differs
    page.toggle(key="compare_all").set_value(True).run()
    assert "Entropy coder" in {row[0] for row in lines(sheets(page)[1])}


def test_without_pins_the_baseline_and_the_presets_stand_beside() -> None:
    page = open_page(pins=[], recipe=presets_of(MODEL)[1].recipe)
    heads = lines(sheets(page)[0])[0][1:]
    others = [preset for preset in presets_of(MODEL) if preset.name != "int8"]
    assert heads[0].startswith("Current, Int8") and len(heads) == 1 + len(others)
    for head, preset in zip(heads[1:], others, strict=True):
        assert head.startswith(preset.title) and preset.recipe.describe()[:20] in head
    assert "Press **Pin**" in texts(page)


def test_every_pair_is_tested() -> None:
    page = open_page("Tested in pairs")
    table = {row[0]: row[1:] for row in lines(sheets(page)[1])}
    subject = state.workbench().subject(MODEL)
    for name, recipe in (("Current", RECIPE), ("A", A), ("B", B)):
        for cell, other in zip(table[name], (RECIPE, A, B), strict=True):
            if other == recipe:
                assert cell == compare_sheet.NONE
                continue
            found = pair(subject.task, evaluated(other), evaluated(recipe), subject.labels)
            assert found is not None
            assert cell.startswith(compare_sheet.told(found, subject.task))
            assert cell.endswith(plain_text.flips(subject.task.words, found.counts)) and " broken, " in cell


def test_the_samples_that_flip_can_be_chosen() -> None:
    page = open_page("Samples that flip")
    wait_for(page, lambda: "the starkest first" in texts(page))
    subject = state.workbench().subject(MODEL)
    was, now = evaluated(Recipe()), evaluated(RECIPE)
    flips = flipped(subject.task, was.predictions, now.predictions, subject.labels)
    every = chosen(flips, subject.labels, compare_flips.OF["all"])
    shown = [int(found) for found in re.findall(r"sample (\d+), true", texts(page))]
    assert shown == every[: compare_flips.PAGE].tolist()
    answer, sure = subject.task.said(now.predictions, shown[0])
    assert f"**{answer}** {sure}" in texts(page)

    label = int(subject.labels[every[0]])
    page.selectbox(key=f"flips_class_{MODEL}").set_value(label + 1).run()
    broken = chosen(flips, subject.labels, frozenset({Flip.BROKEN, Flip.MENDED, Flip.CHANGED}), label)
    wait_for(page, lambda: f"of {len(broken)}, the starkest first" in texts(page))
    assert {int(found) for found in re.findall(r", true: (\d)", texts(page))} == {label}


def test_what_the_next_step_of_a_slider_breaks() -> None:
    page = open_page("Samples that flip", flips_mode="step", flips_slider="clusters", flips_steps=5)
    after = further(RECIPE, "clusters", 5)
    assert after is not None and after.settings()["clusters"] == 4
    wait_for(page, lambda: " broken, " in texts(page))
    assert "Which samples does **Shared-weight clusters 16 → 4** change?" in texts(page)
    subject = state.workbench().subject(MODEL)
    found = pair(subject.task, evaluated(RECIPE), evaluated(after), subject.labels)
    assert found is not None
    assert f"**{plain_text.flips(subject.task.words, found.counts)}** of 797" in texts(page)


@pytest.mark.parametrize("tab", ["Bytes by layer", "Steps", "Time"])
def test_figures_are_drawn_for_all_columns(tab: str) -> None:
    page = open_page(tab)

    def drawn() -> list[str]:
        return [each.proto.json for each in page.get("bidi_component") if each.proto.component_name == "figure"]

    wait_for(page, lambda: len(drawn()) == {"Bytes by layer": 1, "Steps": 3, "Time": 1}[tab])
    wait_for(
        page, lambda: all(f"{tag}: " in text or f"{tag} " in text for tag in ("Current", "A", "B") for text in drawn())
    )


def test_what_cannot_be_measured_is_told_and_the_rest_stands() -> None:
    page = open_page(pins=[*PINS, Pin(MODEL, Recipe.of(bits=3, epochs=2), "untrained")])
    assert any("a recipe with training must have been trained" in error.value for error in page.error)
    accuracy = lines(sheets(page)[0])[1]
    assert accuracy[-1] == "cannot be measured" and accuracy[2].startswith("9")
    page.button(key="compare_again").click().run()
    assert not page.exception


def test_another_task_is_not_mixed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        name = "agreement"
        words, classes, needs_labels, further = None, (), False, ()

    own = compare.task_of
    monkeypatch.setattr(compare, "task_of", lambda model: Other if model == "lenet-5" else own(model))
    page = open_page(pins=[*PINS, Pin("lenet-5", A)])
    assert [cell.split()[0] for cell in lines(sheets(page)[0])[0][1:]] == ["Current", "A", "B"]
    assert "Judged by another task, and not mixed in: C (LeNet-5)" in texts(page)


@pytest.mark.parametrize(
    ("name", "shown"), [("unet", "picture"), ("text", "tokens"), ("two", "both"), ("regression", "numbers")]
)
def test_samples_of_any_kind_are_shown(name: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    program = own_files.write_program(tmp_path / f"{name}.pt2", name)
    samples = own_files.write_arrays(tmp_path / f"{name}.npz", name)
    own = f"{name}-compared"
    adding.open_candidate(own, str(program), data=str(samples)).keep()
    page = open_page("Samples that flip", pins=[Pin(own, Recipe.of(bits=2))], model=own)
    order = task_of(own).words.flips.order
    wait_for(page, lambda: order in texts(page))
    cards = re.findall(r"sample (\d+)", texts(page))
    assert 1 <= len(cards) <= compare_flips.PAGE
    if shown in ("tokens", "numbers"):
        assert len(page.text) >= len(cards)
    if name == "unet":
        wait_for(page, lambda: "Maps of classes" in texts(page))
    if name in ("unet", "regression"):  # judged by what the baseline says
        assert "error " in texts(page) and ", true:" not in texts(page)
        assert re.search(r"\*\*8 moved most\*\* of 160", texts(page)) and "roken" not in texts(page)


def test_the_map_tells_where_each_came_from() -> None:
    page = open_page("Where from", recipe=B.with_setting("bits", 4))
    (chart,) = [each.value for each in page.markdown if "mermaid" in each.value[:20]]
    assert chart.count("flowchart LR") == 1 and "four ‹b›bits‹/b›" in chart
    # What is on the sliders differs from B in one setting, and from all else in more.
    assert re.search(r"c1 -\.->\|.*Quantization bits.*\| c2", chart)
