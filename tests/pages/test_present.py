"""Present in a browser: one key opens it, keys step, Escape leaves, and after the last step one plays."""

import pytest
from screens import LAPTOP, screen

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def page(browser, dashboard):
    with screen(browser, dashboard, LAPTOP, reduced_motion="reduce") as page:
        yield page


def test_six_steps_by_one_key_each_then_free_play(page, dashboard: str) -> None:
    page.goto(f"{dashboard}/?model=lenet-300-100")
    page.get_by_role("button", name="Present").first.wait_for(timeout=60_000)
    page.keyboard.press("p")
    shown = page.locator(".ps-slide.ps-on")
    shown.wait_for(timeout=30_000)
    sizes = []
    for key in ("ArrowRight", " ", "PageDown", "ArrowRight", "ArrowRight"):
        sizes.append(shown.locator(".ps-figures b").first.inner_text())
        page.keyboard.press(key)
    assert shown.get_attribute("data-step") == "trained" and len(sizes) == 5
    assert page.evaluate("(s => s.scrollHeight <= s.clientHeight)(document.querySelector('.ps'))")
    page.keyboard.press("ArrowLeft")
    assert shown.get_attribute("data-step") == "code"
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="Try it yourself").wait_for(timeout=30_000)
    page.locator(".px-plot svg").first.wait_for(timeout=30_000)
    assert not page.get_by_test_id("stSidebar").is_visible()
    page.keyboard.press("Escape")
    page.get_by_test_id("stSidebar").wait_for(timeout=30_000)


def test_escape_leaves_the_steps(page, dashboard: str) -> None:
    page.goto(f"{dashboard}/on-stage?model=lenet-300-100")
    page.locator(".ps-slide.ps-on").wait_for(timeout=60_000)
    page.keyboard.press("Escape")
    page.get_by_test_id("stSidebar").wait_for(timeout=30_000)
    assert "on-stage" not in page.url and "model=lenet-300-100" in page.url
