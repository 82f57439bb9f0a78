"""What the page Methods shows of one method, or of a matrix that is followed through all of them."""

from dataclasses import replace

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.base.text import nearest, shown
from paretoscope.base.units import format_bytes
from paretoscope.figures import distribution, ladder, walk
from paretoscope.figures.theme import Theme
from paretoscope.figures.walk import Walk
from paretoscope.measure.record import Ladder
from paretoscope.measure.size import ladder as measure_ladder
from paretoscope.methods.catalogue import MethodEntry, Section, found, methods
from paretoscope.networks.zoo import DEFAULT_MODEL, models
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.steps.code import Coder

from pages.components import figure, kept, learn, naming, plain, state
from pages.components.link import METHOD

MATRIX = "matrix"
TITLE = "One matrix, step by step"
LESSON = presets.get("deep-compression")
OWN = "what the sliders say"


def chosen() -> str:
    """The method that is explained, or MATRIX: what the link says, or what was chosen last. Call before `open_view`."""
    asked = st.query_params.get(METHOD)
    if asked is not None and asked != st.session_state.get("method_linked"):
        known = asked in (MATRIX, *methods.names())
        learn.choose(asked if known else st.session_state.get("method", MATRIX))
        if not known:
            guess = nearest(asked, methods.names(), 1) or " Choose one below."
            st.session_state.method_problem = f"There is no method {shown(asked)}.{guess}"
    st.session_state.method_linked = st.session_state.setdefault("method", MATRIX)
    return st.session_state.method


def contents() -> str | None:
    """The search and the contents; what is to be explained, None where nothing has the words."""
    if problem := st.session_state.get("method_problem"):
        st.warning(plain.escape(problem), icon=":material/link_off:")
    words = st.text_input(
        "Search",
        key="method_search",
        placeholder="Search: zeros, Huffman, scale ...",
        icon=":material/search:",
        label_visibility="collapsed",
        width=360,
    )
    names = [entry.name for entry in found(words)]
    if all(word in TITLE.lower() for word in words.lower().split()):
        names = [MATRIX, *names]
    if not names:
        st.info(f"Nothing here explains “{plain.escape(words, 80)}”. Fewer words, or parts of words, find more.")
        return None
    now = st.session_state.method if st.session_state.method in names else None
    st.session_state.method_contents = now
    st.pills("Contents", names, key="method_contents", format_func=_title, on_change=_choose)
    return now or names[0]


def _title(name: str) -> str:
    return TITLE if name == MATRIX else methods.get(name).title


def _choose() -> None:
    # A second click on what is shown takes the mark away, and shows the matrix.
    st.session_state.method = st.session_state.method_contents or MATRIX
    st.session_state.method_problem = None


def matrix(model: str, recipe: Recipe, look: Theme) -> None:
    """One weight matrix of a network of the zoo on its way through a recipe."""
    model = model if model in models else DEFAULT_MODEL
    st.subheader(TITLE, anchor=MATRIX)
    own = st.segmented_control("Recipe", (LESSON.title, OWN), default=LESSON.title, key="walk_recipe") == OWN
    followed = recipe if own else LESSON.recipe
    seen = _walk(model, followed.to_json())
    rows, columns = seen.stages[0].matrix.shape
    st.markdown(
        f"{plain.escape(seen.name)} of **{naming.titled(model)}**: {rows} x {columns} weights, compressed alone. "
        "Blue is above zero, orange below, and zero has no colour."
    )
    largest = float(abs(seen.stages[0].matrix).max()) or 1.0
    before = seen.stages[0]
    for place, stage in enumerate(seen.stages):
        words, image = st.columns([1, 2], gap="medium", vertical_alignment="center")
        with words:
            st.markdown(f"**{place}. {_name(stage.step)}**  \n{stage.told}")
            coded = f", coded {format_bytes(stage.coded)}" if place else ""
            st.markdown(f":primary[**{format_bytes(stage.plain)}**]{coded}")
        with image:
            figure.show(walk.draw(stage, largest, look), f"stage_{place}", alt=stage.alt)
    st.markdown(f"**{len(seen.stages)}. {_name('code')}: why does Huffman gain here?**")
    if seen.codes is None:
        st.caption(
            "Weights are floats still, which hardly repeat: move the sliders for clusters or bits to have codes."
        )
    else:
        st.markdown(walk.why(seen.codes))
        figure.show(walk.draw_codes(seen.codes, look), "codes", alt=seen.codes.alt)
    st.markdown("\n".join(_bytes(seen, before.plain)))


