"""State dicts without an architecture: every type of safetensors comes back, or is refused."""

import dataclasses

import pytest
import torch
from paretoscope import codec
from paretoscope.base.errors import CompressionError, ModelError, RecipeError
from paretoscope.cli.main import app
from paretoscope.codec.checkpoints import load_weights
from paretoscope.methods.pack import pack, save_weights
from paretoscope.model.tensors import Codebook, Integers, Plain
from paretoscope.recipe.recipe import CODERS, Recipe
from safetensors.torch import load, save
from typer.testing import CliRunner

INTEGERS = {
    torch.int8: [-128, 127],
    torch.int16: [-(2**15), 2**15 - 1],
    torch.int32: [-(2**31), 2**31 - 1],
    torch.int64: [-(2**63), 2**63 - 1],
    torch.uint8: [0, 255],
    torch.uint16: [0, 2**16 - 1],
    torch.uint32: [0, 2**32 - 1],
    torch.uint64: [0, 2**64 - 1],
    torch.bool: [True, False],
}
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)


def bits_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert list(left) == list(right)
    for name, tensor in left.items():
        assert (tensor.dtype, tensor.shape) == (right[name].dtype, right[name].shape), name
        assert bits_of(tensor) == bits_of(right[name]), name


def there_and_back(state: dict[str, torch.Tensor], **settings: object) -> dict[str, torch.Tensor]:
    return codec.read(codec.write(pack(state, Recipe.of(**settings)))).state_dict()


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """Every type, with no axis, one and two; floats with both zeros, infinities, NaN and the smallest number."""
    made = {}
    for dtype, values in INTEGERS.items():
        for shape in ((), (2,), (1, 2)):
            made[f"{dtype}{len(shape)}"] = torch.tensor(values, dtype=dtype)[: 2 if shape else 1].reshape(shape)
    patterns = torch.tensor([0, 1, 128, 127, 124, 252, 60, 3, 129, 255, 126, 192], dtype=torch.uint8)
    for dtype in FLOATS:
        wide = patterns.repeat(dtype.itemsize).view(dtype)
        made |= {f"{dtype}{i}": wide.reshape(shape).clone() for i, shape in enumerate([(12,), (3, 4), (3, 2, 2)])}
        made[f"{dtype} scalar"] = wide[4].clone()
        made[f"{dtype} empty"] = torch.zeros(0, 3).to(dtype)
    return made


@pytest.mark.parametrize("coder", CODERS)
def test_every_type_comes_back_bit_for_bit(state, coder):
    assert_same(there_and_back(state, coder=coder), state)


@pytest.mark.parametrize("settings", [{"bits": 8}, {"bits": 4, "sparsity": 0.5}, {"clusters": 16, "bits": 8}], ids=str)
def test_weights_are_compressed_and_keep_their_type(settings):
    draw = torch.Generator().manual_seed(0)
    state = {
        f"{dtype}.{name}": torch.randn(shape, generator=draw).to(dtype)
        for dtype in FLOATS[:4]
        for name, shape in {"weight": (40, 30), "bias": (40,)}.items()
    }
    model = pack(state, Recipe.of(**settings))
    assert {name for name, tensor in model.weights.items() if not isinstance(tensor, Plain)} == {
        name for name in state if name.endswith("weight")
    }
    back = codec.read(codec.write(model)).state_dict()
    assert [(name, t.dtype, t.shape) for name, t in back.items()] == [(n, t.dtype, t.shape) for n, t in state.items()]
    for name, tensor in state.items():
        error = (back[name].double() - tensor.double()).norm() / tensor.double().norm()
        assert error == 0 if name.endswith("bias") else 0 < error < 0.75, name


def test_what_a_type_cannot_hold_is_rounded_as_torch_rounds():
    """The decoded floats of a brain float tensor are rounded to nearest, ties to even."""
    values = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1)).bfloat16()
    model = pack({"w": values}, Recipe.of(bits=8))
    decoded = torch.tensor(model.decode("w"))
    assert torch.equal(model.state_dict()["w"], decoded.to(torch.bfloat16))
    half = pack({"w": values.half()}, Recipe.of(bits=8))
    assert torch.equal(half.state_dict()["w"], torch.tensor(half.decode("w")).half())


