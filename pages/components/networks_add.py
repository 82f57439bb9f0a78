"""The form of the Networks page that adds a network: its file, its data, how samples are read, and the job."""

import re
from dataclasses import dataclass
from typing import Any

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.data import library as all_data
from paretoscope.data.origin import split_options
from paretoscope.data.sources import origins
from paretoscope.data.sources.named import SETS, Named
from paretoscope.networks.library import names as own_names
from paretoscope.service.additions import Addition
from paretoscope.service.jobs import Job
from paretoscope.service.limits import paths
from paretoscope.service.study import StudyKind
from paretoscope.tasks import tasks

from pages.components import networks, plain, preprocessing, state, visitors
from pages.components.uploads import Uploads, own_name, safe_name

FORM = "add_"
FILES = ("pt2", "onnx", "keras", "h5", "tflite", "psc")
# External data of ONNX files lie beside them.
BESIDE = ("data", "bin")
WEIGHTS = ("safetensors", "pth", "pt")
DATA = ("npz", "npy", "safetensors", "zip", "csv", "parquet", "gz", "idx", "txt", "jsonl")
# Options of reading that name a file, and those that are not typed among them.
OF_FILES, UNREAD = ("classes", "labels"), ("target", "folder")
UPLOAD, NAMED, PATH, NONE, HERE, SET = "Upload", "A name", "A path", "None", "In the library", "A known set"
# What a visitor of any server may name: nothing in it is a place on a disk.
NAME = re.compile(r"(torchvision|timm):[A-Za-z0-9_.]{1,80}")
RECIPE = """program = torch.export.export(model.eval(), (example,),
    dynamic_shapes=({0: torch.export.Dim("n")},))
torch.export.save(program, "mine.pt2")"""


@dataclass(frozen=True)
class Asked:
    """What the form says, once its files are on the disk."""

    wish: Addition
    uploads: Uploads


def allowed_paths() -> bool:
    """Whether this visitor may name files of the server's own disk."""
    return paths(visitors.own_machine())


def form() -> None:
    """All fields; what they hold stays when something fails."""
    st.subheader("Add a network", anchor="add")
    # A line that comes and goes has a place of its own: fields that move are made anew, without a file on its way.
    with st.container():
        if not own_names():
            st.caption("You have none yet: a file is enough, and samples make its figures count.")
    left, right = st.columns(2, gap="large")
    with left:
        _source()
    with right:
        _data()
    _details()
    if problem := st.session_state.get("networks_add_error"):
        st.error(f"Not added: {plain.escape(problem)}")
    st.button(
        "Add the network",
        key="add_network",
        type="primary",
        icon=":material/add:",
        disabled=_running() is not None,
        on_click=_start,
        help="Opened, compared with the original where that can be run, and run over the test samples once; nothing in "
        "a file is executed.",
    )


def _choice(label: str, name: str, options: list[str]) -> str:
    chosen = st.segmented_control(label, options, default=options[0], required=True, key=FORM + name)
    return chosen or options[0]


def _source() -> None:
    kind = _choice("The network", "kind", [UPLOAD, NAMED, *[PATH] * allowed_paths()])
    if kind == UPLOAD:
        st.file_uploader(
            "A file of a network",
            type=[*FILES, *BESIDE],
            accept_multiple_files=True,
            key=FORM + "files",
            help="A .pt2 of torch.export, .onnx (with its external data beside it), .keras, .h5, .tflite, or an "
            "artefact .psc of Paretoscope.",
        )
        with st.expander("Three lines that write a .pt2", icon=":material/code:"):
            st.code(RECIPE, language="python")
            st.caption("model: yours. example: a batch of what it takes. The first axis is left free.")
        return
    if kind == NAMED:
        st.text_input("Name", key=FORM + "named", placeholder="torchvision:resnet18 or timm:mobilevit_xxs")
        st.file_uploader(
            "Its weights",
            type=WEIGHTS,
            key=FORM + "weights",
            help="A state dict, .safetensors or .pth. Without one they are downloaded, where the server has a network.",
        )
        return
    st.text_input(
        "Path on this machine", key=FORM + "path", placeholder="/home/me/mine.onnx or transformers:/home/me/folder"
    )
    st.text_input("Path of its weights", key=FORM + "weights_path", placeholder="only where the source has none")


