"""The door for `.pt2` files of anybody: what opens says what the module said; nothing of a hostile file runs."""

import io
import pickle
import zipfile

import own_networks
import pytest
import torch
from paretoscope.base.batch import call, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.graph.doors import read_program
from programs import own_program, program, repacked, with_json
from torch import nn


@pytest.mark.parametrize("n, batch", [(2, True), (1, False), (2, False)])
@pytest.mark.parametrize("name", own_networks.MAKERS)
def test_files_give_the_outputs_of_their_modules(name: str, n: int, batch: bool) -> None:
    """Whether the file takes any batch or that of its sample alone: any may come afterwards."""
    found, module = read_program(own_program(name, n, batch)), own_networks.module(name)
    assert set(found.state) == set(module.state_dict())
    for size in (1, 3):
        x = own_networks._drawn(name, size, seed=4)
        with torch.no_grad():
            wanted, made = list(tensors_in(call(module, x))), list(tensors_in(call(found.module(), x)))
        for one, other in zip(wanted, made, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_path_is_read_as_its_bytes(tmp_path) -> None:
    (tmp_path / "a.pt2").write_bytes(own_program("regression"))
    assert read_program(tmp_path / "a.pt2").graph == read_program(own_program("regression")).graph


class Trap:
    """Sets a mark when it is unpickled."""

    def __reduce__(self):
        return (exec, ("import builtins; builtins.trap_was_sprung = True",))


def sprung() -> bool:
    import builtins

    found = hasattr(builtins, "trap_was_sprung")
    if found:
        del builtins.trap_was_sprung
    return found


CODE = "__import__('builtins').__setattr__('trap_was_sprung', True) or Symbol('s"


def trapped(what: str) -> bytes:
    data = own_program("lstm")
    archive = io.BytesIO()
    torch.save(Trap(), archive)
    match what:
        case "sample inputs":
            return repacked(data, lambda name, text: archive.getvalue() if "sample_inputs" in name else text)
        case "an expression":
            return repacked(data, lambda name, text: text.replace(b"Symbol('s", CODE.encode()))
        case _:  # a weight that is marked as pickled
            marked = {"use_pickle": True}
            data = with_json(data, lambda d: [each.update(marked) for each in d["config"].values()], "weights_config")
            return repacked(data, lambda name, text: archive.getvalue() if "weights/weight_" in name else text)


@pytest.mark.parametrize("what, opens", [("sample inputs", True), ("an expression", True), ("a weight", False)])
def test_nothing_of_a_hostile_file_runs(what: str, opens: bool) -> None:
    """Sample inputs and expressions of sizes are never looked at; a pickled weight is refused."""
    data = trapped(what)
    if opens:
        read_program(data)
    else:
        with pytest.raises(ModelError, match="pickle"):
            read_program(data)
    assert not sprung()


def test_the_traps_are_traps() -> None:
    """What the test above relies on: unpickling, as PyTorch's own loader does it, springs them."""
    torch.load(io.BytesIO(zipfile.ZipFile(io.BytesIO(trapped("sample inputs"))).read(_sample())), weights_only=False)
    assert sprung()
    pickle.loads(pickle.dumps(Trap()))
    assert sprung()


def _sample() -> str:
    names = zipfile.ZipFile(io.BytesIO(own_program("lstm"))).namelist()
    return next(name for name in names if "sample_inputs" in name)


def graph_of(data):
    return data["graph_module"]["graph"]


def _target(name: str):
    return lambda d: graph_of(d)["nodes"][-1].update(target=name)


def _sizes(d):
    for meta in graph_of(d)["tensor_values"].values():
        meta["sizes"] = [{"as_int": 2**40}] * 3


HOSTILE = {
    "an operator of a library": (_target("torch.ops.mylib.attack.default"), r"torch\.ops\.mylib\.attack.*head"),
    "a function of Python": (_target("os.system"), r"os\.system"),
    "an unknown overload": (_target("torch.ops.aten.linear.attack"), "attack"),
    "an operator with effects": (_target("torch.ops.aten.from_file.default"), "from_file"),
    "a branch": (_target("torch.ops.higher_order.cond"), "cond"),
    "giant shapes": (_sizes, "shape|axes|numbers"),
    "a cycle": (lambda d: graph_of(d)["nodes"].reverse(), "parts|made"),
    "a name twice": (lambda d: graph_of(d)["nodes"].append(graph_of(d)["nodes"][0]), "twice"),
    "no nodes": (lambda d: graph_of(d).pop("nodes"), "parts"),
    "a custom object": (
        lambda d: d["graph_module"]["signature"]["input_specs"].append({"custom_obj": {}}),
        "custom_obj",
    ),
    "a changed buffer": (
        lambda d: d["graph_module"]["signature"]["output_specs"].append(
            {"buffer_mutation": {"arg": {"name": "x"}, "buffer_name": "body.1.running_mean"}}
        ),
        r"body\.1\.running_mean",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_graphs_are_refused(what: str) -> None:
    change, said = HOSTILE[what]
    with pytest.raises(ModelError, match=said):
        read_program(with_json(own_program("sensor"), change))


def _meta(**values):
    return lambda d: d["config"]["head.weight"]["tensor_meta"].update(values)


@pytest.mark.parametrize(
    "change",
    [
        _meta(sizes=[{"as_int": 2**20}, {"as_int": 2**20}]),
        _meta(strides=[{"as_int": 0}, {"as_int": 0}], sizes=[{"as_int": 2**20}, {"as_int": 2**20}]),
        _meta(storage_offset={"as_int": 10**6}),
        _meta(storage_offset={"as_int": -4}),
        _meta(dtype=9),
        lambda d: d["config"]["head.weight"].update(path_name="../../weights/weight_0"),
        lambda d: d["config"]["head.weight"].update(path_name="nowhere"),
        lambda d: d["config"].pop("head.weight"),
    ],
)
def test_weights_that_are_not_there_are_refused(change) -> None:
    with pytest.raises(ModelError, match=r"\.pt2 file must"):
        read_program(with_json(own_program("sensor"), change, "weights_config"))


def test_archives_that_are_none_are_refused() -> None:
    data = own_program("sensor")
    doubled = io.BytesIO(data)
    with pytest.warns(UserWarning), zipfile.ZipFile(doubled, "a") as archive:
        archive.writestr(archive.namelist()[0], b"another")
    bomb = repacked(data, lambda name, text: bytes(10**7) if "sample" in name else text, zipfile.ZIP_DEFLATED)
    for given, said in (
        (b"", "archive"),
        (b"PK\x03\x04 and no more", "archive"),
        (data[: len(data) // 2], "archive"),
        (doubled.getvalue(), "different names"),
        (bomb, "compressed"),
        (repacked(data, lambda name, text: b"[" * 10**5 if "models/" in name else text), "file must"),
    ):
        with pytest.raises(ModelError, match=said):
            read_program(given)


class Odd(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.head, self.call = nn.Linear(4, 4), call

    def forward(self, x):
        return self.call(self.head(x))


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda x: torch.sort(x)[0], r"sort"),
        (lambda x: torch.fft.rfft(x).abs(), r"fft"),
        (lambda x: nn.functional.dropout(x, 0.5), r"evaluation mode"),
        (lambda x: x + torch.rand_like(x), r"rand"),
    ],
)
def test_operators_that_no_network_here_has_are_refused_by_name(call, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_program(program(Odd(call).eval(), (torch.randn(2, 4),)))


def test_a_batch_that_cannot_be_derived_is_refused_with_the_lines_of_the_export() -> None:
    with pytest.raises(ModelError, match=r"torch\.export\.Dim"):
        read_program(program(Odd(lambda x: x - x.mean(0)).eval(), (torch.randn(2, 4),), batch=False))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_refused_with_the_remedy(dtype) -> None:
    module = nn.Sequential(nn.Linear(4, 2)).to(dtype).eval()
    with pytest.raises(ModelError, match=r"model\.float\(\)"):
        read_program(program(module, (torch.randn(2, 4, dtype=dtype),)))
