"""Keras files, `.keras` and `.h5`: opened by Keras 3 on PyTorch, after a look at all that they name.

Keras makes objects of what a file's configuration names. Before it sees the file, every object must be a plain one of
Keras itself: no lambdas, no code, no classes of others, no files elsewhere.
"""

import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from paretoscope.base.errors import ModelError
from paretoscope.base.text import reason, shown
from paretoscope.networks.origins.hdf5 import MOST_BYTES, MOST_CONFIG, looked_through
from paretoscope.networks.origins.origin import Opened, Options, existing, package, refuse_options, suffixed

if TYPE_CHECKING:
    from torch import Tensor

    from paretoscope.base.batch import Batch

# The largest number in a configuration; chosen by hand.
LARGEST = 1 << 24
# The file of weights within a `.keras`.
WEIGHTS = "model.weights.h5"
REQUIREMENT = "keras==3.15.1"
# Modules of Keras whose objects compute and nothing else.
_PLAIN = re.compile(
    r"keras(\.src)?(\.(layers|models|initializers|regularizers|constraints|activations|dtype_policies|optimizers|losses"
    r"|metrics|quantizers)(\.\w+)*)?|builtins"
)
# Of those, what runs code, reads files or wraps modules of others.
_REFUSED = re.compile(
    r"\w*lambda\w*|function|Torch\w*|Jax\w*|Flax\w*|TFSM\w*|\w*Vectorization|\w*Lookup", re.IGNORECASE
)


class Keras:
    name = "keras"
    title = "Keras"
    summary = "A file of Keras, by Keras 3 on PyTorch in its safe mode; inputs keep their axes, channels last."
    reference = "Keras documentation, keras.io"
    form = "FILE.keras or FILE.h5"
    place = 60

    def takes(self, text: str) -> bool:
        return suffixed(text, ".keras", ".h5", ".hdf5")

    def open(self, text: str, options: Options) -> Opened:
        from paretoscope.graph.doors import check_sizes, expect_small
        from paretoscope.graph.programs import import_module
        from paretoscope.networks.origins import modules

        refuse_options(options, weights="a Keras file has its weights")
        path = existing(text)
        keras = library()
        _expect_plain(path)
        try:
            # Without values first: a layer that declares more than the file holds fails before memory is taken for it.
            with keras.device("meta"):
                keras.saving.load_model(str(path), compile=False, safe_mode=True)
            model = keras.saving.load_model(str(path), compile=False, safe_mode=True)
        except Exception as error:  # Keras raises what its layers and its files raise
            raise ModelError(
                f"{path.name} must be a whole file of Keras; {reason(error, 300)}. Save it again."
            ) from None
        shapes = {each.name: tuple(each.shape[1:]) for each in model.inputs}
        if any(size is None for shape in shapes.values() for size in shape) or options.inputs:
            if options.inputs.keys() not in (shapes.keys(), {""}):
                names = ", ".join(f"{name}={shape}" for name, shape in shapes.items())
                raise ModelError(f"the sizes of all inputs must be given by --input NAME=SHAPE; they are {names}.")
            shapes = dict(zip(shapes, options.inputs.values(), strict=True))
        for name, shape in shapes.items():
            expect_small(math.prod(shape), name)
        example = modules.typed(shapes, [str(each.dtype) for each in model.inputs])
        module = _wrapped(model)
        imported = modules.with_weights_as_read(import_module(module, example))
        check_sizes(imported.graph)
        return Opened(imported, str(model.name), lambda batch: _run(module, batch))


def library() -> ModuleType:
    """Keras on PyTorch; raises ModelError where it is missing, or runs on another backend in this process."""
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "torch"
    try:
        keras = package("keras", "a file of Keras", REQUIREMENT)
    finally:
        if before is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = before
    if keras.backend.backend() != "torch":
        raise ModelError(
            f"Keras must run on PyTorch here; this process has it on {keras.backend.backend()}. Start another one, "
            "with KERAS_BACKEND=torch."
        )
    return keras


