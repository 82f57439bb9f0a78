"""The map of where configurations came from, as the text of a Mermaid flowchart: what each is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretoscope.figures.theme import Theme
from paretoscope.search.provenance import Descent, Source

# Settings that an arrow names.
NAMED = 3
# What stands for characters of Mermaid's syntax: its entity codes are shown as they are in many places.
LIKE = str.maketrans(dict(zip('"<>&#;`|\\*_@~[]{}', "”‹›+♯,’¦/∗-°∼()()", strict=True)))
# Shapes of Mermaid by the source of a configuration: what the arrow says is to be seen without reading.
SHAPES = {
    Source.BASELINE: ("([", "])"),
    Source.PRESET: ("[[", "]]"),
    Source.SLIDERS: ("[", "]"),
    Source.SEARCH: ("{{", "}}"),
    Source.TRAINING: ("[/", "/]"),
    Source.UNKNOWN: ("(", ")"),
}


@dataclass(frozen=True, slots=True)
class Node:
    """A configuration. key: of the chart. lines: its name and figures. place: among the colours, None for a preset or
    baseline that is none of them, which is drawn pale."""

    key: str
    lines: tuple[str, ...]
    source: Source
    place: int | None


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one node to what is made of it. known: whether it is known how."""

    start: str
    end: str
    label: str
    known: bool


@dataclass(frozen=True, slots=True)
class Map:
    """Nodes and arrows, and a sentence for those who do not see them."""

    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]
    alt: str


def gather(
    columns: Sequence[tuple[str, str, str, int]], descents: Sequence[Descent], presets: Mapping[str, str], baseline: str
) -> Map:
    """The map of columns, each a model's title, a name, its figures and its place among the colours.

    descents: what each is made of. presets: titles by name. baseline: what the uncompressed network is called.
    """
    many = len({model for model, *_ in columns}) > 1
    nodes: dict[str, Node] = {}
    # Where a column is the baseline or a preset of its model, arrows start there.
    known: dict[tuple[str, str], str] = {}
    for at, ((model, name, figures, place), descent) in enumerate(zip(columns, descents, strict=True)):
        key = f"c{at}"
        lines = (name, figures, model) if many else (name, figures)
        nodes[key] = Node(key, tuple(filter(None, lines)), descent.origin.source, place)
        if descent.origin.source is Source.BASELINE:
            known.setdefault((model, ""), key)
        elif descent.origin.near and not descent.origin.changes:
            known.setdefault((model, descent.origin.near), key)

    def start(model: str, preset: str) -> str:
        found = known.get((model, preset))
        if found is None:
            found = known[model, preset] = f"o{len(known)}"
            title, source = (presets[preset], Source.PRESET) if preset else (baseline, Source.BASELINE)
            nodes[found] = Node(found, (title, model) if many else (title,), source, None)
            if preset:
                arrows.append(Arrow(start(model, ""), found, "preset", True))
        return found

    arrows: list[Arrow] = []
    for at, ((model, *_), descent) in enumerate(zip(columns, descents, strict=True)):
        if descent.origin.source is not Source.BASELINE:
            begin = f"c{descent.parent}" if descent.parent is not None else start(model, descent.preset)
            arrows.append(Arrow(begin, f"c{at}", _label(descent), descent.origin.source is not Source.UNKNOWN))
    told = "; ".join(f"{nodes[each.end].lines[0]} from {nodes[each.start].lines[0]}: {each.label}" for each in arrows)
    # The sentence travels inside the chart's text.
    return Map(tuple(nodes.values()), tuple(arrows), _text(f"Where each configuration came from. {told}."))


def _label(descent: Descent) -> str:
    if descent.trained:
        return "trained"
    if descent.changes:
        moved = [f"{row.label} {row.values[0]} → {row.values[1]}" for row in descent.changes[:NAMED]]
        more = len(descent.changes) - NAMED
        return ", ".join(moved) + (f" and {more} more" if more > 0 else "")
    if descent.parent is not None:
        return "the same, not trained" if descent.origin.source is not Source.TRAINING else "the same"
    if descent.origin.near:
        return "preset, trained" if descent.origin.source is Source.TRAINING else "preset"
    return {
        Source.SLIDERS: "sliders",
        Source.SEARCH: "search",
        Source.TRAINING: "training",
    }.get(descent.origin.source, "a link, or an earlier visit")


def draw(found: Map, look: Theme) -> str:
    """The chart's text."""
    lines = ["flowchart LR"]
    for node in found.nodes:
        opened, closed = SHAPES[node.source]
        text = "<br/>".join(_text(line) for line in node.lines)
        lines.append(f'  {node.key}{opened}"{text}"{closed}')
        colour = look.muted if node.place is None else look.palette[node.place % len(look.palette)]
        dashed = ",stroke-dasharray:4 3" if node.place is None else ""
        lines.append(
            f"  style {node.key} stroke:{colour},stroke-width:2px,fill:{look.surface},color:{look.text}{dashed}"
        )
    for arrow in found.arrows:
        line = "-->" if arrow.known else "-.->"
        lines.append(f'  {arrow.start} {line}|"{_text(arrow.label)}"| {arrow.end}')
    return "\n".join(lines)


def _text(text: str) -> str:
    """A label that Mermaid neither takes for its own syntax nor for Markdown."""
    plain = text.translate(LIKE).replace("%%", "%\u200b%")
    return "\u200b" + plain.replace("://", ":\u200b//").replace("www.", "www\u200b.")
