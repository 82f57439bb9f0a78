"""Every origin opens a small example, and refuses what is absent, cut off or hostile with one message."""

import io
import pickle
import resource
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import own_networks
import pytest
import torch
from paretoscope import codec
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.measure.subject import Subject
from paretoscope.networks import adding
from paretoscope.networks.origins import Options, find_origin, hdf5, modules, origins
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import adding as _adding  # noqa: F401  (registers artefacts)
from paretoscope.tasks import tasks

SIZE = (3, 16, 16)


def _pt2(folder: Path) -> tuple[str, Options]:
    example = (torch.zeros(2, *SIZE),)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(own_networks.module("residual"), example, dynamic_shapes=shapes)
    torch.export.save(program, folder / "net.pt2")
    return str(folder / "net.pt2"), Options()


def _onnx(folder: Path) -> tuple[str, Options]:
    path = folder / "net.onnx"
    torch.onnx.export(own_networks.module("residual"), (torch.zeros(1, *SIZE),), str(path), dynamo=False)
    return str(path), Options()


def _artefact(folder: Path) -> tuple[str, Options]:
    network = own_networks.network("residual")
    subject = Subject.of(network, own_networks.data("residual"), tasks.get("classification")(()))
    (folder / "net.psc").write_bytes(codec.write(subject.compress(Recipe.of(bits=8))))
    return str(folder / "net.psc"), Options()


def _torchvision(folder: Path) -> tuple[str, Options]:
    return "torchvision:squeezenet1_1", Options("random", {"": (3, 64, 64)})


def _timm(folder: Path) -> tuple[str, Options]:
    pytest.importorskip("timm")
    return "timm:test_resnet", Options("random")


def _keras(folder: Path) -> tuple[str, Options]:
    from paretoscope.networks.origins.keras import library

    pytest.importorskip("h5py")
    try:
        keras = library()
    except ModelError as error:
        pytest.skip(str(error))
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(5)]
    keras.Sequential(layers).save(folder / "net.keras")
    return str(folder / "net.keras"), Options()


def _transformers(folder: Path) -> tuple[str, Options]:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=5,
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder / "vit")
    return f"transformers:{folder / 'vit'}", Options()


def _factory(folder: Path) -> tuple[str, Options]:
    return "own_networks:Regression", Options(inputs={"x": (10,)}, code=True)


EXAMPLES: dict[str, Callable[[Path], tuple[str, Options]]] = {
    "torch-export": _pt2,
    "onnx": _onnx,
    "artefact": _artefact,
    "torchvision": _torchvision,
    "timm": _timm,
    "keras": _keras,
    "transformers": _transformers,
    "factory": _factory,
}
FILES = ("torch-export", "onnx", "artefact", "keras")
REFUSED = ("tflite",)


@pytest.fixture(autouse=True)
def own_library(tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))


def test_every_origin_has_an_example_and_words() -> None:
    assert set(origins.names()) == {*EXAMPLES, *REFUSED}
    for each in origins:
        assert each.title and each.summary and each.reference and each.form


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_opens_and_answers_as_the_original(name: str, tmp_path: Path) -> None:
    text, options = EXAMPLES[name](tmp_path)
    assert find_origin(text).name == name
    found = adding.open_source(text, options)
    assert found.origin == name
    # A file's name is no title: many networks are called model.
    assert (found.opened.title == "") is text.endswith((".pt2", ".onnx"))
    assert found.difference is None or found.difference < 1e-4
    assert found.opened.imported.state


@pytest.mark.slow
def test_a_keras_file_that_declares_more_than_it_holds_takes_no_memory(tmp_path: Path) -> None:
    whole = Path(_keras(tmp_path)[0])
    giant = tmp_path / "giant.keras"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(giant, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'"units": 5', b'"units": 3000000'))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"giant\.keras must be a whole file of Keras"):
        adding.open_source(str(giant))
    # Kibibytes: the last layer's weights would be 1.7 GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


@pytest.mark.parametrize("name", FILES)
def test_what_is_absent_is_refused(name: str) -> None:
    suffix = origins.get(name).form.split()[0].removeprefix("FILE")
    with pytest.raises(CompressionError, match=r"none at|not installed"):
        adding.open_source(f"nowhere{suffix}")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_what_is_cut_off_is_refused(name: str, share: float, tmp_path: Path) -> None:
    text, options = EXAMPLES[name](tmp_path)
    data = Path(text).read_bytes()
    Path(text).write_bytes(data[: int(share * len(data))])
    with pytest.raises(CompressionError):
        adding.open_source(text, options)


class _Bomb:
    """Unpickling it would leave a trace."""

    def __reduce__(self):
        return exec, ("import sys; sys.bombed = True",)


