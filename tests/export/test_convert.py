"""Conversions: what single formats promise, what they refuse, and that each check can fail."""

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import onnx
import pytest
import torch
from conversions import INT8, QUICKEST, RATE, checked, converted, needs, original
from paretoscope import codec
from paretoscope.base.errors import CompressionError, ModelError, UnknownNameError
from paretoscope.base.progress import SILENT, Calling, Cancelled
from paretoscope.export import (
    Conversion,
    convert,
    figures_of,
    formats,
    produce,
    without_figures,
    zipped,
)
from paretoscope.export import base as base_module
from paretoscope.export import torch_export as pt2
from paretoscope.export.base import close_to_decoded, distance
from paretoscope.export.bundle import CHECKSUMS, checksums, open_bundle
from paretoscope.export.processes import run_process
from paretoscope.export.weights import HOW, read_codes
from paretoscope.graph.trace import OPSET
from paretoscope.measure.record import Record
from paretoscope.recipe.recipe import Recipe
from safetensors.numpy import load as load_safetensors


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe.of(nodes=0.3, fold=True, bits=8, activations=8),
        Recipe.of(clusters=16),
        Recipe.of(clusters=200, bits=12),
        Recipe.of(threshold=10.0, clusters=4, bits=8),
        Recipe.of(bits=1, calibration="mse"),
    ],
    ids=Recipe.describe,
)
def test_codes_are_read_back_exactly_whatever_the_tensors_are(recipe: Recipe) -> None:
    needs("safetensors-codes")
    given = original("lenet-5", recipe)
    checked = produce(given.compressed, "safetensors-codes", given.subject, original=given)
    assert checked.verification.passed
    (data,) = checked.conversion.files.values()
    assert codec.write(read_codes(data)) == given.artefact


@pytest.mark.slow
def test_the_reader_of_a_bundle_decodes_contexts() -> None:
    """In pure Python, so of a small network."""
    recipe = Recipe.of(nodes=0.9, **RATE)
    assert checked(converted(QUICKEST, "bundle", recipe), recipe).passed


@pytest.mark.parametrize("recipe", [INT8, Recipe.of(sparsity=0.95, clusters=4, bits=4, coder="context")])
def test_an_exported_artefact_says_what_was_measured(recipe: Recipe) -> None:
    given = original(QUICKEST, recipe)
    (data,) = converted(QUICKEST, "artefact", recipe).files.values()
    found, record = codec.read_figures(data), given.record
    subject, logits = given.subject, torch.from_numpy(given.screen).double()
    assert (found.n, found.correct) == (797, (given.screen.argmax(1) == subject.labels).sum())
    assert found.baseline_correct == subject.baseline.correct
    assert found.dataset == subject.data.digest[:16]
    with torch.no_grad():
        ours, theirs = logits.log_softmax(1), subject.model(subject.data.test_images).double().log_softmax(1)
    assert found.mean_kl == pytest.approx((theirs.exp() * (theirs - ours)).sum(1).mean().item(), rel=1e-4)
    # The size is the same, and the record's digest is that of the file without them.
    assert without_figures(data) == without_figures(given.artefact) == given.artefact == codec.write(given.compressed)
    assert len(data) == record.size.artefact
    assert hashlib.sha256(without_figures(data)).hexdigest() == record.digests.artefact


@pytest.mark.parametrize("format", ["artefact", "bundle"])
@pytest.mark.parametrize("change", [None, {"correct": 797}, {"mean_kl": 0.0}, {"dataset": "0" * 16}])
def test_figures_that_were_not_measured_fail_the_check(format: str, change: dict[str, object] | None) -> None:
    given = original(QUICKEST)
    figures = None if change is None else dataclasses.replace(figures_of(given.record), **change)
    other = codec.write(given.compressed, figures)
    ((name, data),) = converted(QUICKEST, format).files.items()
    if format == "bundle":
        members = {**open_bundle(data), "model.psc": other}
        del members[CHECKSUMS]
        other = zipped({**members, CHECKSUMS: checksums(members)})
    found = checked(Conversion(format, {name: other}))
    assert not found.passed and "must hold the figures that were measured" in found.problem


