"""The parts of the Layers page."""

from dataclasses import dataclass

import streamlit as st
from paretoscope.base.units import format_bytes
from paretoscope.figures import sensitivity as sensitivity_figure
from paretoscope.figures import waterfall as waterfall_figure
from paretoscope.figures.theme import Theme
from paretoscope.measure.layers import LayerRow
from paretoscope.measure.sensitivity import GRIDS, Sensitivity
from paretoscope.measure.wording import share_touched, smaller
from paretoscope.model.statistics import ModelStatistics
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.suggest import Suggestion, Target
from paretoscope.search.waterfall import Waterfall, steps_of
from paretoscope.service.jobs import Job
from paretoscope.service.study import StudyKind

from pages.components import failures, figure, plain, state
from pages.components.state import Work

SETTINGS = {"sparsity": "Sparsity", "clusters": "Clusters", "bits": "Bits"}
STUDIES = ("sensitivity", "waterfall", "suggest")
INHERITED = "as the others"
STEP_TITLES = {
    "coding": "Coding alone",
    "simplify": "Simplify",
    "prune": "Prune",
    "share": "Share",
    "quantize": "Quantize",
    "repair": "Repair",
    "code": "File format",
}


@dataclass(frozen=True)
class Studies:
    """What is known beside the evaluation of the recipe. job: the first that still runs.

    measuring: whether the sensitivity of this model is being measured.
    """

    rows: list[LayerRow] | None
    sensitivity: Sensitivity | None
    waterfall: Waterfall | None
    job: Job | None
    measuring: bool

    def pace(self, work: Work) -> float | None:
        """Seconds between redraws."""
        return work.pace or (1.0 if self.job is not None else None)


def studies(work: Work) -> Studies:
    """Start the table of the layers, and say what is known; the longer studies start when they are asked for."""
    bench, model, recipe = state.workbench(), work.view.model, work.view.recipe
    table = state.follow("layers", model, lambda: bench.ask(StudyKind.LAYERS, model))
    jobs = [*(state.job(name) for name in STUDIES), table]
    curves, measuring = bench.known(StudyKind.SENSITIVITY, model), state.job("sensitivity", model)
    if curves is None and measuring is not None:
        curves = measuring.partial
    return Studies(
        rows=table.result,
        sensitivity=curves,
        waterfall=bench.known(StudyKind.WATERFALL, model, recipe.untrained),
        job=next((job for job in jobs if job is not None and not job.ended), None),
        measuring=measuring is not None and not measuring.ended,
    )


def choose(statistics: ModelStatistics) -> None:
    """The layer that the page looks at closely."""
    names = list(statistics.layers)
    key = f"layer_{state.current_model()}"
    if st.session_state.get(key) not in names:
        st.session_state[key] = max(names, key=lambda name: statistics.layers[name].weight.size)
    shape = {name: " x ".join(map(str, layer.weight.shape)) for name, layer in statistics.layers.items()}
    st.selectbox(
        "Layer to look at", names, key=key, format_func=lambda name: f"{short(name)} ({shape[name]})", width=420
    )


def chosen_layer() -> str:
    """The layer that is looked at."""
    return st.session_state[f"layer_{state.current_model()}"]


def _look_at(layer: str) -> None:
    st.session_state[f"layer_{state.current_model()}"] = layer
    st.session_state.reload = True


def short(layer: str) -> str:
    """A layer without the name of its tensor."""
    return layer.removesuffix(".weight")


def shown(setting: str, value: float | str) -> str:
    """The value of a setting in words."""
    if isinstance(value, str):
        return value
    return f"{100 * value:.4g} %" if setting == "sparsity" else f"{value:g}"


def verdict(work: Work) -> None:
    """One line: what the current recipe comes to, and why something could not be measured."""
    failures.render(work)
    if work.evaluation is None:
        st.caption("Not measured." if work.failed else "Measuring the current recipe.")
        return
    record = work.evaluation.record
    change, words = record.figures.value - record.baseline.value, state.words()
    told = "distinguishable from" if record.figures.distinguishable else "indistinguishable from"
    st.markdown(
        f"**{words.value(record.figures.value)}** {words.name} ({words.change(change)}, {told} the baseline), "
        f"**{format_bytes(record.size.artefact)}**, "
        + ", ".join(filter(None, [smaller(record.ratio), share_touched(record.touched)]))
        + ("." if work.exact else " so far; measuring.")
    )


def progress(known: Studies) -> None:
    """The study that runs, and a way to stop it."""
    if known.job is None:
        return
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(known.job.progress, text=plain.escape(state.told(known.job)))
    if known.job is not state.job("layers"):
        button.button("Cancel", key="cancel_study", width="stretch", on_click=_cancel, help="Stop this study.")


def _cancel() -> None:
    for name in STUDIES:
        state.stop(name)


def table(known: Studies) -> None:
    """All layers with their shares; a click on a line looks at the layer."""
    if known.rows is None:
        st.caption("Profiling the layers.")
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
    chosen = event.selection.rows[0] if event.selection.rows else None
    if chosen is not None and known.rows[chosen].name in state.statistics(state.current_model()).layers:
        name = known.rows[chosen].name
        st.button(f"Look at {plain.escape(short(name))}", key="look_at", on_click=_look_at, args=(name,))


