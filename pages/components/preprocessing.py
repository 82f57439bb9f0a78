"""How samples become what a network takes, as fields: a preset, or values of one's own."""

import json
from collections.abc import Sequence
from typing import Any

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.data.preprocess import Interpolation, Order, Preprocess, presets

from pages.components.uploads import Uploads

SUGGESTED, OWN, FILE = "", "own", "file"
NAMES = ("resize", "share", "interpolation", "scale", "mean", "std", "order", "standardise", "padding")


def choose(form: str) -> None:
    """The choice, and the fields of one's own values below it. form: what the widgets' keys begin with."""
    chosen = st.selectbox(
        "Samples are brought to it by",
        [SUGGESTED, *presets.names(), OWN, FILE],
        key=form + "preprocess",
        format_func=_title,
        help="For pictures: their size, the scale of pixels, mean and standard deviation. Arrays of floats are taken "
        "as they are. A mistake here is the commonest reason for a figure that is too low.",
    )
    if chosen in presets:
        st.caption(presets.get(chosen).summary)
    elif chosen == OWN:
        _own(form)
    elif chosen == FILE:
        st.file_uploader(
            "A file of settings",
            type="json",
            accept_multiple_files=True,
            key=form + "preprocess_files",
            help='As --preprocess takes it, e.g. {"preset": "imagenet", "order": "bgr"}; beside it the tokenizer.json '
            "that it names, where it names one.",
        )


def _title(name: str) -> str:
    if name == SUGGESTED:
        return "What its file suggests, or pixels from 0 to 1"
    return {OWN: "Values of my own", FILE: "A file of settings"}.get(name) or presets.get(name).title


def _own(form: str) -> None:
    one, two, three, four = st.columns(4)
    one.number_input(
        "Shorter side, pixels", 0, 8192, 0, key=form + "resize", help="0: the network's size over the share."
    )
    one.number_input("Share of it that is kept", 0.05, 1.0, 1.0, 0.005, key=form + "share", format="%.3f")
    two.text_input("Scale", "1/255", key=form + "scale", help="(pixel x scale - mean) / standard deviation.")
    two.selectbox("Interpolation", [each.value for each in Interpolation], 1, key=form + "interpolation")
    three.text_input("Mean", "0", key=form + "mean", help="One number, or three with commas between.")
    three.selectbox("Order of channels", [each.value for each in Order], key=form + "order", format_func=str.upper)
    four.text_input("Standard deviation", "1", key=form + "std")
    four.toggle("Standardise columns of a table", key=form + "standardise")


def said(form: str, uploads: Uploads) -> str:
    """What the fields say: a preset's name, settings as JSON, or "" for what the source suggests.

    What a field holds is checked where it is read: here it is only written down. Raises CompressionError and OSError
    for a file of settings.
    """
    chosen = st.session_state.get(form + "preprocess", SUGGESTED)
    if chosen == FILE:
        return _of_file(st.session_state.get(form + "preprocess_files") or [], uploads)
    if chosen != OWN:
        return chosen or ""
    held: dict[str, Any] = {name: st.session_state.get(form + name) for name in NAMES}
    settings = {name: value for name, value in held.items() if value not in (None, "", False, 0)}
    for name in ("mean", "std"):
        if name in settings:
            settings[name] = [_number(each) for each in str(settings[name]).split(",")]
    if "scale" in settings:
        settings["scale"] = _number(settings["scale"])
    return json.dumps(settings)


def _of_file(files: Sequence[Any], uploads: Uploads) -> str:
    # A tokenizer is longer than the settings that name it.
    path = uploads.put(sorted(files, key=lambda each: each.size))
    if path is None:
        raise CompressionError("a file of settings must be given; the form has none. Choose it, or another way.")
    try:
        return json.dumps(Preprocess.from_file(path, beside=True).to_json())
    except CompressionError as error:
        raise CompressionError(uploads.nameless(str(error))) from None


def _number(text: object) -> float | str:
    """A number, also as "1/255"; the text where it is none, which is refused with its name."""
    over, slash, under = str(text).partition("/")
    try:
        return float(over) / float(under) if slash else float(over)
    except (ValueError, ZeroDivisionError):
        return str(text)
