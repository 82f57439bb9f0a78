"""`paretoscope add`, `show`, `remove`: the user's own networks."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretoscope.base.errors import CompressionError
from paretoscope.cli.shared import Json, Model, reporting, tell

if TYPE_CHECKING:
    from paretoscope.measure.subject import Subject
    from paretoscope.networks.network import Network

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the network is to be called.")]

# Seconds that the first look at a new network may take, about; chosen by hand.
JUDGED_S = 30.0


@reporting
def add(
    name: Name,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file (.pt2, .onnx, .keras, .h5, .psc), torchvision:NAME, timm:NAME, transformers:FOLDER, or "
            "package.module:function.",
        ),
    ],
    weights: Annotated[
        str, typer.Option(help="A file of weights for the network, or random.", metavar="FILE|random")
    ] = "",
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="Shape of one sample, e.g. x=3,224,224; once an input.", metavar="NAME=SHAPE"),
    ] = None,
    data: Annotated[
        str, typer.Option(help="What it is measured on: data of yours by name, or a source of data.", metavar="DATA")
    ] = "",
    train: Annotated[
        str, typer.Option(help="What it is trained on; left out, a part of --data.", metavar="DATA", show_default=False)
    ] = "",
    target: Annotated[
        str | None, typer.Option(help="Column or array of the labels.", metavar="NAME", show_default=False)
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="How answers are judged: classification or agreement; left out, classification where labels can be "
            "classes.",
            metavar="TASK",
            show_default=False,
        ),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            help="How samples become its inputs: a preset (imagenet, symmetric, plain ...) or a file of JSON; left "
            "out, what the source suggests.",
            metavar="FILE|NAME",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of a network of that name.")] = False,
) -> None:
    """Add a network of yours: from then on NAME is a model like any other."""
    from paretoscope.networks.origins import Options
    from paretoscope.service import adding

    options = Options(weights, dict(map(_shape, inputs or ())), code=True)
    candidate = adding.open_candidate(
        name,
        source,
        options,
        data=data,
        train=train,
        target=target,
        task=task,
        preprocess=preprocess,
        replace=replace,
    )
    try:
        subject = candidate.subject()
        entry = candidate.keep(replace=replace)
    except BaseException:
        candidate.discard()
        raise
    print(_added(entry.network, subject))
    tell(entry.notes)


@reporting
def show(model: Model, as_json: Json = False) -> None:
    """Show what a model is and what its baseline is worth; of a network of yours, what was told when it was added."""
    from paretoscope.networks import library
    from paretoscope.service import subjects

    subject = subjects.load(model)
    network = subject.network
    told: dict[str, Any] = {
        "name": network.name,
        "title": network.title,
        "inputs": [{"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in network.inputs],
        "outputs": [list(shape) for shape in network.outputs],
        "parameters": subject.parameters,
        "reach": subject.reach,
        "task": network.task,
        "data": network.data,
        "train": network.train,
        "preprocess": json.loads(network.preprocess) if network.preprocess else None,
        "baseline": _baseline(subject),
    }
    if model in library.names():
        entry = library.get(model)
        told |= {"source": entry.source, "origin": entry.origin, "notes": list(entry.notes)}
    if as_json:
        print(json.dumps(told, indent=2))
        return
    for key, value in (told | _worded(subject)).items():
        print(f"{key:<12} {_line(value)}")


@reporting
def remove(name: Name) -> None:
    """Remove a network of yours; its artefacts, and what was measured of it, stay where they are."""
    from paretoscope.networks import library, zoo

    if name in zoo.models:
        raise CompressionError(f"a network of yours can be removed; {name} is a model of the zoo.")
    library.remove(name)
    print(f"Removed {name}.")


def _baseline(subject: "Subject") -> dict[str, Any] | None:
    """The baseline's figure on n test samples with its 95 % interval; None where nothing but itself judges it."""
    if not subject.task.needs_labels:
        return None
    n = subject.judged.settled
    figures = subject.judged.baseline(n)
    low, high = subject.task.interval(figures, n)
    return {"figure": subject.task.words.name, "value": figures.value, "low": low, "high": high, "n": n}


def _worded(subject: "Subject") -> dict[str, str]:
    """What is told to a person in words: the share that recipes act on, and the baseline's figure."""
    from paretoscope.tasks.plain import figure

    words, baseline = subject.task.words, _baseline(subject)
    told = "it is compared with its own answers"
    if baseline is not None:
        value, low, high = (figure(words, baseline[key]) for key in ("value", "low", "high"))
        told = f"{words.name} {value} [{low}, {high}] on {baseline['n']:,} test samples"
    return {"reach": f"recipes act on {subject.reach:.1%} of the parameters", "baseline": told}


def _added(network: "Network", subject: "Subject") -> str:
    """What is told of a new network, with the question that finds wrong preprocessing."""
    words, judged = subject.task.words, subject.judged
    n = len(judged)
    if subject.task.needs_labels:
        run = min(n, max(judged.quick, int(JUDGED_S / judged.seconds)))
        baseline = judged.baseline(run)
        low, high = words.ends(*subject.task.interval(baseline, run))
        counted = f"all {n:,}" if run == n else f"{run:,} of {n:,}"
        return (
            f"Added {network.name}: {words.name} {words.value(baseline.value)} [{low}, {high}] on {counted} test "
            "samples: is that what you expect? If not, the preprocessing is the first thing to look at: --preprocess "
            "names another (mean, scale, order of channels)."
        )
    kind = f"{n:,} test samples of {network.data}" if network.data else f"{n:,} drawn samples"
    return f"Added {network.name}: it is compared with its own answers on {kind}."


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """An input's name and shape, from "x=3,224,224", or "3,224,224" for the only one."""
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise CompressionError(f"--input must be NAME=SHAPE of one sample, e.g. x=3,224,224; got {text}.")
    return name, shape


def _line(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_line(each) for each in value)
    if isinstance(value, dict):
        return " ".join(str(each) for each in value.values())
    return str(value)