def sensitivity(work: Work, known: Studies, look: Theme) -> None:
    """Heat map and curves of one setting."""
    if known.sensitivity is None:
        st.markdown(
            f"How much {state.words().name} does the model lose when **one layer alone** is pruned, shared or "
            "quantized? Each layer is measured over the whole range, on the test samples, starting "
            "from the activations before it."
        )
        if not known.measuring:
            _measure_button(work)
        return
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    setting = left.segmented_control(
        "Setting", list(SETTINGS), key="heat_setting", default="sparsity", format_func=SETTINGS.get
    )
    setting = setting or "sparsity"
    found = known.sensitivity
    complete = len(found.curves) == len(state.statistics(work.view.model).layers)
    if not complete and not known.measuring:
        with right:
            _measure_button(work)
    curves = {
        layer: {point.value: (point.correct / point.n, point.kl) for point in curve.get(setting, ())}
        for layer, curve in found.curves.items()
    }
    data = sensitivity_figure.gather(setting, curves, GRIDS[setting], found.correct / found.n, state.words())
    layer = chosen_layer()
    heat, lines = st.columns([3, 2])
    with heat:
        figure.show(sensitivity_figure.draw(data, look, chosen=layer), "plot_heat", alt=data.alt, on_click=_look_at)
    with lines:
        figure.show(
            sensitivity_figure.draw_curves(data, look, chosen=layer),
            "plot_curves",
            alt=data.alt,
            on_click=_look_at,
        )
        chosen = f"The line in colour is {plain.escape(short(layer))}; a" if layer in found.curves else "A"
        st.caption(
            f"{chosen} click on a layer looks at it. Everything else stays as in the baseline. Quantization clips at "
            "the least squared error here."
        )


def _measure_button(work: Work) -> None:
    model = work.view.model
    st.button(
        "Measure all layers",
        key="measure_sensitivity",
        type="primary",
        on_click=lambda: state.follow(
            "sensitivity", model, lambda: state.workbench().ask(StudyKind.SENSITIVITY, model)
        ),
    )


def suggestion(work: Work, known: Studies) -> None:
    """From the curves to a recipe, which is then measured."""
    found, model, words = known.sensitivity, work.view.model, state.words()
    if found is None or len(found.curves) < len(state.statistics(model).layers):
        st.markdown("A suggestion needs the sensitivity of every layer.")
        if not known.measuring:
            _measure_button(work)
        return
    wish, amount, go = st.columns([2, 2, 1], vertical_alignment="bottom")
    kind = wish.segmented_control(
        "Wanted", ["size", "drop"], default="size", key="wish", format_func={"size": "a size", "drop": "a drop"}.get
    )
    dense = state.workbench().subject(model).baseline.size_bytes
    if kind == "drop":
        amount.number_input(f"{words.lost}, {words.points}", 0.0, 50.0, 0.5, 0.1, key="wish_drop")
    else:
        amount.number_input(
            "Size, KB", 0.1, dense / 1000, min(dense / 1000, round(dense / 20_000, 1)), 1.0, key=f"wish_size_{model}"
        )
    go.button("Suggest", key="suggest", type="primary", width="stretch", on_click=_suggest, args=(kind,))
    job = state.job("suggest")
    made: Suggestion | None = job.result if job is not None else None
    if made is None or st.session_state.get("suggested_for") != model:
        return
    if not made.reached:
        st.warning("The wish is out of reach; this is the nearest.", icon=":material/flag:")
    predicted = words.change(-made.predicted_drop / words.factor)
    if work.view.recipe != made.recipe:
        st.button("Load the suggestion", key="load_suggestion", type="primary", on_click=_load, args=(made.recipe,))
        st.markdown(f"{format_bytes(made.predicted_bytes)}, {predicted} predicted.")
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


def _suggest(kind: str) -> None:
    bench, view = state.workbench(), state.view()
    # Read from the field here: it may have changed after the button was drawn.
    if kind == "drop":
        target = Target(drop=st.session_state.wish_drop)
    else:
        target = Target(bytes=int(1000 * st.session_state[f"wish_size_{view.model}"]))
    base = Recipe(repair=view.recipe.repair, code=view.recipe.code)
    st.session_state.suggested_for = view.model
    key = view.model, target, base
    state.follow("suggest", key, lambda: bench.ask(StudyKind.SUGGEST, view.model, target, base))


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
        st.markdown(
            f"Which step of the recipe saves how much, and costs how much? Its {len(steps)} steps are taken alone and "
            f"together, up to {2 ** len(steps)} recipes, each really evaluated; a step's share is its mean over all "
            "orders of the steps (Shapley value)."
        )
        st.button(
            "Measure",
            key="measure_waterfall",
            type="primary",
            on_click=lambda: state.follow(
                "waterfall", (model, recipe), lambda: state.workbench().ask(StudyKind.WATERFALL, model, recipe)
            ),
        )
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
        f"From {found.evaluations} evaluated recipes. Shapley values: each step's mean contribution over all orders; "
        "the bars add up exactly."
    )