def _bytes(seen: Walk, before: int) -> list[str]:
    """The bytes of the coders, as a table."""
    lines = ["| Coder | Bytes of this matrix | Smaller than floats by |", "| --- | ---: | ---: |"]
    for coder, size in seen.written.items():
        lines.append(f"| {Coder(coder).label} | {size:,} | {before / size:.1f}x |")
    return lines


def _name(step: str) -> str:
    return next((entry.title for entry in methods if entry.section == step), "Floats")


@st.cache_data(max_entries=64, show_spinner=False)
def _walk(model: str, recipe: str) -> Walk:
    layers = state.statistics(model).layers
    return walk.gather(walk.chosen(layers), Recipe.from_json(recipe))


def entry(entry: MethodEntry, model: str, recipe: Recipe, look: Theme) -> None:
    """Words and the picture first, then the settings, where to try it, and at last the formula and where it is from."""
    st.subheader(entry.title, anchor=entry.name)
    words, image = st.columns(2, gap="large")
    with words:
        st.markdown(entry.summary)
    fits = True
    with image:
        try:
            picture(entry, model, recipe, look)
        except CompressionError as error:
            fits = False
            st.caption(f"Not for this model: {plain.escape(error)}")
    st.markdown("\n".join(f"- **{s.name}** ({s.values}): {s.meaning}" for s in entry.settings))
    if fits:
        _try(entry, recipe)
    st.caption("In symbols")
    st.latex(entry.formula)
    st.caption(entry.reference)


def _try(entry: MethodEntry, recipe: Recipe) -> None:
    """Where this method can be tried: the page that trains, or Explore."""
    tried = entry.example if entry.example != Recipe() else recipe
    page = "recover" if entry.section is Section.RECOVER else "explore"
    query = {**replace(state.view(), recipe=tried).to_query(), **kept.to_query()}
    label = f"Try it: {plain.escape(tried.describe())}"
    st.page_link(f"pages/{page}.py", label=label, icon=":material/play_arrow:", query_params=query)


def picture(entry: MethodEntry, model: str, recipe: Recipe, look: Theme) -> None:
    """A layer before and after this method alone; or the sizes of the whole model."""
    if entry.picture == "none":
        return
    shown = entry.alone(recipe)
    compressed = state.compressed(model, shown.to_json())
    if entry.picture == "size":
        data = ladder.gather(_sizes(model, shown.to_json()), state.statistics(model).size_bytes)
        drawn, caption = ladder.draw(data, look, height=240), f"The whole model: {shown.describe()}"
    else:
        layer = _layer(model)
        before = state.statistics(model).layers[layer].weight
        if layer not in compressed.weights or compressed.weights[layer].shape != before.shape:
            st.caption(plain.escape(f"{layer} has another shape in the simplified network: {shown.describe()}"))
            return
        data = distribution.gather(before, compressed.decode(layer), name=layer)
        drawn, caption = distribution.draw(data, look), f"{layer}: {shown.describe()}"
    if not entry.used_by(recipe):
        caption += " (an example: the current recipe does not use it)"
    figure.show(drawn, f"picture_{entry.name}", alt=data.alt)
    st.caption(plain.escape(caption))


def _layer(model: str) -> str:
    """The layer in the picture."""
    layers = state.statistics(model).layers
    largest = max(layers, key=lambda name: layers[name].weight.size)
    return st.selectbox(
        "Layer in the picture",
        list(layers),
        index=list(layers).index(largest),
        format_func=lambda name: f"{name} ({' x '.join(map(str, layers[name].weight.shape))})",
        key=f"layer_{model}",
    )


@st.cache_resource(max_entries=32, show_spinner=False)
def _sizes(model: str, recipe: str) -> Ladder:
    return measure_ladder(state.compressed(model, recipe))
