"""From a file to sliders in a real browser: uploads, preview, a slider, the artefact, and that in a second library."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import own_files
import pytest
from screens import screen
from serving import reserved_port, serve

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A dashboard with a store and an empty library of its own."""
    folder.mkdir()
    with reserved_port() as port:
        yield from serve(port, folder, PARETOSCOPE_LIBRARY=str(folder / "library"))


@contextmanager
def visited(browser, address: str) -> Iterator:
    """A page of Networks in a browser of its own; no error of the page's script is left unseen."""
    with screen(browser, address, accept_downloads=True) as page:
        # The first address that a new server is asked for must be its front page.
        page.goto(address)
        page.locator(".st-key-plots .px-of-ms svg").wait_for()
        page.get_by_role("link", name="Networks").click()
        page.get_by_text("You have none yet").wait_for()
        yield page


def upload(page, network: Path, samples: Path | None = None) -> None:
    """Give the form its files while the page is still being drawn, and add them."""
    files = page.locator("input[type=file]")
    files.nth(0).set_input_files(network)
    if samples is not None:
        files.nth(1).set_input_files(samples)
    for each in filter(None, (network, samples)):
        page.get_by_text(each.name, exact=True).wait_for()
    still(page)
    page.get_by_role("button", name="Add the network").click()
    page.get_by_text(f"Added {network.stem}").wait_for()


def still(page) -> None:
    page.wait_for_timeout(300)
    page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'")


def test_uploaded_explored_exported_and_opened_elsewhere(browser, tmp_path: Path) -> None:
    network, samples = own_files.write_pictures(tmp_path)
    with served(tmp_path / "first") as address, visited(browser, address) as page:
        upload(page, network, samples)
        page.get_by_text("50.0 %: is that what you expect?").wait_for()
        page.locator(".st-key-seen_samples img").nth(7).wait_for()
        assert page.locator(".st-key-seen_samples img").count() == 8
        page.get_by_role("button", name="Try other preprocessing").click()
        page.get_by_role("button", name=re.compile("^Take ")).click()
        page.get_by_text("100 %: is that what you expect?").wait_for()

        page.get_by_role("button", name="Open in Explore").click()
        page.wait_for_url(re.compile("model=halves"))
        page.locator(".st-key-plots .px-of-ms svg").wait_for()
        still(page)
        thumb = page.locator(".st-key-control_bits input[type=range]")
        before = thumb.get_attribute("aria-valuetext")
        thumb.focus()
        thumb.press("ArrowRight")
        page.wait_for_function(
            "before => document.querySelector('.st-key-control_bits input[type=range]').ariaValueText !== before",
            arg=before,
        )
        page.wait_for_url(re.compile("bits=7"))
        still(page)
        page.locator(".st-key-export button").first.click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Artefact").click()
        artefact = tmp_path / "halves.psc"
        waiting.value.save_as(artefact)

    with served(tmp_path / "second") as address, visited(browser, address) as page:
        upload(page, artefact, samples)
        page.get_by_text("is that what you expect?").wait_for()
        page.get_by_role("button", name="Open in Explore").click()
        page.wait_for_url(re.compile("model=halves"))
        page.locator(".st-key-plots .px-of-ms svg").wait_for()


def test_a_file_on_its_way_outlives_what_another_visitor_adds(browser, tmp_path: Path) -> None:
    """The line that tells of an empty library goes above the form, while the form's file is still on its way."""
    network, _ = own_files.write_pictures(tmp_path)
    with served(tmp_path / "both") as address, visited(browser, address) as slow:
        held: list = []
        slow.route("**/_stcore/upload_file/**", lambda route: held.append(route))
        with slow.expect_request("**/_stcore/upload_file/**"):
            slow.locator("input[type=file]").nth(0).set_input_files(network)
        with visited(browser, address) as quick:
            upload(quick, network)
        title = slow.get_by_label("Title")
        title.fill("Slow")
        title.blur()
        slow.get_by_text("You have none yet").wait_for(state="detached")
        still(slow)
        for each in held:
            each.continue_()
        slow.get_by_text(network.name, exact=True).wait_for()
        still(slow)
        slow.get_by_label("Name", exact=True).fill("slow")
        slow.get_by_role("button", name="Add the network").click()
        slow.get_by_text("Added slow").wait_for()
