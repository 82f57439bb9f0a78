"""Files changed at random through the doors: does anything but an error with a remedy come out, or anything hang?

    python -m benchmarks.fuzz_doors [--mutations N] [--seed S] [--door NAME ...]

Doors of networks: a `.pt2` as bytes, its JSON with the archive put right, an `.onnx`, the JSON of a graph, an artefact,
weights as `.safetensors` and `.pth`; where Keras is there, a `.keras` and an `.h5` as bytes, and the JSON of either
with the file put right. Doors of data: `benchmarks.fuzz_data`. Seconds are those of its processes, whatever else the
machine does; memory is limited for the whole process, so that whatever asks for too much fails. What is no
CompressionError is told with its seed.
"""

import argparse
import io
import json
import os
import random
import resource
import zipfile
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import paretoscope
import torch
from onnx import TensorProto, helper, numpy_helper
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.base.files import temporary_folder
from paretoscope.codec.artefact import write
from paretoscope.codec.origin import Artefact
from paretoscope.data.arrays import ArrayData
from paretoscope.graph.doors import check_sizes, read_onnx, read_program
from paretoscope.graph.network_graph import NetworkGraph
from paretoscope.networks.origins import modules
from paretoscope.networks.origins.keras import Keras, library
from paretoscope.networks.origins.origin import Options
from paretoscope.recipe.recipe import Recipe
from safetensors.torch import save
from torch import nn

from benchmarks import fuzz_data
from tests.helpers.framing import deflate, frame, inflate, sections
from tests.helpers.mutations import damaged, mutated

KERAS = ("keras bytes", "keras json", "h5 bytes", "h5 json")
DOORS = ("pt2 bytes", "pt2 json", "onnx", "graph", "artefact", "safetensors", "pth", *KERAS, *fuzz_data.DOORS)
MEMORY = 12 << 30
SLOW_S = 20.0


