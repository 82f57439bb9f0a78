"""Weight files of all kinds: what is in them comes out, what is wrong with them is told, and nothing is executed."""

import io
import json
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.codec import container
from paretoscope.codec.checkpoints import INDEX, PICKLED, WRAPPERS, load_checkpoint
from safetensors.torch import save_file

W = torch.arange(12.0).reshape(3, 4)


def saved(path: Path, what: object) -> Path:
    torch.save(what, path)
    return path


def assert_holds(path: Path, expected: dict[str, torch.Tensor]) -> tuple[str, ...]:
    found = load_checkpoint(path)
    assert list(found.state) == list(expected)
    assert all(torch.equal(found.state[name], tensor) for name, tensor in expected.items())
    return found.notes


class TestPyTorchsFiles:
    @pytest.mark.parametrize("suffix", [*PICKLED, ".PT"])
    def test_a_state_dict_is_read_and_prefixes_stay(self, tmp_path, suffix):
        state = {"module.b": W + 1, "_orig_mod.a": W}
        assert assert_holds(saved(tmp_path / f"w{suffix}", state), dict(reversed(state.items()))) == ()

    @pytest.mark.parametrize("zipped", [True, False])
    def test_both_forms_of_torch_save(self, tmp_path, zipped):
        torch.save({"w": W}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
        assert_holds(tmp_path / "w.pt", {"w": W})

    @pytest.mark.parametrize("key", WRAPPERS)
    @pytest.mark.parametrize("beside", [{}, {"epoch": 3}, {"epoch": torch.tensor(3)}], ids=["alone", "int", "tensor"])
    def test_what_a_training_wraps_around_it_is_taken_off(self, tmp_path, key, beside):
        notes = assert_holds(saved(tmp_path / "w.pt", {**beside, key: {"w": W}}), {"w": W})
        assert notes == ((f"Read from '{key}' of the file" + "; left out: epoch." * bool(beside)),)

    def test_what_is_no_tensor_is_told(self, tmp_path):
        notes = assert_holds(saved(tmp_path / "w.pt", {"w": W, "step": 3, "names": ["a"]}), {"w": W})
        assert notes == ("Left out, because they are no tensors: step, names.",)

    @pytest.mark.parametrize("suffix", PICKLED)
    def test_nothing_is_executed(self, tmp_path, suffix):
        target = tmp_path / "executed"

        class Hostile:
            def __reduce__(self):
                return Path.touch, (target,)

        class Command:
            def __reduce__(self):
                return os.system, (f"touch {target}",)

        for number, each in enumerate((Hostile(), Command())):
            path = saved(tmp_path / f"{number}{suffix}", {"w": W, "x": each})
            with pytest.raises(ModelError, match="nothing in it is executed") as caught:
                load_checkpoint(path)
            path.write_bytes(pickle.dumps({"w": each}, protocol=2))
            with pytest.raises(ModelError, match="nothing in it is executed"):
                load_checkpoint(path)
            assert not target.exists()
        assert "needs posix.system" in str(caught.value) or "needs nt.system" in str(caught.value)
        # These pickles do execute where they are loaded without care: the test would notice.
        pickle.loads(pickle.dumps(Hostile()))
        assert target.exists()

    @pytest.mark.parametrize("what", [torch.nn.Linear(2, 2), b"", b"garbage"], ids=["module", "empty", "garbage"])
    def test_pytorchs_advice_to_execute_is_not_passed_on(self, tmp_path, what):
        path = tmp_path / "w.pt"
        path.write_bytes(what) if isinstance(what, bytes) else saved(path, what)
        with pytest.raises(ModelError) as caught:
            load_checkpoint(path)
        assert "weights_only" not in str(caught.value) and "trust" not in str(caught.value)

    def test_what_is_cut_off_is_said_to_be_damaged(self, tmp_path):
        path = saved(tmp_path / "w.pt", {"w": W})
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ModelError, match=r"damaged, or was not written by torch.save"):
            load_checkpoint(path)

    @pytest.mark.parametrize("what", [{}, [W], W, {"a": {"w": W}}, {1: W}, {"state_dict": {}}], ids=str)
    def test_what_holds_no_state_dict_is_refused_with_a_remedy_that_works(self, tmp_path, what):
        with pytest.raises(ModelError, match=r"must hold a state dict.*Save model.state_dict\(\) with torch.save"):
            load_checkpoint(saved(tmp_path / "w.pt", what))
        model = torch.nn.Linear(2, 3)
        assert_holds(saved(tmp_path / "w.pt", model.state_dict()), dict(sorted(model.state_dict().items())))

    def test_tensors_that_are_no_plain_values_are_refused_with_remedies_that_work(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch deprecates its quantized tensors
            quantized = torch.quantize_per_tensor(W, 1.0, 0, torch.qint8)
            for tensor, said in ((W.to_sparse(), "sparse_coo. Save its .to_dense()"), (quantized, ".dequantize()")):
                with pytest.raises(ModelError, match="must be dense and have values; w is") as caught:
                    load_checkpoint(saved(tmp_path / "w.pt", {"w": tensor}))
                assert said in str(caught.value)
            assert_holds(saved(tmp_path / "w.pt", {"w": W.to_sparse().to_dense()}), {"w": W})
            assert_holds(saved(tmp_path / "w.pt", {"w": quantized.dequantize()}), {"w": W})
        with pytest.raises(ModelError, match=r"without any. Save the model after its weights were loaded"):
            load_checkpoint(saved(tmp_path / "w.pt", {"w": torch.empty(2, 2, device="meta")}))

    def test_a_small_file_of_a_huge_tensor_is_refused_before_it_is_made(self, tmp_path):
        path = saved(tmp_path / "w.pt", {"w": torch.zeros(1).expand(2**40)})
        assert path.stat().st_size < 10_000
        with pytest.raises(ModelError, match="at most 1,073,741,824 values; got 1,099,511,627,776"):
            load_checkpoint(path)

    def test_views_of_one_storage_come_out_as_they_are(self, tmp_path):
        base = torch.arange(100.0)
        state = {"a": base[:12].reshape(3, 4).T, "b": base[10:20]}
        assert_holds(saved(tmp_path / "w.pt", state), state)


class TestShards:
    def index(self, folder: Path, shards: object, name: str = f"model.safetensors{INDEX}") -> Path:
        text = shards if isinstance(shards, str) else json.dumps({"metadata": {"size": 1}, "weight_map": shards})
        (folder / name).write_text(text)
        return folder / name

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        save_file({"a.10": W}, tmp_path / "1.safetensors", metadata={"format": "pt"})
        save_file({"a.9": W + 1, "extra": W}, tmp_path / "2.safetensors", metadata={"license": "mit"})
        return tmp_path

    def test_an_index_opens_its_shards(self, folder):
        path = self.index(folder, {"a.10": "1.safetensors", "a.9": "2.safetensors"})
        notes = assert_holds(path, {"a.9": W + 1, "a.10": W})
        assert notes == ("Left out of 2.safetensors, because the index does not name them: extra.",)
        assert load_checkpoint(path).metadata == {"format": "pt", "license": "mit"}

    def test_shards_of_pytorch_too(self, folder):
        saved(folder / "1.bin", {"w": W})
        assert_holds(self.index(folder, {"w": "1.bin"}, f"pytorch_model.bin{INDEX}"), {"w": W})

    def test_hostile_shards_are_not_executed(self, folder):
        saved(folder / "1.bin", {"w": torch.nn.Linear(1, 1)})
        with pytest.raises(ModelError, match=r"1.bin must hold tensors alone"):
            load_checkpoint(self.index(folder, {"w": "1.bin"}))

    @pytest.mark.parametrize(
        "shard", ["../1.safetensors", "/etc/passwd", "a/../1.safetensors", "..", ".", "", "a\\b", "x\0y", f"x{INDEX}"]
    )
    def test_shards_lie_beside_their_index(self, folder, shard):
        with pytest.raises(ModelError, match="an index must name files beside it"):
            load_checkpoint(self.index(folder, {"a": shard}))

    def test_an_index_alone_says_which_files_it_needs_and_where(self, tmp_path):
        path = self.index(tmp_path, {"w": "1.safetensors"})
        with pytest.raises(ModelError, match=r"1.safetensors is missing. Copy all 1 files") as caught:
            load_checkpoint(path)
        assert str(tmp_path) in str(caught.value)
        save_file({"w": W}, tmp_path / "1.safetensors")
        assert_holds(path, {"w": W})

    def test_what_is_no_file_is_not_opened(self, folder):
        os.mkfifo(folder / "pipe.safetensors")
        with pytest.raises(ModelError, match=r"pipe.safetensors is missing"):
            load_checkpoint(self.index(folder, {"w": "pipe.safetensors"}))

    def test_a_shard_that_lacks_a_tensor_is_told(self, folder):
        with pytest.raises(ModelError, match=r"1.safetensors must hold the tensors that the index says; it lacks a.9"):
            load_checkpoint(self.index(folder, {"a.10": "1.safetensors", "a.9": "1.safetensors"}))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "Expecting value"),
            ("{}", "it has no weight_map"),
            ("[]", "it has no weight_map"),
            ("3", "it has no weight_map"),
            ('{"weight_map": {}}', "names no file for each tensor"),
            ('{"weight_map": ["a"]}', "names no file for each tensor"),
            ('{"weight_map": {"a": 1}}', "names no file for each tensor"),
            ('{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}', "it names a tensor twice"),
            ("[" * 100_000, "recursion"),
            (b'{"\xff": 1}', "codec"),
        ],
    )
    def test_what_is_no_index_is_told(self, folder, text, said):
        path = folder / f"model.safetensors{INDEX}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ModelError, match="must be the index of a checkpoint in shards") as caught:
            load_checkpoint(path)
        assert said in str(caught.value) and len(str(caught.value)) < 500

    def test_an_index_is_bounded(self, folder, monkeypatch):
        monkeypatch.setattr("paretoscope.codec.checkpoints.MAX_INDEX", 100)
        with pytest.raises(ModelError, match="bytes, 100 at most"):
            load_checkpoint(self.index(folder, {"a" * 100: "1.safetensors"}))
        monkeypatch.undo()
        monkeypatch.setattr("paretoscope.codec.checkpoints.MAX_SHARDS", 1)
        with pytest.raises(ModelError, match="more than 1 files"):
            load_checkpoint(self.index(folder, {"a.10": "1.safetensors", "a.9": "2.safetensors"}))

    def test_values_of_all_shards_count_together(self, folder, monkeypatch):
        monkeypatch.setattr(container, "MAX_VALUES", 23)
        path = self.index(folder, {"a.10": "1.safetensors", "a.9": "2.safetensors"})
        save_file({"a.9": W}, folder / "2.safetensors")
        with pytest.raises(ModelError, match="at most 23 values; got 24"):
            load_checkpoint(path)
        monkeypatch.setattr(container, "MAX_VALUES", 24)
        assert len(load_checkpoint(path).state) == 2


def test_bytes_are_those_of_all_tensors(tmp_path):
    save_file({"a": torch.zeros(10), "b": torch.zeros(3, 3, dtype=torch.bfloat16)}, tmp_path / "w.safetensors")
    assert load_checkpoint(tmp_path / "w.safetensors").size_bytes == 40 + 18


@pytest.mark.parametrize("name", ["none.safetensors", "none.pt", f"none{INDEX}", "."])
def test_what_cannot_be_read_is_told(tmp_path, name):
    with pytest.raises(CompressionError, match="must be a readable file"):
        load_checkpoint(tmp_path / name)


def test_numbers_in_names_count_as_numbers(tmp_path):
    stream = io.BytesIO()
    torch.save({f"l.{i}.{part}": W for i in (10, 2) for part in ("²", "w")}, stream)
    (tmp_path / "w.pt").write_bytes(stream.getvalue())
    assert list(load_checkpoint(tmp_path / "w.pt").state) == ["l.2.w", "l.2.²", "l.10.w", "l.10.²"]