def test_brain_floats_cost_no_more_than_their_bits():
    values = torch.randn(400, 50, generator=torch.Generator().manual_seed(1)).bfloat16()
    assert len(codec.write(pack({"w": values}, Recipe()))) < 2 * values.numel()


def test_a_state_dict_without_weights_and_an_empty_one_come_back():
    assert_same(there_and_back({"b": torch.arange(5.0)}, sparsity=0.5, bits=4), {"b": torch.arange(5.0)})
    assert there_and_back({}) == {}


def test_the_file_says_that_there_is_no_architecture():
    read = codec.read(codec.write(pack({"w": torch.ones(2, 2)}, Recipe.of(bits=8))))
    assert read.architecture == ""
    with pytest.raises(ModelError, match="names none"):
        read.build()


def test_equal_weights_make_equal_files():
    state = {f"layer.{i}.weight": torch.randn(9, 9) for i in (10, 2, 1)}
    written = {codec.write(pack(load_weights(save(state)), Recipe.of(bits=4))) for _ in range(5)}
    assert len(written) == 1
    assert list(load_weights(save(state))) == ["layer.1.weight", "layer.2.weight", "layer.10.weight"]


@pytest.mark.parametrize(
    "settings",
    [{"nodes": 0.5}, {"fold": True}, {"bits": 4, "rounding": "gptq"}, {"bits": 4, "bias": True},
     {"bits": 8, "activations": 8}],
    ids=str,
)  # fmt: skip
def test_steps_that_need_a_network_or_data_are_refused(settings):
    with pytest.raises(RecipeError, match="Leave that out"):
        pack({"w": torch.ones(2, 2)}, Recipe.of(**settings))


def test_types_that_cannot_be_held_are_refused():
    with pytest.raises(ModelError, match=r"x is torch.complex64.*Convert"):
        pack({"x": torch.zeros(2, dtype=torch.complex64)}, Recipe())


def test_weights_that_are_not_finite_are_kept_as_they_are_with_a_note():
    state = {"bad": torch.tensor([[1.0, 2.0], [3.0, torch.nan]]), "good": torch.randn(8, 8)}
    model = pack(state, Recipe.of(bits=8))
    assert bits_of(model.state_dict()["bad"]) == bits_of(state["bad"])
    assert model.notes == ("Kept as they are, for values that are not finite: bad.",)


def test_equal_tensors_are_stored_once_and_come_back_under_both_names():
    one = torch.randn(40, 20)
    state = {"a": one, "b": one.clone(), "c": torch.randn(40, 20)}
    model = pack(state, Recipe())
    assert dict(model.ties) == {"b": "a"}
    assert_same(there_and_back(state), state)


def test_metadata_comes_back():
    model = codec.read(codec.write(pack({"w": torch.randn(4, 4)}, Recipe(), {"format": "pt"})))
    assert model.metadata == {"format": "pt"}


@pytest.mark.parametrize("data", [b"", b"\x89PSC", bytes(100), b"\xff" * 16])
def test_what_is_no_safetensors_file_is_refused(data):
    with pytest.raises(ModelError, match="must be a safetensors file"):
        load_weights(data)


