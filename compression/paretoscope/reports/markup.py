"""HTML as text in which whatever was not written as HTML is escaped."""

import base64
import gzip
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from paretoscope.figures import explorer
from paretoscope.figures.explorer import Scene

STYLE = Path(__file__).with_name("style.css")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def safe(text: str | Markup) -> str:
    """Text for a place between tags or in quotes."""
    return text if isinstance(text, Markup) else html.escape(text)


def tag(name: str, *children: str | Markup, **attributes: str | int | float) -> Markup:
    """An element. Of an attribute's name, a last _ is dropped and others are hyphens."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{safe(str(value))}"' for key, value in attributes.items() if value != ""
    )
    return Markup(f"<{name}{given}>{''.join(map(safe, children))}</{name}>")


def join(parts: Iterable[str | Markup]) -> Markup:
    """Parts one after another."""
    return Markup("".join(map(safe, parts)))


def section(title: str, *children: str | Markup) -> Markup:
    """A part of the report under its heading."""
    return tag("section", tag("h2", title), *children)


def table(head: Sequence[str], rows: Iterable[Sequence[str | Markup]], kind: str = "") -> Markup:
    """A table; the first column names the rows."""
    titles = join(tag("th", each, scope="col") for each in head)
    body = join(tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows)
    return tag("div", tag("table", tag("thead", tag("tr", titles)), tag("tbody", body), class_=kind), class_="wide")


# Nothing may be loaded from anywhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_DRAW = """
(async () => {
  const packed = Uint8Array.from(atob(document.getElementById("rows").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const scene = JSON.parse(await new Response(stream).text());
  drawPlots(document.getElementById("plots"), scene, () => {});
  drawTried(document.getElementById("tried"), { board: scene.head.board }, () => {});
})();
"""


def packed(scene: Scene) -> str:
    """The rows of a scene as text that no file grows by more than it must."""
    return base64.b64encode(gzip.compress(scene.data.encode(), 6, mtime=0)).decode()


def page(title: str, parts: Iterable[Markup], scene: Scene) -> str:
    """The file: style, parts, and what draws the explorer with its rows."""
    style = explorer.style() + STYLE.read_text()
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            tag("title", title),
            f"<style>{style}</style></head><body><main>",
            "\n".join(parts),
            f'</main><script type="application/octet-stream" id="rows">{packed(scene)}</script>',
            f"<script>{explorer.script()}{_DRAW}</script></body></html>\n",
        ]
    )