def test_what_fails_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    given = original(QUICKEST)
    broken = base_module.dataclasses.replace(formats.get("onnx"), write=lambda original: {"x.onnx": b"nothing"})
    monkeypatch.setitem(formats._entries, "onnx", broken)
    result = produce(given.compressed, "onnx", given.subject, original=given)
    assert result.conversion is None and not result.verification.passed and result.verification.size == 7


@pytest.mark.parametrize("format", ["openvino", "openvino-int8", "tflite"])
def test_a_missing_extra_is_told_with_what_to_install(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "find_spec", lambda name: None)
    given, chosen = original(QUICKEST), formats.get(format)
    assert not chosen.available()
    with pytest.raises(ModelError, match=rf"^{format} needs a package .+\. Run: pip install \S+==\S+$"):
        convert(given.compressed, format, given.subject)
    assert formats.get("onnx").available()


def test_an_unknown_format_lists_the_known_ones() -> None:
    given = original(QUICKEST)
    with pytest.raises(UnknownNameError, match="Choose one of: artefact, bundle"):
        convert(given.compressed, "gguf", given.subject)


def test_a_model_of_other_weights_is_refused() -> None:
    given = original(QUICKEST)
    stranger = base_module.dataclasses.replace(given.compressed, source="0" * 64)
    with pytest.raises(ModelError, match="Compress the model again"):
        convert(stranger, "onnx", given.subject)


def test_several_files_are_downloaded_as_one_zip_and_counted_apart() -> None:
    conversion = converted(QUICKEST, "config")
    name, data = conversion.download("a-stem")
    assert name == "a-stem-config.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {each: archive.read(each) for each in archive.namelist()} == dict(conversion.files)
        assert {each.date_time for each in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    single = converted(QUICKEST, "onnx")
    assert single.download("a-stem") == next(iter(single.files.items()))


def test_onnx_states_its_opset_and_takes_any_batch() -> None:
    for format in ("onnx", "onnx-int8"):
        (data,) = converted(QUICKEST, format).files.values()
        model = onnx.load_model_from_string(data)
        assert [each.version for each in model.opset_import] == [OPSET]
        assert f"opset {OPSET}" in formats.get(format).summary
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
        assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_codes_decode_as_the_file_itself_says() -> None:
    """By the sentences of the metadata alone, with nothing of ours but NumPy."""
    recipe = Recipe.of(sparsity=0.5, clusters=16, bits=8, overrides=[{"layers": "fc2", "clusters": None, "bits": 5}])
    given = original(QUICKEST, recipe)
    (data,) = convert(given.compressed, "safetensors-codes", given.subject, original=given).files.values()
    arrays, length = load_safetensors(data), int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["paretoscope"])
    assert header["decode"] == HOW
    kinds = set()
    for name, about in header["tensors"].items():
        kinds.add(about["kind"])
        if about["kind"] == "plain":
            found = arrays[name].astype(np.float32) if arrays[name].dtype == np.float16 else arrays[name]
        elif about["kind"] == "codebook":
            entries = arrays[f"{name}:entries:codes"] * arrays[f"{name}:entries:scale"]
            found = np.concatenate([np.zeros(1, np.float32), entries.astype(np.float32)])[arrays[f"{name}:indices"]]
        else:
            codes = arrays[f"{name}:codes"]
            scale = arrays[f"{name}:scale"].reshape(-1, *[1] * (codes.ndim - 1))
            found = codes.astype(np.float32) * scale
        assert np.array_equal(found, given.compressed.decode(name))
    assert kinds == {"plain", "codebook", "integers"}


def test_a_program_of_torch_is_loaded_without_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    (data,) = converted(QUICKEST, "torch-export").files.values()
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("something was unpickled"))
    logits = pt2.load(data).module()(original(QUICKEST).first(3))
    assert np.allclose(logits.detach().numpy(), original(QUICKEST).floats[:3], atol=1e-4)


