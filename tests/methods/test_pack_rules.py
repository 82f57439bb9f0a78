"""What `pack` makes of each tensor of a state dict: which are weights, the form they take, what is told."""

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from paretoscope import codec
from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.codec import artefact, container, reader
from paretoscope.methods.pack import pack, save_weights, share_touched
from paretoscope.model.packed import PackedModel
from paretoscope.model.tensors import Codebook, Integers, Plain
from paretoscope.recipe.recipe import CODERS, Recipe

FINITE = {torch.float16: 65504.0, torch.bfloat16: 3.3895313892515355e38, torch.float32: 3.4028234663852886e38}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def packed(state: dict[str, torch.Tensor], **settings: object) -> PackedModel:
    """The model as it is read back from its file."""
    model = pack(state, Recipe.of(**settings))
    return dataclasses.replace(codec.read(codec.write_checked(model)), notes=model.notes)


def size(state: dict[str, torch.Tensor], **settings: object) -> int:
    return len(codec.write(pack(state, Recipe.of(**settings))))


BY_RATE = {"bits": 12, "calibration": "rate", "weighting": "magnitude", "exchange": 1e-3}
MASKS = {
    "-inf": torch.where(drawn(8, 9) > 0, 0.0, -torch.inf),
    "-1e9": torch.where(drawn(8, 9) > 0, 0.0, -1e9),
    "least float32": torch.where(drawn(8, 9) > 0, 0.0, torch.finfo(torch.float32).min),
    "least float16 in float32": torch.where(drawn(8, 9) > 0, 0.1, torch.finfo(torch.float16).min),
    "least bfloat16": torch.where(drawn(8, 9) > 0, 0.0, torch.finfo(torch.bfloat16).min).bfloat16(),
    "causal": torch.tril(torch.ones(8, 8)),
    "nan": torch.full((8, 9), torch.nan),
}
SETTINGS = [{"bits": 8}, {"bits": 4, "symmetric": False}, {"bits": 1}, {"clusters": 4}, {"sparsity": 0.5}, BY_RATE]


class TestWhatIsNoWeight:
    @pytest.mark.parametrize("settings", SETTINGS, ids=str)
    @pytest.mark.parametrize("mask", MASKS)
    def test_masks_come_back_bit_for_bit_beside_weights_that_are_compressed(self, mask, settings):
        found = packed({"a.weight": drawn(16, 16), "attn.bias": MASKS[mask]}, **settings)
        back = found.state_dict()["attn.bias"]
        assert save_weights({"x": back}) == save_weights({"x": MASKS[mask]})
        assert set(found.weights) == {"a.weight"} and not torch.equal(back.new_tensor(0), back)
        assert any(note.startswith("Kept as they are, for ") and "attn.bias" in note for note in found.notes)

    @pytest.mark.parametrize(
        "name",
        [
            *("mask", "attn.causal_mask", "h.0.attn.masked_bias", "position_ids", "rope.inv_freq", "bn.running_var"),
            *("x.relative_position_index", "rope.cos_cached", "rope.sin_cached", "detect.anchors"),
            *("detect.anchor_grid", "attn.relative_coords_table"),
        ],
    )
    def test_buffers_are_known_by_their_names(self, name):
        found = packed({name: drawn(8, 9), "w.weight": drawn(9, 8)}, bits=4)
        assert set(found.weights) == {"w.weight"} and torch.equal(found.state_dict()[name], drawn(8, 9))
        assert f"Kept as they are, for names of buffers: {name}. An override that names one makes it a weight." in (
            found.notes
        )

    @pytest.mark.parametrize("name", ["mask_token", "mask.weight", "position_embeddings", "anchors_head.weight", "w"])
    def test_weights_of_similar_names_are_weights(self, name):
        assert set(pack({name: drawn(8, 9)}, Recipe.of(bits=4)).weights) == {name}

    @pytest.mark.parametrize(
        "tensor", [torch.zeros(8, 9), torch.ones(8, 9), -torch.ones(2, 1), drawn(8, 9).sign()], ids=str
    )
    def test_what_is_in_them_makes_no_mask_of_these(self, tensor):
        """All zeros, as lora_B starts; gains of one; and signs, of which none is 0."""
        assert set(pack({"w": tensor}, Recipe.of(bits=8)).weights) == {"w"}

    @pytest.mark.parametrize("rest", ["fp16", "rate"])
    def test_they_keep_their_digits_whatever_the_rest_becomes(self, rest):
        """The format of the rest is for biases and normalisation."""
        steps = torch.full((64,), 1e4).pow(-torch.arange(64) / 64)
        exact = {"rope.inv_freq": steps, "a.mask": MASKS["-1e9"] / 3, "t.coords_table": drawn(5, 6), "n": MASKS["nan"]}
        broken = torch.tensor([0.1, torch.nan])
        state = {**exact, "broken": broken, "a.bias": drawn(90), "bn.running_mean": drawn(90), "a.weight": drawn(90, 9)}
        found = packed(state, **BY_RATE, rest=rest)
        back = found.state_dict()
        for name in [*exact, "broken"]:
            assert back[name].view(torch.int32).equal(state[name].view(torch.int32)), name
            assert any(name in note for note in found.notes), name
        assert not torch.equal(back["a.bias"], state["a.bias"])
        assert not torch.equal(back["bn.running_mean"], state["bn.running_mean"])

    def test_nothing_is_told_of_a_file_that_changes_nothing(self):
        state = {"a.mask": MASKS["-inf"], "w": drawn(8, 9), "d": drawn(8, 9).double()}
        assert packed(state).notes == ()


