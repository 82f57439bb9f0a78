"""Files of other versions: what does not say how a file decodes never keeps it from being decoded; the rest is told."""

import copy
import json

import numpy as np
import pytest
from framing import FIGURES, frame, pack, sections, unpack
from paretoscope import codec
from paretoscope.base.errors import ArtefactError, ModelError, NewerArtefactError
from paretoscope.codec import payload, reader
from paretoscope.codec.description import described
from paretoscope.model.tensors import Codebook, Integers, Plain
from paretoscope.recipe.recipe import CODERS, Recipe
from samples import packed

SETTINGS = {"sparsity": 0.5, "clusters": 4, "bits": 4, "rest": "fp16"}
OVERRIDE = {"layers": "conv*", "bits": 2}

# What a later version may say in a recipe, what is known of it, and the names of what is not.
LATER = {
    "a setting": ({"quantize": {"bits": 4, "dither": 0.5}}, {"quantize": {"bits": 4}}, ("quantize.dither",)),
    "a value": (
        {"quantize": {"bits": 4, "calibration": "oracle"}},
        {"quantize": {"bits": 4}},
        ("quantize.calibration",),
    ),
    "a range": ({"share": {"clusters": 4096}}, {}, ("share",)),
    "a step": ({"distil": {"students": 3}}, {}, ("distil",)),
    "no step": ({"prune": "half"}, {}, ("prune",)),
    "a coder's setting": ({"code": {"coder": "CODER", "rest": "fp8"}}, {}, ("code.rest",)),
    "an override": (
        {"overrides": [OVERRIDE, {**OVERRIDE, "lanes": 2}]},
        {"overrides": [OVERRIDE]},
        ("overrides",),
    ),
    "a version": ({"version": 2, "prune": {"sparsity": 0.5}}, {"prune": {"sparsity": 0.5}}, ("version",)),
    "rules that exclude each other": (
        {"prune": {"sparsity": 0.5, "pattern": "2:4"}},
        {"prune": {"sparsity": 0.5}},
        ("prune.pattern",),
    ),
}


def changed(coder: str, **fields: object) -> bytes:
    """A file whose recipe says this."""
    header, streams = unpack(codec.write(packed(coder, **SETTINGS)))
    text = json.dumps({"version": 1, "code": {"coder": coder, "rest": "fp16"}, **fields}).replace("CODER", coder)
    return pack({**header, "recipe": json.loads(text)}, streams)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize(("fields", "known", "unknown"), LATER.values(), ids=LATER)
def test_a_recipe_that_says_more_than_is_known_gates_no_decoding(coder, fields, known, unknown):
    data, plain = changed(coder, **fields), packed(coder, **SETTINGS)
    model = codec.read(data)
    rest = {} if "code" in fields else {"rest": "fp16"}
    assert model.recipe == Recipe.from_dict({"version": 1, "code": {"coder": coder, **rest}, **known})
    assert len(model.notes) == 1 and ", ".join(unknown) in model.notes[0] and "damaged" not in model.notes[0]
    arrays = reader.read(data)
    assert list(arrays) == list(model.order)
    for name in plain.order:
        assert model.decode(name).tobytes() == plain.decode(name).tobytes() == arrays[name].tobytes()
    # Written again, it still says all that it said.
    again = codec.write(model)
    assert unpack(again)[0]["recipe"] == unpack(data)[0]["recipe"] == model.told
    assert codec.read(again).notes == model.notes


def test_a_recipe_that_is_known_is_told_as_it_is():
    model = codec.read(codec.write(packed("ans", **SETTINGS)))
    assert model.description is None and model.notes == () and model.told == model.recipe.to_dict()


def test_what_is_known_is_read_in_full_whatever_stands_around_it():
    everything = Recipe.of(
        **{**SETTINGS, "clusters": None, "nodes": 0.5, "rounding": "gptq", "epochs": 3, "overrides": [OVERRIDE]}
    )
    data = everything.to_dict()
    assert described(copy.deepcopy(data)) == (everything, ())
    for name in ("simplify", "prune", "quantize", "repair", "recover", "code"):
        assert described({**data, name: {**data[name], "later": [1]}}) == (everything, (f"{name}.later",))
    assert described({**data, "later": {}}) == (everything, ("later",))


def newer_files() -> dict[str, bytes]:
    data = codec.write(packed("ans", **SETTINGS))
    header, streams = unpack(data)
    found = sections(data)
    kinds = copy.deepcopy(header)
    kinds["tensors"][0][1] = "z9"
    return {
        "format 3": frame(found[b"H"], found[b"S"], version=3),
        "format 65535": frame(found[b"H"], b"", version=65535),
        "a field 'axes'": pack({**header, "axes": {}}, streams),
        "coder 'quantum'": pack({**header, "recipe": {"version": 1, "code": {"coder": "quantum"}}}, streams),
        "kind 'z9'": pack(kinds, streams),
    }


