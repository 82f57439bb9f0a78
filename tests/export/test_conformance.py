"""What every export format promises: whatever is registered and installed is walked, a new one as the others."""

import sys
from pathlib import Path

import onnx
import pytest
from conversions import INT8, QUICKEST, RATE, checked, converted, needs, original, verified
from paretoscope import codec, export
from paretoscope.base.errors import RecipeError
from paretoscope.export import Conversion, Format, base, convert, formats, produce, verify
from paretoscope.export.weights import read_codes
from paretoscope.model.tensors import Integers
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe

# A conversion to TFLite takes up to a minute: one of a model of each family, and no more.
FAMILIES = ("lenet-300-100", "mobilenet-v2", "vit-tiny")
INSTALLED = [each.name for each in formats if each.available() and each.name != "tflite"]
INTEGER_ONLY = [each.name for each in formats if each.integer_only]
# Their files are written by libraries that promise no equal bytes.
OTHERS = ("torch-export", "openvino", "openvino-int8")


@pytest.mark.parametrize("each", formats, ids=lambda each: each.name)
def test_it_is_described(each: Format) -> None:
    assert formats.get(each.name) is each
    assert each.title.strip() and each.summary.strip()
    assert each.available() == (each.missing() is None)


def test_a_module_of_the_folder_adds_its_formats_and_nothing_else_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tested.py").write_text(
        "import dataclasses\n"
        "from paretoscope.export.config import CONFIG\n"
        "FORMATS = [dataclasses.replace(CONFIG, name='tested', place=35)]\n"
    )
    (tmp_path / "tested_worker.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.setattr(export, "__path__", [*export.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "paretoscope.export.tested", raising=False)
    names = [each.name for each in base._registered()]
    assert names[3] == "tested" and tuple(name for name in names if name != "tested") == formats.names()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "format"),
    [
        (model, format)
        for model in zoo.models_of("digits")
        for format in formats.names()
        if format != "tflite" or model in FAMILIES
    ],
)
def test_every_model_in_every_format_says_what_the_screen_says(model: str, format: str) -> None:
    needs(format)
    given, conversion, found = original(model), converted(model, format), verified(model, format)
    assert found.problem is None and found.passed
    assert (found.format, found.n) == (format, 797)
    assert found.size == sum(len(data) for data in conversion.files.values()) > 0
    # Against the record of the screen, which is another computation.
    assert abs(found.correct - given.record.figures.correct) <= found.differing <= 8
    if formats.get(format).promise == "bit for bit":
        assert (found.differing, found.largest) == (0, 0.0)
        assert found.correct == given.record.figures.correct


@pytest.mark.parametrize("format", [name for name in INSTALLED if name not in INTEGER_ONLY])
def test_float_recipes_have_the_accuracy_of_the_screen_in_every_format(format: str) -> None:
    recipe = Recipe.of(sparsity=0.7, bits=6, symmetric=False, rest="fp16")
    given, conversion = original(QUICKEST, recipe), converted(QUICKEST, format, recipe)
    found = checked(conversion, recipe)
    assert found.passed and found.differing == 0 and found.largest < 1e-4
    assert found.correct == given.record.figures.correct


@pytest.mark.slow
@pytest.mark.parametrize("format", [name for name in INSTALLED if name != "bundle"])
@pytest.mark.parametrize("model", ["resnet-20", "vit-tiny"])
def test_codes_on_a_trellis_and_integer_rest_in_every_format(model: str, format: str) -> None:
    recipe = Recipe.of(**RATE)
    given, conversion = original(model, recipe), converted(model, format, recipe)
    assert all(tensor.trellis for tensor in given.compressed.weights.values())
    assert any(isinstance(tensor, Integers) for tensor in given.compressed.rest.values())
    found = verify(conversion, given.subject, given.compressed, original=given)
    assert found.problem is None and found.differing <= 8
    if format == "safetensors-codes":
        (data,) = conversion.files.values()
        assert codec.write(read_codes(data)) == given.artefact
    if format == "onnx-int8":
        (data,) = conversion.files.values()
        inside = {onnx.numpy_helper.to_array(each).tobytes() for each in onnx.load_from_string(data).graph.initializer}
        layers = given.network.layers.values()
        assert layers and all(layer.codes.tobytes() in inside for layer in layers)


def tampered(format: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with something inside the weights changed, or with another recipe."""
    name = max(files, key=lambda name: len(files[name]))
    data = bytearray(files[name])
    if format == "config":
        data = data.replace(b'"bits": 8', b'"bits": 7').replace(b"bits: 8", b"bits: 7")
    else:
        middle, length = len(data) // 2, min(4096, len(data) // 4)
        data[middle : middle + length] = bytes(byte ^ 0x5A for byte in data[middle : middle + length])
    assert bytes(data) != files[name]
    return {**files, name: bytes(data)}


@pytest.mark.parametrize("format", INSTALLED)
def test_a_changed_file_fails_its_check_and_the_right_one_passes(format: str) -> None:
    conversion = converted(QUICKEST, format)
    found = checked(Conversion(format, tampered(format, dict(conversion.files))))
    assert not found.passed
    assert found.problem.startswith(f"{format} failed its check: ")
    assert verified(QUICKEST, format).passed


@pytest.mark.parametrize("format", INSTALLED)
@pytest.mark.parametrize(
    "data", [b"", b"not a file of any kind", b"PK\x05\x06" + bytes(18)], ids=("empty", "text", "zip")
)
def test_what_is_no_file_of_the_format_fails_its_check(format: str, data: bytes) -> None:
    name, *_ = converted(QUICKEST, format).files
    found = checked(Conversion(format, {name: data}))
    assert not found.passed and found.n == 0 and found.accuracy is None
    assert found.problem.startswith(f"{format} failed its check: ")


@pytest.mark.parametrize("format", [name for name in INSTALLED if name != "config"])
def test_the_file_of_another_recipe_fails_its_check(format: str) -> None:
    harsher = Recipe.of(sparsity=0.9, bits=3, activations=8, rest="fp16")
    found = checked(converted(QUICKEST, format, harsher))
    assert not found.passed


@pytest.mark.parametrize("format", INTEGER_ONLY)
def test_integer_files_of_a_float_recipe_are_refused_with_the_remedy(format: str) -> None:
    needs(format)
    given = original(QUICKEST, Recipe.of(bits=8))
    with pytest.raises(RecipeError, match=r"needs integer activations; the recipe is: 8 bits\. Choose 8 bits or fewer"):
        convert(given.compressed, format, given.subject)
    result = produce(given.compressed, format, given.subject)
    assert result.conversion is None and "Choose 8 bits or fewer" in result.verification.problem


def test_names_of_all_formats_are_different() -> None:
    names = [name for format in INSTALLED for name in converted(QUICKEST, format).files]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("format", [name for name in INSTALLED if name not in OTHERS])
def test_equal_models_give_equal_files(format: str) -> None:
    given = original(QUICKEST)
    again = convert(given.subject.compress(INT8), format, given.subject)
    assert again.files == converted(QUICKEST, format).files
