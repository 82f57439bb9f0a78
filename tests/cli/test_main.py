"""The command line: its JSON is recomputed from the file that it writes, with nothing but PyTorch, NumPy and SciPy."""

import dataclasses
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from paretoscope import codec
from paretoscope.base.threads import torch_threads
from paretoscope.cli.main import app
from paretoscope.measure.latency import machine_id
from paretoscope.measure.sensitivity import GRIDS, Sensitivity
from paretoscope.networks import zoo
from paretoscope.networks.zoo.model import weights_path
from paretoscope.recipe.presets import presets, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.presets import best_known
from paretoscope.service.store import Store
from paretoscope.service.timing_key import TimingKey
from safetensors.torch import load_file
from scipy.stats import binomtest, norm
from sklearn.metrics import f1_score
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
NAME = "lenet-300-100"
OPTIONS = ["--sparsity", "0.92", "--scope", "layer", "--clusters", "6", "--bits", "5", "--calibration", "mse"]
OPTIONS += ["--rest", "fp16"]
RECIPE = Recipe.of(sparsity=0.92, scope="layer", clusters=6, bits=5, calibration="mse", rest="fp16")

FIELDS = {
    "model": str,
    "dataset": str,
    "recipe": dict,
    "digests": {"model": str, "dataset": str, "recipe": str, "artefact": str},
    "n": int,
    "correct": int,
    "accuracy": float,
    "accuracy_low": float,
    "accuracy_high": float,
    "f1": float,
    "p_value": float,
    "harm": float,
    "baseline": {"correct": int, "accuracy": float, "f1": float, "size_bytes": int},
    "rates": {"sparse_rate": float, "shared_rate": float, "architecture_simplification": float},
    "touched": {"share": float, "left": dict},
    "size": {"dense": int, "sparse": int, "packed": int, "huffman": int, "ans": int, "artefact": int},
    "ratio": float,
}
LATENCY_FIELDS = {
    "runtime": str,
    "number_format": str,
    "batch": int,
    "threads": int,
    "size": int,
    "graph": str,
    "median_ms": float,
    "p95_ms": float,
    "p99_ms": float,
    "baseline_median_ms": float,
    "baseline_p95_ms": float,
    "baseline_p99_ms": float,
    "speedup": float,
    "speedup_low": float,
    "speedup_high": float,
    "pairs": int,
    "outliers": int,
    "stopped_by": str,
    "measured_for": str,
    "alone": bool,
}


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory, monkeypatch) -> Path:
    path = tmp_path_factory.mktemp("store") / "records.sqlite"
    monkeypatch.setenv("PARETOSCOPE_STORE", str(path))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="python -m paretoscope")


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def evaluate(*arguments: object) -> dict[str, Any]:
    return json.loads(succeed("evaluate", *arguments, "--runtime", "none", "--json"))


def assert_fields(data: dict[str, Any], fields: dict[str, Any]) -> None:
    assert list(data) == list(fields)
    for name, kind in fields.items():
        if isinstance(kind, dict):
            assert_fields(data[name], kind)
        else:
            assert type(data[name]) is kind, name


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What `compress` and `decompress` write for RECIPE."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOSCOPE_STORE", str(folder / "records.sqlite"))
        text = succeed("compress", NAME, *OPTIONS, "--out", folder / "model.psc")
        assert f"{(folder / 'model.psc').stat().st_size:,} bytes" in text
        succeed("decompress", folder / "model.psc", "--out", folder / "weights.safetensors")
    (folder / "recipe.json").write_text(RECIPE.to_json())
    return folder


