"""The sidebar: model, the three sliders, presets, advanced settings."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from compression import effects, runtimes
from compression.errors import CompressionError
from compression.presets import Preset, known, movable, presets_of, told_figures
from compression.recipe import (
    CALIBRATIONS,
    CODERS,
    FULL_PRECISION,
    GRANULARITIES,
    IMPORTANCES,
    INTEGER_BITS,
    MAX_CLUSTERS,
    MOVES,
    REST_FORMATS,
    ROUNDINGS,
    SCOPES,
    STARTS,
    WEIGHTINGS,
    Recipe,
)
from compression.workbench import SWEEP_BITS
from compression.zoo import models
from pages.components import exchange, link, notes, plain, state, visitors
from pages.components.state import BATCHES, CONTROLS, THREADS, TIMING, View

SPARSITIES = tuple(percent / 100 for percent in range(100))
OFF = 0
RULES = ("rate", "threshold", "pattern")
PATTERNS = ("2:4", "1:2", "1:4", "4:8", "2:8", "1:8")
NODES = tuple(percent / 100 for percent in range(0, 91, 5))
ENERGIES = (1.0, 0.999, 0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5)
TERNARY = (0.0, 0.3, 0.5, 0.7, 0.9, 1.2)
LARGEST = 2**53 - 1  # of the whole numbers that a browser counts with
CLUSTERS = (OFF, MAX_CLUSTERS, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 5, 4, 3, 2)

WORDS = {
    "global": "all layers together",
    "layer": "each layer alike",
    "rate": "the smallest, by a rate",
    "threshold": "below a threshold",
    "pattern": "N of every M stay",
    "optimal": "optimal grouping",
    "linear": "k-means, linear start",
    "density": "k-means, density start",
    "k-means++": "k-means, k-means++ start",
    "best": "best of the three starts",
    "zero": "to zero",
    "nearest": "to the nearest group",
    "channel": "per output channel",
    "tensor": "per tensor",
    "range": "largest weight",
    "mse": "least squared error",
    "percentile": "percentile of the weights",
    "kl": "least KL divergence",
    "gptq": "with error compensation (GPTQ)",
    "l1": "L1 norm",
    "l2": "L2 norm",
    "bn": "batch norm scale",
    "ans": "ANS",
    "huffman": "Huffman",
    "context": "context mixing",
    "smallest": "context mixing, smallest",
    "fisher": "calibration samples (Fisher)",
    "magnitude": "magnitudes alone",
}
BY_RATE = "by rate and harm"
EXCHANGES = tuple(float(f"{10 ** (place / 4):.2g}") for place in range(-32, 1))


SETTINGS = tuple(Recipe().settings())


def open_view(page: str) -> None:
    """Take the view from the link or from the widgets, whichever changed; call first on every page with controls.

    page: names the page. What cannot be opened is told, and the view stays as it was.
    """
    visitors.let_in()
    link.open_link()
    if st.session_state.get("controls_on") != page:
        # Widgets of the page before have left values behind under the same keys.
        state.load(state.view())
        st.session_state.controls_on = page
    if CONTROLS + "model" in st.session_state:
        try:
            before, new = state.view(), _changed(state.view())
            if new.model != before.model:
                _switch(new)
            elif new.recipe != before.recipe and state.changeable() != before.recipe.untrained:
                state.load_changed(_without_training(before, new))
            else:
                state.change(new)
            st.session_state.control_error = None
        except CompressionError as error:
            st.session_state.control_error = str(error)
    state.write_link()
    link.tell()
    if problem := st.session_state.get("control_error"):
        st.warning(f"The setting was not taken: {plain.escape(problem)}", icon=":material/tune:")
    if told := st.session_state.get("left_out"):
        st.info(plain.escape(told), icon=":material/info:")
    _offer_training()


def _changed(view: View) -> View:
    """The view with what the widgets say; what has no widget stays. Raises CompressionError."""
    held = {name: st.session_state.get(CONTROLS + name) for name in ("model", "rule", *SETTINGS, *TIMING)}
    given = {name: value for name, value in held.items() if value is not None}
    settings = {**view.recipe.settings(), **{name: given[name] for name in SETTINGS if name in given}}
    settings["clusters"] = settings["clusters"] or None
    if (integer := st.session_state.get(CONTROLS + "integer")) is not None:
        settings["activations"] = INTEGER_BITS if integer else FULL_PRECISION
    settings["rarest"] = min(settings["rarest"], (settings["clusters"] or 1) - 1)
    rule = given.get("rule", _rule(view.recipe))
    for name, value in {"sparsity": "rate", "threshold": "threshold", "pattern": "pattern"}.items():
        if rule != value:
            settings[name] = Recipe().settings()[name]
    timing = {name: given.get(name, getattr(view.timing, name)) for name in TIMING}
    model, recipe = given.get("model", view.model), Recipe.of(**settings)
    if (model, recipe) != (view.model, view.recipe):
        st.session_state.left_out = None
    if recipe != view.recipe:
        recipe = recipe.untrained  # training is of one recipe alone
    return View(model, recipe, state.timing_of(model, **timing))


def _without_training(before: View, moved: View) -> View:
    """What was moved of a recipe with training, on what is bearable without."""
    settings = before.recipe.untrained.settings()
    own = {name: value for name, value in moved.recipe.settings().items() if value != settings[name]}
    return replace(moved, recipe=Recipe.of(**{**state.changeable().settings(), **own}))


def _offer_training() -> None:
    """After a change to a preset that does not hold without its training: where it was made, and the way back."""
    before, new, start = st.session_state.get("left_training", (None, None, None))
    if new != state.view():
        return
    worth = known(before.model, before.recipe.untrained)
    named = next((each.title for each in presets_of(before.model) if each.recipe == start), start.describe())
    with st.container(horizontal=True, vertical_alignment="center", key="left_training"):
        st.caption(
            f"Without its training the recipe before gets {100 * worth.accuracy:.1f} % right: your change was made to "
            f"{plain.escape(named)} instead."
        )
        st.button(
            "Back to the trained recipe",
            key="back_to_training",
            type="tertiary",
            icon=":material/undo:",
            on_click=state.load,
            args=(before,),
        )


def _switch(new: View) -> None:
    """To another model, with a recipe of its own; the one that the widgets say stays with the model before."""
    before = state.current_model()
    state.recipes()[before] = new.recipe
    st.session_state.model_before = before
    state.load(replace(new, recipe=state.recipe_of(new.model)))


def _offer_carrying(view: View) -> None:
    """After a change of model: its recipe for this one, without training and without layers that are not here."""
    before = st.session_state.get("model_before")
    if before in (None, view.model):
        return
    recipe, left_out = notes.fitted(view.model, movable(before, state.recipes()[before]))
    if recipe != view.recipe:
        st.button(
            f"Carry over: {plain.escape(recipe.describe())}",
            key="carry_over",
            type="tertiary",
            icon=":material/subdirectory_arrow_right:",
            help=f"The settings that {models.get(before).title} has, on this model.",
            on_click=_carry,
            args=(recipe, left_out),
        )


def _carry(recipe: Recipe, left_out: str | None) -> None:
    state.load_recipe(recipe)
    st.session_state.left_out = left_out


def _rule(recipe: Recipe) -> str:
    prune = recipe.prune
    return "pattern" if prune and prune.pattern else "threshold" if prune and prune.threshold else "rate"


def _slider(
    label: str, key: str, options: tuple, value, format_func, help: str, order=None, disabled: bool = False
) -> None:
    """A slider whose right end compresses most; `order` sorts its options, None for ascending."""
    # A recipe from a link or a point may hold a value between the steps: it gets a step of its own.
    if value not in options:
        options = sorted((*options, value), key=order)
    st.session_state.setdefault(CONTROLS + key, value)
    st.select_slider(
        label,
        options,
        value,
        key=CONTROLS + key,
        format_func=format_func,
        help=help,
        disabled=disabled or _idle(key),
    )


def _choice(label: str, key: str, options: tuple, value, help: str, format_func=None) -> None:
    st.session_state.setdefault(CONTROLS + key, value)
    words = format_func or (lambda option: WORDS.get(option, str(option)))
    st.selectbox(
        label, options, options.index(value), key=CONTROLS + key, format_func=words, help=help, disabled=_idle(key)
    )


def _toggle(label: str, key: str, value: bool, help: str, disabled: bool = False) -> None:
    st.session_state.setdefault(CONTROLS + key, value)
    st.toggle(label, value, key=CONTROLS + key, help=help, disabled=disabled or _idle(key))


def _number(label: str, key: str, value: Any, help: str, **limits: Any) -> None:
    # A link may hold more than anyone would choose here.
    value = min(value, LARGEST)
    for name, widen in {"min_value": min, "max_value": max}.items():
        if name in limits:
            limits[name] = widen(limits[name], value)
    st.session_state.setdefault(CONTROLS + key, value)
    st.number_input(label, value=value, key=CONTROLS + key, help=help, disabled=_idle(key), **limits)


def _idle(key: str) -> bool:
    """Whether a setting can do nothing beside the others: its widget waits until it can."""
    return key not in TIMING and not effects.works(key, state.current_recipe())


def draw() -> None:
    """Draw the controls for the session's view into the sidebar."""
    with st.sidebar:
        _draw(state.view())


