"""Learning in a real browser: the live picture beside a slider, its method, and nothing cut on narrow screens."""

import re

import pytest
from screens import LAPTOP, screen

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MODEL = "lenet-300-100"
QUERY = f"model={MODEL}&sparsity=0.5&clusters=4&bits=3"


@pytest.fixture
def page(browser, dashboard):
    with screen(browser, dashboard, LAPTOP) as page:
        yield page


def test_a_slider_opens_a_live_picture_that_leads_to_its_method(page) -> None:
    page.goto(f"{page.address}/how-it-works?{QUERY}&method=code")
    page.get_by_role("heading", name="Entropy coding").wait_for()
    page.get_by_role("button", name="Picture of Pruning sparsity").first.click()
    drawn = page.locator(".lesson")
    page.wait_for_function("/8 of 16 became zero/.test(document.querySelector('.lesson')?.ariaLabel)")
    slider = page.locator(".st-key-control_sparsity input[type=range]")
    slider.focus()
    slider.press("ArrowLeft")
    page.wait_for_function("/7 of 16 became zero/.test(document.querySelector('.lesson').ariaLabel)")
    assert drawn.locator("svg").bounding_box()["width"] <= page.get_by_test_id("stSidebar").bounding_box()["width"]
    # Colours are those of the page, whatever scheme it has.
    ink = "getComputedStyle(document.querySelector('.lesson text')).fill"
    before = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{ink} !== '{before}'")
    page.get_by_test_id("stSidebar").get_by_text("More: Magnitude pruning").click()
    page.get_by_role("heading", name="Magnitude pruning").wait_for()
    page.wait_for_url(re.compile("method=prune"))
    page.get_by_test_id("stMain").get_by_text("Try it: 80 % sparse").click()
    page.wait_for_url(re.compile(r"\?(?=.*sparsity=0\.8)(?=.*clusters=off)"))


def test_the_entropy_coder_has_its_picture_too(page) -> None:
    page.goto(f"{page.address}/how-it-works?{QUERY}&method=code")
    page.get_by_role("heading", name="Entropy coding").wait_for()
    page.get_by_test_id("stSidebar").get_by_text("Advanced", exact=True).click()
    page.get_by_role("button", name="Picture of Entropy coder").first.click()
    page.wait_for_function("/Bits of a code: /.test(document.querySelector('.lesson')?.ariaLabel)")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (640, 360), (1280, 720)])
def test_nothing_is_wider_than_the_screen(page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    for method in ("combine", "matrix", "asymmetric"):
        page.goto(f"{page.address}/how-it-works?{QUERY}&method={method}")
        last = ".katex-display" if method != "matrix" else "[data-testid=stMain] table"
        page.locator(last).last.wait_for()
        beyond = page.evaluate(
            """() => [...document.querySelectorAll('[data-testid=stMain] :is(.katex-html, table, .figure, p, button)')]
                .filter(each => each.getBoundingClientRect().right > innerWidth).map(each => each.innerText)"""
        )
        assert beyond == []
