"""A page of a dashboard in a browser of its own, which must end without an error of a script."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Milliseconds for whatever is waited for; a busy machine may need many.
PATIENCE = 120_000
DESK, LAPTOP, PHONE = (1440, 900), (1280, 720), (390, 844)


@contextmanager
def screen(browser: Any, address: str, size: tuple[int, int] = DESK, **settings: Any) -> Iterator[Any]:
    """A page whose `address` is that of the dashboard. size: of the window. settings: of Playwright's context."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, **settings)
    page, problems = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.address = address
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    assert problems == []
    context.close()
