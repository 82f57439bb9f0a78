"""Runtimes: what runs a model, to time it and to see what it answers. One file each; this registers them."""

from paretoscope.base.registry import Registry
from paretoscope.runtimes.base import Program, Runnable, Runtime, Session, predict

__all__ = ["Program", "Runnable", "Runtime", "Session", "predict", "runtimes"]


def _first() -> tuple[Runtime, ...]:
    from paretoscope.runtimes.onnx_runtime import ONNX_RUNTIME
    from paretoscope.runtimes.openvino import OPENVINO
    from paretoscope.runtimes.pytorch import PYTORCH
    from paretoscope.runtimes.sparse.runtime import SPARSE
    from paretoscope.runtimes.torch_compiled import TORCH_COMPILED

    return ONNX_RUNTIME, OPENVINO, PYTORCH, SPARSE, TORCH_COMPILED


# Their libraries are large, and most evaluations time nothing.
runtimes: Registry[Runtime] = Registry("runtime", _first)