def _data() -> None:
    names = list(all_data.names())
    kind = _choice("Its samples", "data_kind", [UPLOAD, *[HERE] * bool(names), SET, *[PATH] * allowed_paths(), NONE])
    if kind == UPLOAD:
        st.file_uploader(
            "A file of samples",
            type=DATA,
            accept_multiple_files=True,
            key=FORM + "data_files",
            help="A .npz or .safetensors of arrays x and y (or one array for each input), a .zip of images with a "
            "folder for each class, a .csv or .parquet, IDX files, or a .txt. Labels are optional.",
        )
    elif kind == HERE:
        st.selectbox("Samples of the library", names, key=FORM + "data_name")
        st.caption("They were added with another network, or by the command line.")
    elif kind == SET:
        st.selectbox("Set", list(SETS), key=FORM + "data_set", help=Named.summary)
        st.caption("Read into the library; all but the digits are downloaded first, where they are not here.")
    elif kind == PATH:
        st.text_input("Path of samples", key=FORM + "data_path", placeholder="/home/me/photos")
    else:
        st.caption(
            "Without samples: sizes and latency are measured as of any network, and agreement on random inputs, which "
            "is marked."
        )
    if kind in (UPLOAD, PATH):
        st.text_input(
            "Column or array of the labels",
            key=FORM + "target",
            placeholder="found by itself: y, labels or the class folders",
        )
    if kind == UPLOAD:
        st.text_input(
            "How they are read",
            key=FORM + "reading",
            placeholder="e.g. broken=skip, or drop=id & text=review",
            help=f"NAME=VALUE with & between, as behind a # on the command line; {_reading()}. A file of class names "
            "is uploaded beside the samples.",
        )


def _reading() -> str:
    """All that may be said of how samples are read, once each."""
    found = {name: told for origin in origins if not origin.code for name, told in origin.options.items()}
    return "; ".join(f"{name}: {told}" for name, told in found.items() if name not in UNREAD)


def _details() -> None:
    name, title, task = st.columns(3)
    name.text_input(
        "Name", key=FORM + "name", placeholder=_default_name() or "mine", help="In links and on the command line."
    )
    title.text_input("Title", key=FORM + "title", placeholder="as the name")
    task.selectbox(
        "Judged by",
        ["", *tasks.names()],
        key=FORM + "task",
        format_func=lambda each: tasks.get(each).title if each else "Labels, where they can be classes",
        help="Classification needs labels and one output of classes. Agreement compares any outputs with the "
        "uncompressed network's own, and needs no labels: it is taken by itself for real numbers as labels, and for a "
        "network of one output column.",
    )
    preprocessing.choose(FORM)
    with st.expander("More", icon=":material/tune:"):
        st.text_input(
            "Shapes of inputs",
            key=FORM + "inputs",
            placeholder="x=3x224x224; y=8",
            help="Of one sample; only where a file leaves them open.",
        )


def _default_name() -> str:
    held = st.session_state.get
    kind = held(FORM + "kind", UPLOAD)
    if kind == UPLOAD:
        files = _network_first(held(FORM + "files") or [])
        return own_name(files[0].name) if files else ""
    return own_name(held(FORM + ("named" if kind == NAMED else "path")) or "")


def _network_first(files: list[Any]) -> list[Any]:
    """The file that is a network before those beside it."""
    return sorted(files, key=lambda each: not each.name.lower().endswith(FILES))