STATE = {
    "a.weight": drawn(16, 16),
    "a.bias": drawn(4096),
    "a.mask": MASKS["-1e9"],
    "inf": MASKS["-inf"],
    "ids": torch.arange(9),
    "f8": drawn(8, 9).to(torch.float8_e4m3fn),
    "scalar": torch.tensor(2.0),
    "none": torch.zeros(0, 3),
    "wide": drawn(8, 9).double() * 1e300,
}


class TestOverrides:
    @pytest.mark.parametrize("name", ["a.bias", "a.mask"])
    def test_they_reach_what_they_name(self, name):
        found = packed(STATE, overrides=[{"layers": name, "bits": 8}])
        assert isinstance(found.weights[name], Integers) and found.weights[name].bits == 8
        assert isinstance(found.weights["a.weight"], Plain)
        assert found.state_dict()[name].isfinite().all()
        assert not any(name in note for note in found.notes)

    def test_a_pattern_that_matches_weights_makes_none_of_the_others(self):
        found = packed(STATE, overrides=[{"layers": "a*", "bits": 8}])
        assert isinstance(found.weights["a.weight"], Integers) and not {"a.bias", "a.mask"} & set(found.weights)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("inf", "inf has values that are not finite"),
            ("ids", "ids has no floats"),
            ("f8", "f8 has floats of 8 bits already"),
            ("scalar", "scalar has one value without an axis"),
            ("none", "none has no values"),
            ("wide", "wide has values beyond 32-bit floats"),
            ("i*", "ids has no floats, inf has values that are not finite"),
        ],
    )
    def test_what_they_cannot_reach_is_told_with_a_remedy_that_works(self, name, said):
        state = dict(sorted(STATE.items()))
        with pytest.raises(RecipeError, match="Leave that override out") as caught:
            pack(state, Recipe.of(bits=8, overrides=[{"layers": name, "bits": 4}]))
        assert said in str(caught.value)
        pack(state, Recipe.of(bits=8))

    def test_a_name_that_is_not_there_is_told(self):
        with pytest.raises(RecipeError, match=r"must match a layer; got 'a.bais'.*Did you mean a.bias"):
            pack(STATE, Recipe.of(overrides=[{"layers": "a.bais", "bits": 8}]))


class TestTypes:
    @pytest.mark.parametrize("dtype", FINITE, ids=str)
    def test_what_decodes_is_finite_and_within_the_type(self, dtype):
        """Near the limit of the type, off it by a little, so that nothing takes it for a mask."""
        limit = FINITE[dtype]
        values = (drawn(8, 16).double() * 0.1 * limit).clamp(-limit, limit)
        values[0, 0], values[1, 1], values[2] = 0.99 * limit, -0.98 * limit, 0.97 * limit
        given = values.to(dtype)
        assert given.isfinite().all() and given.abs().max() < limit
        grids = product((2, 3, 4, 8), ("range", "mse", "kl", "percentile"), (True, False), ("channel", "tensor"))
        tried = [
            {"bits": b, "calibration": c, "symmetric": s, "granularity": g}
            for b, c, s, g in grids
        ]  # fmt: skip
        tried += [{"bits": 1}, {"clusters": 4}, {"clusters": 4, "bits": 4}]
        tried += [{**BY_RATE, "bits": b, "exchange": e} for b in (2, 4, 12, 16) for e in (1e-9, 1e-3, 10)]
        for settings in tried:
            found = pack({"w": given}, Recipe.of(**settings))
            assert set(found.weights) == {"w"}
            assert found.state_dict()["w"].isfinite().all() and found.state_dict()["w"].dtype == dtype, settings

    def test_wide_floats_are_told_where_they_lose_digits_and_stay_where_no_step_acts(self):
        state = {"d": drawn(8, 9).double() / 3, "w": drawn(8, 9)}
        note = "Rounded from 64-bit floats to 32-bit ones: d."
        found = packed(state, sparsity=0.5)
        assert note in found.notes and found.state_dict()["d"].dtype == torch.float64
        for settings in ({}, {"rest": "fp16"}):
            found = packed(state, **settings)
            assert note not in found.notes and torch.equal(found.state_dict()["d"], state["d"])

    def test_wide_floats_beyond_narrow_ones_are_kept(self):
        state = {"d": drawn(8, 9).double() * 1e300, "w": drawn(8, 9)}
        found = packed(state, bits=8)
        assert torch.equal(found.state_dict()["d"], state["d"])
        assert "Kept as they are, for values beyond 32-bit floats: d." in found.notes


