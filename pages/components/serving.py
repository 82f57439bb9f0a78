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

import streamlit as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from streamlit import config
from streamlit.runtime import get_instance
from streamlit.runtime.pages_manager import PagesManager

# What changes a file changes its name, so that browsers may keep it for good.
PLOTLY = f"plotly-{version('plotly')}.js"
_KEPT = "public, max-age=31536000, immutable"
# What the pages import, together with all that it imports.
_HEAVY = tuple(f"pages.components.{name}" for name in ("state", "plots", "explorer", "figure", "question", "tray"))
# Seconds between looks at who has left.
_LOOK_S = 10.0

_imports = threading.Thread(target=lambda: [importlib.import_module(name) for name in _HEAVY], name="imports")


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


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """While the server runs."""
    # Else Streamlit would look for the address of the first visit among the files of pages/, and serve those undoored.
    PagesManager.uses_pages_directory = False
    _imports.start()
    tidying = asyncio.create_task(_tidy())
    try:
        yield
    finally:
        tidying.cancel()
        # A thread inside native code while the interpreter ends would abort the process.
        await asyncio.to_thread(_imports.join)


async def _tidy() -> None:
    """Give back what sessions held that have left: when one has, and when the last has been forgotten."""
    before = 0
    while True:
        await asyncio.sleep(_LOOK_S)
        now = _sessions()
        if now < before:
            await asyncio.to_thread(_give_back)
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