class Small(nn.Module):
    """A network whose files are short, with a layer of each sort."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv1d(2, 3, 3, padding=1), nn.BatchNorm1d(3)
        self.rnn, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(x))).transpose(1, 2)
        return self.head(self.rnn(x)[0][:, -1]).view(-1, 2) * self.scale


@dataclass(frozen=True)
class Sources:
    """artefact: of the same network, with its graph. safetensors, pth: its weights alone. keras, h5: empty where Keras
    is not installed. data: by the name of the door.
    """

    pt2: bytes
    onnx: bytes
    graph: str
    artefact: bytes
    safetensors: bytes
    pth: bytes
    keras: bytes
    h5: bytes
    data: dict[str, bytes]


@lru_cache(maxsize=1)
def sources() -> Sources:
    data = io.BytesIO()
    program = torch.export.export(
        Small().eval(), (torch.zeros(2, 2, 5),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, data)
    state = {name: each.contiguous() for name, each in Small().state_dict().items()}
    weights = io.BytesIO()
    torch.save(state, weights)
    return Sources(
        pt2=data.getvalue(),
        onnx=_onnx(),
        graph=read_program(data.getvalue()).graph.to_json(),
        artefact=_artefact(),
        safetensors=save(state),
        pth=weights.getvalue(),
        keras=b"" if keras_missing() else _keras("keras"),
        h5=b"" if keras_missing() else _keras("h5"),
        data=fuzz_data.sources(),
    )


def _artefact() -> bytes:
    draw = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 2, 5, generator=draw) for n in (8, 8))
    network = paretoscope.from_module(Small(), ArrayData.of(train, test, train))
    compressed = paretoscope.compress(network, Recipe.of(sparsity=0.3, bits=4))
    return write(compressed)


def keras_missing() -> str:
    """Why the doors of Keras cannot be tried; "" where they can."""
    try:
        library()
    except ModelError as error:
        return str(error)
    return ""


def _keras(suffix: str) -> bytes:
    keras = library()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = keras.Input((6, 6, 2))
    a = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(x)))
    b = layers.Flatten()(layers.MaxPooling2D()(layers.Add()([a, layers.DepthwiseConv2D(3, padding="same")(a)])))
    model = keras.Model(x, layers.Dense(2, activation="softmax")(layers.Dropout(0.5)(b)))
    with temporary_folder() as folder:
        path = folder / f"small.{suffix}"
        model.save(path)
        return path.read_bytes()


def _onnx() -> bytes:
    draw = np.random.default_rng(0)
    weights = {
        "conv.weight": draw.normal(size=(3, 2, 3)).astype(np.float32),
        "conv.bias": draw.normal(size=3).astype(np.float32),
        "shape": np.array([-1, 15], np.int64),
        "head.weight": draw.normal(size=(2, 15)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["a"], pads=[1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("Gemm", ["c", "head.weight"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def outcome(door: str, files: Sources, seed: int) -> bool:
    """Whether a changed file opens; raises whatever is not a CompressionError."""
    draw = random.Random(seed)
    try:
        if door == "pt2 bytes":
            read_program(damaged(files.pt2, draw))
        elif door == "pt2 json":
            read_program(_repacked(files.pt2, draw))
        elif door == "onnx":
            read_onnx(damaged(files.onnx, draw))
        elif door in KERAS:
            _open_keras(door, files, draw)
        elif door in fuzz_data.DOORS:
            fuzz_data.read(door, files.data[door], draw)
        elif door == "graph":
            check_sizes(NetworkGraph.from_json(json.dumps(mutated(json.loads(files.graph), draw))))
        else:
            _open_file(door, files, draw)
    except CompressionError as error:
        if not 20 < len(str(error)) < 2000:
            raise AssertionError(f"a message must be short: {error}") from error
        return False
    return True


def _open_file(door: str, files: Sources, draw: random.Random) -> None:
    suffix = {"artefact": "psc"}.get(door, door)
    with temporary_folder() as folder:
        path = folder / f"changed.{suffix}"
        path.write_bytes(_artefact_changed(files, draw) if door == "artefact" else damaged(getattr(files, door), draw))
        if door == "artefact":
            Artefact().open(str(path), Options())
        else:
            modules.load_weights(Small(), path)


def _artefact_changed(files: Sources, draw: random.Random) -> bytes:
    """The file with some bytes changed, or its header or its streams, with the checksums put right."""
    found = sections(files.artefact)
    match draw.randrange(3):
        case 0:
            return damaged(files.artefact, draw)
        case 1:
            return frame(found[b"H"], damaged(found[b"S"], draw), figures=found[b"F"])
    header = mutated(json.loads(inflate(found[b"H"])), draw)
    return frame(deflate(json.dumps(header).encode()), found[b"S"], figures=found[b"F"])


def _open_keras(door: str, files: Sources, draw: random.Random) -> None:
    import h5py

    suffix, kind = door.split()
    data = files.keras if suffix == "keras" else files.h5
    with temporary_folder() as folder:
        path = folder / f"changed.{suffix}"
        if kind == "bytes":
            path.write_bytes(damaged(data, draw))
        elif suffix == "keras":
            path.write_bytes(_repacked(data, draw))
        else:
            path.write_bytes(data)
            with h5py.File(path, "r+") as file:
                file.attrs["model_config"] = json.dumps(mutated(json.loads(file.attrs["model_config"]), draw))
        Keras().open(str(path), Options())


def _repacked(data: bytes, draw: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        chosen = draw.choice([name for name in old.namelist() if name.endswith(".json")])
        for name in old.namelist():
            text = old.read(name)
            new.writestr(name, json.dumps(mutated(json.loads(text), draw)) if name == chosen else text)
    return out.getvalue()


def _seconds() -> float:
    """Of a processor, of this process and of those that it started."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", action="append", choices=DOORS, help="once each; left out, all")
    given = parser.parse_args()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    doors = given.door or DOORS
    files, each = sources(), given.mutations // len(doors)
    failures = 0
    for door in doors:
        if door in KERAS and (missing := keras_missing()):
            print(f"{door:11} not tried: {missing}")
            continue
        opened, longest, start = 0, 0.0, _seconds()
        for seed in range(given.seed, given.seed + each):
            began = _seconds()
            try:
                opened += outcome(door, files, seed)
            except Exception as error:  # what this looks for
                failures += 1
                print(f"  {door}, seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            seconds = _seconds() - began
            if seconds > SLOW_S:
                print(f"  {door}, seed {seed}: took {seconds:.0f} s", flush=True)
            longest = max(longest, seconds)
        took = _seconds() - start
        print(f"{door:11} {each:6,} mutations  {opened:6,} opened  {took:6.0f} s  longest {longest:.1f} s", flush=True)
        failures += longest > SLOW_S
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{failures} failures; peak memory {peak:.0f} MiB")
    raise SystemExit(min(failures, 1))


if __name__ == "__main__":
    main()
