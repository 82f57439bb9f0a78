"""OpenVINO's intermediate representation: a graph in XML, its weights beside it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paretoscope.base.errors import ModelError
from paretoscope.base.files import temporary_folder
from paretoscope.base.libraries import openvino
from paretoscope.base.lock import machine
from paretoscope.export.base import Format, Original, alike, close_to_decoded, versioned
from paretoscope.export.onnx import fp32, int8
from paretoscope.runtimes.onnx_graph import Arrays, arrays
from paretoscope.runtimes.openvino import REQUIREMENT

_REFERENCE = "OpenVINO documentation, docs.openvino.ai"
_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


@machine(exclusive=False)
def _write(graph: bytes, stem: str) -> dict[str, bytes]:
    with temporary_folder() as folder:
        path = folder / f"{stem}.xml"
        library = openvino()
        library.save_model(library.Core().read_model(graph), path, compress_to_fp16=False)
        return {each.name: each.read_bytes() for each in (path, path.with_suffix(".bin"))}


def _run(files: Mapping[str, bytes], original: Original) -> Arrays:
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

        return original.run(run)


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
    write=lambda original: _write(int8(original), f"{original.stem}.int8"),
    run=_run_int8,
    # Chosen by hand; what the zoo comes to is printed by: python -m benchmarks.conversions.
    judge=alike(flips=0.01, mean=0.01),
    modules=("openvino",),
    install=REQUIREMENT,
    integer_only=True,
    place=71,
)
FORMATS = (OPENVINO, OPENVINO_INT8)
