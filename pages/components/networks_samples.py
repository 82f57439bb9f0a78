"""The fields that name samples in the form that adds a network: those it is measured on, and those it is trained on."""

from dataclasses import dataclass
from typing import Any

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.data import library as all_data
from paretoscope.data.origin import split_options
from paretoscope.data.sources import origins
from paretoscope.data.sources.named import SETS, Named
from paretoscope.service.limits import paths

from pages.components import visitors
from pages.components.uploads import Uploads, safe_name

FORM = "add_"
DATA = ("npz", "npy", "safetensors", "zip", "csv", "parquet", "gz", "idx", "txt", "jsonl")
# Options of reading that name a file, and those that are not typed among them.
OF_FILES, UNREAD = ("classes", "labels"), ("target", "folder")
UPLOAD, PATH, NONE, PART = "Upload", "A path", "None", "A part of them"
HERE, SET = "In the library", "A known set"
FIRST = {"data": UPLOAD, "train": PART}


@dataclass(frozen=True)
class Said:
    """Samples as the fields say them. text: a name of data of the library, or a source; "" for none. read: whether it
    is read now. uploaded: whether it is a copy that goes.
    """

    text: str = ""
    read: bool = False
    uploaded: bool = False


def allowed_paths() -> bool:
    """Whether this visitor may name files of the server's own disk."""
    return paths(visitors.own_machine())


def path_of(text: str | None) -> str:
    """A path that was typed; raises CompressionError where this visitor may name none."""
    if not allowed_paths():
        raise CompressionError("files of this server's disk cannot be named by its visitors. Upload the file.")
    return (text or "").strip()


def choice(label: str, key: str, options: list[str]) -> str:
    chosen = st.segmented_control(label, options, default=options[0], required=True, key=key)
    return chosen or options[0]


def fields() -> None:
    """What it is measured on, and, folded away, what it is trained on."""
    here, anywhere = [HERE] * bool(all_data.names()), [PATH] * allowed_paths()
    # A place of their own: what is below must not move when other fields are shown here.
    with st.container():
        kind = choice("Its samples", FORM + "data_kind", [UPLOAD, *here, SET, *anywhere, NONE])
        if kind == NONE:
            st.caption(
                "Without samples: sizes and latency are measured as of any network, and agreement on random inputs, "
                "which is marked."
            )
        else:
            _named("data", kind)
    if kind == NONE:
        return
    with st.expander("Samples to train on", icon=":material/model_training:"):
        train = choice("Where from", FORM + "train_kind", [PART, UPLOAD, *here, SET, *anywhere])
        if train == PART:
            st.caption("One set is divided into what is trained on and what is measured on, the same each time.")
        else:
            _named("train", train)
    if {kind, train} & {UPLOAD, PATH}:
        st.text_input(
            "Column or array of the labels",
            key=FORM + "target",
            placeholder="found by itself: y, labels or the class folders",
        )


def _named(part: str, kind: str) -> None:
    """The fields of a kind of samples. part: what their keys begin with."""
    key = f"{FORM}{part}_"
    if kind == UPLOAD:
        st.file_uploader(
            "A file of samples" if part == "data" else "A file of samples to train on",
            type=DATA,
            accept_multiple_files=True,
            key=key + "files",
            help="A .npz or .safetensors of arrays x and y (or one array for each input), a .zip of images with a "
            "folder for each class, a .csv or .parquet, IDX files, or a .txt. Labels are optional.",
        )
        st.text_input(
            "How they are read",
            key=key + "reading",
            placeholder="e.g. broken=skip, or drop=id & text=review",
            help=f"NAME=VALUE with & between, as behind a # on the command line; {_reading()}. A file of class names "
            "is uploaded beside the samples.",
        )
    elif kind == HERE:
        st.selectbox("Samples of the library", list(all_data.names()), key=key + "name")
        st.caption("They were added with another network, or by the command line.")
    elif kind == SET:
        st.selectbox("Set", list(SETS), key=key + "set", help=Named.summary)
        st.caption("Read into the library; all but the digits are downloaded first, where they are not here.")
    else:
        st.text_input("Path of samples", key=key + "path", placeholder="/home/me/photos")


def _reading() -> str:
    """All that may be said of how samples are read, once each."""
    found = {name: told for origin in origins if not origin.code for name, told in origin.options.items()}
    return "; ".join(f"{name}: {told}" for name, told in found.items() if name not in UNREAD)


def said(part: str, uploads: Uploads) -> Said:
    """What the fields of a part say, once its files are on the disk; raises CompressionError and OSError."""
    held = {name: st.session_state.get(f"{FORM}{part}_{name}") for name in ("files", "reading", "name", "set", "path")}
    kind = st.session_state.get(f"{FORM}{part}_kind") or FIRST[part]
    if kind == UPLOAD:
        text = uploaded(held["files"] or [], held["reading"] or "", uploads)
        if part == "train" and not text:
            raise CompressionError(f"samples to train on must be given; the form has none. Choose a file, or {PART!r}.")
        return Said(text, read=bool(text), uploaded=bool(text))
    if kind == PATH:
        text = path_of(held["path"])
        return Said(text, read=bool(text))
    return Said({HERE: held["name"], SET: held["set"]}.get(kind) or "")


def uploaded(files: list[Any], reading: str, uploads: Uploads) -> str:
    """The path of uploaded samples with the options of reading; what names a file names one that was uploaded."""
    options = split_options(f"#{reading}")[1] if reading.strip() else {}
    if unread := [name for name in options if name in UNREAD]:
        raise CompressionError(f"{unread[0]} has a place of its own, or is for the command line alone. Leave it out.")
    named = {name: safe_name(options[name]) for name in OF_FILES if name in options}
    held = {safe_name(file.name) for file in files}
    if lost := [name for name in named.values() if name not in held]:
        raise CompressionError(f"a file that is named must be uploaded beside the samples; {lost[0]} is not. Add it.")
    path = uploads.put(sorted(files, key=lambda file: safe_name(file.name) in named.values()))
    if path is None:
        return ""
    options |= {name: str(path.parent / file) for name, file in named.items()}
    return str(path) + "&".join(
        f"{'' if place else '#'}{name}={value}" for place, (name, value) in enumerate(options.items())
    )