def _asked() -> Asked:
    """What the form says; raises CompressionError."""
    held = {name: st.session_state.get(FORM + name) for name in _FIELDS}
    uploads = Uploads()
    kind, weights = held["kind"] or UPLOAD, ""
    if kind == UPLOAD:
        path = uploads.put(_network_first(held["files"] or []))
        source = "" if path is None else str(path)
    elif kind == NAMED:
        source = (held["named"] or "").strip()
        if source and not NAME.fullmatch(source):
            raise CompressionError(f"a name must be torchvision:NAME or timm:NAME; got {source[:80]!r}. Correct it.")
        path = uploads.put([held["weights"]] if held["weights"] else [])
        weights = "" if path is None else str(path)
    else:
        source, weights = (_path(held[each]) for each in ("path", "weights_path"))
    if not source:
        raise CompressionError("a network must be given; the form names none. Choose a file, or type its name.")
    data = ""
    if held["data_kind"] in (None, UPLOAD):
        data = _uploaded_data(held["data_files"] or [], held["reading"] or "", uploads)
    elif held["data_kind"] == HERE:
        data = held["data_name"] or ""
    elif held["data_kind"] == SET:
        data = held["data_set"] or ""
    elif held["data_kind"] == PATH:
        data = _path(held["data_path"])
    wish = Addition(
        name=(held["name"] or "").strip() or _default_name(),
        source=source,
        title=(held["title"] or "").strip(),
        weights=weights,
        inputs=_shapes(held["inputs"] or ""),
        data=data,
        target=(held["target"] or "").strip() if data and held["data_kind"] not in (HERE, SET) else "",
        task=held["task"] or "",
        preprocess=preprocessing.said(FORM),
        uploaded=kind == UPLOAD,
        data_uploaded=bool(data) and held["data_kind"] in (None, UPLOAD),
    )
    return Asked(wish, uploads)


def _uploaded_data(files: list[Any], reading: str, uploads: Uploads) -> str:
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


_FIELDS = (
    *("kind", "files", "named", "weights", "path", "weights_path", "data_kind", "data_files", "data_name"),
    *("data_set", "data_path", "reading", "target", "name", "title", "task", "inputs"),
)


def _path(text: str | None) -> str:
    if not allowed_paths():
        raise CompressionError("files of this server's disk cannot be named by its visitors. Upload the file.")
    return (text or "").strip()


def _shapes(text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes from "x=3x224x224; y=8"; raises CompressionError."""
    found = []
    for part in filter(None, (each.strip() for each in text.split(";"))):
        name, _, sizes = part.rpartition("=")
        numbers = re.split(r"[x,\s]+", sizes.strip())
        if not all(each.isascii() and each.isdecimal() and 0 < int(each) < 2**31 for each in numbers):
            raise CompressionError(f"shapes must be written as x=3x224x224; got {part[:60]!r}. Correct it.")
        found.append((name.strip(), tuple(map(int, numbers))))
    return tuple(found)


def _start() -> None:
    st.session_state.networks_add_error = st.session_state.networks_told = None
    try:
        asked = _asked()
        if not asked.wish.name:
            raise CompressionError("a network must have a name; the form has none. Type one.")
    except (CompressionError, OSError) as error:
        st.session_state.networks_add_error = str(error)
        return
    state.stop("add")
    st.session_state.networks_asked = asked
    state.follow("add", asked.wish, lambda: state.workbench().ask(StudyKind.ADD, asked.wish))


def _running() -> Job | None:
    job = state.job("add")
    return job if job is not None and not job.ended else None


def pace() -> float | None:
    """Seconds between redraws."""
    return 0.5 if _running() is not None else None


def take() -> bool:
    """Take over a job that has ended: its network is looked at, or its error shown; whether there was one."""
    state.keep()
    job = state.job("add")
    if job is None or not job.ended:
        return False
    asked: Asked = st.session_state.pop("networks_asked")
    asked.uploads.remove()
    if job.result is not None:
        networks.added()[job.result] = visitors.name()
        networks.choose(job.result)
        st.session_state.networks_told = f"Added {job.result}: look at what it sees, and whether its figure is right."
        for name in ("name", "title"):
            st.session_state.pop(FORM + name, None)
    elif job.error:
        # Where an upload lay on the server means nothing to anyone.
        st.session_state.networks_add_error = asked.uploads.nameless(job.error)
    state.stop("add")
    return True


def progress() -> None:
    """What is done just now, and a way to stop it."""
    job = _running()
    if job is None:
        return
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(job.progress, text=plain.escape(f"{state.told(job)}{f': {job.step}' if job.step else ''}"))
    button.button("Cancel", key="cancel_add", width="stretch", on_click=_cancel)


def _cancel() -> None:
    state.stop("add")
    if asked := st.session_state.pop("networks_asked", None):
        asked.uploads.remove()
    st.session_state.reload = True
