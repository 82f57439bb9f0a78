"""What a study is: a kind of work that the workbench does, keeps and knows again. The table is in `studies`."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from paretoscope.service.jobs import JobKind, Priority


class StudyKind(StrEnum):
    """All that can be asked for, by the name that a request carries."""

    EVALUATE = "evaluate"
    TIME = "time"
    PROFILE = "profile"
    PLAN = "plan"
    NOISE = "noise"
    MEMORY = "memory"
    MACHINE = "machine"
    LATENCY = "latency"
    MEASURE = "measure"
    FILL = "fill"
    LAYERS = "layers"
    GRAPH = "graph"
    SENSITIVITY = "sensitivity"
    WATERFALL = "waterfall"
    CLIFF = "cliff"
    SUGGEST = "suggest"
    ALLOT = "allot"
    CONVERT = "convert"
    RECOVER = "recover"
    SHRINK = "shrink"
    ADD = "add"
    PREVIEW = "preview"
    BASELINE = "baseline"
    SAMPLES = "samples"
    MAPS = "maps"
    BYTES = "bytes"
    STAGE = "stage"
    RANK = "rank"
    TAKE = "take"


@dataclass(frozen=True, slots=True)
class Argument:
    """How an argument of a study is written as plain JSON, and read; reading raises where it is not one."""

    write: Callable[[Any], Any] = lambda value: value
    read: Callable[[Any], Any] = lambda data: data


def plain(study: Any) -> dict[str, Any]:
    """The JSON of a result: of its `to_dict`, or of the fields of a dataclass."""
    # `json` calls this for what it does not know, also inside lists.
    found: dict[str, Any] = study.to_dict() if hasattr(study, "to_dict") else asdict(study)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One kind of study. Functions get the workbench's knowledge first where they are said to, then the arguments.

    arguments: by name, in their order. run: does the work, for (knowledge, progress, *arguments), and returns its
    result. label: what a person is told of the job. priority: of its job, where none is asked for.

    place: for (knowledge, *arguments), the kind and the key of the document in the store that the study is kept as;
    None where it is not, or elsewhere. The arguments that it needs come first. read: from the document's JSON. kept:
    whether what `run` returns is that document; otherwise `run` keeps what is to be kept. lasting: whether a document
    of an earlier revision of the methods will do. anew: whether a workbench that measures again passes over it. find:
    for (knowledge, *arguments), where it is kept elsewhere. ships: whether that document may come with the package
    (`paretoscope.service.shipped`), as what does not depend on the machine may. ships_as: of what does depend on it,
    for (knowledge, *arguments), kind and key without the machine; what is found by it is marked as another machine's.

    shared: for (knowledge, *arguments), what requests have in common that are one job; None where all arguments count.
    allow: for (limits, *arguments), raises LimitError where a server does not give that much.
    """

    kind: StudyKind
    arguments: Mapping[str, Argument]
    run: Callable[..., Any]
    label: Callable[..., str]
    priority: Priority = Priority.SOON
    job: JobKind = JobKind.OTHER
    place: Callable[..., tuple[str, str]] | None = None
    read: Callable[[Any], Any] | None = None
    kept: bool = False
    lasting: bool = False
    anew: bool = False
    ships: bool = False
    ships_as: Callable[..., tuple[str, str]] | None = None
    find: Callable[..., Any] | None = None
    shared: Callable[..., Hashable] | None = None
    allow: Callable[..., None] | None = None
