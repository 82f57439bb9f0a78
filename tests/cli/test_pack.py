"""The commands `pack` and `unpack`, on files as people have them: what is written and said, each remedy tried."""

import re
from pathlib import Path

import pytest
import torch
from paretoscope import codec
from paretoscope.cli.main import app
from paretoscope.methods.pack import pack
from paretoscope.model.tensors import Integers, Plain
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.allot import pack_for_size
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.stem for path in CASES.glob("*.safetensors"))
RATE = {"calibration": "rate", "weighting": "magnitude"}
# Recipes that went wrong on one of the cases or another.
RECIPES = [
    {},
    {"bits": 8},
    {"bits": 1},
    {"bits": 8, **RATE},
    {"bits": 12, **RATE, "exchange": 1e-9},
    {"bits": 8, "symmetric": False},
    {"bits": 4, "calibration": "mse"},
    {"bits": 4, "calibration": "kl"},
    {"clusters": 16},
    {"pattern": "2:4"},
    {"sparsity": 0.5},
]


def command(*arguments: object) -> Result:
    words = [word for each in arguments for word in (each.split() if isinstance(each, str) else [str(each)])]
    result = CliRunner().invoke(app, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def done(*arguments: object) -> Result:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> str:
    result = command(*arguments)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.output
    return result.stderr


class TestCases:
    @pytest.mark.parametrize("name", NAMES)
    def test_each_packs_and_comes_back_by_every_recipe(self, name):
        given = load_file(CASES / f"{name}.safetensors")
        for settings in RECIPES:
            found = codec.read(codec.write_checked(pack(given, Recipe.of(**settings)))).state_dict()
            assert given.keys() == found.keys()
            for each, tensor in given.items():
                assert (tensor.dtype, tensor.shape) == (found[each].dtype, found[each].shape)
                assert torch.equal(tensor.isfinite(), found[each].isfinite()), settings
                if not settings or "mask" in each or name == "fmax":
                    assert torch.equal(tensor, found[each]), settings
                else:
                    error = (found[each].double() - tensor.double()).norm() / tensor.double().norm()
                    # One bit is better than zeros at least; half the weights are; all else loses a fifth at most.
                    most = 1 if settings.get("bits") == 1 else 0.4 if settings.keys() & {"sparsity", "pattern"} else 0.2
                    assert error < most, (each, settings, float(error))

    @pytest.mark.parametrize("name", NAMES)
    def test_each_packs_and_unpacks_on_the_command_line(self, tmp_path, name):
        done("pack", CASES / f"{name}.safetensors", "--bits 8", "--out", tmp_path / "a.psc")
        done("unpack", tmp_path / "a.psc", "--out", tmp_path / "b.safetensors")
        given, found = load_file(CASES / f"{name}.safetensors"), load_file(tmp_path / "b.safetensors")
        expected = pack(given, Recipe.of(bits=8)).state_dict()
        assert {each: tensor.tolist() for each, tensor in found.items()} == {
            each: tensor.tolist() for each, tensor in expected.items()
        }

    def test_a_layer_that_a_pattern_leaves_is_told(self, tmp_path):
        result = done("pack", CASES / "depthwise.safetensors", "--pattern 2:4", "--out", tmp_path / "a.psc")
        assert "Note: Left dense, because the inputs of a weight do not divide into groups of 4: dw.weight." in (
            result.stderr.splitlines()
        )
        assert "touched 87.7% of the values" in result.stdout  # 2,048 of 2,336

    def test_metadata_stays(self, tmp_path):
        done("pack", CASES / "metadata.safetensors", "--bits 8", "--out", tmp_path / "a.psc")
        done("unpack", tmp_path / "a.psc", "--out", tmp_path / "b.safetensors")
        with safe_open(tmp_path / "b.safetensors", "pt") as file:
            assert file.metadata() == {"format": "pt", "license": "mit", "note": "keep me"}

    def test_scales_for_each_weight_are_not_paid(self, tmp_path):
        done("pack", CASES / "layerscale.safetensors", "--out", tmp_path / "a.psc")
        done("pack", CASES / "layerscale.safetensors", "--bits 8", "--out", tmp_path / "b.psc")
        same, eight = ((tmp_path / f"{each}.psc").read_bytes() for each in "ab")
        # The seven bytes are of the recipe's text.
        assert codec.streams_length(same) == codec.streams_length(eight) and len(eight) <= len(same) + 7
        assert isinstance(codec.read(eight).weights["gamma"], Plain)


def test_a_tensor_of_which_nothing_is_left_is_told_and_what_keeps_some_does(tmp_path):
    """lora_A is far smaller than what it is ranked with."""
    draw = torch.Generator().manual_seed(0)
    state = {"base.weight": torch.randn(64, 64, generator=draw), "lora_A": 0.01 * torch.randn(4, 64, generator=draw)}
    weights, out = tmp_path / "w.safetensors", tmp_path / "w.psc"
    save_file(state, weights)

    def left(options: str) -> tuple[bool, str]:
        result = done("pack", weights, options, "--out", out)
        return bool(codec.read(out.read_bytes()).decode("lora_A").any()), result.stderr

    kept, said = left("--sparsity 0.5")
    note = "Note: Nothing is left of lora_A: every weight became zero. An override or scope layer keeps some.\n"
    assert not kept and said == note
    for remedy in ("--sparsity 0.5 --scope layer", '--sparsity 0.5 --overrides [{"layers":"lora_A","sparsity":0.1}]'):
        assert left(remedy) == (True, ""), remedy
    kept, said = left("--threshold 0.5")
    assert not kept and "An override or less pruning keeps some." in said
    assert left("--threshold 0.01")[0]
    kept, said = left("--bits 4 --calibration rate --exchange 100")
    assert not kept and "An override or a lower exchange rate keeps some." in said
    assert left("--bits 4 --calibration rate --exchange 0.0001") == (True, "")


class TestSizes:
    @pytest.fixture
    def weights(self, tmp_path) -> Path:
        draw = torch.Generator().manual_seed(0)
        state = {"w": torch.randn(100, 60, generator=draw), "b": torch.randn(100, generator=draw)}
        save_file(state, tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors"

    @pytest.fixture
    def pack_it(self, weights, tmp_path):
        def packed(*options: object) -> Recipe:
            done("pack", weights, *options, "--out", tmp_path / "w.psc")
            self.bytes = (tmp_path / "w.psc").read_bytes()
            return codec.read(self.bytes).recipe

        return packed

    @pytest.mark.slow
    def test_what_lossless_meets_is_lossless(self, pack_it, weights):
        smallest = 10**9
        for coder in ("ans", "smallest"):
            pack_it("--coder", coder)
            smallest = min(smallest, len(self.bytes))
        for wanted in (smallest, smallest + 1, 10**9):
            assert pack_it("--size", wanted).lossless and len(self.bytes) == smallest
            found = codec.read(self.bytes).state_dict()
            assert all(torch.equal(found[name], tensor) for name, tensor in load_file(weights).items())
        assert not pack_it("--size", smallest - 1).lossless and len(self.bytes) < smallest

    @pytest.mark.slow
    def test_the_best_coder_unless_another_is_asked_for(self, pack_it):
        assert pack_it("--size 3000").code.coder == "smallest" and len(self.bytes) <= 3000
        exchange = codec.read(self.bytes).recipe.quantize.exchange
        for coder in ("ans", "huffman", "context"):
            found = pack_it("--size 3000", "--coder", coder)
            assert found.code.coder == coder and found.quantize.exchange >= exchange and len(self.bytes) <= 3000
            assert pack_it("--size 1000000", "--coder", coder) == Recipe.of(coder=coder)

    @pytest.mark.slow
    def test_what_was_asked_for_is_kept(self, pack_it):
        assert pack_it("--size 3000").code.rest == "rate"
        for rest in ("fp32", "fp16"):
            assert pack_it("--size 3000 --rest", rest).code.rest == rest and len(self.bytes) <= 3000
            assert pack_it("--size 1000000 --rest", rest).code.rest == rest
        assert pack_it("--size 3000 --bits 8").bits == 8 and len(self.bytes) <= 3000
        assert pack_it("--size 3000 --granularity tensor").quantize.granularity == "tensor"
        found = pack_it("--size 3000 --sparsity 0.5")
        assert found.prune.sparsity == 0.5 and found.quantize.calibration == "rate"
        found = pack_it("--size 1000000 --sparsity 0.5")
        assert found == Recipe.of(sparsity=0.5, coder=found.code.coder)
        found = pack_it('--size 3000 --overrides [{"layers":"b","bits":8}]')
        assert found.overrides and codec.read(self.bytes).weights["b"].bits == 8

    @pytest.mark.slow
    def test_eight_bits_are_the_most_that_a_weight_has(self, pack_it):
        for wanted in (3000, 5000, 10**6):
            assert pack_it("--bits 8 --size", wanted).quantize.calibration == "rate" and len(self.bytes) <= wanted
            tensor = codec.read(self.bytes).weights["w"]
            assert isinstance(tensor, Integers) and tensor.bits == 8

    @pytest.mark.parametrize(
        ("options", "said", "remedies"),
        [
            ("--exchange 1e-4", "the exchange rate is looked for; got --lambda. Leave it out.", ["--size 3000"]),
            ("--clusters 8", "whose steps follow from a rate; got --clusters. Leave it out.", ["--size 3000"]),
            ("--bits 4 --asymmetric", "around zero; got --asymmetric. Leave it out.", ["--size 3000 --bits 4"]),
            ("--bits 4 --percentile 99", "around zero; got --percentile. Leave it out.", ["--size 3000 --bits 4"]),
            ("--ternary 0.7 --power-of-two", "got --power-of-two, --ternary. Leave them out.", ["--size 3000"]),
            ("--bits 1", "2 to 16 bits at most; got another", ["--size 3000", "--bits 1", "--size 3000 --bits 2"]),
            ("--bits 32", "2 to 16 bits at most; got another", ["--size 3000", "--bits 32", "--size 3000 --bits 16"]),
            ("--calibration mse --bits 4", "got another --calibration or --bits. Leave them out, or leave out --size.",
             ["--size 3000", "--calibration mse --bits 4", "--size 3000 --calibration rate --bits 4"]),
        ],
    )  # fmt: skip
    def test_contradictions_are_told_and_each_remedy_works(self, weights, tmp_path, options, said, remedies):
        out = tmp_path / "a.psc"
        assert said in refused("pack", weights, "--size 3000", options, "--out", out)
        assert not out.exists()
        for remedy in remedies:
            done("pack", weights, remedy, "--out", out)
            assert "--size" not in remedy or out.stat().st_size <= 3000

    def test_a_recipe_file_without_a_rate_is_told(self, pack_it, weights, tmp_path):
        (tmp_path / "r.json").write_text(Recipe.of(bits=4).to_json())
        said = refused("pack", weights, "--size 3000", "--recipe", tmp_path / "r.json", "--out", tmp_path / "a.psc")
        assert "got 4 bits, which has none. Calibrate by rate, or leave out the size." in said
        (tmp_path / "r.json").write_text(Recipe.of(bits=4, **RATE).to_json())
        assert pack_it("--size 3000", "--recipe", tmp_path / "r.json").bits == 4

    @pytest.mark.slow
    def test_a_size_out_of_reach_names_one_that_is_not(self, pack_it, weights, tmp_path):
        for options in ("", "--bits 8", "--rest fp32", "--coder ans", "--sparsity 0.5"):
            said = refused("pack", weights, "--size 10", options, "--out", tmp_path / "a.psc")
            least = int(re.search(r"Pass --size (\d+) or more", said)[1])
            pack_it("--size", least, options)
            assert len(self.bytes) <= least, options
            refused("pack", weights, "--size", least - 1, options, "--out", tmp_path / "a.psc")

    @pytest.mark.slow
    @pytest.mark.parametrize("wanted", [0, -5])
    def test_a_size_is_at_least_a_byte(self, weights, tmp_path, wanted):
        assert "must be at least 1 byte; got" in refused("pack", weights, "--size", wanted, "--out", tmp_path / "a")

    @pytest.mark.slow
    def test_a_recipe_file_is_as_it_says(self, pack_it, tmp_path):
        recipe = Recipe.of(bits=6, calibration="rate", weighting="magnitude", coder="context", rest="fp16")
        (tmp_path / "r.json").write_text(recipe.to_json())
        for wanted in (3000, 10**6):
            found = pack_it("--size", wanted, "--recipe", tmp_path / "r.json")
            assert (found.bits, found.code) == (6, recipe.code) and len(self.bytes) <= wanted

    def test_without_what_may_be_tried_plain_nothing_plain_is_tried(self):
        state = {"w": torch.randn(30, 30, generator=torch.Generator().manual_seed(0))}
        found = pack_for_size(Recipe(), (), 10**6, lambda each: len(codec.write(pack(state, each))))
        assert found.quantize.calibration == "rate"


class TestWhatIsSaid:
    def test_sizes_are_of_the_tensors_that_were_read(self, tmp_path):
        torch.save({"state_dict": {"w": torch.zeros(100, 10)}, "optimizer": {}}, tmp_path / "w.pt")
        result = done("pack", tmp_path / "w.pt", "--out", tmp_path / "a.psc")
        length = (tmp_path / "a.psc").stat().st_size
        assert f"{length:,} bytes, {4000 / length:.1f}x smaller than 4,000 bytes of tensors" in result.stdout
        assert result.stderr == "Note: Read from 'state_dict' of the file; left out: optimizer.\n"

    def test_an_empty_file_has_no_ratio(self, tmp_path):
        save_file({}, tmp_path / "w.safetensors")
        for options in ("", "--bits 8", "--size 1000"):
            assert (
                "bytes, no values ("
                in done("pack", tmp_path / "w.safetensors", options, "--out", tmp_path / "a.psc").stdout
            )
        done("unpack", tmp_path / "a.psc", "--out", tmp_path / "b.safetensors")
        assert load_file(tmp_path / "b.safetensors") == {}

    def test_names_from_outside_do_not_move_the_cursor(self, tmp_path):
        """A name that colours the terminal and clears it, in notes and in errors; the file keeps it as it is."""
        name = "\x1b[31m\r\x1b[2Jw\n.mask"
        save_file({name: torch.rand(5, 5), "v": torch.rand(5, 5)}, tmp_path / "w.safetensors")
        result = done("pack", tmp_path / "w.safetensors", "--bits 8", "--out", tmp_path / "a.psc")
        assert result.stderr.startswith("Note: Kept as they are") and result.stderr.count("\n") == 2
        assert r"\x1b[31m\r\x1b[2Jw\n.mask" in result.stderr and "\x1b" not in result.stderr
        assert set(codec.read((tmp_path / "a.psc").read_bytes()).order) == {name, "v"}
        save_file({name: torch.zeros(2, dtype=torch.complex64)}, tmp_path / "w.safetensors")
        said = refused("pack", tmp_path / "w.safetensors", "--out", tmp_path / "b.psc")
        assert r"\x1b[31m\r\x1b[2Jw\n.mask is torch.complex64" in said and "\x1b[31m" not in said

    def test_shards_are_packed_as_one(self, tmp_path):
        index = tmp_path / "model.safetensors.index.json"
        index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
        said = refused("pack", index, "--out", tmp_path / "a.psc")
        assert "1.safetensors is missing. Copy all 2 files that the index names" in said
        for number, name in enumerate("ab", 1):
            save_file({name: torch.rand(5, 5)}, tmp_path / f"{number}.safetensors")
        done("pack", index, "--out", tmp_path / "a.psc")
        assert codec.read((tmp_path / "a.psc").read_bytes()).order == ("a", "b")
