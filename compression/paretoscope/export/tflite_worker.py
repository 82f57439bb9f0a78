"""python -m paretoscope.export.tflite_worker MODEL.pt2 OUT.tflite: a process of its own for litert-torch."""

import sys
from pathlib import Path

import litert_torch
import torch

from paretoscope.export.torch_export import load


def main(program: str, out: str) -> None:
    module = load(Path(program).read_bytes()).module()
    (name,) = [node.name for node in module.graph.nodes if node.op == "placeholder"]
    shape = next(node.meta["val"].shape for node in module.graph.nodes if node.name == name)
    litert_torch.convert(module, (torch.zeros(tuple(map(int, shape))),)).export(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
