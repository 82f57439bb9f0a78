"""ONNX Runtime's own profile of a session, by layer."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from paretoscope.base.files import temporary_folder
from paretoscope.base.libraries import onnxruntime
from paretoscope.runtimes.onnx_graph import Arrays, arrays
from paretoscope.runtimes.profiles import WARM_UP_RUNS, by_weight, node_owners, typical
from paretoscope.runtimes.sessions import open_session

# What ONNX Runtime's optimiser and its profiler put around the names of nodes.
_ADDED = re.compile(r"^fused |(_nchwc|_token_\d+)*_kernel_time$")


def onnx_profile(data: bytes, samples: Arrays, options: onnxruntime.SessionOptions, runs: int) -> dict[str, float]:
    """Microseconds a call of each weight's layer, by state-dict name, and of the rest ("other").

    data: an ONNX file of this package, float or QDQ. samples: an array for each input, run in one call. The
    interquartile mean of each node over `runs` calls (the profiler's clock ticks in whole microseconds), summed by
    layer; an activation or a batch normalisation after a layer counts for it. All times add up to that of the nodes;
    what the session spends between them is not in it.
    """
    names = [each.name for each in onnx.load_model_from_string(data).graph.input]
    feeds = dict(zip(names, arrays(samples), strict=True))
    return by_weight(session_times(data, feeds, options, runs), node_owners(data))


def session_times(
    data: bytes, feeds: Mapping[str, np.ndarray], options: onnxruntime.SessionOptions, runs: int
) -> dict[str, float]:
    """Microseconds a call of each node of any graph, by its name without what the optimiser put around it."""
    durations: defaultdict[str, list[float]] = defaultdict(list)

    def use(session: onnxruntime.InferenceSession) -> None:
        for _ in range(WARM_UP_RUNS + runs):
            session.run(None, dict(feeds))

    for event in events(data, options, use):
        if event.get("cat") == "Node":
            durations[event["name"]].append(event["dur"])
    times: defaultdict[str, float] = defaultdict(float)
    for name, each in durations.items():
        times[_ADDED.sub("", name)] += typical(each) * len(each) / (WARM_UP_RUNS + runs)
    return dict(times)


def events(
    data: bytes, options: onnxruntime.SessionOptions, use: Callable[[onnxruntime.InferenceSession], None]
) -> list[dict[str, Any]]:
    """What a session notes of itself while it is used: "cat", "name" and "dur", in microseconds, of each event."""
    options.enable_profiling = True
    with temporary_folder() as folder:
        options.profile_file_prefix = str(folder / "profile")
        session = open_session(data, options)
        use(session)
        noted: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
        return noted
