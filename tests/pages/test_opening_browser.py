"""The first visit to a server that has just started, and the next one by the same browser."""

from contextlib import contextmanager

import pytest
from screens import PATIENCE
from serving import reserved_port, serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LINK = "/?model=lenet-300-100&sparsity=0.5&clusters=16&bits=8"
FILES = "performance.getEntriesByType('resource').filter(each => each.name.includes('/libraries/'))"


def opened(context, address: str) -> tuple[dict[str, int], int]:
    """The page's own files by name, with the bytes that came for each, and the bytes of all messages."""
    page, messages = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.on("websocket", lambda socket: socket.on("framereceived", lambda content: messages.append(len(content))))
    page.goto(address + LINK)
    page.locator(".st-key-plots .px-of-ms svg").wait_for()
    page.wait_for_function(f"{FILES}.length >= 2")
    came = page.evaluate(f"{FILES}.map(each => [each.name.split('/').at(-1), each.transferSize])")
    page.close()
    return dict(came), sum(messages)


def test_a_cold_server_shows_an_outline_and_a_second_visit_takes_the_kept_files(browser, tmp_path) -> None:
    with reserved_port() as port, contextmanager(serve)(port, tmp_path) as address:
        context = browser.new_context()
        outline = context.new_page()
        outline.set_default_timeout(PATIENCE)
        outline.goto(address + LINK)
        outline.get_by_test_id("stSkeleton").first.wait_for()
        outline.locator(".st-key-plots .px-of-ms svg").wait_for()
        assert outline.get_by_test_id("stSkeleton").count() == 0
        outline.close()
        context.close()
        context = browser.new_context()
        first, _ = opened(context, address)
        second, messages = opened(context, address)
        context.close()
    assert len(first) >= 2 and all(size > 1000 for size in first.values())
    assert second == dict.fromkeys(first, 0)
    assert messages < 500_000
