"""The tabs of the Layers page: the graph, the table, curves of sensitivity, suggestions, shares of the steps."""

import streamlit as st
from paretoscope.base.units import format_bytes
from paretoscope.figures import sensitivity as sensitivity_figure
from paretoscope.figures import waterfall as waterfall_figure
from paretoscope.figures.theme import Theme
from paretoscope.measure.sensitivity import GRIDS
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.suggest import default_kb
from paretoscope.search.waterfall import steps_of
from paretoscope.service.study import StudyKind

from pages.components import figure, network_graph, plain, state, widgets
from pages.components.layers import Studies, chosen_layer, look_at, short, shown, waiting, wish
from pages.components.state import Work

SETTINGS = {"sparsity": "Sparsity", "clusters": "Clusters", "bits": "Bits"}
STEP_TITLES = {
    "coding": "Coding alone",
    "simplify": "Simplify",
    "prune": "Prune",
    "share": "Share",
    "quantize": "Quantize",
    "repair": "Repair",
    "code": "File format",
}


def graph(work: Work, known: Studies, look: Theme) -> None:
    """The network as it is wired, each layer by what it loses alone."""
    model = work.view.model
    if known.graph is None:
        waiting("graph", model, "The graph", "Draw the graph", StudyKind.GRAPH, model)
        return
    network_graph.render(known.graph, known.sensitivity, chosen_layer(), look, look_at)
    _curves_waiting(work, known)


def _curves_waiting(work: Work, known: Studies) -> None:
    """What is said of curves that are not complete."""
    model, found = work.view.model, known.sensitivity
    if found is None or len(found.curves) < len(state.statistics(model).layers):
        label = f"What each layer alone costs in {state.words().name}"
        waiting("sensitivity", model, label, "Measure all layers", StudyKind.SENSITIVITY, model)


def table(known: Studies) -> None:
    """All layers with their shares; a click on a line looks at the layer."""
    if known.rows is None:
        st.caption("The layers are being timed.")
        return
    rows = [
        {
            "Layer": short(row.name),
            "Kind": row.kind,
            "Shape": " x ".join(map(str, row.shape)),
            "Parameters": row.parameters,
            "MACs": row.macs,
            "Size": row.bytes / 1000,
            "Share of size": 100 * row.size_share,
            "Share of time": 100 * row.time_share,
        }
        for row in known.rows
    ]
    bar = st.column_config.ProgressColumn
    event = st.dataframe(
        rows,
        key="layer_table",
        hide_index=True,
        height=min(38 + 35 * len(rows), 520),
        on_select="rerun",
        selection_mode="single-row",
        alt="Layers with kind, shape, parameters, multiplications and their shares of size and time",
        column_config={
            "Parameters": st.column_config.NumberColumn(format="localized"),
            "MACs": st.column_config.NumberColumn(format="localized", help="Multiplications for one sample."),
            "Size": st.column_config.NumberColumn(format="%.1f KB", help="Coded without loss."),
            "Share of size": bar(format="%.1f %%", min_value=0, max_value=100),
            "Share of time": bar(
                format="%.1f %%",
                min_value=0,
                max_value=100,
                help="By ONNX Runtime's own profile, fp32, batch 1.",
            ),
        },
    )
    if known.rows_of is not None:
        st.caption(
            f"Shares of time as on another machine: {plain.escape(known.rows_of.told)}. Those of this one follow."
        )
    chosen = event.selection.rows[0] if event.selection.rows else None
    if chosen is not None and known.rows[chosen].name in state.statistics(state.current_model()).layers:
        name = known.rows[chosen].name
        st.button(f"Look at {plain.escape(short(name))}", key="look_at", on_click=look_at, args=(name,))


def sensitivity(work: Work, known: Studies, look: Theme) -> None:
    """Heat map and curves of one setting."""
    if known.sensitivity is None:
        st.markdown(
            f"How much {state.words().name} does the model lose when **one layer alone** is pruned, shared or "
            "quantized?"
        )
        _curves_waiting(work, known)
        return
    setting = widgets.one_of("One layer alone by its", SETTINGS, "heat_setting")
    found = known.sensitivity
    curves = {
        layer: {point.value: (point.correct / point.n, point.kl) for point in curve.get(setting, ())}
        for layer, curve in found.curves.items()
    }
    data = sensitivity_figure.gather(setting, curves, GRIDS[setting], found.correct / found.n, state.words())
    layer = chosen_layer()
    # Many layers stand side by side, over the whole width.
    heat, lines = (st.container(), st.container()) if data.wide else st.columns([3, 2])
    with heat:
        figure.show(sensitivity_figure.draw(data, look, chosen=layer), "plot_heat", alt=data.alt, on_click=look_at)
    with lines:
        figure.show(
            sensitivity_figure.draw_curves(data, look, chosen=layer),
            "plot_curves",
            alt=data.alt,
            on_click=look_at,
        )
        chosen = f"The line in colour is {plain.escape(short(layer))}; a" if layer in found.curves else "A"
        st.caption(
            f"{chosen} click on a layer looks at it. Everything else stays as in the baseline.",
            help="Each layer is measured over the whole range on the test samples, from the activations before it. "
            "Quantization clips at the least squared error here.",
        )
    _curves_waiting(work, known)


