"""The Networks page without a browser: the list, the form, what fails, and what a visitor may name."""

import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import own_files
import pytest
from paretoscope.base.errors import CompressionError
from paretoscope.data import library as all_data
from paretoscope.data.origin import split_options
from paretoscope.measure import subject
from paretoscope.networks import library
from streamlit.testing.v1 import AppTest

from pages.components import networks_samples, plain, preprocessing, state, visitors
from pages.components.uploads import Uploads, own_name, safe_name

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty library, and no network of another test in memory."""
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    yield tmp_path
    for name in ("mine", "halves", "evil"):
        state.workbench().forget(name)


def open_page() -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    return page.switch_page("pages/networks.py").run()


def settle(page: AppTest, seconds: float = 120) -> AppTest:
    """Run the page again until no job of it runs, as its fragments do in a browser."""
    deadline = time.monotonic() + seconds
    while any(not job.ended for _, job in page.session_state["jobs"].values()) or "add" in page.session_state["jobs"]:
        assert time.monotonic() < deadline, "the job did not end"
        page.run()
    return page


def add(page: AppTest, source: Path | str, data: Path | str = "", name: str = "mine") -> AppTest:
    page.segmented_control(key="add_kind").set_value("A path").run()
    page.text_input(key="add_path").set_value(str(source))
    page.segmented_control(key="add_data_kind").set_value("A path" if data else "None").run()
    if data:
        page.text_input(key="add_data_path").set_value(str(data))
    page.text_input(key="add_name").set_value(name)
    page.button(key="add_network").click().run()
    return settle(page)


def said(page: AppTest) -> str:
    return " ".join(each.value for each in (*page.markdown, *page.caption, *page.info, *page.warning))


@pytest.mark.slow
def test_a_network_is_added_judged_mended_and_removed(own_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "quick_samples", lambda seconds, n: 10)
    program, pictures = own_files.write_pictures(own_library)
    page = add(open_page(), program, pictures, "halves")
    assert not page.exception and not page.error
    assert "Added halves" in page.success[0].value
    assert library.names() == ("halves",)
    settle(page).run()
    # The first figure is of ten samples; the page goes on to all of them by itself.
    assert "on 100 test samples" in said(page) and "50.0 %: is that what you expect?" in said(page)
    assert next(iter(page.dataframe[0].value["Name"])) == "halves"

    settle(page.button(key="rank_presets").click().run()).run()
    assert "of the train part" in said(page)
    settle(settle(page.button(key="take_preset").click().run()).run()).run()
    assert "**100 %: is that what you expect?**" in said(page)

    page.button(key="remove_network").click().run()
    assert library.names() == ("halves",)
    page.button(key="keep_network").click().run()
    page.button(key="remove_network").click().run()
    page.button(key="remove_network_sure").click().run()
    assert library.names() == () and "Removed halves" in page.success[0].value


@pytest.mark.slow
def test_what_fails_is_told_and_the_form_keeps_what_it_holds(own_library: Path) -> None:
    nasty = "[sign in](http://evil.example)"
    broken = own_library / "broken.pt2"
    broken.write_bytes(b"PK\x03\x04 no archive")
    page = add(open_page(), broken)
    page.text_input(key="add_title").set_value(nasty).run()
    assert not page.exception and library.names() == ()
    assert "Not added:" in page.error[0].value
    assert page.text_input(key="add_path").value == str(broken) and page.text_input(key="add_name").value == "mine"
    page.text_input(key="add_path").set_value("")
    page.button(key="add_network").click().run()
    assert "a network must be given" in page.error[0].value


@pytest.mark.slow
def test_labels_that_do_not_fit_are_told_and_the_form_has_the_remedy(own_library: Path) -> None:
    program, pictures = own_files.write_pictures(own_library)
    with np.load(pictures) as arrays:
        np.savez(pictures, x=arrays["x"], y=arrays["y"] + 1)
    page = add(open_page(), program, pictures, "halves")
    assert not page.exception and library.names() == ()
    assert "Not added: labels must be from 0 to 1" in page.error[0].value and "agreement" in page.error[0].value
    page.selectbox(key="add_task").set_value("agreement")
    page.button(key="add_network").click().run()
    settle(page)
    assert library.get("halves").network.task == "agreement" and not page.error


@pytest.mark.slow
def test_samples_to_train_on_and_their_target_are_given_apart(own_library: Path) -> None:
    program, pictures = own_files.write_pictures(own_library)
    with np.load(pictures) as arrays:
        for name, place in (("test", slice(0, 80)), ("train", slice(80, 200))):
            np.savez(own_library / f"{name}.npz", x=arrays["x"][place], kind=arrays["y"][place])
    page = open_page()
    page.segmented_control(key="add_data_kind").set_value("A path").run()
    page.segmented_control(key="add_train_kind").set_value("A path").run()
    page.text_input(key="add_train_path").set_value(str(own_library / "train.npz"))
    page.text_input(key="add_target").set_value("kind")
    add(page, program, own_library / "test.npz", "halves")
    assert not page.exception and not page.error
    network = library.get("halves").network
    assert network.task == "classification" and network.train not in ("", network.data)
    assert [len(all_data.open(each).labels) for each in (network.data, network.train)] == [80, 120]


@pytest.mark.slow
def test_a_name_takes_random_weights_and_shapes(own_library: Path) -> None:
    page = open_page()
    page.segmented_control(key="add_kind").set_value("A name").run()
    page.text_input(key="add_named").set_value("torchvision:squeezenet1_1")
    page.toggle(key="add_random").set_value(True)
    page.text_input(key="add_inputs").set_value("3x64x64")
    page.segmented_control(key="add_data_kind").set_value("None").run()
    page.text_input(key="add_name").set_value("mine")
    settle(page.button(key="add_network").click().run())
    assert not page.exception and not page.error
    assert library.get("mine").network.inputs[0].shape == (3, 64, 64)


@pytest.mark.slow
def test_titles_from_outside_are_text(own_library: Path) -> None:
    nasty = "[sign in](http://evil.example) **x**"
    own_files.write_program(own_library / "mine.pt2", "regression")
    page = open_page()
    page.text_input(key="add_title").set_value(nasty).run()
    add(page, own_library / "mine.pt2")
    assert not page.exception and library.get("mine").network.title == nasty
    assert page.subheader[0].value == plain.escape(nasty)
    assert "random numbers" in said(page)
    page.button(key="open_network").click().run()
    assert page.session_state["view"].model == "mine"
    for name in ("explore", "layers", "export"):
        assert "agreement and harm are those on random inputs" in said(
            settle(page.switch_page(f"pages/{name}.py").run())
        )


@pytest.mark.slow
def test_visitors_of_a_shared_server_name_no_path(own_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "own_machine", lambda: False)
    page = open_page()
    options = {key: page.segmented_control(key=key).options for key in ("add_kind", "add_data_kind")}
    assert all("A path" not in [getattr(each, "content", each) for each in found] for found in options.values())
    page.segmented_control(key="add_kind").set_value("A name").run()
    for name in ("/etc/passwd", "os:getcwd", "transformers:/etc", "torchvision:../x"):
        page.text_input(key="add_named").set_value(name)
        page.button(key="add_network").click().run()
        assert plain.escape("a name must be torchvision:NAME or timm:NAME") in page.error[0].value


@pytest.mark.slow
def test_a_damaged_network_is_told_and_can_be_removed(own_library: Path) -> None:
    own_files.write_program(own_library / "mine.pt2", "regression")
    add(open_page(), own_library / "mine.pt2")
    for weights in (own_library / "library").rglob("network.json"):
        weights.write_text("{}")
    state.workbench().forget("mine")
    library._network.cache_clear()
    page = open_page()
    page.session_state["networks_chosen"] = "mine"
    page.session_state["networks_generation"] = 99
    page.run()
    assert not page.exception and "a network in the library must be whole" in page.error[0].value
    page.button(key="remove_network").click().run()
    page.button(key="remove_network_sure").click().run()
    assert not page.exception and library.names() == ()


def test_names_of_uploaded_files_are_safe() -> None:
    assert safe_name("../../etc/passwd") == "passwd"
    assert safe_name("C:\\x\\a b#c.pt2") == "a_b_c.pt2"
    assert safe_name("...") == "file" and safe_name("") == "file"
    assert len(safe_name("x" * 500 + ".npz")) <= 105 and safe_name("x" * 500 + ".npz").endswith(".npz")
    assert own_name("My Net (1).pt2") == "my-net-1" and own_name("torchvision:resnet18") == "resnet18"


class File:
    """A file as Streamlit gives it."""

    def __init__(self, name: str, data: bytes = b"") -> None:
        self.name, self.size, self._file = name, len(data), io.BytesIO(data)
        self.seek, self.read = self._file.seek, self._file.read


def test_how_uploaded_samples_are_read_is_said_without_a_path_of_the_server() -> None:
    uploads = Uploads()
    read = networks_samples.uploaded
    path, options = split_options(read([File("names.txt"), File("a.zip")], "broken=skip & classes=names.txt", uploads))
    assert path.endswith("a.zip") and options == {"broken": "skip", "classes": str(Path(path).parent / "names.txt")}
    assert read([File("a.zip")], " ", uploads).endswith("a.zip") and read([], "", uploads) == ""
    for reading in ("classes=/etc/passwd", "classes=../../etc/passwd", "labels=a.idx", "folder=/etc", "target=y", "x"):
        with pytest.raises(CompressionError):
            read([File("a.zip")], reading, uploads)


def test_uploads_lie_beside_each_other_and_go_with_their_object(tmp_path: Path) -> None:
    uploads = Uploads()
    path = uploads.put([File("net.onnx", b"graph"), File("net.onnx.data", b"weights")])
    assert path is not None and path.read_bytes() == b"graph"
    assert (path.parent / "net.onnx.data").read_bytes() == b"weights"
    assert uploads.put([]) is None
    other = uploads.put([File("net.onnx", b"other")])
    assert other is not None and path.read_bytes() == b"graph" and other.read_bytes() == b"other"
    with pytest.raises(CompressionError, match="different names; two are"):
        uploads.put([File("net.onnx", b"1"), File("net.onnx", b"2")])
    assert uploads.nameless(f"{path} must be whole; ({other})") == "net.onnx must be whole; (net.onnx)"
    folder = uploads.folder
    del uploads
    assert not folder.exists()


def test_own_preprocessing_is_written_down_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {
        "f_preprocess": "own",
        "f_scale": "1/4",
        "f_mean": "1",
        "f_std": "1, 2,x",
        "f_resize": 0,
        "f_share": 1.0,
    }
    monkeypatch.setattr(preprocessing.st, "session_state", held)
    assert preprocessing.said("f_", Uploads()) == '{"share": 1.0, "scale": 0.25, "mean": [1.0], "std": [1.0, 2.0, "x"]}'
    held["f_preprocess"] = "file"
    with pytest.raises(CompressionError, match="a file of settings must be given"):
        preprocessing.said("f_", Uploads())
    held["f_preprocess_files"] = [File("mine.json", b'{"preset": "imagenet", "order": "bgr"}')]
    assert json.loads(preprocessing.said("f_", Uploads()))["order"] == "bgr"
    for content, told in (
        (b"{", "preprocessing must be JSON; mine.json"),
        (b'{"mena": 1}', "mena"),
        (b'{"tokenizer": "../../etc/passwd"}', "a tokenizer must be given beside the settings"),
        (b'{"tokenizer": "other.json"}', "other.json"),
    ):
        held["f_preprocess_files"] = [File("mine.json", content)]
        uploads = Uploads()
        with pytest.raises(CompressionError, match=re.escape(told)) as refused:
            preprocessing.said("f_", uploads)
        assert str(uploads.folder) not in str(refused.value)
    held["f_preprocess"] = "imagenet"
    assert preprocessing.said("f_", Uploads()) == "imagenet"


# A page, and what stands on it once it shows the network.
SHOWN = {
    "explore": "Agreement",
    "layers": "Layer to look at",
    "latency": "Latency",
    "recover": "Epochs, at most",
    "export": "agreement",
    "methods": "Methods",
    "networks": "judged by",
}


@pytest.mark.slow
def test_every_page_opens_for_a_network_of_two_inputs_without_labels(own_library: Path) -> None:
    program = own_files.write_program(own_library / "mine.pt2", "two")
    samples = own_files.write_arrays(own_library / "samples.npz", "two", labelled=False)
    page = add(open_page(), program, samples)
    assert not page.error
    page.button(key="open_network").click().run()
    for name, shown in SHOWN.items():
        page = settle(page.switch_page(f"pages/{name}.py").run())
        assert not page.exception and not page.error, name
        told = said(page)
        everything = [*page.metric, *page.selectbox, *page.number_input, *page.title]
        told += " ".join(getattr(each, "label", "") or str(each.value) for each in everything)
        assert shown in told, name
        # The methods are told for all networks, among them those that classify images.
        assert name == "methods" or not {"accuracy", "images", "classes"} & set(re.findall("[a-z]+", told.lower())), (
            name
        )
