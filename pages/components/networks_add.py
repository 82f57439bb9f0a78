"""The form of the Networks page that adds a network: its file, how samples are brought to it, and the job."""

import re
from dataclasses import dataclass
from typing import Any

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.networks.library import names as own_names
from paretoscope.networks.origins.origin import RANDOM
from paretoscope.service.additions import Addition
from paretoscope.service.jobs import Job
from paretoscope.service.study import StudyKind
from paretoscope.tasks import tasks

from pages.components import networks, networks_samples, plain, preprocessing, state, visitors
from pages.components.networks_samples import FORM, PATH, UPLOAD, allowed_paths, choice, path_of
from pages.components.uploads import Uploads, own_name

FILES = ("pt2", "onnx", "keras", "h5", "tflite", "psc")
# External data of ONNX files lie beside them.
BESIDE = ("data", "bin")
WEIGHTS = ("safetensors", "pth", "pt")
NAMED = "A name"
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
        networks_samples.fields()
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


def _source() -> None:
    kind = choice("The network", FORM + "kind", [UPLOAD, NAMED, *[PATH] * allowed_paths()])
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
        st.toggle(
            "Random weights", key=FORM + "random", help="To look at sizes and times alone: nothing is downloaded."
        )
        return
    st.text_input(
        "Path on this machine", key=FORM + "path", placeholder="/home/me/mine.onnx or transformers:/home/me/folder"
    )
    st.text_input(
        "Path of its weights",
        key=FORM + "weights_path",
        placeholder="a file, or random",
    )


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
        if held["random"] and held["weights"]:
            raise CompressionError("weights are those of a file or random; the form has both. Take one of them away.")
        path = uploads.put([held["weights"]] if held["weights"] else [])
        weights = RANDOM if held["random"] else "" if path is None else str(path)
    else:
        source, weights = (path_of(held[each]) for each in ("path", "weights_path"))
    if not source:
        raise CompressionError("a network must be given; the form names none. Choose a file, or type its name.")
    data, train = networks_samples.said("data", uploads), networks_samples.said("train", uploads)
    wish = Addition(
        name=(held["name"] or "").strip() or _default_name(),
        source=source,
        title=(held["title"] or "").strip(),
        weights=weights,
        inputs=_shapes(held["inputs"] or ""),
        data=data.text,
        train=train.text,
        target=(held["target"] or "").strip() if data.read or train.read else "",
        task=held["task"] or "",
        preprocess=preprocessing.said(FORM, uploads),
        uploaded=kind == UPLOAD,
        data_uploaded=data.uploaded,
        train_uploaded=train.uploaded,
    )
    return Asked(wish, uploads)


_FIELDS = (
    *("kind", "files", "named", "random", "weights", "path", "weights_path"),
    *("target", "name", "title", "task", "inputs"),
)


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
