"""OpenVINO's intermediate representation: a graph in XML, its weights beside it."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from paretoscope.base.errors import ModelError
from paretoscope.base.files import temporary_folder
from paretoscope.base.libraries import openvino
from paretoscope.base.lock import machine
from paretoscope.export.base import Format, Original, close_to_decoded, distance, versioned
from paretoscope.export.likeness import alike, mean_off
from paretoscope.export.onnx import fp32, int8
from paretoscope.export.openvino_guards import guarded
from paretoscope.runtimes.base import as_outputs
from paretoscope.runtimes.onnx_graph import Arrays, arrays
from paretoscope.runtimes.openvino import REQUIREMENT

_REFERENCE = "OpenVINO documentation, docs.openvino.ai"
# How far logits may be off on average, and on how many samples a form of the graph is tried. Chosen by hand.
MEAN = 0.01
_TRIED = 4
_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


@machine(exclusive=False)
def _write(graph: bytes, stem: str) -> dict[str, bytes]:
    with temporary_folder() as folder:
        path = folder / f"{stem}.xml"
        library = openvino()
        library.save_model(library.Core().read_model(graph), path, compress_to_fp16=False)
        return {each.name: each.read_bytes() for each in (path, path.with_suffix(".bin"))}


def _write_int8(original: Original) -> dict[str, bytes]:
    """The graph as it is where OpenVINO computes that; else with guards, or whichever it comes closer with."""
    graph, stem = int8(original), f"{original.stem}.int8"
    plain = _write(graph, stem)
    off = _off(plain, original)
    if off <= MEAN:
        return plain
    careful = _write(guarded(graph), stem)
    return careful if _off(careful, original) < off else plain


def _off(files: Mapping[str, bytes], original: Original) -> float:
    """How far outputs of a few calibration samples are from those of the integer network; infinite where none come."""
    samples = tuple(each[:_TRIED] for each in arrays(original.samples))
    with machine(exclusive=False), torch.inference_mode():
        expected = as_outputs(original.network(*map(torch.from_numpy, samples)))
    try:
        found = _on(files, lambda run: run(samples))
    except RuntimeError:  # what OpenVINO raises for everything
        return math.inf
    return mean_off(found, expected) if distance(found, expected) < math.inf else math.inf


def _run(files: Mapping[str, bytes], original: Original) -> Arrays:
    return _on(files, original.run)


def _on(files: Mapping[str, bytes], use: Callable[[Callable[[Arrays], Arrays]], Arrays]) -> Arrays:
    """What becomes of the compiled files in the hands of `use`."""
    with temporary_folder() as folder:
        for name, data in files.items():
            (folder / Path(name).name).write_bytes(data)
        paths = list(folder.glob("*.xml"))
        if len(paths) != 1:
            raise ModelError(f"an IR must have one graph; got {len(paths)}")
        model = openvino().Core().compile_model(str(paths[0]), "CPU", _SETTINGS)

        def run(samples: Arrays) -> Arrays:
            made = model([np.ascontiguousarray(each) for each in arrays(samples)])
            found = tuple(made[place].copy() for place in range(len(model.outputs)))
            return found[0] if len(found) == 1 else found

        return use(run)


def _run_int8(files: Mapping[str, bytes], original: Original) -> Arrays:
    weights = b"".join(data for name, data in files.items() if name.endswith(".bin"))
    for name, layer in original.network.layers.items():
        # The kernels may round as they like, but not the weights.
        if layer.codes.tobytes() not in weights:
            raise ModelError(f"an int8 IR must hold the codes of the artefact; those of the step {name} are not there")
    return _run(files, original)


OPENVINO = Format(
    name="openvino",
    title="OpenVINO",
    summary="IR, a graph (.xml) and its weights (.bin), any batch: decoded float weights.",
    reference=_REFERENCE,
    extension=".xml, .bin",
    runtime=versioned("OpenVINO", "openvino") + ", CPU",
    promise="the decoded network but for rounding",
    write=lambda original: _write(fp32(original), original.stem),
    run=_run,
    judge=close_to_decoded,
    modules=("openvino",),
    install=REQUIREMENT,
    place=70,
)
OPENVINO_INT8 = Format(
    name="openvino-int8",
    title="OpenVINO, int8",
    summary="IR of the int8 graph, any batch. OpenVINO rounds between layers where it likes, so answers may vary.",
    reference=_REFERENCE,
    extension=".xml, .bin",
    runtime=versioned("OpenVINO", "openvino") + ", CPU",
    promise="at most 1 % other predictions, logits off by 1 % on average",
    write=_write_int8,
    run=_run_int8,
    # Chosen by hand; what the zoo comes to is printed by: python -m benchmarks.conversions.
    judge=alike(flips=0.01, mean=MEAN),
    modules=("openvino",),
    install=REQUIREMENT,
    integer_only=True,
    place=71,
)
FORMATS = (OPENVINO, OPENVINO_INT8)
