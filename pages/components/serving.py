"""What the server does beside the pages: files that browsers keep, imports before the first visit, memory given back.

Importing this loads nothing large: it runs before the server listens, and at the door.
"""

import asyncio
import ctypes
import gc
import gzip
import hashlib
import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import streamlit as st
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config
from streamlit.runtime import get_instance
from streamlit.runtime.pages_manager import PagesManager

# What changes a file changes its name, so that browsers may keep it for good.
PLOTLY = f"plotly-{version('plotly')}.js"
_KEPT = "public, max-age=31536000, immutable"
# What the pages import, together with all that it imports.
_HEAVY = tuple(f"pages.components.{name}" for name in ("state", "plots", "explorer", "figure", "question", "tray"))
# Seconds between looks at who has left, and between collections of garbage while pages are drawn.
_LOOK_S = 10.0
# Seconds for which messages to browsers are gathered; a page's hundred come as a few handfuls then.
_GATHER_S = 0.005
# What `Wakes` needs of an event loop, which is asyncio's own affair and may be otherwise in a later Python.
_OF_LOOPS = ("_write_to_self", "_read_from_self", "_remove_reader", "_add_reader", "_ssock")

# What the first rebuilding of a network loads, for seconds: done in a job, it would hold up all jobs behind it.
_SLOW = "torch._dynamo"
# Seconds after the imports, which leave the processor to a visitor who has waited for them.
_REST_S = 3.0

_imports = threading.Thread(target=lambda: [importlib.import_module(name) for name in _HEAVY], name="imports")
_ending = threading.Event()

# By name: the gzipped scripts that pages bring.
_scripts: dict[str, bytes] = {}


def routes() -> list[BaseRoute]:
    """What the server answers beside Streamlit's own addresses."""
    return [Route(address("{name}"), _file)]


def address(name: str) -> str:
    """Where browsers find a file on this server."""
    base = config.get_option("server.baseUrlPath").strip("/")
    return f"/{base}/libraries/{name}" if base else f"/libraries/{name}"


def script(name: str, content: str) -> str:
    """The address of a script of ours, a file: with an element it would be sent whenever the element's data change."""
    zipped = gzip.compress(content.encode(), mtime=0)
    name = f"{name}-{hashlib.sha256(zipped).hexdigest()[:16]}.js"
    _scripts[name] = zipped
    return address(name)


def middleware() -> list[Middleware]:
    """What looks at requests before Streamlit does."""
    return [Middleware(Flat)]


class Flat:
    """Send a browser that asks for a page in a folder to the page of that name: there are no folders of pages, and
    Streamlit's files would not be found from there, so that the screen would stay white.
    """

    # First parts of addresses that have folders, of Streamlit's and of ours.
    FOLDERS = ("_stcore", "app", "component", "libraries", "media", "static")

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.app
        if scope["type"] == "http" and scope["method"] == "GET":
            base = [part for part in config.get_option("server.baseUrlPath").split("/") if part]
            parts = [part for part in scope["path"].split("/") if part]
            inside = parts[len(base) :] if parts[: len(base)] == base else []
            wanted = "text/html" in Headers(scope=scope).get("Accept", "")
            if len(inside) > 1 and wanted and inside[0] not in self.FOLDERS:
                query = "?" * bool(scope["query_string"]) + scope["query_string"].decode("latin-1")
                # Relative, because a proxy may have put a folder of its own before it.
                answer = Response(
                    status_code=307, headers={"Location": "../" * (len(inside) - 1) + quote(inside[-1]) + query}
                )
        await answer(scope, receive, send)


def _file(request: Request) -> Response:
    name = request.path_params["name"]
    content = _plotly() if name == PLOTLY else _scripts.get(name)
    if content is None:
        return Response(status_code=404)
    headers = {"Cache-Control": _KEPT, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        content = gzip.decompress(content)
    return Response(content, media_type="text/javascript", headers=headers)


@lru_cache(maxsize=1)
def _plotly() -> bytes:
    """The file of the installed package that draws the figures, in a third of its bytes."""
    package = find_spec("plotly")
    assert package is not None and package.origin is not None, "figures are drawn with it"
    return gzip.compress((Path(package.origin).parent / "package_data" / "plotly.min.js").read_bytes(), 6)


def importing() -> bool:
    """Whether the pages' libraries are being imported, so that a page would show nothing for seconds."""
    return _imports.is_alive()


def wait() -> None:
    """Wait until they are imported."""
    _imports.join()


def _import_slowly() -> None:
    _imports.join()
    if not _ending.wait(_REST_S):
        importlib.import_module(_SLOW)


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """While the server runs."""
    # Else Streamlit would look for the address of the first visit among the files of pages/, and serve those undoored.
    PagesManager.uses_pages_directory = False
    _gather()
    _imports.start()
    slowly = threading.Thread(target=_import_slowly, name="slow imports")
    slowly.start()
    tidying = asyncio.create_task(_tidy())
    try:
        yield
    finally:
        tidying.cancel()
        _ending.set()
        # A thread inside native code while the interpreter ends would abort the process.
        await asyncio.to_thread(slowly.join)


class Wakes:
    """Wakes an event loop once for all that other threads ask of it within `_GATHER_S`.

    A run of a page tells the server's loop of each of its hundred messages. To wake it each time, a byte through a
    socket, cost the page's thread two fifths of its time, and the loop looked at every session a hundred times.
    """

    def __init__(self, loop: asyncio.SelectorEventLoop) -> None:
        self._loop = loop
        self._wake, self._read = loop._write_to_self, loop._read_from_self
        self._awake = False
        loop._remove_reader(loop._ssock.fileno())
        loop._add_reader(loop._ssock.fileno(), self._woken)
        loop._write_to_self = self

    def __call__(self) -> None:
        """Called by any thread after it has queued what it asks."""
        if not self._awake:
            self._awake = True
            self._wake()

    def _woken(self) -> None:
        self._read()
        # The loop wakes then by itself, and finds what was queued meanwhile.
        self._loop.call_later(_GATHER_S, self._sleep)

    def _sleep(self) -> None:
        self._awake = False


def _gather() -> None:
    """Have the server's loop woken so, where it is one of those that select."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop) and all(hasattr(loop, name) for name in _OF_LOOPS):
        Wakes(loop)


async def _tidy() -> None:
    """Collect garbage while pages are drawn, which Streamlit would do after every run, holding up all others; give back
    what sessions held that have left: when one has, and when the last has been forgotten.
    """
    before = 0
    while True:
        await asyncio.sleep(_LOOK_S)
        now = _sessions()
        if now < before:
            await asyncio.to_thread(_give_back)
        elif any(gc.get_count()[1:]):
            await asyncio.to_thread(gc.collect)
        before = now


def _sessions() -> int:
    """Sessions that the server remembers: those that have lost their connection lately may come back."""
    manager = get_instance()._session_mgr
    with suppress(AttributeError):
        # It forgets them only when it is asked for something else.
        manager._session_storage._cache.expire()
    return manager.num_sessions()


def _give_back() -> None:
    # A session holds itself in a circle, and Streamlit collects garbage after runs alone.
    gc.collect()
    # The allocator keeps what is free between what is not.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