class TestCommandLine:
    def run(self, *arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    def test_pack_and_unpack_are_inverse(self, tmp_path, state):
        weights, file, out = tmp_path / "w.safetensors", tmp_path / "w.psc", tmp_path / "out.safetensors"
        weights.write_bytes(save(state))
        assert f"{file}: " in self.run("pack", weights, "--out", file)
        self.run("unpack", file, "--out", out)
        back = load(out.read_bytes())
        assert_same(dict(sorted(back.items())), dict(sorted(state.items())))

    def test_recipe_options_count(self, tmp_path):
        weights, file = tmp_path / "w.safetensors", tmp_path / "w.psc"
        weights.write_bytes(save_weights({"w": torch.randn(30, 30), "shared.w": torch.randn(30, 30)}))
        self.run("pack", weights, "--bits", 3, "--sparsity", 0.5, "--coder", "huffman", "--out", file)
        read = codec.read(file.read_bytes())
        assert read.recipe == Recipe.of(bits=3, sparsity=0.5, coder="huffman")
        assert all(isinstance(tensor, Integers) and tensor.bits == 3 for tensor in read.weights.values())
        self.run("pack", weights, "--clusters", 4, "--out", file)
        assert all(isinstance(tensor, Codebook) for tensor in codec.read(file.read_bytes()).weights.values())

    def test_a_wanted_size_is_met(self, tmp_path):
        weights, file = tmp_path / "w.safetensors", tmp_path / "w.psc"
        torch.manual_seed(0)
        weights.write_bytes(save_weights({"w": torch.randn(200, 100), "b": torch.randn(200)}))
        self.run("pack", weights, "--size", 9000, "--coder", "context", "--out", file)
        assert 8800 < file.stat().st_size <= 9000
        read = codec.read(file.read_bytes())
        assert read.recipe.quantize.calibration == "rate" and read.recipe.quantize.weighting == "magnitude"
        file.unlink()
        result = CliRunner().invoke(app, ["pack", str(weights), "--size", "10", "--out", str(file)])
        assert result.exit_code == 1 and "10 are wanted" in result.stderr and not file.exists()

    def test_harm_is_weighted_by_magnitudes_where_nothing_else_is_known(self, tmp_path):
        weights, file = tmp_path / "w.safetensors", tmp_path / "w.psc"
        weights.write_bytes(save_weights({"w": torch.randn(30, 30)}))
        self.run("pack", weights, "--bits", 8, "--calibration", "rate", "--out", file)
        assert codec.read(file.read_bytes()).recipe.quantize.weighting == "magnitude"
        options = ["--bits", "8", "--calibration", "rate", "--weighting", "fisher"]
        result = CliRunner().invoke(app, ["pack", str(weights), *options, "--out", str(file)])
        assert result.exit_code == 1 and 'Choose weighting "magnitude"' in result.stderr

    def test_what_cannot_be_packed_leaves_no_file(self, tmp_path):
        weights, file = tmp_path / "w.safetensors", tmp_path / "w.psc"
        weights.write_bytes(b"no tensors")
        for arguments in ([weights], [tmp_path / "none"], [weights, "--nodes", 0.5]):
            result = CliRunner().invoke(app, ["pack", *map(str, arguments), "--out", str(file)])
            assert result.exit_code == 1 and "Error: " in result.stderr and not file.exists()

    @pytest.mark.parametrize(
        "command", [["evaluate", "--runtime", "none"], ["export", "--format", "onnx", "--out", "x"]]
    )
    def test_weights_alone_cannot_be_run(self, tmp_path, command):
        weights, file = tmp_path / "w.safetensors", tmp_path / "w.psc"
        weights.write_bytes(save_weights({"w": torch.randn(3, 3)}))
        self.run("pack", weights, "--out", file)
        result = CliRunner().invoke(app, [command[0], str(file), *command[1:]])
        assert result.exit_code == 1 and "was packed from weights alone" in result.stderr

    def test_an_artefact_of_the_zoo_unpacks_too(self, tmp_path):
        file, out = tmp_path / "m.psc", tmp_path / "out.safetensors"
        self.run("compress", "lenet-300-100", "--bits", 4, "--out", file)
        self.run("unpack", file, "--out", out)
        expected = codec.read(file.read_bytes()).state_dict()
        found = load(out.read_bytes())
        assert {n: t.tolist() for n, t in found.items()} == {n: t.tolist() for n, t in expected.items()}


def test_a_packed_model_is_a_compressed_model():
    model = pack({"w": torch.randn(3, 3)}, Recipe.of(bits=8))
    other = dataclasses.replace(model, notes=("a note",))
    assert type(other) is type(model) and other.dtypes == model.dtypes
    with pytest.raises(CompressionError):
        codec.read(codec.write(model)[:-1])
