"""Structure and ties in the header: what simplified networks and tied weights write, what a hostile file may say."""

import copy
from typing import Any

import pytest
import torch
from framing import pack, unpack
from memory import tracing
from paretoscope import codec
from paretoscope.base.errors import ArtefactError, ModelError, UnknownNameError
from paretoscope.codec import container, reader
from paretoscope.measure.variant import Variant
from paretoscope.methods.pack import pack as packed_of
from paretoscope.methods.pipeline import compress
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe

SURROGATE = "\ud800"


def simplified(name: str, **settings: Any) -> bytes:
    model, recipe = zoo.load_model(name), Recipe.of(**settings)
    entry = zoo.models.get(name)
    images = zoo.load_data(entry.dataset, entry.input_shape).calibration[:16]
    variant = Variant.of(model, ModelStatistics.of(model, name), recipe.simplify, images)
    return codec.write(variant.compress(recipe))


@pytest.fixture(scope="module")
def dropped() -> tuple[dict[str, Any], bytes]:
    """Header and streams of a ResNet-20 without two blocks and without batch normalisation, narrower and factored."""
    settings = {"drop": ("stage1.1", "stage3.2"), "fold": True, "nodes": 0.4, "energy": 0.7, "bits": 4}
    return unpack(simplified("resnet-20", **settings))


@pytest.fixture(scope="module")
def plain() -> tuple[dict[str, Any], bytes]:
    model = zoo.load_model("lenet-300-100")
    return unpack(codec.write(compress(ModelStatistics.of(model, "lenet-300-100"), Recipe.of(bits=4))))


def assert_refused_somewhere(header: dict[str, Any], streams: bytes) -> None:
    with pytest.raises((ArtefactError, ModelError, UnknownNameError)) as raised:
        codec.read(pack(header, streams)).build()
    message = str(raised.value)
    assert 10 < len(message) < 1000
    message.encode()


