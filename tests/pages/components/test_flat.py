"""Addresses in folders: only those of pages are sent on, to nowhere but this server."""

from urllib.parse import quote, urljoin

import pytest
from loops import finish
from starlette.responses import PlainTextResponse
from streamlit import config

from pages.components.serving import Flat

SERVED = "as before"


def ask(path: str, query: str = "", accept: str = "text/html", method: str = "GET") -> tuple[int, str]:
    """Status, and where to."""
    sent = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
    }
    scope |= {"headers": [(b"accept", accept.encode()), (b"host", b"here")], "scheme": "http", "server": ("here", 80)}

    async def send(message) -> None:
        sent.append(message)

    finish(Flat(PlainTextResponse(SERVED))(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"]).get(b"location", b"").decode()


@pytest.mark.parametrize(
    ("path", "query", "location"),
    [
        ("/a/layers", "", "../layers"),
        ("/a/b/layers", "bits=8", "../../layers?bits=8"),
        ("/a/x\r\nSet-Cookie: y", "", "../x%0D%0ASet-Cookie%3A%20y"),
        ("/a/ä", "", "../%C3%A4"),
    ],
)
def test_a_page_in_a_folder_is_sent_to_the_page(path: str, query: str, location: str) -> None:
    assert ask(path, query) == (307, location)
    assert urljoin("http://here/before" + quote(path), location).startswith("http://here/before/")


@pytest.mark.parametrize(
    "path",
    ["/", "/layers", "/static/js/a.js", "/_stcore/health", "/component/x/index.html", "/media/a", "/libraries/p"],
)
def test_all_else_is_served_as_before(path: str) -> None:
    assert ask(path) == (200, "")
    assert ask("/a/layers", accept="*/*") == ask("/a/layers", method="POST") == (200, "")


def test_below_a_base_of_the_server_only_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "get_option", lambda name: {"server.baseUrlPath": "of/ours"}[name])
    assert ask("/of/ours/layers") == ask("/of/others/layers") == (200, "")
    assert ask("/of/ours/a/layers") == (307, "../layers")
