"""Methods: what each slider does to the weights, in words, as a formula and as a picture of a layer."""

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.figures import distribution, ladder, theme
from paretoscope.figures.theme import Theme
from paretoscope.measure.record import Ladder
from paretoscope.measure.size import ladder as measure_ladder
from paretoscope.methods.catalogue import MethodEntry, methods
from paretoscope.recipe.recipe import Recipe

from pages.components import controls, figure, naming, plain, state


@st.cache_resource(max_entries=32, show_spinner=False)
def sizes(model: str, recipe: str) -> Ladder:
    return measure_ladder(state.compressed(model, recipe))


def picture(entry: MethodEntry, model: str, layer: str, recipe: Recipe, look: Theme) -> None:
    """The chosen layer before and after this method alone; or the sizes of the whole model."""
    if entry.picture == "none":
        return
    shown = entry.alone(recipe)
    compressed = state.compressed(model, shown.to_json())
    before = state.statistics(model).layers[layer].weight
    if entry.picture == "size":
        data = ladder.gather(sizes(model, shown.to_json()), state.statistics(model).size_bytes)
        drawn, caption = ladder.draw(data, look, height=240), f"The whole model: {shown.describe()}"
    elif layer not in compressed.weights or compressed.weights[layer].shape != before.shape:
        st.caption(plain.escape(f"{layer} has another shape in the simplified network: {shown.describe()}"))
        return
    else:
        data = distribution.gather(before, compressed.decode(layer), name=layer)
        drawn, caption = distribution.draw(data, look), f"{layer}: {shown.describe()}"
    if not entry.used_by(recipe):
        caption += " (an example: the current recipe does not use it)"
    figure.show(drawn, f"picture_{entry.name}", alt=data.alt)
    st.caption(plain.escape(caption))


def explain(entry: MethodEntry) -> None:
    """Words first, then the formula, its settings and where it comes from."""
    st.markdown(entry.summary)
    st.latex(entry.formula)
    st.markdown("\n".join(f"- **{s.name}** ({s.values}): {s.meaning}" for s in entry.settings))
    st.caption(entry.reference)


look = theme.named(st.context.theme.type)
controls.open_view("methods")
controls.draw()
model, recipe = state.current_model(), state.current_recipe()
st.title("Methods")

layers = state.open_subject(model).statistics.layers

st.markdown(
    f"What each step does to the weights of **{naming.titled(model)}**. Current recipe: "
    f"{plain.escape(recipe.describe())}."
)

largest = max(layers, key=lambda name: layers[name].weight.size)
layer = st.selectbox(
    "Layer in the pictures",
    list(layers),
    index=list(layers).index(largest),
    format_func=lambda name: f"{name} ({' x '.join(map(str, layers[name].weight.shape))})",
    key=f"layer_{model}",
    width=360,
)

for entry in methods:
    st.divider()
    st.subheader(entry.title, anchor=entry.name)
    words, image = st.columns([1, 1], gap="large", vertical_alignment="center")
    with words:
        explain(entry)
    with image:
        try:
            picture(entry, model, layer, recipe, look)
        except CompressionError as error:
            st.caption(f"Not for this model: {plain.escape(error)}")

figure.library()
