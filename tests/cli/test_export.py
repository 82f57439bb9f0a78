"""`python -m paretoscope export`: what it writes is what it printed, and what fails its check is not written."""

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from paretoscope import codec
from paretoscope.base import files
from paretoscope.base.errors import CompressionError
from paretoscope.base.libraries import onnxruntime
from paretoscope.cli.main import app
from paretoscope.export import formats
from paretoscope.export.output import write, write_folder
from paretoscope.networks import zoo
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from typer.testing import CliRunner

MODEL = "lenet-300-100"


@pytest.fixture(autouse=True)
def without_tflite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its conversions take up to a minute each; test_convert has one of each model."""
    monkeypatch.setattr("paretoscope.export.base.find_spec", lambda name: None if "litert" in name else find_spec(name))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)], prog_name="python -m paretoscope")


def test_one_format_is_one_file_with_the_figures_printed(tmp_path: Path) -> None:
    result = run(MODEL, "--bits", 4, "--format", "onnx", "--out", tmp_path / "a.onnx", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["files"] == {str(tmp_path / "a.onnx"): (tmp_path / "a.onnx").stat().st_size}
    assert told["size"] == (tmp_path / "a.onnx").stat().st_size
    entry = zoo.models.get(MODEL)
    data = zoo.load_data(entry.dataset, entry.input_shape)
    (logits,) = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"images": data.test_images.numpy()})
    assert told["correct"] == (logits.argmax(1) == data.test_labels.numpy()).sum()
    assert told["n"] == 797 and told["differing"] == 0 and told["passed"] is True and told["problem"] is None


def test_a_file_is_exported_as_it_is(tmp_path: Path) -> None:

    compressed = subjects.load(MODEL).compress(Recipe.of(bits=3))
    (tmp_path / "a.psc").write_bytes(codec.write(compressed))
    result = run(tmp_path / "a.psc", "--format", "config", "--out", tmp_path / "recipes")
    assert result.exit_code == 0, result.output
    texts = {path.suffix: path.read_bytes() for path in (tmp_path / "recipes").iterdir()}
    assert Recipe.from_json(texts[".json"]) == compressed.recipe and set(texts) == {".json", ".yaml"}


def test_a_recipe_in_yaml_is_taken(tmp_path: Path) -> None:
    run(MODEL, "--preset", "tiny", "--format", "config", "--out", tmp_path / "c")
    (path,) = (tmp_path / "c").glob("*.yaml")
    result = CliRunner().invoke(app, ["recipe", "--recipe", str(path)])
    assert Recipe.from_json(result.stdout) == presets.get("tiny").recipe


@pytest.mark.slow
def test_all_are_written_into_one_folder_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    result = run(MODEL, "--bits", 8, "--format", "all", "--out", tmp_path / "all", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    possible = [f.name for f in formats if f.available() and not f.integer_only]
    assert [row["format"] for row in rows] == possible
    sizes = {path: size for row in rows for path, size in row["files"].items()}
    assert sizes == {str(path): path.stat().st_size for path in (tmp_path / "all").iterdir()}
    assert "Left out: onnx-int8 needs integer activations" in result.stderr


def test_a_table_for_people(tmp_path: Path) -> None:
    result = run(MODEL, "--format", "safetensors", "--format", "artefact", "--out", tmp_path / "two")
    assert result.exit_code == 0
    head, columns, first, second, written = result.stdout.splitlines()
    assert head.startswith("lenet-300-100: no change; fp32 1,066,440 bytes")
    assert columns.split()[:4] == ["format", "bytes", "differ", "of"]
    assert first.split()[0] == "artefact" and second.split()[0] == "safetensors"
    assert written.count(str(tmp_path / "two")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "config", "all"])
def test_what_fails_its_check_is_not_written(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "onnx" if format == "all" else format
    broken = dataclasses.replace(formats.get(name), run=lambda files, original: np.zeros_like(original.screen))
    monkeypatch.setitem(formats._entries, name, broken)
    result = run(MODEL, "--format", format, "--out", tmp_path / "out")
    assert result.exit_code == 1 and result.stdout == ""
    assert f"Error: {name} failed its check: logits must be" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--format gguf --out OUT/x", "a format must be registered; got 'gguf'. Choose one of: artefact"),
        ("--format onnx-int8 --bits 8 --out OUT/x", "onnx-int8 needs integer activations; the recipe is: 8 bits."),
        ("--format onnx --out OUT/no-folder/x", "must be in a folder that can be written"),
        ("--format config --out OUT/full", "must be a new or an empty folder"),
        ("--format config --out OUT/full/file", "must be a new or an empty folder"),
        ("--format config --out OUT/no-folder/x", "must be in a folder that can be written"),
        ("--format onnx --sparsity 95 --out OUT/x", "sparsity must be in [0, 1); got 95"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(arguments: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    result = run(MODEL, *arguments.replace("OUT", str(tmp_path)).split())
    assert result.exit_code == 1 and result.stdout == ""
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]
    assert (tmp_path / "full" / "file").read_text() == "kept"


def test_a_missing_extra_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretoscope.export.base.find_spec", lambda name: None)
    result = run(MODEL, "--format", "tflite", "--out", tmp_path / "x.tflite")
    assert result.exit_code == 1 and "Run: pip install litert-torch==" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_format_is_listed_with_what_its_check_asks() -> None:
    result = CliRunner().invoke(app, ["formats"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(formats.names())
    for line, each in zip(lines, formats, strict=True):
        assert each.summary in line and f"Asked: {each.promise}." in line
        assert (each.missing() or "") in line
    rows = json.loads(CliRunner().invoke(app, ["formats", "--json"]).stdout)
    assert [row["name"] for row in rows] == list(formats.names())
    assert [row["missing"] for row in rows] == [each.missing() for each in formats]
    assert "which the command formats lists" in " ".join(run("--help").output.replace("│", " ").split())


def test_a_folder_appears_with_all_files_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def fail_second(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) == 2:
            raise CompressionError(f"{path}: no space left")
        path.write_bytes(data)

    monkeypatch.setattr(files, "write_atomically", fail_second)
    with pytest.raises(CompressionError, match=f"^{tmp_path}/new/b: no space left$"):
        write_folder(tmp_path / "new", {"a": b"1", "b": b"2"})
    assert len(written) == 2 and list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_single_file_goes_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert write(tmp_path / "empty", {"a": b"1", "b": b"2"}) == [tmp_path / "empty" / "a", tmp_path / "empty" / "b"]
    assert write(tmp_path / "empty", {"c": b"3"}) == [tmp_path / "empty" / "c"]
    assert sorted(path.read_bytes() for path in (tmp_path / "empty").iterdir()) == [b"1", b"2", b"3"]
