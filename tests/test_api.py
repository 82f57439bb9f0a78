"""The public API: its names, what each does, and that it comes to the same as the rooms that it puts together."""

import ast
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import own_files
import own_networks
import paretoscope
import pytest
import torch
from paretoscope import api, codec
from paretoscope.base.batch import call
from paretoscope.base.errors import ArtefactError, DataError, ModelError, RecipeError, UnknownNameError
from paretoscope.cli.main import app
from paretoscope.data.arrays import ArrayData
from paretoscope.recipe.presets import presets as known_presets
from typer.testing import CliRunner

NAME = "lenet-300-100"
RECIPE = paretoscope.Recipe.of(sparsity=0.6, clusters=8, bits=8)


@pytest.fixture(scope="module")
def small() -> paretoscope.CompressedModel:
    return paretoscope.compress(NAME, RECIPE)


def test_the_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(paretoscope.__file__).read_text())
    (typed,) = (each for each in tree.body if isinstance(each, ast.If))
    seen = {each.name: line.module for line in typed.body for each in line.names}
    assert seen == {name: f"paretoscope.{place}" for name, place in paretoscope._PLACES.items()}
    assert sorted(seen) == sorted(paretoscope.__all__) and 10 <= len(seen) <= 18
    assert {*paretoscope.__all__, "__version__"} <= set(dir(paretoscope))
    for name in paretoscope.__all__:
        found = getattr(paretoscope, name)
        assert found.__doc__ and found.__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        paretoscope.compres  # noqa: B018


def test_a_star_import_covers_no_builtin_and_no_room() -> None:
    rooms = {path.parent.name for path in Path(paretoscope.__file__).parent.glob("*/__init__.py")}
    assert not set(paretoscope.__all__) & (rooms | set(dir(__builtins__)) | set(__builtins__))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "large"),
    [
        ("import paretoscope", {"torch", "numpy", "typer", "yaml"}),
        ("from paretoscope import Recipe, CompressionError; Recipe.of(bits=8)", {"torch", "numpy", "typer"}),
        ("from paretoscope import open_network; open_network('lenet-5')", {"onnx", "onnxruntime", "sklearn", "plotly"}),
    ],
)
def test_a_name_brings_no_more_than_it_needs(code: str, large: set[str]) -> None:
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not large & set(json.loads(done.stdout))


def test_a_network_is_opened_by_its_name() -> None:
    network = paretoscope.open_network(NAME)
    assert isinstance(network, paretoscope.Network) and network.input_shape == (1, 28, 28)
    assert paretoscope.open_network(NAME) is network
    with pytest.raises(UnknownNameError, match=f"got 'lenet-6'.*{NAME}"):
        paretoscope.open_network("lenet-6")