@pytest.fixture(scope="module")
def figures(folder) -> dict[str, Any]:
    """What `evaluate` prints for RECIPE."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOSCOPE_STORE", str(folder / "records.sqlite"))
        return evaluate(NAME, *OPTIONS)


def classes_of(path: Path) -> np.ndarray:
    """What the network with these weights says of the test split, one image after the other."""
    entry = zoo.models.get(NAME)
    model = entry.build()
    model.load_state_dict(load_file(path), strict=True)
    model.eval()
    images = zoo.load_data(entry.dataset, entry.input_shape).test_images
    with torch.no_grad():
        return np.array([int(model(image[None]).argmax()) for image in images])


def test_the_fields_of_the_json(figures):
    assert_fields({name: value for name, value in figures.items() if name != "latency"}, FIELDS)
    assert list(figures) == [*FIELDS, "latency"]
    assert figures["latency"] is None
    assert Recipe.from_dict(figures["recipe"]) == RECIPE


def test_the_figures_are_those_of_the_decompressed_weights(figures, folder):
    labels = zoo.load_data("digits", (1, 28, 28)).test_labels.numpy()
    classes, before = classes_of(folder / "weights.safetensors"), classes_of(weights_path(NAME))
    n, correct = len(labels), int((classes == labels).sum())
    assert (figures["n"], figures["correct"], figures["accuracy"]) == (n, correct, correct / n)
    # Harsh enough that the unchanged model could not pass for it.
    assert correct < (before == labels).sum() - 10

    z, share = norm.ppf(0.975), correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert figures["accuracy_low"] == pytest.approx(centre - spread)
    assert figures["accuracy_high"] == pytest.approx(centre + spread)
    assert figures["f1"] == pytest.approx(f1_score(labels, classes, average="macro"))
    gained = int(((classes == labels) & (before != labels)).sum())
    lost = int(((classes != labels) & (before == labels)).sum())
    assert figures["p_value"] == pytest.approx(binomtest(gained, gained + lost).pvalue)

    original = load_file(weights_path(NAME))
    dense = sum(value.numel() * 4 for value in original.values())
    assert figures["baseline"] == {
        "correct": int((before == labels).sum()),
        "accuracy": float((before == labels).mean()),
        "f1": pytest.approx(f1_score(labels, before, average="macro")),
        "size_bytes": dense,
    }
    size = (folder / "model.psc").stat().st_size
    assert figures["size"]["dense"] == dense
    assert figures["size"]["artefact"] == size
    assert figures["ratio"] == pytest.approx(dense / size)


def test_the_rates_are_those_of_the_decompressed_weights(figures, folder):
    state = load_file(folder / "weights.safetensors")
    matrices = [state[f"fc{i}.weight"].numpy().reshape(-1) for i in (1, 2, 3)]
    total = sum(weights.size for weights in matrices)
    zeros = shared = 0
    for weights in matrices:
        values, uses = np.unique(weights, return_counts=True)
        assert len(values[values != 0]) <= 6
        zeros += int(uses[values == 0].sum())
        shared += int(uses[(values != 0) & (uses >= 2)].sum())
    assert figures["rates"] == {
        "sparse_rate": zeros / total,
        "shared_rate": shared / total,
        "architecture_simplification": 1.0,
    }
    assert zeros / total == pytest.approx(0.92, abs=0.005)


def test_the_digests_are_of_the_very_files(figures, folder):
    artefact = (folder / "model.psc").read_bytes()
    assert figures["digests"]["artefact"] == hashlib.sha256(artefact).hexdigest()
    assert figures["digests"]["recipe"] == hashlib.sha256(RECIPE.to_json().encode()).hexdigest()
    assert figures["digests"]["model"] == codec.read(artefact).source
    assert figures["digests"]["dataset"] == zoo.load_data("digits", (1, 28, 28)).digest


def test_an_artefact_gives_the_same_figures(figures, folder):
    assert evaluate(folder / "model.psc") == figures


def test_an_artefact_whose_recipe_says_more_than_is_known_is_used_at_every_door(figures, folder, tmp_path, own_store):
    """Its figures are those of its weights, and are not kept as what this version makes of the recipe."""
    model = codec.read((folder / "model.psc").read_bytes())
    description = {**model.recipe.to_dict(), "later": {"setting": 1}}
    file = tmp_path / "later.psc"
    file.write_bytes(codec.write(dataclasses.replace(model, description=description)))
    told = "Note: The recipe in the file says more than this version knows: later."
    result = run("evaluate", file, "--runtime", "none", "--json")
    found = json.loads(result.stdout)
    for name in ("correct", "harm", "recipe"):
        assert found[name] == figures[name]
    assert told in result.stderr and "not kept in the history" in result.stderr and "amaged" not in result.stderr
    assert Store(own_store).records(figures["digests"]["model"], figures["digests"]["dataset"]) == []
    result = run("decompress", file, "--out", tmp_path / "weights.safetensors")
    assert result.exit_code == 0 and told in result.stderr
    assert (tmp_path / "weights.safetensors").read_bytes() != b""
    for name, value in load_file(folder / "weights.safetensors").items():
        assert torch.equal(value, load_file(tmp_path / "weights.safetensors")[name])
    result = run("inspect", file)
    assert result.exit_code == 0 and "and later, which this version does not know" in result.stdout
    result = run("export", file, "--format", "artefact", "--out", tmp_path / "again.psc")
    assert result.exit_code == 0 and told in result.stderr
    assert codec.read((tmp_path / "again.psc").read_bytes()).told == description


@pytest.mark.parametrize(
    "command", ["evaluate FILE", "inspect FILE", "decompress FILE --out OUT", "unpack FILE --out OUT"]
)
def test_a_newer_file_is_said_to_be_one(folder, tmp_path, command):
    data = (folder / "model.psc").read_bytes()
    file = tmp_path / "newer.psc"
    file.write_bytes(data[:8] + (3).to_bytes(2, "little") + data[10:])
    words = {"FILE": file, "OUT": tmp_path / "out"}
    result = run(*(words.get(word, word) for word in command.split()))
    assert result.exit_code == 1 and "written by a newer version of this program" in result.stderr
    assert "Update the program" in result.stderr and "amaged" not in result.stderr


def test_a_recipe_file_gives_the_same_figures(figures, folder):
    assert evaluate(NAME, "--recipe", folder / "recipe.json") == figures


def test_a_recipe_file_gives_the_same_artefact(folder, tmp_path):
    succeed("compress", NAME, "--recipe", folder / "recipe.json", "--out", tmp_path / "again.psc")
    assert (tmp_path / "again.psc").read_bytes() == (folder / "model.psc").read_bytes()


def test_decompress_gives_the_full_state(folder):
    state = load_file(folder / "weights.safetensors")
    original = load_file(weights_path(NAME))
    assert {name: (value.dtype, value.shape) for name, value in state.items()} == {
        name: (value.dtype, value.shape) for name, value in original.items()
    }
    for name, value in codec.read((folder / "model.psc").read_bytes()).state_dict().items():
        assert torch.equal(state[name], value)


@pytest.mark.slow
def test_a_lossless_round_trip_gives_back_every_bit(tmp_path):
    succeed("compress", "mobilenet-v2", "--out", tmp_path / "model.psc")
    succeed("decompress", tmp_path / "model.psc", "--out", tmp_path / "weights.safetensors")
    state, original = load_file(tmp_path / "weights.safetensors"), load_file(weights_path("mobilenet-v2"))
    assert set(state) == set(original)
    for name, value in original.items():
        assert state[name].numpy().tobytes() == value.numpy().tobytes()
    zoo.build("mobilenet-v2").load_state_dict(state, strict=True)


def test_the_baseline_in_words(own_store):
    text = succeed("evaluate", NAME, "--runtime", "none")
    assert "indistinguishable from the baseline" in text
    assert "+0.00 points" in text
    assert own_store.is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "number_format"),
    [(["--bits", 8, "--activations", 8, "--batch", 2], "int8"), (["--runtime", "torch", "--threads", 1], "fp32")],
    ids=["onnxruntime", "torch"],
)
def test_a_timing_has_its_fields(options, number_format):
    latency = json.loads(succeed("evaluate", NAME, "--json", *options))["latency"]
    assert_fields(latency, LATENCY_FIELDS)
    assert latency["number_format"] == number_format
    assert latency["runtime"] == ("torch" if "torch" in options else "onnxruntime")
    assert (latency["batch"], latency["threads"]) == (2 if "--batch" in options else 1, 1)
    assert latency["median_ms"] > 0 and latency["baseline_median_ms"] > 0
    assert 0 < latency["speedup_low"] <= latency["speedup"] <= latency["speedup_high"]


def test_a_store_that_cannot_be_used_costs_the_history_only(tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path))
    result = run("evaluate", NAME, "--bits", 4, "--runtime", "none", "--json")
    assert result.exit_code == 0
    assert_fields({name: value for name, value in json.loads(result.stdout).items() if name != "latency"}, FIELDS)
    assert result.stderr.startswith("Not kept in the history: the record store must be a SQLite file")
    assert result.stderr.count("\n") == 1


def test_recipe_prints_the_canonical_form(tmp_path):
    text = succeed("recipe", *OPTIONS)
    assert Recipe.from_json(text) == RECIPE
    assert text == RECIPE.to_json(indent=2) + "\n"
    (tmp_path / "recipe.json").write_text(text)
    assert succeed("recipe", "--recipe", tmp_path / "recipe.json") == text
    # Written by hand: other order, a step that does nothing.
    (tmp_path / "other.json").write_text('{"quantize": {"bits": 32}, "prune": {"sparsity": 0.5}, "version": 1}')
    assert json.loads(succeed("recipe", "--recipe", tmp_path / "other.json")) == {
        "version": 1,
        "prune": {"sparsity": 0.5, "scope": "global"},
        "code": {"coder": "ans", "rest": "fp32"},
    }


@pytest.mark.slow
def test_recipe_prints_every_preset():
    entries = json.loads((ROOT / "assets" / "presets.json").read_text())
    assert [entry["name"] for entry in entries] == list(presets.names())
    assert {"baseline", "int8", "deep-compression", "tiny", "binary"} <= set(presets.names())
    for entry in entries:
        printed = json.loads(succeed("recipe", "--preset", entry["name"]))
        assert Recipe.from_dict(printed) == Recipe.from_dict(entry["recipe"])
        assert printed | entry["recipe"] == printed


def test_help_lists_every_preset(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # narrower ones shorten long names
    assert set(presets.names()) <= set(re.findall(r"[\w-]+", succeed("recipe", "--help")))


def test_presets_lists_what_a_model_is_offered_with_what_was_measured():
    rows = json.loads(succeed("presets", "mobilenet-v2", "--json"))
    assert [row["name"] for row in rows] == [preset.name for preset in presets_of("mobilenet-v2")]
    assert [row["name"] for row in rows if row["opens"]] == [best_known("mobilenet-v2").name]
    text = succeed("presets", "mobilenet-v2")
    for row, line in zip(rows, text.splitlines()[1:], strict=True):
        assert f"{row['correct'] / row['n']:.2%}" in line and f"{row['size']:,}" in line and row["summary"] in line
        assert ("No better than guessing here." in line) == row["chance"]
        assert line.startswith("* " if row["opens"] else "  ")
    assert "Error: a model must be registered; got 'gpt-9'" in run("presets", "gpt-9").stderr


@pytest.mark.slow
def test_a_preset_that_is_at_chance_on_a_model_is_told_and_taken(tmp_path):
    out = tmp_path / "t.psc"
    note = "Note: tiny gives 9.7 % on this model: no better than guessing (measured, 797 test images)."
    for options in (["--preset", "tiny"], ["--recipe", tmp_path / "tiny.json"]):
        (tmp_path / "tiny.json").write_text(presets.get("tiny").recipe.to_json())
        found = run("compress", "resnet-20", *options, "--out", out)
        assert found.exit_code == 0 and note in found.stderr and out.exists()
    assert note in run("evaluate", "resnet-20", "--preset", "tiny", "--runtime", "none").stderr
    for model, preset in (("resnet-20", "int8"), ("lenet-5", "tiny")):
        assert "guessing" not in run("compress", model, "--preset", preset, "--out", out).stderr


def test_without_options_the_recipe_is_the_lossless_one():
    assert Recipe.from_json(succeed("recipe")) == Recipe()


@pytest.mark.slow
def test_models_lists_six_with_their_accuracy(tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOSCOPE_DATA", str(tmp_path))
    with torch_threads(1):
        result = run("models", "--json")
    assert result.exit_code == 0
    assert "lenet-5-mnist, whose data (mnist) are not here yet" in result.stderr
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == list(zoo.models_of("digits"))
    assert len(rows) == 6
    for row in rows:
        assert row["accuracy"] == row["correct"] / row["n"] >= 0.97
        assert row["n"] == 797
        state = load_file(weights_path(row["name"]))
        assert row["size_bytes"] == sum(value.numel() * value.element_size() for value in state.values())
        assert row["title"] and row["summary"] and row["reference"] and row["dataset"] == "digits"
        assert row["input_shape"] == list(zoo.models.get(row["name"]).input_shape)


@pytest.fixture(scope="module")
def bad(folder, tmp_path_factory) -> Path:
    """Files of every kind that a command must refuse."""
    bad = tmp_path_factory.mktemp("bad")
    artefact = (folder / "model.psc").read_bytes()
    (bad / "cut.psc").write_bytes(artefact[:-100])
    (bad / "changed.psc").write_bytes(artefact[:500] + bytes([artefact[500] ^ 1]) + artefact[501:])
    (bad / "empty.psc").write_bytes(b"")
    (bad / "text.psc").write_text("accuracy\n")
    compressed = codec.read(artefact)
    (bad / "stranger.psc").write_bytes(codec.write(dataclasses.replace(compressed, source="f" * 64)))
    (bad / "unknown.psc").write_bytes(codec.write(dataclasses.replace(compressed, architecture="lenet-6")))
    rest = {name: value for name, value in compressed.rest.items() if name != "fc3.bias"}
    order = tuple(name for name in compressed.order if name != "fc3.bias")
    (bad / "part.psc").write_bytes(codec.write(dataclasses.replace(compressed, rest=rest, order=order)))
    (bad / "95.json").write_text('{"version": 1, "prune": {"sparsity": 95}}')
    (bad / "field.json").write_text('{"version": 1, "prunes": {"sparsity": 0.5}}')
    (bad / "version.json").write_text("{}")
    (bad / "bytes.json").write_bytes(b"\x89PNG\r\n\x1a\n")
    (bad / "good.json").write_text('{"version": 1}')
    (bad / "idle.json").write_text('{"version": 1, "quantize": {"bits": 8, "ternary": 0.7}}')
    (bad / "sixty.yaml").write_text("version: " + "1:" * 280 + "1")
    (bad / "folder").mkdir()
    return bad


REFUSED = [
    ("evaluate no-such-model", "must be registered; got 'no-such-model'. Choose one of: lenet-300-100"),
    ("evaluate BAD/missing.psc", "missing.psc"),
    ('evaluate ""', "a model must be registered; got ''. Choose one of: lenet-300-100"),
    ("evaluate BAD/cut.psc", "Copy"),
    ("evaluate BAD/changed.psc", "must match its checksum"),
    ("evaluate BAD/empty.psc", "Pass a file that was exported as an artefact"),
    ("evaluate BAD/text.psc", "Pass a file that was exported as an artefact"),
    ("evaluate BAD/folder", "must be a readable file"),
    ("evaluate BAD/stranger.psc", "Compress the model again"),
    ("evaluate BAD/unknown.psc", "Choose one of: lenet-300-100"),
    ("evaluate BAD/part.psc", "fc3.bias"),
    ("evaluate FILES/model.psc --bits 4", "an artefact has its own recipe"),
    ("evaluate lenet-300-100 --sparsity 95", "sparsity must be in [0, 1); got 95. Pass a fraction, e.g. 0.95."),
    ("evaluate lenet-300-100 --sparsity nan", "sparsity must be a number in [0, 1)"),
    ("evaluate lenet-300-100 --clusters 1", "clusters must be in 2..256; got 1"),
    ("evaluate lenet-300-100 --bits 17", "bits must be 32 or 1..16; got 17"),
    ("evaluate lenet-300-100 --scope nowhere --sparsity 0.5", "scope must be 'global' or 'layer'; got 'nowhere'"),
    ("evaluate lenet-300-100 --recipe BAD/good.json --sparsity 0.5", "must come from one place"),
    ("evaluate lenet-300-100 --recipe BAD/good.json --preset int8", "must come from one place"),
    ("evaluate lenet-300-100 --preset int8 --bits 8", "must come from one place"),
    ("evaluate lenet-300-100 --preset huge", "must be registered; got 'huge'. Choose one of: baseline"),
    ("evaluate lenet-300-100 --preset lenet-5-trained", "which is for lenet-5-mnist. Choose one of: baseline"),
    ("compress lenet-5 --preset lenet-5-trained --out BAD/x.psc", "must be for all models or for lenet-5; got"),
    ("recover lenet-5 --preset lenet-5-trained --epochs 1", "must be for all models or for lenet-5; got"),
    ("layers lenet-5 --preset lenet-5-trained", "must be for all models or for lenet-5; got"),
    ("latency lenet-5 --preset lenet-5-trained", "must be for all models or for lenet-5; got"),
    (
        "export lenet-5 --preset lenet-5-trained --format config --out BAD/x",
        "must be for all models or for lenet-5; got",
    ),
    ("allot lenet-5 --preset lenet-5-trained --size 1000", "must be for all models or for lenet-5; got"),
    ("suggest lenet-5 --preset lenet-5-trained --size 1000", "must be for all models or for lenet-5; got"),
    ("evaluate lenet-300-100 --recipe BAD/missing.json", "must be a readable file"),
    ("evaluate lenet-300-100 --recipe BAD/folder", "must be a readable file"),
    ("evaluate lenet-300-100 --recipe BAD/95.json", "sparsity must be in [0, 1); got 95"),
    ("evaluate lenet-300-100 --recipe BAD/field.json", "got 'prunes'"),
    ("evaluate lenet-300-100 --recipe BAD/version.json", "version must be 1"),
    ("evaluate lenet-300-100 --recipe BAD/bytes.json", "a recipe must be JSON text"),
    ("evaluate lenet-300-100 --runtime abacus", "must be registered; got 'abacus'"),
    ("recipe --sparsity 95", "sparsity must be in [0, 1); got 95"),
    ("recipe --recipe BAD/bytes.json", "a recipe must be JSON text"),
    ("compress no-such-model --out BAD/x.psc", "must be registered"),
    ("compress lenet-300-100 --out BAD/no-folder/x.psc", "must be in a folder that can be written"),
    ("compress lenet-300-100 --out BAD/folder", "Choose another place"),
    ("compress lenet-300-100 --sparsity 95 --out BAD/x.psc", "sparsity must be in [0, 1); got 95"),
    ("decompress BAD/cut.psc --out BAD/x.safetensors", "Copy"),
    ("decompress BAD/text.psc --out BAD/x.safetensors", "Pass a file that was exported as an artefact"),
    ("decompress BAD/missing.psc --out BAD/x.safetensors", "must be a readable file"),
    ("decompress FILES/model.psc --out BAD/no-folder/x", "must be in a folder that can be written"),
    ("evaluate lenet-300-100 --drop stage1.1", "only a network of residual blocks has blocks to drop"),
    (
        "evaluate resnet-20 --drop stage1.9",
        "got stage1.9. Did you mean stage1.2 or stage1.1 or stage1.0? Name some of ",
    ),
    ("evaluate lenet-300-100 --nodes 0.5 --importance bn", "importance 'bn' needs a batch normalisation"),
    ("evaluate lenet-300-100 --nodes 1", "nodes must be in [0, 1); got 1"),
    ("evaluate lenet-300-100 --pattern 4:2", "pattern must be N:M"),
    ("evaluate lenet-300-100 --pattern 2:4 --sparsity 0.5", "one rule of sparsity, threshold and pattern"),
    ("evaluate lenet-300-100 --rounding best", "rounding must be 'nearest' or 'gptq'; got 'best'"),
    ("evaluate lenet-300-100 --overrides fc1", "overrides must be JSON text"),
    ("evaluate lenet-300-100 --overrides 3", "overrides must be a list"),
    ("latency no-such-model", "must be registered; got 'no-such-model'"),
    ("latency lenet-300-100 --sparsity 95", "sparsity must be in [0, 1); got 95"),
    ("latency lenet-300-100 --runtime tpu", "a runtime must be registered; got 'tpu'"),
    ("latency lenet-300-100 --batch 1 --batch 0", "batch must be a whole number of at least 1; got 0"),
    ("latency lenet-300-100 --batch 4097", "batch must be a whole number of at most 4096; got 4097. Pass e.g. 64."),
    ("evaluate lenet-300-100 --batch 1000000000", "batch must be a whole number of at most 4096; got 1000000000"),
    ("latency lenet-300-100 --threads -2", "threads must be a whole number of at least 1; got -2"),
    ("latency lenet-300-100 --size 0", "size must be a whole number from 1 to 1024; got 0"),
    ("latency lenet-300-100 --size 9", "images must have a size that lenet-300-100 can take; 9 x 9 gives"),
    ("latency lenet-300-100 --budget 0", "--budget must be above 0"),
    ("latency lenet-300-100 --width nan", "--width at least 0"),
    ("latency FILES/model.psc --bits 8", "an artefact has its own recipe"),
    ("latency BAD/missing.psc", "must be a readable file"),
    ("layers no-such-model", "must be registered; got 'no-such-model'"),
    ("layers lenet-300-100 --sparsity 95", "sparsity must be in [0, 1); got 95"),
    ("sensitivity no-such-model", "must be registered; got 'no-such-model'"),
    ("sensitivity lenet-300-100 --layer fc9.weight", "fc9.weight"),
    ("suggest lenet-300-100", "a target must be bytes or drop, one of them"),
    ("suggest lenet-300-100 --size 1000 --loss 1", "a target must be bytes or drop, one of them"),
    ("suggest lenet-300-100 --loss nan", "drop of a target must be a number of at least 0"),
    ("suggest no-such-model --size 1000", "must be registered; got 'no-such-model'"),
    ("allot lenet-300-100", "allot needs a wanted size or a wanted harm, one of them"),
    ("allot lenet-300-100 --size 1000 --harm 1", "allot needs a wanted size or a wanted harm, one of them"),
    ("allot lenet-300-100 --size 0", "a wanted size must be at least 1 byte; got 0. Pass e.g. 500000."),
    ("allot lenet-300-100 --size -5", "a wanted size must be at least 1 byte; got -5"),
    ("allot lenet-300-100 --harm -1", "a wanted harm must be a number of at least 0; got -1. Pass e.g. 0.01."),
    ("allot lenet-300-100 --harm nan", "a wanted harm must be a number of at least 0; got nan"),
    ("allot lenet-300-100 --harm inf", "a wanted harm must be a number of at least 0; got inf"),
    ("allot lenet-300-100 --size 1000 --clusters 4", "steps are allotted to integer codes"),
    ("evaluate lenet-300-100 --bits 8 --calibration rate --exchange 0", "exchange must be in [1e-12, 1e3]; got 0"),
    ("evaluate lenet-300-100 --bits 8 --weighting bits", "weighting must be 'fisher' or 'magnitude'; got 'bits'"),
    ("evaluate FILES/model.psc --bits 32", "an artefact has its own recipe"),
    ("evaluate FILES/model.psc --preset baseline", "an artefact has its own recipe"),
    ("evaluate FILES/model.psc --keep-ends", "an artefact has its own recipe"),
    ("export FILES/model.psc --rest fp32 --format config --out BAD/x", "an artefact has its own recipe"),
    ("evaluate lenet-300-100 --runtime none --batch 8", "--batch have an effect only where a runtime is timed"),
    ("evaluate lenet-300-100 --runtime none --threads 1", "got --runtime none. Leave them out, or name a runtime."),
    ("evaluate lenet-300-100 --calibration mse", "Set --bits 8 or leave --calibration out."),
    ("compress lenet-300-100 --bits 8 --exchange 1e-4 --out BAD/x.psc", "Set --calibration rate or leave"),
    ("recipe --bits 8 --percentile 99", "Set --calibration percentile or leave --percentile out."),
    ("recipe --learning-rate 0.001", "--learning-rate has an effect only with epochs"),
    ("recipe --preset tiny --temperature 2", "Set --epochs 10, --distillation-weight 0.5 or leave --temperature out."),
    ("recipe --recipe BAD/idle.json", "Set bits 1 or leave ternary out."),
    ("recipe --recipe BAD/sixty.yaml", "version must be 1; got '1:1:1:1:1:1"),
    ("recipe --bits 8 --keep-ends", "clusters or fewer than 8 bits elsewhere"),
    (
        'evaluate lenet-300-100 --overrides [{"layers":"fx1","bits":4}]',
        "got 'fx1', which matches none. Did you mean fc1",
    ),
    ('evaluate lenet-300-100 --bits 8 --overrides [{"layers":"fc1","ternary":0.7}]', "ternary of the override 'fc1'"),
    ('layers lenet-300-100 --overrides [{"layers":"conv*","bits":4}]', "The layers are fc1, fc2, fc3."),
    ("sensitivity lenet-300-100 --layer fc4.weight", "Did you mean fc"),
    (
        "allot lenet-300-100 --size 40000 --exchange 1e-4",
        "allot looks for the exchange rate itself; got --lambda. Leave it",
    ),
    ("allot lenet-300-100 --size 40000 --calibration kl", "allot quantizes by rate; got calibration kl"),
    ("allot lenet-300-100 --size 40000 --percentile 99", "--percentile has an effect only with"),
    ("suggest lenet-300-100 --size 40000 --bits 32", "all steps but repair and code itself; got --bits. Leave it out."),
    ("suggest lenet-300-100 --size 40000 --clusters 4 --scope layer", "got --scope, --clusters. Leave them out."),
    ("suggest lenet-300-100 --size 40000 --rest rate", "--rest has an effect only with"),
    (
        "suggest lenet-300-100 --size 40000 --preset int8",
        "suggest chooses all steps but repair and code itself; got 8 bits",
    ),
    ("train", "one NAME or --all; got neither or both"),
    ("train lenet-5 --all", "one NAME or --all; got neither or both"),
    ("train --all --out BAD/x", "--out must name the file of one model"),
    ("train no-such-model", "must be registered; got 'no-such-model'"),
    (
        "train lenet-300-100 --seed -1 --out BAD/x",
        "a whole number from 0 to 9223372036854775807; got -1. Pass e.g. 0.",
    ),
    (f"train lenet-300-100 --seed {2**63} --out BAD/x", f"got {2**63}. Pass e.g. 0."),
]


@pytest.mark.parametrize(("command", "message"), REFUSED, ids=[command for command, _ in REFUSED])
def test_what_cannot_be_done_is_told_in_one_line(bad, folder, command, message):
    before = sorted(bad.iterdir())
    words = command.replace("BAD", str(bad)).replace("FILES", str(folder)).split()
    result = run(*("" if word == '""' else word for word in words))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert sorted(bad.iterdir()) == before


NEVER_STARTED = [
    ("train lenet-300-100", "paretoscope.networks.zoo.train.train"),
    ("recover lenet-300-100 --bits 4 --epochs 1", "paretoscope.cli.recover.recover"),
    ("suggest lenet-300-100 --size 40000", "paretoscope.service.subjects.load"),
    ("allot lenet-300-100 --size 40000", "paretoscope.service.subjects.load"),
    ("pack WEIGHTS --size 40000", "paretoscope.codec.checkpoints.load_checkpoint"),
]


@pytest.mark.parametrize(("place", "told"), [("no-folder/x", "must be in a folder"), ("folder", "a folder")])
@pytest.mark.parametrize(("command", "work"), NEVER_STARTED, ids=[command.split()[0] for command, _ in NEVER_STARTED])
def test_a_place_that_cannot_be_written_is_told_before_the_work(bad, monkeypatch, command, work, place, told):
    def start(*_: object, **__: object) -> None:
        raise AssertionError("the work has started")

    monkeypatch.setattr(work, start)
    result = run(*command.replace("WEIGHTS", str(weights_path(NAME))).split(), "--out", bad / place)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert told in result.stderr and "Choose another place." in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        "compress lenet-300-100 --out",
        "decompress x.psc --out",
        "evaluate lenet-300-100 --recipe",
        "export lenet-300-100 --format config --out",
        "inspect",
        "pack w.safetensors --out",
        "pack --out x.psc",
        "recover lenet-300-100 --epochs 1 --out",
        "suggest lenet-300-100 --size 40000 --out",
        "train lenet-300-100 --out",
        "unpack x.psc --out",
    ],
)
def test_an_empty_path_is_told_as_such(command):
    result = run(*command.split(), "")
    assert result.exit_code == 2 and result.stdout == ""
    told = " ".join(result.stderr.replace("│", " ").split())
    assert "a path must not be empty; got ''. Name a file, e.g. model.psc." in told


@pytest.mark.parametrize(
    "command",
    [
        "evaluate",
        "evaluate lenet-300-100 --sparsity much",
        "evaluate lenet-300-100 --batch 0",
        "evaluate lenet-300-100 --colour red",
        "compress lenet-300-100",
        "decompress",
        "no-such-command",
    ],
)
def test_a_command_that_is_not_understood_shows_its_usage(command):
    result = run(*command.split())
    assert result.exit_code == 2
    assert "Usage: python -m paretoscope" in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    "command",
    [
        *("", "models", "train", "evaluate", "compress", "decompress", "recipe", "layers", "sensitivity", "suggest"),
        *("latency", "allot", "pack", "unpack", "inspect", "export"),
    ],
)
def test_help_is_there(command):
    text = succeed(*command.split(), "--help")
    assert "Usage: python -m paretoscope" in text
    if command in ("evaluate", "latency", "compress", "recipe", "layers", "suggest", "allot", "pack", "export"):
        for option in ("--sparsity", "--scope", "--clusters", "--bits", "--granularity", "--calibration", "--recipe"):
            assert option in text


EVERYTHING = Recipe.of(
    nodes=0.25,
    energy=0.95,
    clusters=32,
    bits=6,
    sparsity=0.5,
    keep_ends=True,
    rounding="gptq",
    bias=True,
    batchnorm=True,
    rest="fp16",
    overrides=[{"layers": "fc2*", "bits": 5, "clusters": 16}, {"layers": "fc3.0", "sparsity": 0.1}],
)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """EVERYTHING as a recipe file."""
    path = tmp_path_factory.mktemp("everything") / "recipe.json"
    path.write_text(EVERYTHING.to_json())
    return path


class TestEverySetting:
    """A recipe that simplifies, repairs and overrides."""

    @pytest.mark.slow
    def test_the_model_and_its_file_have_the_same_figures(self, file, tmp_path):
        result = run("evaluate", NAME, "--recipe", file, "--runtime", "none", "--json")
        assert result.exit_code == 0, result.output
        figures = json.loads(result.stdout)
        assert Recipe.from_dict(figures["recipe"]) == EVERYTHING
        compressed = run("compress", NAME, "--recipe", file, "--out", tmp_path / "model.psc")
        assert compressed.exit_code == 0, compressed.output
        data = (tmp_path / "model.psc").read_bytes()
        assert figures["size"]["artefact"] == len(data)
        assert figures["digests"]["artefact"] == hashlib.sha256(data).hexdigest()
        assert evaluate(tmp_path / "model.psc") == figures

        module = codec.read(data).build()
        kept = sum(parameter.numel() for parameter in module.parameters())
        assert figures["rates"]["architecture_simplification"] == kept / 266_610
        entry = zoo.models.get(NAME)
        split = zoo.load_data(entry.dataset, entry.input_shape)
        with torch.no_grad():
            classes = torch.cat([module(images).argmax(1) for images in split.test_images.split(100)])
        assert figures["correct"] == int((classes == split.test_labels).sum())

    @pytest.mark.slow
    def test_what_a_person_should_know_is_on_standard_error(self, file, tmp_path):
        expected = [
            "Note: 25 % of the nodes removed.",
            "Note: No layer is called 'fc3.0' here: what is set for it has no effect.",
            "Note: There is no batch normalisation to re-estimate.",
        ]
        for command in (["evaluate", "--runtime", "none"], ["compress", "--out", tmp_path / "model.psc"]):
            result = run(command[0], NAME, "--recipe", file, *command[1:])
            assert result.exit_code == 0, result.output
            lines = result.stderr.splitlines()
            assert all(line.startswith("Note: ") for line in lines)
            assert all(any(line.startswith(each) for line in lines) for each in expected)
            assert "Note" not in result.stdout

    @pytest.mark.slow
    def test_the_file_decompresses_to_the_smaller_network(self, file, tmp_path):
        assert run("compress", NAME, "--recipe", file, "--out", tmp_path / "model.psc").exit_code == 0
        succeed("decompress", tmp_path / "model.psc", "--out", tmp_path / "weights.safetensors")
        state = load_file(tmp_path / "weights.safetensors")
        built = codec.read((tmp_path / "model.psc").read_bytes()).build().state_dict()
        assert state.keys() == built.keys()
        assert all(torch.equal(state[name], value) for name, value in built.items())

    def test_options_say_what_the_file_says(self, file):
        options = "--nodes 0.25 --energy 0.95 --clusters 32 --bits 6 --sparsity 0.5 --keep-ends --rounding gptq --bias"
        options += " --batchnorm --rest fp16"
        overrides = json.dumps([{"layers": o.layers, **dict(o.settings)} for o in EVERYTHING.overrides])
        given = succeed("recipe", *options.split(), "--overrides", overrides)
        assert given == succeed("recipe", "--recipe", file)
        assert Recipe.from_json(given) == EVERYTHING

    @pytest.mark.slow
    def test_its_timing_is_kept_under_the_form_of_its_graph(self, file):
        result = run("evaluate", NAME, "--recipe", file, "--runtime", "torch", "--json")
        assert result.exit_code == 0, result.output
        figures = json.loads(result.stdout)
        key = TimingKey(figures["digests"]["model"], EVERYTHING.graph_key, machine_id("torch"), "torch", "fp32", 1, 1)
        assert Store().get_latency(key).measured_for == EVERYTHING.digest
        assert Store().get_latency(dataclasses.replace(key, graph_key="")) is None


def test_training_options_refine_a_recipe_from_elsewhere(tmp_path):
    options = "--epochs 9 --learning-rate 0.002 --schedule constant --minibatch 20 --ramp 0.5 --distill 0.25"
    options += " --temperature 2 --teacher lenet-5 --average 0.9 --patience 3 --no-augment --seed 5 --stopped 4"
    options += " --sparsity 0.5"
    training = {"epochs": 9, "learning_rate": 0.002, "schedule": "constant", "minibatch": 20, "ramp": 0.5}
    training |= {"distill": 0.25, "temperature": 2.0, "teacher": "lenet-5", "patience": 3, "augment": False}
    training |= {"average": 0.9, "seed": 5, "stopped": 4}
    tiny = presets.get("tiny").recipe
    assert Recipe.from_json(succeed("recipe", *options.split())) == Recipe.of(**training, sparsity=0.5)
    options = options.removesuffix(" --sparsity 0.5")
    wanted = Recipe.of(**{**tiny.settings(), **training})
    assert Recipe.from_json(succeed("recipe", "--preset", "tiny", *options.split())) == wanted
    path = tmp_path / "recipe.json"
    path.write_text(wanted.to_json())
    # What a file says of its training may be changed, and the rest of it stays.
    again = Recipe.from_json(succeed("recipe", "--recipe", path, "--seed", 6, "--stopped", 0))
    assert again == Recipe.of(**{**wanted.settings(), "seed": 6, "stopped": 0})
    mixed = run("recipe", "--recipe", path, "--bits", 4)
    assert mixed.exit_code == 1 and "a recipe must come from one place" in mixed.stderr


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        (("evaluate", NAME, "--bits", 4, "--epochs", 977), "must have been trained on this machine"),
        (("compress", NAME, "--epochs", 977, "--out", "x.psc"), "must have been trained on this machine"),
        (("allot", NAME, "--epochs", 3, "--size", 10_000), "allot looks for a recipe without training"),
        (("evaluate", NAME, "--epochs", 3, "--learning-rate", 0), "learning_rate must be in (0, 10]; got 0"),
        (("recipe", "--epochs", 3, "--stopped", 4), "stopped must be an epoch of the 3; got 4"),
    ],
)
def test_what_training_cannot_do_is_said_in_one_line(command, rule):
    result = run(*command)
    assert result.exit_code == 1 and result.stdout == ""
    assert rule in result.stderr and result.stderr.count("\n") == 1 and result.stderr.startswith("Error: ")


def test_weights_alone_cannot_be_trained(tmp_path):
    path = weights_path(NAME)
    result = run("pack", path, "--epochs", 3, "--out", tmp_path / "x.psc")
    assert result.exit_code == 1 and "weights alone cannot be trained" in result.stderr
    assert not (tmp_path / "x.psc").exists()


def test_the_layers_as_json():
    rows = json.loads(succeed("layers", NAME, "--json"))
    assert [row["name"] for row in rows] == ["fc1.weight", "fc2.weight", "fc3.weight", "other"]
    assert [row["kind"] for row in rows] == ["linear"] * 3 + ["other"]
    assert [row["shape"] for row in rows[:3]] == [[300, 784], [100, 300], [10, 100]]
    for row in rows[:3]:
        assert row["parameters"] == row["macs"] == math.prod(row["shape"])
    assert rows[3]["parameters"] == 410
    assert sum(row["size_share"] for row in rows) == pytest.approx(1)
    assert sum(row["time_share"] for row in rows) == pytest.approx(1)


def test_the_layers_of_a_recipe_are_those_of_its_file(tmp_path):
    options = ["--nodes", "0.5", "--bits", "4"]
    result = run("layers", NAME, *options, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert run("compress", NAME, *options, "--out", tmp_path / "model.psc").exit_code == 0
    data = (tmp_path / "model.psc").read_bytes()
    read = codec.read(data)
    assert [row["name"] for row in rows[:-1]] == list(read.weights)
    assert [tuple(row["shape"]) for row in rows[:-1]] == [tensor.shape for tensor in read.weights.values()]
    assert sum(row["bytes"] for row in rows) == len(data)


def test_the_layers_in_words():
    lines = succeed("layers", NAME).splitlines()
    assert lines[0].split() == ["layer", "kind", "shape", "parameters", "MACs", "bytes", "size", "time"]
    assert [line.split()[0] for line in lines[1:]] == ["fc1.weight", "fc2.weight", "fc3.weight", "other"]
    assert "300x784" in lines[1] and "235,200" in lines[1]


def test_the_sensitivity_of_one_layer_as_json():
    data = json.loads(succeed("sensitivity", NAME, "--layer", "fc3.weight", "--json"))
    found = Sensitivity.from_dict(data)
    assert list(found.curves) == ["fc3.weight"]
    assert {name: tuple(p.value for p in points) for name, points in found.curves["fc3.weight"].items()} == dict(GRIDS)
    point = found.curves["fc3.weight"]["bits"][-1]
    alone = json.dumps([{"layers": "fc3", "bits": 1, "calibration": "mse"}])
    assert point.value == 1 and point.correct == evaluate(NAME, "--overrides", alone)["correct"]


def test_the_sensitivity_in_words():
    lines = succeed("sensitivity", NAME, "--layer", "fc2.weight", "--layer", "fc3.weight").splitlines()
    assert lines[0].startswith("baseline 9")
    for setting, grid in GRIDS.items():
        row = next(i for i, line in enumerate(lines) if line.startswith(setting))
        assert [float(value) for value in lines[row].split()[1:]] == list(grid)
        assert [lines[row + i].split()[0] for i in (1, 2)] == ["fc2.weight", "fc3.weight"]
        assert all(line.endswith("%") for line in lines[row + 1 : row + 3])


@pytest.mark.slow
def test_a_suggestion_for_a_size_is_a_recipe_of_that_size(tmp_path):
    out = tmp_path / "suggested.json"
    # Repair works on the bits that the layers will have.
    options = ("--rest", "fp16", "--bias", "--rounding", "gptq")
    result = run("suggest", NAME, "--size", 40_000, *options, "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    recipe = Recipe.from_json(out.read_text())
    assert recipe.overrides and recipe.repair.bias and recipe.code.rest == "fp16" and recipe.quantize is None
    assert recipe.repair.rounding == "gptq"
    figures = evaluate(NAME, "--recipe", out)
    assert 30_000 < figures["size"]["artefact"] <= 40_000
    assert f"size       {figures['size']['artefact']:,} bytes" in result.stdout
    assert f"{figures['correct']} of 797" in result.stdout


@pytest.mark.slow
def test_a_wish_out_of_reach_is_told(tmp_path):
    result = run("suggest", NAME, "--size", 100)
    assert result.exit_code == 0, result.output
    assert result.stderr == "The wish is out of reach; this is the nearest.\n"
    assert result.stdout.startswith(f"{NAME} on digits: ")


@pytest.mark.slow
@pytest.mark.parametrize("wish", [("--size", 40_000), ("--harm", 0.002)])
def test_an_exchange_rate_meets_a_wish(tmp_path, wish):
    out = tmp_path / "allotted.json"
    options = ("--weighting", "magnitude", "--calibration", "rate", "--bits", 10, "--coder", "context")
    result = run("allot", NAME, *wish, *options, "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    recipe = Recipe.from_json(out.read_text())
    assert recipe.quantize.bits == 10 and recipe.quantize.weighting == "magnitude" and recipe.code.coder == "context"
    figures = evaluate(NAME, "--recipe", out)
    if wish[0] == "--size":
        assert 39_000 < figures["size"]["artefact"] <= 40_000
    else:
        # Met on the train split, which says what the test split will be like.
        assert 0 < figures["harm"] < 0.01
    assert f"size       {figures['size']['artefact']:,} bytes" in result.stdout
    assert f"harm {figures['harm']:.3g} nats" in result.stdout


def test_a_size_that_cannot_be_met_is_told():
    result = run("allot", NAME, "--size", 100, "--weighting", "magnitude", "--calibration", "rate", "--bits", 8)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [
        "The wish is out of reach; this is the nearest.",
        "Note: Nothing is left of fc1.weight, fc2.weight, fc3.weight: every weight became zero. An override or a lower "
        "exchange rate keeps some.",
    ]


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paretoscope", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ})


def test_a_real_process_prints_a_recipe():
    result = process("recipe", *OPTIONS)
    assert (result.returncode, result.stderr) == (0, "")
    assert Recipe.from_json(result.stdout) == RECIPE


@pytest.mark.slow
def test_a_real_process_evaluates_an_artefact(folder, figures):
    result = process("evaluate", folder / "model.psc", "--runtime", "none", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == figures


@pytest.mark.slow
def test_a_real_process_refuses_in_one_line(bad):
    result = process("recipe", "--recipe", bad / "95.json")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paretoscope", "python -m paretoscope"])
def test_messages_name_the_program_as_it_was_started(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")

    def said(*arguments: str) -> str:
        return CliRunner().invoke(app, arguments, prog_name=name).output

    assert f"Usage: {name} evaluate" in said("evaluate", "--help")
    assert f"Usage: {name}" in said("evaluate") and f"Try '{name} evaluate --help'" in said("evaluate")
    told = said("evaluate", NAME, "--bits", "4", "--epochs", "977")
    assert told.endswith(f"or by: {name} recover.\n") and told.count("paretoscope") == 1
    for command in ("--help", "models --help", "evaluate --help", "export --help"):
        assert name == "python -m paretoscope" or "python -m" not in said(*command.split())


OVERRIDE = '[{"layers": "fc1", "bits": 8}, {"layers": "fc*", "bits": 4}]'
REPLACED = "Note: Later overrides replace all that is set for 'fc1'.\n"


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", NAME, "--runtime", "none"),
        ("evaluate", NAME, "--runtime", "none", "--json"),
        ("compress", NAME, "--out", "OUT/x.psc"),
        ("layers", NAME),
        ("layers", NAME, "--json"),
        ("export", NAME, "--format", "artefact", "--out", "OUT/x"),
        ("export", NAME, "--format", "artefact", "--out", "OUT/x", "--json"),
        ("allot", NAME, "--size", "60000", "--weighting", "magnitude"),
        ("recover", NAME, "--epochs", "1"),
    ],
    ids=" ".join,
)
def test_every_command_tells_the_notes_of_the_recipe_that_it_ran(command, tmp_path):
    result = run(*(part.replace("OUT", str(tmp_path)) for part in command), "--overrides", OVERRIDE)
    assert result.exit_code == 0, result.output
    assert REPLACED in result.stderr and "Note" not in result.stdout


@pytest.mark.slow
def test_what_allot_implies_needs_not_be_said(tmp_path):
    out = tmp_path / "found.json"
    result = run("allot", NAME, "--size", 40_000, "--weighting", "magnitude", "--rest", "rate", "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    found = Recipe.from_json(out.read_text())
    assert (found.bits, found.quantize.calibration, found.quantize.weighting) == (12, "rate", "magnitude")
    assert found.code.rest == "rate"
    result = run("allot", NAME, "--size", 40_000, "--preset", "int8", "--out", out)
    assert result.exit_code == 0 and "Scales follow from the exchange rate" in result.stderr


def test_latency_tells_them_too(monkeypatch):
    class Report:
        def text(self):
            return "a report"

    monkeypatch.setattr("paretoscope.service.latency_study.study", lambda bench, question, progress: Report())
    result = run("latency", NAME, "--overrides", OVERRIDE)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a report\n", REPLACED)