def test_weights_that_hold_code_are_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    buffer = io.BytesIO()
    torch.save({"a": _Bomb()}, buffer, pickle_module=pickle)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match="tensors alone"):
        adding.open_source("torchvision:squeezenet1_1", Options(str(path)))
    assert not hasattr(sys, "bombed")


def test_code_of_a_user_is_for_the_command_line() -> None:
    with pytest.raises(ModelError, match="command line alone"):
        adding.open_source("own_networks:Regression", Options(inputs={"x": (10,)}))


def test_weights_for_another_number_of_classes_make_that_many(tmp_path: Path) -> None:
    from paretoscope.base.torchvision_import import import_torchvision
    from safetensors.torch import save_file

    module = import_torchvision().models.squeezenet1_1(num_classes=7)
    save_file(module.state_dict(), tmp_path / "mine.safetensors")
    options = Options(str(tmp_path / "mine.safetensors"), {"": (3, 64, 64)})
    state = adding.open_source("torchvision:squeezenet1_1", options).opened.imported.state
    assert state["classifier.1.weight"].shape[0] == 7


def test_a_name_that_nobody_takes_tells_the_forms() -> None:
    with pytest.raises(ModelError, match=r"FILE\.pt2"):
        find_origin("what is this")


@pytest.mark.parametrize("text", ["/" + "x" * 300 + ".pt2", "/" + "x/" * 3000, "x\0.pt2"])
def test_what_no_file_can_be_called_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="too long or holds a null"):
        find_origin(text)


def test_weights_alone_are_no_network(tmp_path: Path) -> None:
    for name in ("mine.safetensors", "mine.PTH", "pytorch_model.bin"):
        with pytest.raises(ModelError, match=r"a network is more than its weights, .* \(--weights FILE\)"):
            find_origin(str(tmp_path / name))


def test_what_weights_cannot_be_read_from_is_told_without_advice_to_run_it(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"{}")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    for name, told in (
        ("mine.pth", "damaged, or was not"),
        ("model.safetensors.index.json", "index of several"),
    ):
        with pytest.raises(ModelError, match=told) as refused:
            modules.state_of(tmp_path / name)
        assert "weights_only" not in str(refused.value)


def test_tflite_tells_the_way_round(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(b"TFL3")
    with pytest.raises(ModelError, match="made from"):
        adding.open_source(str(tmp_path / "net.tflite"))


def test_sizes_that_an_onnx_file_leaves_open_are_given_by_input(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    axes = {"picture": {0: "n", 2: "height", 3: "width"}}
    module, example = own_networks.module("residual"), (torch.zeros(2, *SIZE),)
    torch.onnx.export(module, example, str(path), dynamo=False, input_names=["picture"], dynamic_axes=axes)
    with pytest.raises(ModelError, match="--input picture="):
        adding.open_source(str(path))
    with pytest.raises(ModelError, match=r"must name an input of the file; got 'image'\. It has picture\."):
        adding.open_source(str(path), Options(inputs={"image": SIZE}))
    for name in ("", "picture"):
        found = adding.open_source(str(path), Options(inputs={name: (3, 12, 12)}))
        assert found.opened.imported.graph.inputs[0].shape == (3, 12, 12) and found.difference is not None


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["layer/weight"] = np.ones((3, 4), np.float32)
        file.attrs[hdf5.CONFIG] = '{"name": "mine"}'
    return tmp_path / "mine.h5"


def test_hdf5_is_read_in_a_process_that_can_be_ended(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hdf5.looked_through(weights_file) == '{"name": "mine"}'
    with zipfile.ZipFile(weights_file.with_suffix(".keras"), "w") as archive:
        archive.write(weights_file, "inner.h5")
    assert hdf5.looked_through(weights_file.with_suffix(".keras"), "inner.h5") == '{"name": "mine"}'
    # A process that may take no time at all stands for one that would never be done.
    monkeypatch.setattr(hdf5, "LOOK_S", 0.0)
    with pytest.raises(ModelError, match=r"mine\.h5 must be a whole file of Keras; reading it comes to no end\. Save"):
        hdf5.looked_through(weights_file)


@pytest.mark.parametrize("link", [("ExternalLink", "/etc/passwd", "/x"), ("SoftLink", "/layer")])
def test_hdf5_that_points_elsewhere_or_is_cut_off_is_refused(link: tuple[str, ...], weights_file: Path) -> None:
    import h5py

    with h5py.File(weights_file, "r+") as file:
        file["other"] = getattr(h5py, link[0])(*link[1:])
    with pytest.raises(ModelError, match=r"mine\.h5 must hold its weights itself; 'other' is a link\. Export"):
        hdf5.looked_through(weights_file)
    weights_file.write_bytes(weights_file.read_bytes()[:900])
    with pytest.raises(ModelError, match=r"whole file of Keras; .*truncated.* Save it again"):
        hdf5.looked_through(weights_file)