@pytest.mark.parametrize("what", newer_files())
def test_a_file_of_a_newer_version_is_said_to_be_one(what):
    data = newer_files()[what]
    with pytest.raises(NewerArtefactError, match="written by a newer version of this program") as raised:
        codec.read(data)
    with pytest.raises(reader.Damaged, match="a newer version wrote it") as told:
        reader.read(data)
    assert what in str(raised.value) and "Update the program" in str(raised.value)
    assert not any("amaged" in str(each.value) for each in (raised, told))


def test_a_file_of_an_earlier_format_is_said_to_be_one():
    found = sections(codec.write(packed("ans")))
    with pytest.raises(ArtefactError, match="has format 1, of an earlier version") as raised:
        codec.read(frame(found[b"H"], found[b"S"], version=1))
    assert not isinstance(raised.value, NewerArtefactError) and "amaged" not in str(raised.value)


def test_damage_is_never_called_a_newer_version():
    """Checksums are looked at before what they guard."""
    data = bytearray(newer_files()["kind 'z9'"])
    data[25] ^= 1
    with pytest.raises(ArtefactError, match="must match its checksum") as raised:
        codec.read(bytes(data))
    assert not isinstance(raised.value, NewerArtefactError)


NOT_FINITE = {
    "nan": np.nan,
    "inf": np.inf,
    "minus inf": -np.inf,
    "too large a product": np.float32(3e38),
}


def coded(scale: np.floating) -> dict[str, object]:
    """Tensors of codes with such a scale, each of which has a code whose product with it is not finite."""
    codes, scales = np.array([[0, 3], [2, -3]], np.int8), np.array([0.5, scale], np.float32)
    one = np.array(scale, np.float32)
    steps = np.array([[0, 4], [2, -2]], np.int8)
    found = {
        "q": Integers(codes, scales, 3),
        "qt": Integers(codes, one, 3),
        "q16": Integers(codes.astype(np.int16), scales, 16),
        "a": Integers(codes, scales, 3, np.array([0, -1], np.int8)),
        "d": Integers(steps, scales, 4, trellis=True),
        "kq": Codebook(np.array([[1, 0]], np.uint8), Integers(np.array([3], np.int8), one, 3)),
    }
    if not np.isfinite(scale):
        found["k"] = Codebook(np.array([[1, 0]], np.uint8), Plain(np.array([scale], np.float32)))
        found["zeros"] = Integers(np.zeros((2, 2), np.int8), one, 3)
    return found


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("scale", NOT_FINITE.values(), ids=NOT_FINITE)
def test_codes_that_are_not_numbers_are_refused(assemble, coder, scale, monkeypatch):
    for name, tensor in coded(scale).items():
        model = assemble({name: tensor}, coder=coder)
        with pytest.raises(ModelError, match=f"codes must stand for finite numbers; those of '{name}' do not"):
            codec.write(model)
        with monkeypatch.context() as patch:
            patch.setattr(payload, "_expect_readable", lambda model: None)
            data = codec.write(model)
        with pytest.raises(ArtefactError, match="codes must decode to finite numbers"):
            codec.read(data)
        with pytest.raises(reader.Damaged, match="must decode to finite numbers"):
            reader.read(data)


@pytest.mark.parametrize("coder", CODERS)
def test_a_scale_at_the_end_of_the_range_is_read(assemble, coder):
    """3e38 is finite, and so is its product with 1; plain values stay what they are."""
    tensors = {
        "q": Integers(np.array([[1, -1], [0, 1]], np.int8), np.array([3e38, 1], np.float32), 8),
        "plain": Plain(np.array([[np.nan, np.inf], [-np.inf, 1]], np.float32)),
    }
    model = codec.read(codec.write(assemble(tensors, coder=coder)))
    np.testing.assert_array_equal(model.decode("q"), np.float32([[3e38, -3e38], [0, 1]]))
    np.testing.assert_array_equal(model.decode("plain"), tensors["plain"].values)
    found = reader.read(codec.write(model))
    for name in tensors:
        np.testing.assert_array_equal(found[name], model.decode(name))


def test_figures_of_a_newer_recipe_are_still_read():
    header, streams = unpack(codec.write(packed("ans"), codec.Figures(797, 790, 795, 0.01, "0123456789abcdef")))
    header["recipe"]["later"] = True
    found = sections(codec.write(packed("ans"), codec.Figures(797, 790, 795, 0.01, "0123456789abcdef")))
    data = pack(header, streams, figures=found[b"F"])
    assert found[b"F"] != FIGURES and codec.read_figures(data).correct == 790
    assert codec.read_origin(data) == (header["source"], codec.read(data).recipe)