def _wrapped(model: Any) -> Any:
    """A module of PyTorch whose parameters have the names that the layers gave them."""
    from torch import nn

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._names: list[str] = []
            for variable in model.variables:
                name = _named(variable.path, self._names)
                self._names.append(name)
                owner: nn.Module = self
                *path, leaf = name.split(".")
                for part in path:
                    if part not in owner._modules:
                        owner.add_module(part, nn.Module())
                    owner = owner.get_submodule(part)
                value = variable.value.detach()
                if value.is_floating_point():
                    owner.register_parameter(leaf, nn.Parameter(value.float()))
                else:
                    owner.register_buffer(leaf, value)

        def forward(self, *inputs: "Tensor") -> Any:
            values = dict(zip((id(v) for v in model.variables), map(self._value, self._names), strict=True))
            outputs, _ = model.stateless_call(
                [values[id(v)] for v in model.trainable_variables],
                [values[id(v)] for v in model.non_trainable_variables],
                inputs[0] if len(inputs) == 1 else list(inputs),
                training=False,
            )
            return outputs

        def _value(self, name: str) -> "Tensor":
            path, _, leaf = name.rpartition(".")
            found: Tensor = getattr(self.get_submodule(path), leaf)
            return found

    return Wrapped().eval()


def _named(path: str, taken: list[str]) -> str:
    """A name in a state dict from a variable's path, conv2d/kernel."""
    parts = [re.sub(r"\W", "_", part) for part in path.split("/")]
    parts[-1] = {"kernel": "weight", "embeddings": "weight"}.get(parts[-1], parts[-1])
    name, number = ".".join(parts if len(parts) > 1 else ["model", *parts]), 1
    while name in taken:
        number += 1
        name = ".".join([*parts[:-1], f"{parts[-1]}_{number}"])
    return name


def _run(module: "Callable[..., Any]", batch: "Batch") -> Any:
    from paretoscope.base.batch import call

    return call(module, batch)


# What a file may hold.


def _expect_plain(path: Path) -> None:
    try:
        config = _zip_config(path) if zipfile.is_zipfile(path) else looked_through(path)
        if config is None:
            rule = "hold a whole model; this one holds weights alone. Save it by model.save('model.keras')"
            raise _refused(path, rule)
        for each in _objects(json.loads(config)):
            _expect_object(each, path)
    except ModelError:
        raise
    except Exception as error:  # of damaged archives and HDF5 files; they have no common base
        raise ModelError(f"{path.name} must be a whole file of Keras; {reason(error, 200)}. Save it again.") from None


def _zip_config(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        sizes = {each.filename: each.file_size for each in archive.infolist()}
        if set(sizes) - {"metadata.json", "config.json", WEIGHTS} or len(archive.infolist()) != len(sizes):
            raise _refused(path, f"hold its configuration and its weights alone; it holds {shown(sorted(sizes))}")
        if sizes.get("config.json", 0) > MOST_CONFIG or sum(sizes.values()) > MOST_BYTES:
            raise _refused(path, f"have at most {MOST_BYTES >> 30} GiB; it has {sum(sizes.values()):,} bytes")
        if WEIGHTS in sizes:
            looked_through(path, WEIGHTS)
        return archive.read("config.json")


def _objects(data: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in a configuration, and a check of its numbers on the way."""
    waiting = [data]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            # An identity of objects that are shared is no size.
            waiting.extend(value for key, value in each.items() if key != "shared_object_id")
        elif isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, (int, float)) and math.isfinite(each) and abs(each) > LARGEST and each != int(1e9):
            raise ValueError(f"a number of a configuration is at most {LARGEST:,}; got {each}")


def _expect_object(each: dict[str, Any], path: Path) -> None:
    kind, module, registered = each.get("class_name"), each.get("module"), each.get("registered_name")
    if module is not None and (not isinstance(module, str) or not _PLAIN.fullmatch(module)):
        raise _refused(path, f"be made of Keras' own layers; it names {shown(module)}")
    if isinstance(kind, str) and (_REFUSED.fullmatch(kind) and not (kind == "function" and module == "builtins")):
        raise _refused(path, f"hold no code, no files and no modules of others; it has {shown(kind)}")
    if registered is not None and registered != kind and module not in (None, "builtins"):
        raise _refused(path, f"be made of Keras' own layers; it names {shown(registered)}")
    if each.get("class_name") == "function" and each.get("config") not in _activations():
        raise _refused(path, f"have Keras' own functions; it names {shown(each.get('config'))}")


def _activations() -> tuple[str, ...]:
    keras = library()
    return tuple(name for name in dir(keras.activations) if not name.startswith("_"))


def _refused(path: Path, rule: str) -> ModelError:
    return ModelError(
        f"{path.name} must {rule}. Export the network by torch.export or ONNX where it runs, and add that file."
    )


ORIGINS = (Keras(),)
