"""Ways to the pages in a real browser: on a phone, and from an address that is misspelt."""

import re

import pytest
from screens import PHONE, screen

pytestmark = [pytest.mark.browser, pytest.mark.slow]

QUERY = "?model=lenet-300-100&sparsity=0.9&clusters=off&bits=8"


@pytest.fixture
def page(browser, dashboard):
    with screen(browser, dashboard, PHONE) as page:
        yield page


def links(page):
    return page.locator(".st-key-pages_row a")


def test_pages_are_in_sight_on_a_phone_and_in_the_menu_of_a_wide_screen(page) -> None:
    page.goto(f"{page.address}/your-own")
    links(page).last.wait_for()
    names = links(page).all_inner_texts()
    assert names[0] == "Explore" and names[-1] == "Methods" and len(names) == len(set(names))
    assert all(
        box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in (at.bounding_box() for at in links(page).all())
    )
    page.set_viewport_size({"width": 1280, "height": 720})
    links(page).first.wait_for(state="hidden")
    page.get_by_test_id("stTopNavLink").last.wait_for()
    assert [text.split()[-1] for text in page.get_by_test_id("stTopNavLink").all_inner_texts()] == names
    assert page.get_by_role("dialog").count() == 0


def test_a_misspelt_address_says_which_page_was_meant_and_keeps_the_configuration(page) -> None:
    page.goto(f"{page.address}/layer-bye-layer{QUERY}")
    told = page.get_by_test_id("stAlert")
    told.wait_for()
    assert "“layer-bye-layer”" in told.inner_text() and "Did you mean Layers?" in told.inner_text()
    assert page.get_by_role("dialog").count() == 0
    page.locator("[data-testid=stPageLink] a").last.click()
    page.wait_for_url(re.compile(r"/layer-by-layer\?.*sparsity=0\.9"))


def test_the_name_of_a_page_leads_to_it(page) -> None:
    page.goto(f"{page.address}/Methods{QUERY}")
    page.wait_for_url(re.compile(r"/how-it-works\?.*sparsity=0\.9"))


def test_the_first_page_has_an_address_of_its_own_too(page) -> None:
    page.goto(f"{page.address}/trade-off{QUERY}")
    page.locator(".st-key-control_sparsity").wait_for(state="attached")
    assert page.get_by_role("dialog").count() == 0 and page.get_by_test_id("stAlert").count() == 0


def test_an_address_in_a_folder_is_no_white_screen(page) -> None:
    page.goto(f"{page.address}/a/b/Methods{QUERY}")
    page.wait_for_url(re.compile(r"//[^/]*/how-it-works\?.*sparsity=0\.9"))
