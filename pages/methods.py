"""Methods: what each slider does to the weights: words and pictures first, the formula last."""

import streamlit as st
from paretoscope.figures import theme
from paretoscope.methods.catalogue import methods

from pages.components import controls, explained, figure, naming, plain, state
from pages.components.link import METHOD

look = theme.named(st.context.theme.type)
controls.open_view("methods", **{METHOD: explained.chosen()})
controls.draw()
model, recipe = state.current_model(), state.current_recipe()
st.title("Methods")
state.open_subject(model)

st.markdown(
    f"What each step does to the weights of **{naming.titled(model)}**. Current recipe: "
    f"{plain.escape(recipe.describe())}."
)
name = explained.contents()
if name == explained.MATRIX:
    explained.matrix(model, recipe, look)
elif name is not None:
    explained.entry(methods.get(name), model, recipe, look)

figure.library()