def _draw(view: View) -> None:
    settings = view.recipe.settings()
    st.session_state.setdefault(CONTROLS + "model", view.model)
    titles = {entry.name: entry.title for entry in models}
    names = models.names()
    st.selectbox("Model", names, names.index(view.model), key=CONTROLS + "model", format_func=titles.get)
    st.caption(models.get(view.model).summary)
    _offer_carrying(view)

    _slider(
        "Pruning sparsity",
        "sparsity",
        SPARSITIES,
        settings["sparsity"],
        lambda value: f"{100 * value:.4g} %",
        "Share of the weights that become zero, the smallest first.",
        disabled=_rule(view.recipe) != "rate",
    )
    _slider(
        "Shared-weight clusters",
        "clusters",
        CLUSTERS,
        settings["clusters"] or OFF,
        lambda value: str(value or "off"),
        "How many different non-zero values each layer may keep (k-means). Off: any.",
        order=lambda value: -(value or math.inf),
    )
    _slider(
        "Quantization bits",
        "bits",
        tuple(reversed(SWEEP_BITS)),
        settings["bits"],
        lambda value: {32: "32 (off)", 1: "1 (binary)"}.get(value, str(value)),
        "Bits of each weight, or of each entry of the codebook. 32: floats as they are.",
        order=lambda value: -value,
    )

    _toggle(
        "Integer kernels",
        "integer",
        view.recipe.integer,
        "With 8 bits or fewer: what flows between the layers is rounded to 8 bits too, so that the network runs on "
        "integers. Accuracy and latency are then those of the integer network.",
        disabled=settings["bits"] > INTEGER_BITS,
    )

    st.caption("Presets")
    entries = presets_of(view.model)
    for start in range(0, len(entries), 2):
        for column, preset in zip(st.columns(2), entries[start : start + 2], strict=False):
            _preset(column, preset, view)

    # Drawn only while open: a hand on a slider waits for every widget of the page.
    groups = {
        "Architecture": lambda: _architecture(settings),
        "Pruning and sharing": lambda: _pruning(view.recipe, settings),
        "Quantization": lambda: _quantization(settings),
        "Repair without training": lambda: _repair(settings),
        "Advanced": lambda: _advanced(view, settings),
    }
    for title, draw_group in groups.items():
        group = st.expander(title, key=f"group_{title}", on_change="rerun")
        if group.open:
            with group:
                draw_group()
    if count := len(view.recipe.overrides):
        st.caption(f"Overrides for {count} layer{'s' * (count > 1)} or pattern{'s' * (count > 1)}; see Layers.")
        st.button("Remove them", key="remove_overrides", on_click=_remove_overrides, width="stretch")


