"""What the origins that end in a PyTorch module share: their example inputs, their weights, and the import."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from paretoscope.base.batch import call, joined
from paretoscope.base.errors import ModelError
from paretoscope.base.files import nameable
from paretoscope.base.text import listed, shown, unpickled
from paretoscope.graph.importer import Imported
from paretoscope.graph.network_graph import DTYPES, Argument, Node, TensorName, Value
from paretoscope.graph.network_graph import parts as _arguments
from paretoscope.graph.programs import import_module
from paretoscope.networks.origins.origin import Opened

if TYPE_CHECKING:
    from paretoscope.base.batch import Batch

_RESHAPES = ("aten.reshape.default", "aten.view.default")
RANDOM_NOTE = "The weights are random: sizes and times are the network's, answers say nothing."


def opened(
    module: nn.Module,
    example: "Batch",
    title: str,
    notes: tuple[str, ...] = (),
    preprocess: Mapping[str, Any] | None = None,
) -> Opened:
    """A module as an origin gives it; example: two samples or more. Raises ModelError."""
    module = module.float().eval()
    with torch.no_grad():
        imported = import_module(module, example)
    return Opened(imported, title, lambda batch: call(module, batch), notes, preprocess)


def floats(inputs: Mapping[str, tuple[int, ...]], default: tuple[int, ...] | None, what: str) -> "Batch":
    """Two samples of zeros of each shape that was given, or of the default; raises ModelError without either."""
    shapes = list(inputs.values()) or ([] if default is None else [default])
    if not shapes:
        raise ModelError(f"{what} does not tell the shapes of its inputs. Give them, e.g. --input x=3,224,224.")
    return joined(tuple(torch.zeros(2, *shape) for shape in shapes))


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a file of weights: safetensors, or a state dict of PyTorch without code. Raises ModelError."""
    with_state(lambda classes: module, state_of(path), path.name)


def with_state(make: Callable[[int | None], nn.Module], state: Mapping[str, Tensor], file: str) -> nn.Module:
    """A network with these weights. make: gives it with so many classes, None for its own number; a file for another
    number of classes makes one of that number. Raises ModelError where the names or the shapes are others.
    """
    module = make(None)
    own = module.state_dict()
    # What wrappers of training and checkpoints put in front of every name.
    for prefix in ("module.", "model.", "_orig_mod."):
        if state and not own.keys() & state.keys() and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        told = [f"it lacks {listed(missing)}"] * bool(missing) + [f"it has {listed(unknown)}"] * bool(unknown)
        raise ModelError(
            f"{file} must hold the weights of this network, by its names; {' and '.join(told)}. Give the file of this "
            "very network."
        )
    others = [name for name in own if own[name].shape != state[name].shape]
    sizes = {state[name].shape[0] for name in others if state[name].shape[1:] == own[name].shape[1:] and own[name].ndim}
    if others and len(sizes) == 1:
        module = make(sizes.pop())
        own = module.state_dict()
        others = [name for name in own if name not in state or own[name].shape != state[name].shape]
    if others:
        raise ModelError(
            f"{file} must hold the weights of this network, in its shapes; {others[0]} is "
            f"{tuple(own[others[0]].shape)} here and {tuple(state[others[0]].shape)} there. Give the file of this very "
            "network."
        )
    module.load_state_dict(state, strict=True)
    return module


