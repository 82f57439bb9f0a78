"""python -m paretoscope.export.tflite_worker MODEL.pt2 OUT.tflite: a process of its own for litert-torch."""

import sys
from pathlib import Path

import litert_torch
import torch

from paretoscope.export.torch_export import load


def main(program: str, out: str) -> None:
    program_of = load(Path(program).read_bytes())
    taken = program_of.graph_signature.user_inputs
    samples = []
    for node in program_of.graph.nodes:
        if node.op == "placeholder" and node.name in taken:
            value = node.meta["val"]
            samples.append(torch.zeros(tuple(map(int, value.shape)), dtype=value.dtype))
    litert_torch.convert(program_of.module(), tuple(samples)).export(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