def _preset(column, preset: Preset, view: View) -> None:
    """Its button, with what was measured of it on this model; one that is no better than guessing says so."""
    figures = known(view.model, preset.recipe)
    column.button(
        f"{preset.title} · chance" if figures and figures.chance else preset.title,
        key=f"preset_{preset.name}",
        help=f"{preset.summary} {told_figures(figures)}" if figures else preset.summary,
        width="stretch",
        wrap=True,
        type="primary" if preset.recipe == view.recipe else "secondary",
        on_click=state.load_recipe,
        args=(preset.recipe,),
    )


def _remove_overrides() -> None:
    recipe = Recipe.of(**{**state.changeable().settings(), "overrides": ()})
    state.load_changed(replace(state.view(), recipe=recipe))


def _architecture(settings: dict[str, Any]) -> None:
    _slider(
        "Nodes removed",
        "nodes",
        NODES,
        settings["nodes"],
        lambda value: f"{100 * value:.4g} %",
        "Share of the channels and neurons of each layer that are cut out: the network really becomes smaller.",
    )
    _choice("Least important by", "importance", IMPORTANCES, settings["importance"], "How channels are ranked.")
    _number(
        "Blocks dropped",
        "blocks",
        settings["blocks"],
        "Residual or transformer blocks removed, those that do least harm first.",
        min_value=0,
        max_value=32,
        step=1,
    )
    _toggle("Fold batch norm", "fold", settings["fold"], "Into the convolution before it.")
    _toggle(
        "Merge linear maps", "merge", settings["merge"], "Two that follow each other become one; changes no answer."
    )
    _slider(
        "Low-rank energy",
        "energy",
        ENERGIES,
        settings["energy"],
        lambda value: "off" if value == 1 else f"{100 * value:.4g} %",
        "Linear and 1x1 layers become two thinner ones that keep this share of their energy, where that saves.",
        order=lambda value: -value,
    )