def suggestion(work: Work, known: Studies) -> None:
    """From the curves to a recipe, which is then measured."""
    found, model, words = known.sensitivity, work.view.model, state.words()
    if found is None or len(found.curves) < len(state.statistics(model).layers):
        st.markdown("What to do with each layer, for a size or a loss that you name.")
        _curves_waiting(work, known)
        return
    dense = state.workbench().subject(model).baseline.size_bytes
    kind_of, amount = st.columns([2, 3], vertical_alignment="bottom")
    kind = kind_of.segmented_control(
        "At most",
        ["size", "drop"],
        default="size",
        required=True,
        key="wish",
        format_func={"size": "a size", "drop": "a loss"}.get,
    )
    if kind == "drop":
        amount.number_input(f"{words.lost}, {words.points}", 0.0, 50.0, 0.5, 0.1, key="wish_drop", width=220)
    else:
        amount.number_input("Size, KB", 0.1, dense / 1000, default_kb(dense), 1.0, key=f"wish_size_{model}", width=220)
    asked, made = wish(work), known.suggestion
    if made is None:
        waiting("suggest", asked, "A recipe for this wish", "Suggest", StudyKind.SUGGEST, *asked)
        return
    if not made.reached:
        st.warning("The wish is out of reach; this is the nearest.", icon=":material/flag:")
    predicted = words.change(-made.predicted_drop / words.factor)
    if work.view.recipe != made.recipe:
        st.markdown(f"{format_bytes(made.predicted_bytes)}, {predicted} predicted.")
        st.button("Load the suggestion", key="load_suggestion", type="primary", on_click=_load, args=(made.recipe,))
    elif work.exact and work.evaluation is not None:
        record = work.evaluation.record
        change = record.figures.value - record.baseline.value
        st.markdown(
            f"Predicted {format_bytes(made.predicted_bytes)} and {predicted}; measured "
            f"**{format_bytes(record.size.artefact)}** and **{words.change(change)}**."
        )
    st.dataframe(
        _lines(made.recipe),
        hide_index=True,
        alt="The settings of each layer in the suggestion",
    )


def _lines(recipe: Recipe) -> list[dict[str, str]]:
    """The overrides of a recipe as lines of a table: a column for every setting that occurs."""
    occurring = {name for override in recipe.overrides for name, _ in override.settings}
    columns = {**SETTINGS, **{name: name.capitalize() for name in sorted(occurring - set(SETTINGS))}}
    return [
        {"Layer": override.layers}
        | {
            title: shown(name, value) if (value := dict(override.settings).get(name)) is not None else "–"
            for name, title in columns.items()
            if name in occurring
        }
        for override in recipe.overrides
    ]


def _load(recipe: Recipe) -> None:
    state.load_recipe(recipe)
    st.session_state.reload = True


def waterfall(work: Work, known: Studies, look: Theme) -> None:
    """What each step of the current recipe saves and costs."""
    # Training belongs to the whole recipe, so that its steps cannot be taken apart with it.
    recipe, model = work.view.recipe.untrained, work.view.model
    found, steps = known.waterfall, steps_of(recipe)
    if work.view.recipe.recover is not None:
        st.caption("The recipe without its training.")
    if not steps:
        st.markdown("The current recipe has no steps. Move a slider first.")
        return
    if found is None:
        st.markdown("Which step of the recipe saves how much, and costs how much?")
        if work.evaluation is None and work.failed:
            st.caption("The recipe itself could not be measured.")
            return
        label = f"Its {len(steps)} steps, alone and together"
        waiting("waterfall", (model, recipe), label, "Measure the steps", StudyKind.WATERFALL, model, recipe)
        return
    data = waterfall_figure.gather(
        [(STEP_TITLES[c.step], -c.bytes, -c.accuracy) for c in found.contributions],
        found.dense_bytes,
        found.baseline_accuracy,
        state.words(),
    )
    sizes, shares = st.columns(2)
    with sizes:
        figure.show(waterfall_figure.draw_sizes(data, look), "plot_fall_size", alt=data.alt)
    with shares:
        figure.show(waterfall_figure.draw_shares(data, look), "plot_fall_figure", alt=data.alt)
    st.caption(
        f"From {found.evaluations} evaluated recipes; the bars add up exactly.",
        help=f"The steps are taken alone and together, up to {2 ** len(steps)} recipes, each really evaluated; a "
        "step's share is its mean over all orders of the steps (Shapley value).",
    )
