"""How many threads libraries may use. Small work is done on one: waking workers costs more than they save."""

from paretoscope.base.libraries import onnxruntime


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of an ONNX Runtime session that runs one operator after the other, each on so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Workers spin within a run, as in any application, but not after it, beside the session it is compared with.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def open_session(data: bytes, options: onnxruntime.SessionOptions | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU, on one thread unless the options say otherwise."""
    return onnxruntime.InferenceSession(data, options or session_options(1), providers=["CPUExecutionProvider"])