def download(url: str, name: str) -> Path:
    """A published file of weights in the cache of torch.hub, downloaded where it is not there; it holds no code.

    Raises ModelError where there is no network.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rpartition("/")[2]
    if not path.is_file():
        # The first digits of its SHA-256 end the name of a published file.
        digest = re.search(r"-([a-f0-9]{8,})\.", path.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), digest and digest[1], progress=False)
        except (OSError, RuntimeError) as error:
            raise without_weights(name, f"{url}: {error}") from None
    state_of(path)
    return path


def without_weights(name: str, reason: str) -> ModelError:
    """What to raise where a network has no weights."""
    return ModelError(
        f"{name} needs weights, and the published ones cannot be had ({reason}). Give a file with --weights FILE "
        "(safetensors, or .pth), or take random ones with --weights random: sizes and times are "
        "theirs, accuracy is not."
    )


def quiet_hub() -> None:
    """Keep the hub of Hugging Face from reporting its use; before it is imported."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def state_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights: safetensors, or a state dict of PyTorch without code. Raises ModelError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not nameable(str(path)) or not path.is_file():
        raise ModelError(f"weights must be a file that can be read; there is none at {path}. Check the path.")
    if path.name.endswith(".index.json"):
        raise ModelError(
            f"weights must be one file; {path.name} is the index of several. Load them all, and save them by: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        )
    try:
        found: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path.name} must be a whole file of weights; {error}. Save it again.") from None
    except Exception as error:  # of damaged archives and refused pickles alike; they have no common base
        raise ModelError(
            f"{path.name} must hold tensors alone, which are read without running code; {unpickled(error)}. "
            "Save it by: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from None
    for key in ("state_dict", "model", "model_state_dict"):  # what checkpoints keep beside the weights is left out
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(each, Tensor) for each in found.values()):
        raise ModelError(f"{path.name} must hold a state dict; it holds {shown(found)}. Save model.state_dict().")
    return dict(found)


def typed(shapes: Mapping[str, tuple[int, ...]], dtypes: Sequence[str]) -> "Batch":
    """Two samples of zeros of each input."""
    pairs = zip(shapes.values(), dtypes, strict=True)
    return joined(tuple(torch.zeros(2, *shape, dtype=getattr(torch, dtype)) for shape, dtype in pairs))


def with_weights_as_read(imported: Imported) -> Imported:
    """The network with its weights in the order of axes in which they are read, as PyTorch's own layers have them.

    A weight that is only ever turned first is kept turned: the call that turned it is gone.
    """
    graph, state = imported.graph, dict(imported.state)
    reads = dict.fromkeys(graph.ties.values(), 1)
    given = [each for node in graph.nodes for each in (*node.args, *node.kwargs.values())]
    for argument in _arguments([*given, graph.output]):
        if isinstance(argument, TensorName):
            reads[argument.name] = reads.get(argument.name, 0) + 1
    tensors = dict(graph.tensors)
    turned: dict[str, TensorName] = {}
    nodes = []
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        source = turned.get(source.name, source) if isinstance(source, Value) else source
        if isinstance(source, TensorName) and source.name in tensors and reads[source.name] == 1:
            spec, tensor = tensors[source.name], state[source.name]
            found = _turned(node, tensor, spec.dtype)
            if found is not None:
                state[source.name] = found
                tensors[source.name] = replace(spec, shape=tuple(found.shape))
                turned[node.name] = source
                continue
        args = tuple(_put(each, turned) for each in node.args)
        nodes.append(replace(node, args=args, kwargs={key: _put(each, turned) for key, each in node.kwargs.items()}))
    made = replace(graph, nodes=tuple(nodes), tensors=tensors, output=_put(graph.output, turned))
    made.check()
    return Imported(made, state)


def _turned(node: Node, tensor: Tensor, dtype: str) -> Tensor | None:
    """What a call makes of a weight where it moves its numbers alone; None for other calls."""
    if node.operator.startswith("aten.to."):
        given = (*node.args[1:], *node.kwargs.values())
        return tensor if all(each == DTYPES[dtype] for each in given if isinstance(each, torch.dtype)) else None
    sizes = node.args[1] if len(node.args) > 1 else None
    if not isinstance(sizes, list) or not all(type(each) is int for each in sizes):
        return None
    numbers = [each for each in sizes if isinstance(each, int)]
    if node.operator == "aten.permute.default":
        return tensor.permute(numbers).contiguous()
    return tensor.reshape(numbers).contiguous() if node.operator in _RESHAPES else None


def _put(argument: Argument, found: Mapping[str, TensorName]) -> Argument:
    if isinstance(argument, list):
        return [_put(each, found) for each in argument]
    return found.get(argument.name, argument) if isinstance(argument, Value) else argument
