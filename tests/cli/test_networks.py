"""Networks of users by the command line: added from files as people have them, shown, measured, exported, removed."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import own_files
import own_networks
import paretoscope
import pytest
from paretoscope.base.batch import parts
from paretoscope.base.libraries import onnxruntime
from paretoscope.base.registry import Registry
from paretoscope.cli.main import app
from paretoscope.data import library as data_library
from paretoscope.networks import library, zoo
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result


@pytest.fixture(autouse=True)
def opened_once() -> None:
    """Not here: a name stands for another network in each library."""


@pytest.fixture(scope="module", autouse=True)
def own_library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path_factory.mktemp("library")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs and samples: halves (pictures), bare (columns)."""
    folder = tmp_path_factory.mktemp("files")
    own_files.write_pictures(folder)
    own_files.write_program(folder / "bare.pt2", "bare")
    data = own_networks.data("bare")
    names = [f"c{number}" for number in range(20)]
    rows = zip(parts(data.test)[0].tolist(), data.test_labels.tolist(), strict=True)
    lines = [",".join([*map(repr, row), str(label)]) for row, label in rows]
    (folder / "table.csv").write_text("\n".join([",".join([*names, "kind"]), *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def halves(folder: Path) -> str:
    done("add", "halves", folder / "halves.pt2", "--data", folder / "pictures.npz", "--preprocess", "symmetric")
    return "halves"


def command(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def done(*arguments: object) -> str:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = command(*arguments)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.output
    return result.stderr


def shown(name: str) -> dict:
    return json.loads(done("show", name, "--json"))


class TestAdd:
    def test_the_figure_comes_with_the_question_that_finds_wrong_preprocessing(self, folder: Path, halves: str) -> None:
        program, data = folder / "halves.pt2", "halves"
        told = done("add", "plain", program, "--data", data)
        question = r"^Added plain: accuracy 50\.0 % \[[0-9., ]+\] on all \d+ test samples: is that what you expect\?"
        assert re.search(question, told)
        assert "--preprocess" in told and shown("halves")["baseline"]["value"] == 1.0
        settings = folder / "settings.json"
        settings.write_text('{"scale": 0.00784313725490196, "mean": [1.0], "std": [1.0]}')
        told = done("add", "settled", program, "--data", data, "--preprocess", settings)
        assert told.startswith("Added settled: accuracy 100 % [")

    def test_an_image_folder_has_a_folder_for_each_class(self, folder: Path) -> None:
        with np.load(folder / "pictures.npz") as arrays:
            for number, (picture, label) in enumerate(zip(arrays["x"][:40], arrays["y"][:40], strict=True)):
                place = folder / "images" / ["upper", "lower"][label]
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture[0]).save(place / f"{number}.png")
        # The folders' order is that of the alphabet, the network's is the other one.
        (folder / "classes.txt").write_text("upper\nlower\n")
        data = f"{folder / 'images'}#classes={folder / 'classes.txt'}"
        told = done("add", "photos", folder / "halves.pt2", "--data", data, "--preprocess", "symmetric")
        assert told.startswith("Added photos: accuracy 100 % [")

    @pytest.mark.parametrize("way", ["option", "mark"])
    def test_a_table_names_its_target(self, way: str, folder: Path) -> None:
        table = folder / "table.csv"
        given = [table, "--target", "kind"] if way == "option" else [f"{table}#target=kind"]
        done("add", f"table-{way}", folder / "bare.pt2", "--data", *given)
        told = shown(f"table-{way}")
        assert told["task"] == "classification" and told["baseline"]["value"] > 0.8

    def test_without_labels_or_by_wish_it_is_compared_with_itself(self, folder: Path) -> None:
        told = done("add", "alone", folder / "bare.pt2", "--data", f"{folder / 'table.csv'}#drop=kind")
        assert "it is compared with its own answers on" in told
        done("add", "wished", folder / "bare.pt2", "--data", "alone", "--task", "agreement")
        assert shown("wished")["task"] == "agreement" and shown("wished")["baseline"] is None
        message = refused("add", "judged", folder / "bare.pt2", "--data", "alone", "--task", "classification")
        assert "labels" in message and "judged" not in library.names()

    @pytest.mark.parametrize(
        ("y", "told"),
        [
            (lambda y: y + 1, r"from 0 to 3, .* go from 1 to 4\. Subtract 1 from each, or .*\(--task agreement\)"),
            (lambda y: y + 3, r"from 0 to 3, .* go from 3 to 6\. Number them as the network's outputs, from 0, or"),
            (lambda y: y - 1, r"whole numbers from -1 to 2\. Store classes as integers from 0, or"),
            (lambda y: y.astype(np.float32), r"whole numbers of a float type \(float32\)\. Store classes as integers"),
            (lambda y: np.where(y == 1, np.nan, y), r"a float type \(float64\), and \d+ that are missing\. Store"),
            (lambda y: np.array([f"kind {each}" for each in range(len(y))]), r"go from 0 to "),
            (lambda y: y[:-1], r"one length; there are x 120, labels 119"),
            (lambda y: y[:-1] / 2, r"one length; there are x 120, labels 119"),
        ],
        ids=["from 1", "beyond", "negative", "whole floats", "missing", "texts", "short", "short floats"],
    )
    def test_labels_that_do_not_fit_are_refused_and_the_remedies_work(
        self, y: Callable[[np.ndarray], np.ndarray], told: str, folder: Path, tmp_path: Path
    ) -> None:
        data = own_networks.data("bare")
        samples, labels = parts(data.test)[0].numpy(), y(data.test_labels.numpy())
        np.savez(tmp_path / "odd.npz", x=samples, y=labels)
        before = library.names(), data_library.names()
        for asked in ([], ["--task", "classification"]):
            message = refused("add", "odd", folder / "bare.pt2", "--data", tmp_path / "odd.npz", *asked)
            assert re.search(told, message) and (library.names(), data_library.names()) == before
        if "one length" not in told:
            done("add", "odd", folder / "bare.pt2", "--data", tmp_path / "odd.npz", "--task", "agreement", "--replace")
            assert shown("odd")["task"] == "agreement"
            done("remove", "odd")
            data_library.remove("odd")

    @pytest.mark.parametrize(
        ("y", "told"),
        [
            (lambda y: y / 3 + 0.1, r"holds float numbers \(float64\), which are no classes; it is left out"),
            (lambda y: np.stack([y / 3, y / 5], 1), r"holds float numbers \(float64\), which are no classes"),
            (lambda y: np.stack([y, y], 1), r"labels are int64 \(n, 2\), not one class a sample; they are left out"),
        ],
        ids=["real", "two real", "two"],
    )
    def test_targets_of_another_kind_are_judged_by_agreement_which_is_told(
        self, y: Callable[[np.ndarray], np.ndarray], told: str, folder: Path, tmp_path: Path
    ) -> None:
        data = own_networks.data("bare")
        np.savez(tmp_path / "real.npz", x=parts(data.test)[0].numpy(), y=y(data.test_labels.numpy()))
        before = library.names(), data_library.names()
        message = refused(
            "add", "real", folder / "bare.pt2", "--data", tmp_path / "real.npz", "--task", "classification"
        )
        assert "labels must be whole numbers" in message and (library.names(), data_library.names()) == before
        result = command("add", "real", folder / "bare.pt2", "--data", tmp_path / "real.npz")
        assert result.exit_code == 0 and re.search(told, " ".join(result.stderr.split()))
        shows = shown("real")
        assert shows["task"] == "agreement" and any(re.search(told, note) for note in shows["notes"])
        done("remove", "real")
        data_library.remove("real")

    def test_one_column_is_no_class_whatever_its_labels(self, tmp_path: Path) -> None:
        program = own_files.write_program(tmp_path / "regression.pt2", "regression")
        x = parts(own_networks.data("regression").test)[0].numpy()
        np.savez(tmp_path / "whole.npz", x=x, y=np.arange(len(x)) % 2)
        np.savez(tmp_path / "prices.npz", x=x, y=x[:, :1])
        np.savez(tmp_path / "floats.npz", x=x, y=np.arange(len(x)) % 2 * 1.0)
        np.savez(tmp_path / "none.npz", x=x)
        for name in ("whole", "prices", "floats"):
            asked = "--data", tmp_path / f"{name}.npz"
            assert "labels" in refused("add", name, program, *asked, "--task", "classification")
            done("add", name, program, *asked)
            assert shown(name)["task"] == "agreement"
            assert any("its outputs are (n, 1); the labels are left out" in note for note in shown(name)["notes"])
        done("add", "unlabelled", program, "--data", tmp_path / "none.npz")
        assert shown("unlabelled")["task"] == "agreement"

    def test_fewer_names_than_outputs_leave_a_note(self, folder: Path, tmp_path: Path) -> None:
        data = own_networks.data("bare")
        names = np.array(["ant", "bee", "cat"])[data.test_labels.numpy() % 3]
        np.savez(tmp_path / "named.npz", x=parts(data.test)[0].numpy(), y=names)
        done("add", "named", folder / "bare.pt2", "--data", tmp_path / "named.npz")
        assert any("name 3 classes, the network has 4 outputs" in note for note in shown("named")["notes"])

    def test_code_of_ones_own_takes_weights_and_a_shape(self, tmp_path: Path) -> None:
        module = own_networks.module("regression")
        save_file(module.state_dict(), tmp_path / "mine.safetensors")
        done("add", "own", "own_networks:Regression", "--input", "x=10", "--weights", tmp_path / "mine.safetensors")
        state = paretoscope.open_network("own").load().state_dict()
        assert all((state[name] == tensor).all() for name, tensor in module.state_dict().items())
        told = shown("own")
        assert (told["inputs"], told["data"]) == ([{"name": "x", "shape": [10], "dtype": "float32"}], "")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["evil/name", "bare.pt2"], "name"),
            (["simple-cnn", "bare.pt2"], "simple-cnn"),
            (["new", "nowhere.pt2"], "none at nowhere.pt2"),
            (["new", "what"], "must be one of FILE.pt2"),
            (["new", "bare.pt2", "--input", "x=a"], "--input must be NAME=SHAPE"),
            (["new", "bare.pt2", "--input", "x=20"], "--input has no effect"),
            (["new", "bare.pt2", "--task", "guessing"], "agreement, classification"),
            (["new", "bare.pt2", "--data", "nowhere.npz"], "nowhere.npz"),
            (["new", "bare.pt2", "--train", "digits"], "need data to measure on"),
            (["new", "bare.pt2", "--preprocess", "sepia"], "imagenet"),
        ],
    )
    def test_what_does_not_fit_is_told_in_one_line_and_leaves_nothing(
        self, arguments: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        before = library.names(), data_library.names()
        assert message in refused("add", *arguments)
        assert (library.names(), data_library.names()) == before

    def test_a_name_is_taken_once(self, folder: Path, halves: str) -> None:
        assert "--replace" in refused("add", halves, folder / "bare.pt2")
        done("add", "changing", folder / "bare.pt2")
        done("add", "changing", folder / "halves.pt2", "--replace")
        assert shown("changing")["inputs"][0]["shape"] == [1, 8, 8]


class TestShow:
    def test_all_of_a_network_of_ones_own(self, folder: Path, halves: str) -> None:
        told = shown(halves)
        assert told["outputs"] == [[2]] and told["parameters"] == 88 and told["origin"] == "torch-export"
        assert told["source"] == str(folder / "halves.pt2") and told["preprocess"]["std"] == [0.5]
        # All but the biases: 2 of the convolution, 2 of the last layer.
        assert told["reach"] == pytest.approx(84 / 88)
        baseline = told["baseline"]
        assert baseline["low"] < baseline["value"] == baseline["high"] == 1.0 and baseline["n"] == 100
        text = done("show", halves)
        assert "recipes act on 95.5% of the parameters" in text
        assert re.search(r"^baseline +accuracy 100\.00% \[96\.\d\d%, 100\.00%\] on 100 test samples$", text, re.M)

    def test_one_of_the_zoo(self) -> None:
        told = shown("lenet-300-100")
        assert told["data"] == "digits" and "source" not in told and 0.99 < told["reach"] < 1

    def test_a_name_that_is_not_there(self) -> None:
        assert "halve" in refused("show", "halve")


class TestOthers:
    def test_models_lists_it(self, folder: Path, halves: str, monkeypatch: pytest.MonkeyPatch) -> None:
        # The zoo's own lines have tests of their own.
        monkeypatch.setattr(zoo, "models", Registry("model"))
        rows = {each["name"]: each for each in json.loads(done("models", "--json"))}
        assert rows[halves]["parameters"] == 88 and rows[halves]["correct"] == 100
        assert f"Yours, from {folder / 'halves.pt2'}." in done("models")

    def test_it_is_evaluated_and_its_artefact_opens_as_another(self, halves: str, tmp_path: Path) -> None:
        told = json.loads(done("evaluate", halves, "--bits", "8", "--runtime", "none", "--json"))
        assert told["model"] == halves and told["accuracy"] == 1.0
        artefact = tmp_path / "halves.psc"
        done("compress", halves, "--bits", "8", "--out", artefact)
        assert artefact.stat().st_size == told["size"]["artefact"]
        told = done("add", "opened", artefact, "--data", halves, "--preprocess", "symmetric", "--replace")
        assert told.startswith("Added opened: accuracy 100 %") and shown("opened")["origin"] == "artefact"

    def test_it_is_exported(self, halves: str, tmp_path: Path) -> None:
        done("export", halves, "--bits", "8", "--format", "onnx", "--out", tmp_path / "halves.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "halves.onnx")
        (outputs,) = session.run(None, {session.get_inputs()[0].name: np.zeros((3, 1, 8, 8), np.float32)})
        assert outputs.shape == (3, 2)

    def test_it_is_removed_and_its_data_stay(self, folder: Path) -> None:
        done("add", "passing", folder / "bare.pt2", "--data", f"{folder / 'table.csv'}#target=kind")
        assert done("remove", "passing") == "Removed passing.\n"
        assert "passing" not in library.names() and "passing" in data_library.names()
        assert "passing" in refused("evaluate", "passing")
        assert "passing" in refused("remove", "passing")
        assert "model of the zoo" in refused("remove", "simple-cnn")