class TestStructure:
    def test_is_written_as_plain_names(self, dropped):
        header, streams = dropped
        assert set(header["structure"]) == {"dropped", "folded", "factored"}
        assert header["structure"]["dropped"] == ["stage1.1", "stage3.2"]
        assert all(type(rank) is int for _, rank in header["structure"].get("factored", []))
        read = codec.read(pack(header, streams))
        assert read.structure.to_dict() == header["structure"]
        assert codec.write(read) == codec.write(codec.read(codec.write(read)))
        assert isinstance(read.build(), torch.nn.Module)

    def test_is_absent_where_nothing_changed(self, plain):
        header, _ = plain
        assert list(header) == ["architecture", "source", "recipe", "tensors"]

    @pytest.mark.parametrize(
        "value",
        [
            None,
            3,
            "dropped",
            [],
            ["dropped"],
            {"widths": [1]},
            {"dropped": "stage1.1"},
            {"dropped": []},
            {"dropped": [3]},
            {"dropped": [["stage1.1"]]},
            {"dropped": {"stage1.1": 1}},
            {"folded": ["conv"]},
            {"folded": [["conv"]]},
            {"folded": [["conv", "norm", "more"]]},
            {"folded": [["conv", 1]]},
            {"merged": [["conv", None]]},
            {"factored": [["conv", "4"]]},
            {"factored": [["conv", 0]]},
            {"factored": [["conv", -1]]},
            {"factored": [["conv", True]]},
            {"factored": [["conv", 1.0]]},
            {"factored": [[1, 1]]},
        ],
        ids=str,
    )
    def test_of_another_form_is_refused_by_the_reader(self, plain, value):
        header, streams = plain
        with pytest.raises(ArtefactError, match="damaged"):
            codec.read(pack({**header, "structure": value}, streams))

    @pytest.mark.parametrize(
        "value",
        [
            {"dropped": ["stage1.0"]},
            {"dropped": ["no such block"]},
            {"dropped": [""]},
            {"dropped": [SURROGATE]},
            {"dropped": ["x" * 100_000]},
            {"dropped": ["stage1.1", "stage1.1"]},
            {"dropped": ["__class__"]},
            {"folded": [["no", "such"]]},
            {"folded": [["", ""]]},
            {"folded": [["stage1.1", "stage1.2"]]},
            {"merged": [["no", "such"]]},
            {"factored": [["no such layer", 2]]},
            {"factored": [["", 1]]},
            {"factored": [["stage1.1", 10**30]]},
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_of_unknown_modules_is_refused_by_the_builder(self, dropped, value):
        header, streams = dropped
        assert_refused_somewhere({**header, "structure": value}, streams)

    @pytest.mark.slow
    def test_every_item_matters(self, dropped):
        """Without one of its changes the structure no longer fits the tensors."""
        header, streams = dropped
        for name, items in header["structure"].items():
            for i in range(len(items)):
                less = copy.deepcopy(header)
                del less["structure"][name][i]
                if not less["structure"][name]:
                    del less["structure"][name]
                assert_refused_somewhere(less, streams)

    @pytest.mark.parametrize("name", ["", "lenet-5", "no such model", "../lenet-5", SURROGATE, "x" * 500])
    def test_of_another_architecture_is_refused(self, dropped, name):
        header, streams = dropped
        assert_refused_somewhere({**header, "architecture": name}, streams)

    def test_of_an_architecture_that_did_not_change_is_refused(self, plain):
        header, streams = plain
        assert_refused_somewhere({**header, "structure": {"dropped": ["fc1"]}}, streams)
        assert_refused_somewhere({**header, "structure": {"factored": [["fc1", 2]]}}, streams)

    def test_a_hostile_one_takes_no_memory(self, plain):
        header, streams = plain
        files = [
            pack({**header, "structure": {"factored": [["fc1", 2**40]]}}, streams),
            pack({**header, "structure": {"dropped": ["fc1"] * 100_000}}, streams),
            pack({**header, "structure": {"folded": [["fc1", "fc2"]] * 100_000}}, streams),
        ]
        for data in files:
            with tracing() as peak:
                with pytest.raises(ArtefactError):
                    codec.read(data).build()
                assert peak() < 100 * 2**20


class TestTies:
    def test_a_tied_name_decodes_to_the_tensor_of_the_other(self, plain):
        header, streams = plain
        names = [name for name, _, _ in header["tensors"]]
        ties = [[1, "first", names[0]], [4, "second", names[2]], [len(names) + 2, "last", names[-1]]]
        model = codec.read(pack({**header, "ties": ties}, streams))
        assert model.order == (names[0], "first", *names[1:3], "second", *names[3:], "last")
        assert model.ties == {"first": names[0], "second": names[2], "last": names[-1]}
        state = model.state_dict()
        for name, target in model.ties.items():
            assert torch.equal(state[name], state[target])
            assert name not in model.weights and name not in model.rest
        again, written = unpack(codec.write(model))
        assert (again["ties"], written) == (ties, streams)

    @pytest.mark.parametrize(
        "ties",
        [
            None,
            3,
            "ties",
            {"a": 1},
            [None],
            [[]],
            [[1, "a"]],
            [[1, "a", "fc1.weight", "b"]],
            [["1", "a", "fc1.weight"]],
            [[1.0, "a", "fc1.weight"]],
            [[True, "a", "fc1.weight"]],
            [[None, "a", "fc1.weight"]],
            [[1, 7, "fc1.weight"]],
            [[1, None, "fc1.weight"]],
            [[1, ["a"], "fc1.weight"]],
            [[1, SURROGATE, "fc1.weight"]],
            [[1, "a", 7]],
            [[1, "a", None]],
            [[1, "a", ["fc1.weight"]]],
            [[1, "a", "no such tensor"]],
            [[1, "a", "a"]],
            [[1, "a", "fc1.weight"], [2, "b", "a"]],
            [[1, "fc1.weight", "fc1.weight"]],
            [[1, "fc2.weight", "fc1.weight"]],
            [[1, "a", "fc1.weight"], [2, "a", "fc1.weight"]],
            [[0, "a", "fc1.weight"]],
            [[-1, "a", "fc1.weight"]],
            [[-(10**40), "a", "fc1.weight"]],
            [[7, "a", "fc1.weight"]],
            [[10**40, "a", "fc1.weight"]],
            [[2, "a", "fc1.weight"], [2, "b", "fc1.weight"]],
            [[2, "a", "fc1.weight"], [1, "b", "fc1.weight"]],
            [[1, [[[["deep"] * 9] * 9] * 9] * 9, "fc1.weight"]],
        ],
        ids=lambda value: str(value)[:60],
    )
    def test_hostile_ones_are_refused_by_the_reader(self, plain, ties):
        header, streams = plain
        assert len(header["tensors"]) == 6
        with pytest.raises(ArtefactError, match="damaged") as raised:
            codec.read(pack({**header, "ties": ties}, streams))
        assert len(str(raised.value)) < 1000
        str(raised.value).encode()

    def test_a_model_with_names_that_the_architecture_has_not_is_not_built(self, plain):
        header, streams = plain
        data = pack({**header, "ties": [[6, "fc4.bias", "fc3.bias"]]}, streams)
        with pytest.raises(ArtefactError, match=r"fc4\.bias"):
            codec.read(data).build()
        with pytest.raises(ModelError, match=r"fc4\.bias"):
            codec.read(data).load_into(zoo.build("lenet-300-100"))

    @pytest.mark.slow
    def test_many_are_read(self, plain):
        """A header may hold a hundred thousand: a reader that takes time with their square does not end here."""
        header, streams = plain
        count = 100_000
        bias = header["tensors"][-1]
        assert bias[0] == "fc3.bias"
        ties = [[6 + i, f"t{i}", "fc3.bias"] for i in range(count)]
        model = codec.read(pack({**header, "ties": ties}, streams))
        assert len(model.order) == 6 + count
        assert model.order[:7] == (*(name for name, _, _ in header["tensors"]), "t0")

    def test_a_small_file_cannot_decode_to_a_large_model(self, plain, monkeypatch):
        """Every name is decoded, so each counts towards the most values that a file may declare."""
        header, streams = plain
        own = sum(torch.Size(shape).numel() for _, _, shape in header["tensors"])
        monkeypatch.setattr(container, "MAX_VALUES", own + 235_200)
        ties = [[6 + i, f"t{i}", "fc1.weight"] for i in range(2)]
        codec.read(pack({**header, "ties": ties[:1]}, streams))
        with pytest.raises(
            ArtefactError, match=f"at most {own + 235_200} values here; this one declares {own + 470_400}"
        ):
            codec.read(pack({**header, "ties": ties}, streams))


class TestTurned:
    """Weights of transposed convolutions, whose groups the header tells."""

    @pytest.fixture(scope="class")
    @staticmethod
    def transposed() -> tuple[dict[str, Any], bytes]:
        state = {"up.weight": torch.randn(6, 4, 3, 3), "up.bias": torch.zeros(8), "plain.weight": torch.ones(4, 4)}
        return unpack(codec.write(packed_of(state, Recipe.of(bits=4))))

    def test_is_written_where_it_is_needed(self, transposed, plain):
        header, streams = transposed
        assert header["turned"] == [["up.weight", 2]] and header["tensors"][0][2] == [8, 3, 3, 3]
        assert "turned" not in plain[0]
        assert codec.read(pack(header, streams)).turned == {"up.weight": 2}

    @pytest.mark.parametrize(
        "turned",
        [
            [["up.weight", 3]],
            [["up.weight", 0]],
            [["up.weight", -2]],
            [["up.weight", True]],
            [["up.weight", 2.0]],
            [["up.weight", 2], ["up.weight", 2]],
            [["up.bias", 1]],
            [["nothing", 1]],
            [["up.weight"]],
            [[["up.weight"], 2]],
            ["up.weight"],
            {"up.weight": 2},
            2,
        ],
    )
    def test_what_cannot_be_is_refused(self, transposed, turned):
        header = {**copy.deepcopy(transposed[0]), "turned": turned}
        assert_refused_somewhere(header, transposed[1])
        with pytest.raises((reader.Damaged, ValueError, TypeError)):
            reader.read(pack(header, transposed[1]))