def repacked(data: bytes, change) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def test_a_program_with_a_pickle_or_an_expression_is_refused_before_torch_sees_it(monkeypatch) -> None:
    (data,) = converted(QUICKEST, "torch-export").files.values()
    monkeypatch.setattr(torch.export, "load", lambda *a, **k: pytest.fail("torch was asked to load it"))
    changes = {
        "weights_config": lambda text: text.replace(b'"use_pickle": false', b'"use_pickle": true'),
        "model.json": lambda text: text.replace(b"Symbol('s", b"__import__('os').system('true') or Symbol('s"),
        "sample_inputs": lambda text: b"\x80\x02.",
    }
    for part, change in changes.items():
        changed = repacked(data, lambda name, text: change(text) if part in name else text)  # noqa: B023
        with pytest.raises(ModelError, match=r"a \.pt2 file must hold"):
            pt2.load(changed)
    with pytest.raises(ModelError, match="must be an archive"):
        pt2.load(b"PK\x03\x04 and no more")


def test_the_bundle_holds_everything_and_its_checksums_are_right(tmp_path) -> None:
    needs("bundle")
    (data,) = converted(QUICKEST, "bundle").files.values()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)
    given = original(QUICKEST)
    assert (tmp_path / "model.psc").read_bytes() == given.exported
    assert Recipe.from_json((tmp_path / "recipe.json").read_text()) == INT8
    assert Record.from_dict(json.loads((tmp_path / "record.json").read_text())) == given.record
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    readme = (tmp_path / "README.md").read_text()
    assert f"{len(given.artefact):,} bytes" in readme and f"{given.record.figures.correct} of 797" in readme


def test_the_command_of_the_readme_gives_the_figures_of_the_record(tmp_path, monkeypatch) -> None:
    from paretoscope.cli.main import app
    from typer.testing import CliRunner

    (data,) = converted(QUICKEST, "bundle").files.values()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    (line,) = [line for line in (tmp_path / "README.md").read_text().splitlines() if " evaluate " in line]
    result = CliRunner().invoke(app, line.split()[3:])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads((tmp_path / "record.json").read_text())
    artefact = (tmp_path / "model.psc").read_bytes()
    (line,) = [line for line in (tmp_path / "README.md").read_text().splitlines() if " --out " in line]
    result = CliRunner().invoke(app, line.replace("--out model.psc", "--out again.psc").split()[3:])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again.psc").read_bytes() == artefact


def test_rounding_passes_and_more_than_rounding_does_not() -> None:
    given = original(QUICKEST)
    assert close_to_decoded(given.floats + np.float32(1e-5), given) is None
    assert "off by" in close_to_decoded(given.floats + np.float32(0.01), given)
    assert "off by inf" in close_to_decoded(np.full_like(given.floats, np.nan), given)


def test_the_distance_of_logits() -> None:
    ones = np.ones((2, 3), np.float32)
    assert distance(ones, ones * 3) == 2
    assert distance(ones, ones[:1]) == np.inf
    infinite = np.array([[np.inf, np.nan]])
    assert distance(infinite, infinite) == 0
    assert distance(infinite, np.zeros((1, 2))) == np.inf


def test_progress_rises_and_a_cancel_ends_the_work() -> None:
    given, seen = original(QUICKEST), []
    produce(given.compressed, "onnx", given.subject, progress=Calling(lambda share, *_: seen.append(share)))
    assert seen == sorted(seen) and seen[0] >= 0 and 0.6 < seen[-1] < 1

    def cancel(share: float | None, *_: object) -> None:
        if share > 0.7:
            raise Cancelled

    with pytest.raises(Cancelled):
        produce(given.compressed, "onnx", given.subject, progress=Calling(cancel))


def test_a_process_is_ended_when_its_work_is_cancelled(tmp_path) -> None:
    mark = tmp_path / "mark"
    script = f"import time, pathlib; time.sleep(1.5); pathlib.Path({str(mark)!r}).touch()"
    calls = []

    def check(*_: object) -> None:
        calls.append(None)
        if len(calls) > 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_process([sys.executable, "-c", script], Calling(check))
    assert not mark.exists()


@pytest.mark.slow
def test_a_process_that_fails_or_takes_too_long_is_told() -> None:
    with pytest.raises(ModelError, match="No such luck"):
        run_process([sys.executable, "-c", "raise SystemExit('No such luck')"], SILENT)
    with pytest.raises(ModelError, match="longer than 0 s"):
        run_process([sys.executable, "-c", "import time; time.sleep(60)"], SILENT, patience=0.3)
    with pytest.raises(CompressionError, match="it said nothing"):
        run_process([sys.executable, "-c", "import os; os._exit(3)"], SILENT)
