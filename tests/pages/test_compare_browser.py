"""The Compare page in a real browser: five configurations on two sizes of screen, hostile names, a moving slider."""

import re
from urllib.parse import urlencode

import pytest
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.pins import QUERY, Pin, to_text
from screens import LAPTOP, screen

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MODEL = "lenet-300-100"
HOSTILE = "<img src=//evil onerror=alert(1)> [x](//evil)"
PINS = [Pin(MODEL, Recipe.of(bits=bits), HOSTILE[:40] if bits == 8 else "", HOSTILE) for bits in (8, 6, 4, 3)]
LINK = urlencode({"model": MODEL, **Recipe.of(sparsity=0.8, clusters=16).to_query(), QUERY: to_text(PINS)})


@pytest.fixture
def page(browser, dashboard):
    with screen(browser, dashboard, LAPTOP) as page:
        page.goto(f"{dashboard}/side-by-side?{LINK}")
        page.wait_for_function(
            "document.querySelector('.compare-sheet') && !document.querySelector('.compare-sheet .wait')"
        )
        yield page


def test_five_columns_fit_and_a_narrow_screen_scrolls_the_table_alone(page) -> None:
    sheet = page.locator(".compare-sheet").first
    heads = sheet.locator("thead th")
    assert [text.split()[0] for text in heads.all_inner_texts()] == ["Current", "A", "B", "C", "D"]
    assert sheet.evaluate("table => table.scrollWidth <= table.clientWidth")
    assert all(box["x"] + box["width"] <= 1280 for box in (head.bounding_box() for head in heads.all()))
    assert sheet.locator("img, a").count() == 0 and HOSTILE[:40] in heads.nth(1).inner_text()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.querySelector('.compare-sheet').scrollWidth > 390")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.get_by_test_id("stMain").evaluate("main => main.scrollWidth") == 390


def test_the_next_step_follows_the_slider(page) -> None:
    page.get_by_role("tab", name="Samples that flip").click()
    page.locator(".st-key-flips_samples img").first.wait_for()
    page.get_by_role("radio", name="The next slider step").click()
    page.get_by_text("Pruning sparsity 80 % → 81 %").wait_for()
    page.get_by_text(re.compile(r"\d+ broken, \d+ mended|the same answers")).first.wait_for()
    thumb = page.locator(".st-key-control_sparsity input[type=range]")
    thumb.focus()
    thumb.press("ArrowRight")
    page.get_by_text("Pruning sparsity 81 % → 82 %").wait_for()