class TestTheSmallerForm:
    # These bytes are the header's text, where a recipe stands in it, and the tables of frequencies.
    SLACK = 64

    @pytest.mark.parametrize("coder", ["ans", "context"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("shape", [(64, 64), (256, 16), (512, 1, 3, 3), (512, 1, 1)], ids=str)
    def test_no_number_of_bits_makes_a_file_larger_than_no_change(self, shape, dtype, coder):
        state = {"w": drawn(*shape).to(dtype)}
        most = size(state, coder=coder) + self.SLACK
        for bits in (2, 8, 10, 12, 14, 16):
            for more in ({}, {"symmetric": False}, {**BY_RATE, "exchange": 1e-9}):
                assert size(state, coder=coder, **{**more, "bits": bits}) <= most, (bits, more)

    @pytest.mark.parametrize("shape", [(4, 4), (16, 16), (64, 8)], ids=str)
    def test_nor_do_shared_values(self, shape):
        state = {"w": drawn(*shape)}
        for settings in ({"clusters": 256}, {"clusters": 256, "sparsity": 0.5}, {"clusters": 16, "bits": 8}):
            assert size(state, **settings) <= size(state) + self.SLACK, settings

    def test_floats_that_stay_are_those_that_pruning_left(self):
        weight = drawn(16, 16)
        found = packed({"w": weight}, clusters=256, sparsity=0.5)
        assert isinstance(found.weights["w"], Plain)
        cut = weight.abs().flatten().sort().values[127]
        assert torch.equal(found.state_dict()["w"], torch.where(weight.abs() > cut, weight, 0.0))

    def test_what_codes_make_smaller_stays_codes(self):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            state = {"w": drawn(64, 64).to(dtype)}
            assert all(isinstance(pack(state, Recipe.of(bits=b)).weights["w"], Integers) for b in range(1, 9)), dtype
            assert isinstance(pack(state, Recipe.of(clusters=16)).weights["w"], Codebook)
        assert isinstance(pack({"w": drawn(64, 64)}, Recipe.of(bits=16)).weights["w"], Integers)

    def test_the_share_that_a_recipe_touched(self):
        state = {"scale": drawn(512, 1, 1), "w": drawn(64, 24), "b": torch.ones(64)}
        assert share_touched(pack(state, Recipe.of(bits=8)), state) == pytest.approx(1536 / (512 + 1536 + 64))
        assert share_touched(pack(state, Recipe()), state) == 0
        assert share_touched(pack({}, Recipe()), {}) == 0


class TestTies:
    W = drawn(40, 30)

    @pytest.mark.parametrize("coder", CODERS)
    def test_they_cost_a_name_and_come_back_as_tensors_of_their_own(self, coder):
        state = {"emb.weight": self.W, "mid": drawn(5, 5), "head.weight": self.W.clone()}
        alone = {name: state[name] for name in ("emb.weight", "mid")}
        assert size(state, bits=8, coder=coder) < size(alone, bits=8, coder=coder) + 40
        back = packed(state, bits=8, coder=coder).state_dict()
        assert list(back) == list(state) and torch.equal(back["emb.weight"], back["head.weight"])
        assert back["emb.weight"].data_ptr() != back["head.weight"].data_ptr()
        save_weights(back)

    @pytest.mark.parametrize(
        "other",
        [W.reshape(30, 40), W.double(), W + 0.0 * W.sign() + torch.eye(40, 30) * 1e-7, W.clamp(max=2.0)],
        ids=["shape", "type", "bit", "value"],
    )
    def test_what_is_not_the_same_is_not_tied(self, other):
        assert pack({"a": self.W, "b": other}, Recipe.of(bits=8)).ties == {}

    def test_zeros_of_two_signs_are_not_the_same(self):
        assert pack({"a": torch.zeros(9, 9), "b": -torch.zeros(9, 9)}, Recipe()).ties == {}

    def test_an_override_of_one_of_them_parts_them(self):
        found = packed({"a": self.W, "b": self.W.clone()}, bits=4, overrides=[{"layers": "b", "bits": 8}])
        assert found.ties == {} and (found.weights["a"].bits, found.weights["b"].bits) == (4, 8)
        both = packed({"a": self.W, "b": self.W.clone()}, bits=4, overrides=[{"layers": "?", "bits": 8}])
        assert both.ties == {"b": "a"} and both.weights["a"].bits == 8

    def test_a_weight_is_no_buffer_because_it_equals_one(self):
        found = packed({"a.mask": self.W, "b.weight": self.W.clone()}, bits=4)
        assert found.ties == {} and set(found.weights) == {"b.weight"}
        assert torch.equal(found.state_dict()["a.mask"], self.W)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2, torch.int64, torch.bool], ids=str)
    def test_of_every_type(self, dtype):
        tensor = (self.W * 3).to(dtype)
        found = packed({"a": tensor, "b": tensor.clone()})
        assert found.ties == {"b": "a"}
        assert all(
            torch.equal(each.view(torch.uint8), tensor.view(torch.uint8)) for each in found.state_dict().values()
        )

    def test_the_standalone_reader_finds_both_and_ignores_metadata(self):
        model = pack({"a": self.W, "b": self.W.clone()}, Recipe.of(bits=8), {"license": "mit"})
        found = reader.read(codec.write(model))
        assert list(found) == ["a", "b"]
        assert all(np.array_equal(found[name], model.decode(name)) for name in found)


