"""What the server does beside the pages: a file that browsers keep, imports before the first visit, memory given back.

Importing this loads nothing large: it runs before the server listens, and at the door.
"""

import asyncio
import ctypes
import gc
import gzip
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

# Its version is in its name, so that a browser may keep it for good.
PLOTLY = f"/libraries/plotly-{version('plotly')}.js"
_KEPT = "public, max-age=31536000, immutable"
# What the pages import, together with all that it imports.
_HEAVY = tuple(f"pages.components.{name}" for name in ("state", "plots", "explorer", "figure", "question", "tray"))
# Seconds between looks at who has left.
_LOOK_S = 10.0

_imports = threading.Thread(target=lambda: [importlib.import_module(name) for name in _HEAVY], name="imports")


def routes() -> list[BaseRoute]:
    """What the server answers beside Streamlit's own addresses."""
    base = config.get_option("server.baseUrlPath").strip("/")
    return [Route(f"/{base}{PLOTLY}" if base else PLOTLY, _plotly)]


def address() -> str:
    """Where browsers find Plotly on this server."""
    base = config.get_option("server.baseUrlPath").strip("/")
    return f"/{base}{PLOTLY}" if base else PLOTLY


def _plotly(request: Request) -> Response:
    zipped = "gzip" in request.headers.get("Accept-Encoding", "")
    headers = {"Cache-Control": _KEPT, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
    content = _zipped() if zipped else gzip.decompress(_zipped())
    return Response(
        content, media_type="text/javascript", headers=headers | ({"Content-Encoding": "gzip"} if zipped else {})
    )


@lru_cache(maxsize=1)
def _zipped() -> bytes:
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