def test_figures_are_those_of_the_command_line(small: paretoscope.CompressedModel, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(RECIPE.to_json())
    arguments = ["evaluate", NAME, "--recipe", str(file), "--runtime", "none", "--json"]
    told = json.loads(CliRunner().invoke(app, arguments).stdout)
    record = paretoscope.evaluate(small)
    assert isinstance(record, paretoscope.Record) and record.latency is None
    assert json.loads(record.to_json()) == told
    assert paretoscope.evaluate(small, NAME) == paretoscope.evaluate(small, api.open_network(NAME)) == record


def test_a_recipe_is_named_in_any_way(small: paretoscope.CompressedModel, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("version: 7\nbits: 9")
    with pytest.raises(RecipeError):
        paretoscope.compress(NAME, file)
    query = "&".join(f"{name}={value}" for name, value in RECIPE.to_query().items())
    assert codec.write(paretoscope.compress(NAME, query)) == codec.write(small)
    assert paretoscope.compress(NAME, "int8").recipe == known_presets.get("int8").recipe
    assert paretoscope.compress(NAME).recipe == paretoscope.Recipe()
    own = paretoscope.presets(NAME)
    assert {"int8", "tiny"} <= {each.name for each in own}
    assert {each.model for each in own} <= {None, NAME}


def test_what_is_saved_is_what_was_measured(small: paretoscope.CompressedModel, tmp_path: Path) -> None:
    path = tmp_path / "small.psc"
    size = paretoscope.save(small, path)
    assert size == path.stat().st_size == paretoscope.evaluate(small).size.artefact
    again = paretoscope.load(str(path))
    state = again.build().state_dict()
    assert state.keys() == small.state_dict().keys()
    assert all(torch.equal(value, small.state_dict()[name]) for name, value in state.items())
    assert paretoscope.evaluate(again) == paretoscope.evaluate(small)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtefactError):
        paretoscope.load(path)
    with pytest.raises(paretoscope.CompressionError):
        paretoscope.load(tmp_path / "absent.psc")


def test_a_conversion_is_checked_and_written(
    small: paretoscope.CompressedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = paretoscope.convert(small, "onnx", tmp_path / "small.onnx")
    assert checked.passed and checked.n == 797 and checked.size == (tmp_path / "small.onnx").stat().st_size
    with pytest.raises(RecipeError, match="integer activations"):
        paretoscope.convert(small, "onnx-int8", tmp_path / "other")
    with pytest.raises(UnknownNameError):
        paretoscope.convert(small, "caffe", tmp_path / "other")

    from paretoscope.export import formats

    broken = dataclasses.replace(formats.get("onnx"), judge=lambda logits, source: "it is wrong")
    monkeypatch.setitem(formats._added, "onnx", broken)
    with pytest.raises(ModelError, match="onnx failed its check: it is wrong"):
        paretoscope.convert(small, "onnx", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_latency_is_of_the_runtime_that_was_named(small: paretoscope.CompressedModel) -> None:
    timed = paretoscope.evaluate(small, runtime="torch", batch=2)
    assert (timed.latency.runtime, timed.latency.batch, timed.latency.threads) == ("torch", 2, 1)
    assert timed.latency.speedup > 0
    with pytest.raises(UnknownNameError):
        paretoscope.evaluate(small, runtime="caffe")


def test_a_network_of_the_callers_own_is_taken_with_data_that_are_known() -> None:
    zoo = paretoscope.open_network(NAME)
    torch.manual_seed(0)
    module = zoo.bare()
    own = dataclasses.replace(zoo, name="mine", title="Mine", bare=lambda: module, opened=lambda: module)
    record = paretoscope.evaluate(paretoscope.compress(own, RECIPE), own)
    assert record.model == "mine" and record.baseline.value < 0.3
    with pytest.raises(UnknownNameError, match="got 'mine'"):
        paretoscope.evaluate(paretoscope.compress(own, RECIPE))
    with pytest.raises(ModelError, match="must come from the weights"):
        paretoscope.evaluate(paretoscope.compress(own, RECIPE), zoo)


def test_no_more_networks_stay_open_than_is_said() -> None:
    zoo = paretoscope.open_network(NAME)
    for number in range(api.OPEN + 1):
        paretoscope.compress(dataclasses.replace(zoo, title=str(number)), RECIPE)
    assert api._opened.cache_info().currsize == api.OPEN


@pytest.mark.parametrize(
    ("name", "labelled", "task"), [("residual", True, "classification"), ("two", False, "agreement")]
)
def test_a_module_and_arrays_are_a_network(name: str, labelled: bool, task: str, tmp_path: Path) -> None:
    module, data = own_networks.module(name), own_networks.data(name, labelled=labelled)
    network = paretoscope.from_module(module, data, name="mine")
    assert (network.name, network.task) == ("mine", task)
    small = paretoscope.compress(network, paretoscope.Recipe.of(bits=8))
    record = paretoscope.evaluate(small, network)
    assert record.model == "mine" and record.size.artefact < record.baseline.size_bytes
    assert paretoscope.evaluate(paretoscope.compress(network), network).figures.harm == 0
    paretoscope.save(small, tmp_path / "mine.psc")
    again = paretoscope.load(tmp_path / "mine.psc").build()
    with torch.inference_mode():
        assert torch.equal(call(again, data.test), call(small.build(), data.test))
        assert torch.allclose(call(again, data.test), call(module, data.test), atol=0.2)


def test_networks_of_one_name_keep_their_own_data() -> None:
    one, other = (own_networks.data(name) for name in ("regression", "bare"))
    networks = [paretoscope.from_module(own_networks.module(n), d) for n, d in (("regression", one), ("bare", other))]
    digests = [paretoscope.evaluate(paretoscope.compress(each), each).digests.dataset for each in networks]
    assert digests == [one.digest, other.digest]
    with pytest.raises(ModelError, match=r"classification needs one output .* agreement"):
        wrong = paretoscope.from_module(own_networks.module("regression"), one, task="classification")
        paretoscope.evaluate(paretoscope.compress(wrong), wrong)
    with pytest.raises(paretoscope.CompressionError, match="name"):
        paretoscope.from_module(own_networks.module("regression"), one, name="../mine")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda y: y + 1, r"from 0 to 3, .* train part go from 1 to 4\. Subtract 1 from each"),
        (lambda y: -y, r"go from -3 to 0\. Number them"),
        (lambda y: y.float(), r"they are float32 \(n,\)"),
        (lambda y: y[:-1], r"train part has 199 labels and 200 samples"),
    ],
)
def test_labels_of_a_module_must_fit_its_outputs(change: Callable[[torch.Tensor], torch.Tensor], told: str) -> None:
    whole = own_networks.data("bare")
    for odd in (
        ArrayData.of(whole.train, whole.test, whole.calibration, change(whole.train_labels), change(whole.test_labels)),
        ArrayData.of(whole.train, whole.test, whole.calibration, change(whole.train_labels), whole.test_labels),
    ):
        with pytest.raises(DataError, match=told):
            paretoscope.from_module(own_networks.module("bare"), odd)
        assert paretoscope.from_module(own_networks.module("bare"), odd, task="agreement").task == "agreement"


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("bare", lambda y: y / 2, r"labels are float numbers \(float32\)"),
        ("bare", lambda y: torch.stack([y, y], 1), r"labels are int64 \(n, 2\)"),
        ("regression", lambda y: y, r"its outputs are \(n, 1\)"),
    ],
)
def test_labels_that_can_be_no_classes_are_left_out_with_a_warning(
    name: str, change: Callable[[torch.Tensor], torch.Tensor], told: str
) -> None:
    whole = own_networks.data(name)
    labels = [change(torch.arange(n) % 4) for n in (own_networks.TRAIN, own_networks.TEST)]
    odd = ArrayData.of(whole.train, whole.test, whole.calibration, *labels)
    with pytest.warns(UserWarning, match=told):
        network = paretoscope.from_module(own_networks.module(name), odd)
    assert network.task == "agreement"
    assert paretoscope.evaluate(paretoscope.compress(network), network).figures.harm == 0


def test_a_network_is_added_to_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    program, pictures = own_files.write_pictures(tmp_path)
    network = paretoscope.add_network("halves", str(program), data=str(pictures), preprocess="symmetric")
    assert paretoscope.open_network("halves").digest == network.digest != ""
    assert paretoscope.evaluate(paretoscope.compress("halves")).figures.value == 1.0
    with pytest.raises(paretoscope.CompressionError, match="halves"):
        paretoscope.add_network("halves", str(program))
    assert paretoscope.add_network("halves", str(program), replace=True).task == "agreement"
