"""What the origins that end in a PyTorch module share: their example inputs, their weights, and the import."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from paretoscope.base.batch import call, joined
from paretoscope.base.errors import ModelError
from paretoscope.base.text import listed, shown
from paretoscope.graph.programs import import_module
from paretoscope.networks.origins.origin import Opened

if TYPE_CHECKING:
    from paretoscope.base.batch import Batch


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
    state = _state(path)
    own = set(module.state_dict())
    # What wrappers of training and checkpoints put in front of every name.
    for prefix in ("module.", "model.", "_orig_mod."):
        if state and not own & state.keys() and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    missing, unknown = sorted(own - state.keys()), sorted(state.keys() - own)
    if missing or unknown:
        told = [f"it lacks {listed(missing)}"] * bool(missing) + [f"it has {listed(unknown)}"] * bool(unknown)
        raise ModelError(
            f"{path.name} must hold the weights of this network, by its names; {' and '.join(told)}. "
            "Give the file of this very network."
        )
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ModelError(
            f"{path.name} must hold the weights of this network, in its shapes; {reason[:300]} "
            "Give the file of this very network."
        ) from None


def _state(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"weights must be a file that can be read; there is none at {path}. Check the path.")
    try:
        found: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path.name} must be a whole file of weights; {error}. Save it again.") from None
    except Exception as error:  # of damaged archives and refused pickles alike; they have no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path.name} must hold tensors alone, which are read without running code; {reason[:200]} Save it by: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from None
    for key in ("state_dict", "model", "model_state_dict"):  # what checkpoints keep beside the weights is left out
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(each, Tensor) for each in found.values()):
        raise ModelError(f"{path.name} must hold a state dict; it holds {shown(found)}. Save model.state_dict().")
    return dict(found)
