"""A client of a dashboard that speaks Streamlit's websocket protocol, with the installed package's messages.

It does what a browser does to the server, and draws nothing: it keeps large messages and says which it has, so that
the server sends a reference in place of them; repeats fragments that ask for it; carries the link of the address bar;
and knows the figures of the KPI row. Each client is a browser of its own.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

# Streamlit's root container of the page; the sidebar's is another.
MAIN = 0
# How our components name the server's files that they load.
FILE = re.compile(r"/libraries/[\w.-]+")


@dataclass(slots=True)
class Received:
    """What came to a browser: the bytes on the wire, a reference counted as the reference alone."""

    messages: int = 0
    bytes: int = 0

    def since(self, before: "Received") -> "Received":
        return Received(self.messages - before.messages, self.bytes - before.bytes)

    def copy(self) -> "Received":
        return Received(self.messages, self.bytes)


@dataclass(slots=True)
class _Kept:
    """A message that the browser keeps. used: the number of the run that used it last."""

    content: bytes
    used: int
    fragment: str


@dataclass(slots=True)
class Browser:
    """One tab. port: of 127.0.0.1. query: the link that it opens, without "?". path: of the page, "" for the first.

    figures: texts of the metrics on the page, by their place. on_figures: called when one has come. first: when the
    first skeleton, the first other element of the page's main part, the first figure and plot came, by name. files:
    paths on the server that the page's own components name.
    """

    port: int
    query: str
    path: str = ""
    received: Received = field(default_factory=Received)
    figures: dict[tuple[int, ...], str] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    on_figures: Callable[[], None] = lambda: None
    running: bool = False
    lost: bool = False
    _socket: ClientConnection | None = None
    _page: str = ""
    _fragments: list[str] = field(default_factory=list)
    _run: int = 0
    _oldest: int = 2
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _sliders: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    _values: dict[str, WidgetState] = field(default_factory=dict)
    _timers: dict[str, tuple[float, asyncio.Task]] = field(default_factory=dict)
    _reader: asyncio.Task | None = None

    async def open(self) -> None:
        """Connect, and ask for the page."""
        address = f"ws://127.0.0.1:{self.port}/_stcore/stream"
        self._socket = await connect(address, subprotocols=["streamlit"], max_size=None, open_timeout=60)
        self._reader = asyncio.create_task(self._read())
        await self._rerun()

    async def close(self) -> None:
        """Leave, as a tab that is closed."""
        self._stop_timers()
        if self._socket is not None:
            with suppress(ConnectionClosed):
                await self._socket.close()
        if self._reader is not None:
            await self._reader

    async def move(self, key: str, word: str) -> None:
        """Move the slider of this key to the value that is written as `word`."""
        identity, words = self._sliders[key]
        if word not in words:
            raise SystemExit(f"the slider {key} must offer {word}; it offers {words}.")
        self._values[identity] = WidgetState(id=identity)
        self._values[identity].string_array_value.data.append(word)
        await self._rerun()

    async def _rerun(self, fragment: str = "") -> None:
        message = BackMsg()
        run = message.rerun_script
        run.query_string, run.page_script_hash, run.page_name = self.query, self._page, self.path
        run.fragment_id, run.is_auto_rerun = fragment, bool(fragment)
        run.cached_message_hashes.extend(self._kept)
        run.context_info.url = f"http://127.0.0.1:{self.port}/{self.path}"
        run.context_info.color_scheme = "light"
        run.widget_states.widgets.extend(self._values.values())
        assert self._socket is not None
        with suppress(ConnectionClosed):
            await self._socket.send(message.SerializeToString())

    async def _read(self) -> None:
        assert self._socket is not None
        with suppress(ConnectionClosed):
            async for content in self._socket:
                self.received.messages += 1
                self.received.bytes += len(content)
                message = ForwardMsg.FromString(content)
                self._take(message, content)
        self.lost = True

    def _take(self, message: ForwardMsg, content: bytes) -> None:
        kind = message.WhichOneof("type")
        if kind == "ref_hash":
            kept = self._kept[message.ref_hash]
            kept.used = self._run
            place = tuple(message.metadata.delta_path)
            message = ForwardMsg.FromString(kept.content)
            message.metadata.delta_path[:] = place
            kind = message.WhichOneof("type")
        elif message.metadata.cacheable and message.hash not in self._kept:
            self._kept[message.hash] = _Kept(content, self._run, message.delta.fragment_id)
        match kind:
            case "new_session":
                self._begin(message)
            case "delta":
                self._draw(message)
            case "script_finished":
                self._end(message)
            case "page_info_changed":
                self.query = message.page_info_changed.query_string
            case "auto_rerun":
                self._repeat(message.auto_rerun.fragment_id, message.auto_rerun.interval)
            case "stop_auto_rerun":
                for each in message.stop_auto_rerun.fragment_ids:
                    self._stop_timer(each)

    def _begin(self, message: ForwardMsg) -> None:
        new = message.new_session
        self.running, self._fragments = True, list(message.metadata.run.fragment_ids)
        self._page = new.page_script_hash
        if not self._fragments:
            self._stop_timers()
            self._oldest = new.config.max_cached_message_age or self._oldest

    def _end(self, message: ForwardMsg) -> None:
        self.running = False
        if message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            return
        self._run += 1
        for name, kept in list(self._kept.items()):
            redrawn = not self._fragments or kept.fragment in self._fragments
            if redrawn and self._run - kept.used > self._oldest:
                del self._kept[name]

    def _draw(self, message: ForwardMsg) -> None:
        place = tuple(message.metadata.delta_path)
        if message.delta.WhichOneof("type") != "new_element":
            return
        element = message.delta.new_element
        kind = element.WhichOneof("type")
        self.figures.pop(place, None)
        if place[0] == MAIN and kind != "empty":
            self.first.setdefault("skeleton" if kind == "skeleton" else "element", time.monotonic())
        if kind == "metric":
            self.figures[place] = element.metric.body
            if any(letter.isdigit() for letter in element.metric.body):
                self.first.setdefault("figure", time.monotonic())
            self.on_figures()
        elif kind == "slider":
            self._sliders[element.slider.id.rsplit("-", 1)[-1]] = element.slider.id, list(element.slider.options)
            self._hold(element)
        elif kind in ("selectbox", "checkbox", "number_input"):
            self._hold(element)
        elif kind == "bidi_component":
            if "plot" in element.bidi_component.component_name:
                self.first.setdefault("plot", time.monotonic())
            self.files.update(FILE.findall(element.bidi_component.json + element.bidi_component.js_content))

    def _hold(self, element: Element) -> None:
        """Keep the value of a widget, as the browser does of each that it draws: it sends all with every run."""
        kind = element.WhichOneof("type")
        widget = getattr(element, kind)
        if widget.id in self._values and not widget.set_value:
            return
        state = self._values[widget.id] = WidgetState(id=widget.id)
        match kind:
            case "slider":
                chosen = [widget.options[int(at)] for at in widget.default]
                state.string_array_value.data.extend(widget.raw_value if widget.set_value else chosen)
            case "selectbox":
                state.string_value = widget.raw_value if widget.set_value else widget.options[widget.default]
            case "checkbox":
                state.bool_value = widget.value if widget.set_value else widget.default
            case "number_input":
                state.double_value = widget.value if widget.set_value else widget.default

    def _repeat(self, fragment: str, seconds: float) -> None:
        if fragment in self._timers and self._timers[fragment][0] == seconds:
            return
        self._stop_timer(fragment)
        self._timers[fragment] = seconds, asyncio.create_task(self._again_and_again(fragment, seconds))

    async def _again_and_again(self, fragment: str, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._rerun(fragment)

    def _stop_timer(self, fragment: str) -> None:
        if fragment in self._timers:
            self._timers.pop(fragment)[1].cancel()

    def _stop_timers(self) -> None:
        for fragment in list(self._timers):
            self._stop_timer(fragment)
