"""The library of networks: names, digests, damage, and two processes at once."""

import json
import multiprocessing

import own_networks
import pytest
import torch
from paretoscope.base.errors import CompressionError, ModelError, UnknownNameError
from paretoscope.networks import library, sources
from paretoscope.networks.library import Damaged, Entry


@pytest.fixture(autouse=True)
def own_library(tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path))
    return tmp_path


def add(name: str, network: str = "residual", **more: object) -> Entry:
    return library.add(name, own_networks.imported(network), source=f"{network}.pt2", origin="torch-export", **more)


@pytest.mark.parametrize("network", own_networks.MAKERS)
def test_what_comes_out_is_what_went_in(network: str) -> None:
    entry = add("mine", network, notes=["a note"], title="Mine")
    found, imported = sources.find("mine"), own_networks.imported(network)
    assert (entry.network, entry.notes, found.title, found.graph) == (found, ("a note",), "Mine", imported.graph)
    assert found.outputs == own_networks.network(network).outputs
    state = found.load().state_dict()
    assert state.keys() == imported.state.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in imported.state.items())


def test_names_are_found_by_every_source_and_forgotten() -> None:
    add("mine")
    assert sources.names()[-1] == "mine"
    library.remove("mine")
    assert "mine" not in sources.names()
    with pytest.raises(UnknownNameError, match="mine"):
        library.remove("mine")


@pytest.mark.parametrize("name", ["", "../up", "a b", "a/b", ".hidden", "x" * 65, "con"])
def test_names_are_safe(name: str) -> None:
    with pytest.raises(CompressionError, match="letters"):
        add(name)


def test_names_of_the_zoo_and_taken_ones_are_refused() -> None:
    with pytest.raises(CompressionError, match="model of the zoo"):
        add("resnet-20")
    add("mine")
    with pytest.raises(CompressionError, match="must be free"):
        add("mine", "sensor")
    assert add("mine", "sensor", replace=True).network.inputs[0].shape == (6, 32)


def test_another_network_of_a_name_is_another_object_and_digest() -> None:
    before = add("mine").network
    assert sources.find("mine") is before
    after = add("mine", task="classification", replace=True).network
    assert sources.find("mine") is after is not before
    assert after.digest != before.digest


def test_content_lives_as_long_as_a_name_stands_for_it(own_library) -> None:
    add("one"), add("two")
    folders = [each for each in (own_library / "networks").iterdir() if len(each.name) == 64]
    assert len(folders) == 1
    library.remove("one")
    assert sources.find("two").load() is not None
    library.remove("two")
    assert not folders[0].exists()


def test_damage_is_told_and_breaks_no_other(own_library) -> None:
    add("good"), add("bad", "sensor"), add("worse", "gru")
    folder = own_library / "networks"
    digest = json.loads((folder / "names" / "bad.json").read_text())["digest"]
    weights = folder / digest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    (folder / "names" / "worse.json").write_text('{"digest": "../../.."}')
    found = {each.name: each for each in library.entries()}
    assert isinstance(found["good"], Entry)
    assert isinstance(found["worse"], Damaged)
    with pytest.raises(ModelError, match="must be whole"):
        sources.find("bad").load()
    library.remove("worse")
    assert folder.is_dir()


def test_alike_are_those_of_the_same_inputs_outputs_and_data() -> None:
    add("one"), add("two"), add("other", "sensor")
    assert sources.alike("one") == ("two",)


def _adds(place: str, name: str) -> None:
    import os

    os.environ["PARETOSCOPE_LIBRARY"] = place
    for _ in range(3):
        add(name)
        library.remove(name)
    add(name)


@pytest.mark.slow
def test_processes_share_a_library(own_library) -> None:
    # All add and remove the same content: nobody may take it from under another.
    made = [
        multiprocessing.get_context("spawn").Process(target=_adds, args=(str(own_library), f"n{i}")) for i in (0, 1)
    ]
    for each in made:
        each.start()
    for each in made:
        each.join()
    assert [each.exitcode for each in made] == [0, 0]
    assert [isinstance(each, Entry) for each in library.entries()] == [True, True]
    assert sources.find("n0").load() is not None
