"""Files of the server: what they hold, and that a browser keeps them; the door is what Streamlit serves."""

import asyncio
import gzip
import importlib.util
import threading
import tomllib
from pathlib import Path

import pytest
import streamlit as st
from loops import finish
from plotly.offline import get_plotlyjs
from starlette.requests import Request
from starlette.responses import Response
from streamlit.web.server.app_discovery import discover_asgi_app

from pages.components import serving

DOOR = Path(__file__).parents[3] / "app.py"


def fetched(name: str, encoding: str = "gzip, br") -> Response:
    headers = [(b"accept-encoding", encoding.encode())]
    return serving._file(Request({"type": "http", "headers": headers, "path_params": {"name": name}}))


@pytest.mark.parametrize("encoding", ["gzip, br", ""])
def test_plotly_is_the_installed_one_and_is_kept_for_good(encoding: str) -> None:
    answer = fetched(serving.PLOTLY, encoding)
    content = gzip.decompress(answer.body) if encoding else answer.body
    assert content.decode() == get_plotlyjs()
    assert answer.headers.get("content-encoding") == ("gzip" if encoding else None)
    assert "immutable" in answer.headers["cache-control"] and answer.headers["content-type"].startswith("text/javasc")
    assert len(fetched(serving.PLOTLY).body) < len(content) / 2


def test_a_script_that_changes_has_another_name() -> None:
    one, same, other = (serving.script("test", content) for content in ("let a = 1;", "let a = 1;", "let a = 2;"))
    assert one == same != other
    for address, content in ((one, b"let a = 1;"), (other, b"let a = 2;")):
        assert fetched(address.rpartition("/")[2], "").body == content


@pytest.mark.parametrize("name", ["", "other.js", "../app.py", "plotly-0.js"])
def test_nothing_else_is_served(name: str) -> None:
    assert fetched(name).status_code == 404


def test_streamlit_serves_the_door() -> None:
    assert discover_asgi_app(DOOR).import_string == "app:app"
    spec = importlib.util.spec_from_file_location("the_door", DOOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.app, st.App) and module.app.script_path == DOOR
    assert not serving.importing()


def test_files_lie_below_the_base_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.config, "get_option", {"server.baseUrlPath": "/tools/"}.__getitem__)
    assert serving.address("a.js") == "/tools/libraries/a.js"
    assert [route.path for route in serving.routes()] == ["/tools/libraries/{name}"]


def test_a_loop_is_woken_once_for_what_comes_together_and_leaves_nothing() -> None:
    done, woken = [], []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        wake = loop._write_to_self
        loop._write_to_self = lambda: woken.append(1) or wake()
        serving._gather()

        def page(number: int) -> None:
            for at in range(200):
                loop.call_soon_threadsafe(done.append, (number, at))

        for number in range(5):
            threads = [threading.Thread(target=page, args=(number,)) for _ in range(2)]
            for thread in threads:
                thread.start()
            while len(done) < 400 * (number + 1):
                await asyncio.sleep(0.001)
            for thread in threads:
                thread.join()
        # A loop that waits for nothing else is woken too.
        assert await asyncio.to_thread(lambda: "woken") == "woken"

    finish(run())
    assert len(done) == 2000 and 0 < len(woken) < 200


def test_garbage_is_collected_here_and_not_by_streamlit_after_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tomllib.loads((DOOR.parent / ".streamlit" / "config.toml").read_text())
    assert settings["runner"]["postScriptGC"] is False
    collected = threading.Event()
    monkeypatch.setattr(serving, "_LOOK_S", 0.0)
    monkeypatch.setattr(serving, "_sessions", lambda: 1)
    monkeypatch.setattr(serving.gc, "get_count", lambda: (9, 1, 0))
    monkeypatch.setattr(serving.gc, "collect", collected.set)

    async def run() -> None:
        tidying = asyncio.create_task(serving._tidy())
        while not collected.is_set():
            await asyncio.sleep(0)
        tidying.cancel()

    finish(run())
