"""Shared by all tests: a store, a lock and caches of their own, and the dashboard in a real browser."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import reserved_port, serve

REQUIRED = os.environ.get("PARETOSCOPE_BROWSER_TESTS") == "required"
CHROMIUM_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def pytest_configure(config: pytest.Config) -> None:
    # Before any import of the package: no test may touch the user's own store, and nothing that runs beside these
    # tests, be it another worker or another copy of the product, may hold them up or find what they keep.
    config.stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="paretoscope-")
    own = Path(config.stash[_FOLDER].name)
    os.environ["PARETOSCOPE_STORE"] = str(own / "records.sqlite")
    os.environ["PARETOSCOPE_LIBRARY"] = str(own / "library")
    os.environ["PARETOSCOPE_LOCK"] = str(own / "machine")
    os.environ["XDG_CACHE_HOME"] = str(own)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(own / "inductor")
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Threads that wait for each other spin: with two, two workers take longer for the suite than one alone.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_FOLDER].cleanup()


@pytest.fixture(scope="session", autouse=True)
def nothing_ships() -> Iterator[None]:
    """Studies are measured by the tests that ask for them; those that ship would be found in their place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paretoscope.service.shipped.FOLDER", None)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With the failure of a browser test, what the page showed: a timeout alone says nothing."""
    report = yield
    if report.when == "call" and report.failed and item.get_closest_marker("browser") and "page" in item.funcargs:
        page = item.funcargs["page"]
        report.sections.append((f"shown at {page.url}", page.locator("body").inner_text(timeout=5000)))
    return report


_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory]()


def chromium() -> str:
    """Path of the system's Chromium; skips the test without one, or fails it where browser tests are required."""
    path = os.environ.get("PARETOSCOPE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        message = "no Chromium on this machine: install it, or set PARETOSCOPE_CHROMIUM to its path"
        pytest.fail(message) if REQUIRED else pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dashboard of its own, with an empty store."""
    chromium()
    folder = tmp_path_factory.mktemp("dashboard")
    with reserved_port() as port:
        yield from serve(port, folder)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A Chromium of the system, driven by Playwright."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield instance
        instance.close()