def _pruning(recipe: Recipe, settings: dict[str, Any]) -> None:
    rule = _rule(recipe)
    _choice(
        "Which weights become zero", "rule", RULES, rule, "A rate, a threshold, or N:M as sparse hardware wants it."
    )
    if rule == "threshold" or st.session_state.get(CONTROLS + "rule") == "threshold":
        _number(
            "Threshold",
            "threshold",
            settings["threshold"],
            "Weights of a smaller magnitude become zero.",
            min_value=0.0,
            step=0.005,
            format="%.4f",
        )
    if rule == "pattern" or st.session_state.get(CONTROLS + "rule") == "pattern":
        patterns = PATTERNS if settings["pattern"] in ("", *PATTERNS) else (*PATTERNS, settings["pattern"])
        _choice("Pattern", "pattern", patterns, settings["pattern"] or "2:4", "Weights kept of every group.")
    _choice("Ranked", "scope", SCOPES, settings["scope"], "Where the smallest weights are looked for.")
    _choice("Groups by", "start", STARTS, settings["start"], "How shared values are found.")
    _number(
        "Drop groups smaller than",
        "population",
        settings["population"],
        "After sharing, values that fewer weights use are dropped.",
        min_value=0,
        step=1,
    )
    _number(
        "Drop the rarest groups",
        "rarest",
        settings["rarest"],
        "After sharing, so many of the rarest values are dropped.",
        min_value=0,
        max_value=MAX_CLUSTERS - 1,
        step=1,
    )
    _choice("Dropped weights go", "moved", MOVES, settings["moved"], "Where the weights of a dropped group go.")