class TestWhatIsWrittenCanBeRead:
    @pytest.mark.parametrize("axes", [32, 33, 40])
    def test_axes(self, axes):
        state = {"w": torch.zeros([1] * axes)}
        if axes <= 32:
            assert packed(state).state_dict()["w"].shape == state["w"].shape
            return
        with pytest.raises(ModelError, match="tensors of fewer axes") as caught:
            codec.write(pack(state, Recipe()))
        assert "damaged" not in str(caught.value)
        packed({"w": state["w"].flatten(1)})

    def test_names(self):
        with pytest.raises(ModelError, match="Shorten names"):
            codec.write(pack({"w" * 1_000_000: torch.zeros(2)}, Recipe()))
        for name in ("", "a\nb", "a\0b", "ü" * 1000, "🦆", '"\\', "w" * 10_000):
            assert list(packed({name: drawn(3, 3)}, bits=8).state_dict()) == [name]

    def test_half_of_a_character(self):
        with pytest.raises(ModelError, match=r"half of a character. Rename that tensor") as caught:
            pack({"w\ud800": drawn(3, 3)}, Recipe.of(bits=8))
        str(caught.value).encode()

    def test_metadata(self):
        texts = {"": "", "a\n": "🦆", "long": "x" * 60_000}
        model = pack({"w": drawn(3, 3)}, Recipe.of(bits=8), texts)
        assert codec.read(codec.write_checked(model)).metadata == texts
        draw = np.random.default_rng(0).integers(97, 123, 5_000_000, np.uint8).tobytes().decode()
        with pytest.raises(ModelError, match=r"longer than 4194304 bytes.*Shorten names or metadata"):
            codec.write(pack({"w": drawn(3, 3)}, Recipe(), {"a": draw}))

    def test_values(self, monkeypatch):
        monkeypatch.setattr(container, "MAX_VALUES", 99)
        state = {"a": drawn(50), "b": drawn(50)}
        with pytest.raises(ModelError, match=r"at most 99 values; got 100. Pack the weights in parts"):
            codec.write(pack(state, Recipe()))
        for name in state:
            packed({name: state[name]})

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda m: {"order": m.order[::-1]}, "the order of the tensors"),
            (lambda m: {"metadata": {}}, "metadata"),
            (lambda m: {"dtypes": {}}, "dtypes"),
            (lambda m: {"rest": {**m.rest, "b": Plain(m.rest["b"].values + np.float32(1))}}, "b"),
            (lambda m: {"rest": {**m.rest, "b": Plain(m.rest["b"].values.reshape(1, -1))}}, "b"),
        ],
    )
    def test_a_file_that_reads_back_otherwise_is_not_given_out(self, monkeypatch, change, said):
        model = pack({"w": drawn(3, 3).bfloat16(), "b": drawn(5)}, Recipe.of(bits=8), {"a": "b"})
        true = artefact.read
        assert codec.write_checked(model) == codec.write(model)

        def changed(data: bytes) -> PackedModel:
            found = true(data)
            return dataclasses.replace(found, **change(found))

        monkeypatch.setattr(artefact, "read", changed)
        with pytest.raises(ModelError, match=f"must read back bit for bit; '{said}' does not"):
            codec.write_checked(model)


@pytest.mark.parametrize("settings", [{}, *SETTINGS], ids=str)
@pytest.mark.parametrize(
    "state",
    [{}, {"none": torch.zeros(0, 3)}, {"none": torch.zeros(3, 0)}, {"s": torch.tensor(2.5)}, {"w": torch.zeros(1, 1)}],
    ids=str,
)
def test_next_to_nothing_comes_back(state, settings):
    back = packed(state, **settings).state_dict()
    assert list(back) == list(state) and all(torch.equal(back[name], state[name]) for name in state)
