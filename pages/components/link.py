"""Links that others wrote: what of them can be opened is, and the rest is told in one message."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st
import torch
from paretoscope import runtimes
from paretoscope.base.errors import CompressionError
from paretoscope.base.text import listed, nearest, shown
from paretoscope.methods.pipeline import unmatched
from paretoscope.model import weights
from paretoscope.networks.zoo import DEFAULT_MODEL
from paretoscope.recipe import effects, link
from paretoscope.recipe.recipe import Recipe
from paretoscope.search import budget
from paretoscope.service import pins

from pages.components import kept, naming, plain, state
from pages.components.state import BATCHES, THREADS, TIMING, View

# What the page Methods explains.
METHOD = "method"
# Parameters of what a session keeps beside its view, and all that are no settings of a recipe.
KEPT = (*budget.QUERY, pins.QUERY, METHOD)
BESIDE = ("model", *TIMING, *KEPT)
# Lines of a message, and characters of a line.
LINES, LONGEST = 5, 240


@dataclass(frozen=True)
class Opened:
    """What a link opens. problems: sentences, of each part that was left out. idle: of settings that do nothing."""

    view: View
    problems: tuple[str, ...]
    idle: tuple[str, ...]


def read(query: Mapping[str, str]) -> Opened:
    """The view that a link describes, as far as it can be read."""
    own = {name: query[name] for name in ("model", *TIMING) if name in query}
    rest = {name: text for name, text in query.items() if name not in own and name not in KEPT}
    problems: list[str] = []
    model = own.get("model", DEFAULT_MODEL)
    if not naming.known(model):
        guess = _guess(model, naming.names())
        model = DEFAULT_MODEL
        problems.append(f"There is no model {shown(own['model'])}.{guess} {naming.called(model)} was opened.")
    timing = {}
    if "runtime" in own:
        try:
            timing["runtime"] = _runtime(own["runtime"])
        except CompressionError as error:
            problems.append(str(error))
    for name, allowed in {"batch": BATCHES, "threads": THREADS, "size": state.sizes(model)}.items():
        if name in own and own[name] in map(str, allowed):
            timing[name] = int(own[name])
        elif name in own:
            problems.append(_count(name, own[name], allowed))
    found = link.read(rest, beside=BESIDE)
    recipe, strangers = _for_layers(model, found.recipe)
    problems += [*found.problems, *strangers]
    idle = [each for each in effects.problems(found.query) if each not in effects.notes(recipe)]
    return Opened(
        View(model, recipe if found.query else None, state.timing_of(model, **timing)),
        tuple(problems),
        tuple(idle),
    )


def _runtime(name: str) -> str:
    if name not in runtimes.runtimes:
        raise CompressionError(f"There is no runtime {shown(name)}.{_guess(name, runtimes.runtimes.names())}")
    runtimes.runtimes.get(name).require()
    return name


def _guess(name: str, known: tuple[str, ...]) -> str:
    return nearest(name, known, 1) or f" Choose one of {listed(known, 8)}."


def _count(name: str, text: str, allowed: tuple[int, ...]) -> str:
    guess = ""
    if text.isascii() and text.isdecimal() and len(text) < 16:
        guess = f" Did you mean {min(allowed, key=lambda value: abs(value - int(text)))}?"
    return f"{name} in a link must be one of {', '.join(map(str, allowed))}; got {shown(text)}.{guess}"


def _for_layers(model: str, recipe: Recipe) -> tuple[Recipe, list[str]]:
    """The recipe without overrides for layers that the model has not, and a sentence for each of those."""
    if not recipe.overrides:
        return recipe, []
    with torch.device("meta"):
        names = weights.names(naming.find(model).bare())
    lost = unmatched(recipe, names)
    short = [name.removesuffix(".weight") for name in names]
    title = naming.called(model)
    if not lost:
        return recipe, []
    kept = tuple(each for each in recipe.overrides if each not in lost)
    told = [f"{title} has no layer {shown(each.layers)}.{nearest(each.layers, short, 1)}" for each in lost]
    return Recipe.of(**{**recipe.settings(), "overrides": kept}), told


def open_link() -> None:
    """Take the view from the address bar when it holds one that this session did not write; call before the widgets."""
    query = state.new_link()
    if query is None or set(query) == {METHOD}:
        return
    opened = read(query)
    state.load(opened.view)
    left_out = kept.open_link(query)
    twice = [name for name in query if len(st.query_params.get_all(name)) > 1]
    problems = (
        *opened.problems,
        *left_out,
        *(f"{shown(name)} stands twice; the last one was taken." for name in twice),
    )
    st.session_state.link_told = opened.view, problems, opened.idle


def tell() -> None:
    """What of the last link was left out, or does nothing, until the view is another one."""
    view, problems, idle = st.session_state.get("link_told", (None, (), ()))
    if view != state.view():
        return
    if problems:
        st.warning("Left out of what the link says:" + _lines(problems), icon=":material/link_off:")
    if idle:
        st.caption("Without effect in the link:" + _lines(idle))


def _lines(sentences: tuple[str, ...]) -> str:
    """Sentences as markdown: one beside its heading, several below it, of too many the number."""
    if len(sentences) == 1:
        return f" {plain.escape(sentences[0], LONGEST)}"
    lines = [plain.escape(each, LONGEST) for each in sentences[:LINES]]
    more = len(sentences) - LINES
    lines += [f"And {more:,} more."] * (more > 0)
    return "".join(f"\n- {each}" for each in lines)