def _quantization(settings: dict[str, Any]) -> None:
    _choice("Scales", "granularity", GRANULARITIES, settings["granularity"], "How many weights share one scale.")
    _choice(
        "Scale from",
        "calibration",
        CALIBRATIONS,
        settings["calibration"],
        "What the scale is chosen by. By rate and harm: finer where errors do harm, coarser where they do not, over "
        "all layers; the bits above are the most that a code may have.",
        lambda name: BY_RATE if name == "rate" else WORDS[name],
    )
    if settings["calibration"] == "rate":
        _by_rate(settings)
    _number(
        "Percentile",
        "percentile",
        settings["percentile"],
        "With the percentile only: magnitudes above it are clipped.",
        min_value=50.1,
        max_value=100.0,
        step=0.1,
    )
    _toggle("Symmetric", "symmetric", settings["symmetric"], "Off: a zero point lets the grid sit off centre.")
    _toggle("First and last layer at 8 bits", "keep_ends", settings["keep_ends"], "They are small and sensitive.")
    _slider(
        "Ternary threshold (1 bit)",
        "ternary",
        TERNARY,
        settings["ternary"],
        lambda value: "off" if value == 0 else f"{value:g} of the mean",
        "With 1 bit: weights below this share of the mean magnitude become zero.",
    )
    _toggle("Power of two (1 bit)", "power_of_two", settings["power_of_two"], "With 1 bit: magnitudes are powers of 2.")


def _by_rate(settings: dict[str, Any]) -> None:
    _slider(
        "Exchange rate",
        "exchange",
        EXCHANGES,
        settings["exchange"],
        lambda value: f"{value:.2g} nats a KB",
        "The harm (mean KL divergence from the baseline's outputs) that saving a kilobyte may cost. One rate for all "
        "layers. To the right: smaller.",
    )
    _choice(
        "Harm by", "weighting", WEIGHTINGS, settings["weighting"], "What tells how much an error of a weight harms."
    )
    exchange.render()


def _repair(settings: dict[str, Any]) -> None:
    _choice(
        "Rounding",
        "rounding",
        ROUNDINGS,
        settings["rounding"],
        "With error compensation, weights that are rounded later make good the errors of those before.",
        lambda name: "each weight to the nearest" if name == "nearest" else WORDS[name],
    )
    _toggle("Correct biases", "bias", settings["bias"], "Each layer's mean output goes back to where it was.")
    _toggle("Re-estimate batch norm", "batchnorm", settings["batchnorm"], "Its statistics are taken anew.")


def _advanced(view: View, settings: dict[str, Any]) -> None:
    _choice("Entropy coder", "coder", CODERS, settings["coder"], "How the codes are written to the file.")
    _choice(
        "Biases and normalisation",
        "rest",
        REST_FORMATS,
        settings["rest"],
        "Format of the parameters that are not compressed otherwise.",
        lambda name: BY_RATE if name == "rate" else name,
    )
    for name, (label, options, value, help, words) in timing_choices(view).items():
        if st.session_state.get(CONTROLS + name) not in options:
            st.session_state.pop(CONTROLS + name, None)  # of the model before
        _choice(label, name, options, value, help, words)
    missing_runtimes()


def timing_choices(view: View) -> dict[str, tuple[str, tuple, Any, str, Callable[[Any], str]]]:
    """Of each setting of a timing its label, options, current value, help, and how an option is written."""
    timing, sizes = view.timing, state.sizes(view.model)
    installed = tuple(runtime.name for runtime in runtimes.runtimes if not runtime.missing)
    return {
        "runtime": (
            "Runtime",
            installed,
            timing.runtime,
            "What runs the model when latency is measured.",
            lambda name: runtimes.runtimes.get(name).title,
        ),
        "batch": ("Batch", BATCHES, timing.batch, "Images a call when latency is measured.", str),
        "threads": ("Threads", THREADS, timing.threads, "Threads of the runtime.", str),
        "size": (
            "Input size",
            sizes,
            timing.size or sizes[0],
            "Height and width of the images when latency is measured. Accuracy is always that of the model's own size; "
            "a model that takes no other says so.",
            lambda size: f"{size} x {size}" + " (own)" * (size == sizes[0]),
        ),
    }


def missing_runtimes() -> None:
    """Which runtimes cannot be chosen, and what to install."""
    for runtime in runtimes.runtimes:
        if runtime.missing:
            st.caption(f"{runtime.title} is not installed: install {runtime.missing} to time in it.")
