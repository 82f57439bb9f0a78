"""Reads a `.pt2` file of anybody: its JSON and its raw tensors, without PyTorch's loader.

`torch.export.load` unpickles the sample inputs and whatever a file marks as pickled, and evaluates the expressions of
sizes; nothing of that is needed. An archive is a zip whose members are stored, not compressed:

    NAME/models/NAME.json                          the graph: nodes, the types of values, the signature
    NAME/data/weights/NAME_weights_config.json     of each tensor: its member, type, sizes, strides
    NAME/data/weights/weight_0 ...                 the numbers
    NAME/data/constants/...                        the same for constants; NAME/data/sample_inputs is not read

The schema is that of torch/_export/serde/schema.py, version 8 (PyTorch 2.8 and later).
"""

import io
import json
import math
import operator
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from paretoscope.base.errors import ModelError
from paretoscope.graph.layers import LARGEST
from paretoscope.graph.program import Described, Program

# What a file may have; the largest network of docs/networks.md has 1,500 nodes and 3 MB of JSON. Chosen by hand.
MOST_MEMBERS = 100_000
MOST_JSON = 1 << 27
MOST_NODES = 100_000
MOST_AXES = 8

WAY = (
    "Write the file so: program = torch.export.export(model.float().eval(), (sample,), "
    'dynamic_shapes=({0: torch.export.Dim("batch")},)); torch.export.save(program, "model.pt2")'
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,999}")
_TARGET = re.compile(r"torch\.ops\.aten\.([a-z_0-9]+)\.([A-Za-z_0-9]+)")
# Calls on sizes; what PyTorch checks them with is dropped (`_CHECKS`).
_SIZES = ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "le", "ge", "lt", "gt", "and_", "or_")
# Codes of torch/_export/serde/schema.py, ScalarType.
_TYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_STRIDED = 7


def read(file: bytes | Path) -> Program:
    """The program of a `.pt2`; nothing in it is executed, and no more memory is taken than the file is long.

    Raises ModelError for whatever is no archive of torch.export, in one message.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file) as archive:
            return _Reader(archive).program()
    except ModelError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise _refused(f"be a whole archive of torch.export; {error or type(error).__name__}") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise _refused(f"have the parts that the format names; {type(error).__name__}: {str(error)[:200]}") from None
    except (RecursionError, MemoryError) as error:
        raise _refused(f"be of a size that can be read; {type(error).__name__}") from None


class _Reader:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = _checked(archive)

    def program(self) -> Program:
        roots = {name.partition("/")[0] for name in self._members}
        models = [name for name in self._members if re.fullmatch(r"[^/]+/models/[^/]+\.json", name)]
        if len(roots) != 1 or len(models) != 1:
            raise _refused(
                "hold one program as PyTorch 2.8 and later write it; "
                f"this one has {len(models)} in {len(roots)} folders"
            )
        (root,), name = roots, Path(models[0]).stem
        weights = self._tensors(f"{root}/data/weights", f"{name}_weights_config.json")
        constants = self._tensors(f"{root}/data/constants", f"{name}_constants_config.json")
        data = self._json(models[0])
        return _Graph(data["graph_module"], weights, constants).program()

    def _json(self, name: str) -> Any:
        if self._members[name].file_size > MOST_JSON:
            raise _refused(f"describe its graph in at most {MOST_JSON >> 20} MiB; {name} is longer")
        return json.loads(self._archive.read(name))

    def _tensors(self, folder: str, config: str) -> dict[str, Tensor]:
        if f"{folder}/{config}" not in self._members:
            return {}
        tensors = {}
        storages: dict[str, Tensor] = {}
        for name, entry in self._json(f"{folder}/{config}")["config"].items():
            if entry["use_pickle"] is not False:
                raise _refused(f"hold its tensors as numbers; {name} is a pickle, which could run code")
            member = f"{folder}/{entry['path_name']}"
            if member not in storages:
                data = self._archive.read(self._members[member])
                storages[member] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0)
            tensors[_text(name)] = _tensor(storages[member], entry["tensor_meta"], name)
        return tensors


def _checked(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name, after what a hostile archive may try: bombs, two of one name, overlapping ones."""
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise _refused(f"have at most {MOST_MEMBERS:,} members; got {len(members):,}")
    names = [each.filename for each in members]
    if len(set(names)) != len(names):
        raise _refused("have members of different names; two are called the same")
    place = 0
    for each in sorted(members, key=lambda each: each.header_offset):
        if each.compress_type != zipfile.ZIP_STORED or each.file_size != each.compress_size or each.flag_bits & 1:
            raise _refused(f"store its members as they are; {each.filename[:80]} is compressed or encrypted")
        if each.header_offset < place:
            raise _refused(f"keep its members apart; {each.filename[:80]} overlaps another")
        place = each.header_offset + each.file_size
    return dict(zip(names, members, strict=True))


def _tensor(storage: Tensor, meta: Any, name: str) -> Tensor:
    shape = _fixed(meta["sizes"], name)
    strides, offset = _fixed(meta["strides"], name), _fixed([meta["storage_offset"]], name)[0]
    dtype = _TYPES.get(meta["dtype"])
    if dtype is None or meta["layout"] != _STRIDED:
        raise _refused(f"hold dense tensors of numbers; {name} is of the type {meta['dtype']!r}, {meta['layout']!r}")
    if len(strides) != len(shape):
        raise _refused(f"say a stride for each axis; {name} has {strides} for {shape}")
    if not math.prod(shape):
        return torch.zeros(shape, dtype=dtype)
    numbers = storage[: len(storage) // dtype.itemsize * dtype.itemsize].view(dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # A stride of 0 repeats numbers: a small file could ask for a large tensor.
    if last >= len(numbers) or math.prod(shape) > len(numbers):
        raise _refused(f"hold all numbers of its tensors; {name} of {shape} has {len(numbers)}")
    return numbers.as_strided(shape, strides, offset)


def _fixed(sizes: Any, name: str) -> tuple[int, ...]:
    found = tuple(each["as_int"] for each in sizes)
    if len(found) > MOST_AXES or not all(type(n) is int and 0 <= n <= 2**40 for n in found):
        raise _refused(f"have tensors of up to {MOST_AXES} axes of fixed sizes; {name} has {str(found)[:80]}")
    return found


class _Graph:
    """From the JSON of a graph to an fx graph: names and numbers become nodes, nothing is called."""

    def __init__(self, data: Any, weights: dict[str, Tensor], constants: dict[str, Tensor]) -> None:
        self._signature, self._data = data["signature"], data["graph"]
        self._weights, self._constants_of = weights, constants
        self._graph = fx.Graph()
        self._values: dict[str, fx.Node] = {}

    def program(self) -> Program:
        names: dict[str, str] = {}
        parameters, inputs, constants, state = set(), [], {}, {}
        for spec in self._signature["input_specs"]:
            ((kind, about),) = spec.items()
            match kind:
                case "user_input":
                    arg = about["arg"]
                    if "as_tensor" not in arg:
                        if "as_none" in arg:
                            continue
                        raise _refused(f"take tensors; one of its inputs is {next(iter(arg), 'nothing')}")
                    inputs.append(self._placeholder(arg["as_tensor"]["name"]))
                case "parameter" | "buffer":
                    place = self._placeholder(about["arg"]["name"])
                    names[place] = name = _text(about[f"{kind}_name"])
                    saved = kind == "parameter" or about["persistent"]
                    state[name] = (self._weights if saved else self._constants_of)[name]
                    if kind == "parameter":
                        parameters.add(name)
                case "tensor_constant":
                    place = self._placeholder(about["arg"]["name"])
                    constants[place] = self._constants_of[about["tensor_constant_name"]]
                case "constant_input":
                    continue  # a setting of the forward pass, which the program was specialised to
                case _:
                    raise _refused(f"take tensors alone; one of its inputs is {kind[:80]!r}, an object of a class")
        nodes = self._data["nodes"]
        if len(nodes) > MOST_NODES:
            raise _refused(f"have at most {MOST_NODES:,} nodes; got {len(nodes):,}")
        for node in nodes:
            self._node(node)
        outputs, changed = self._outputs()
        self._graph.output(tuple(outputs))
        said = {node.name: node.meta["val"] for node in self._graph.nodes if node.op == "placeholder"}
        for place, tensor in (*((place, state[name]) for place, name in names.items()), *constants.items()):
            if said[place] != Described(tuple(tensor.shape), tensor.dtype):
                raise _refused(f"say the shapes and types that its tensors have; {place} has {tuple(tensor.shape)}")
        return Program(self._graph, names, frozenset(parameters), constants, tuple(inputs), state, tuple(changed))

    # Values.

    def _describe(self, name: str) -> Any:
        meta = self._data["tensor_values"].get(name)
        if meta is None:
            return None
        shape = tuple(each.get("as_int") for each in meta["sizes"])
        dtype = _TYPES.get(meta["dtype"])
        if dtype is None or len(shape) > MOST_AXES or any(n is not None and not _is_size(n) for n in shape):
            raise _refused(
                f"compute with tensors of numbers; {name} is {str(shape)[:80]} of the type {meta['dtype']!r}"
            )
        return Described(shape, dtype)

    def _placeholder(self, name: str) -> str:
        node = self._graph.placeholder(_named(name))
        node.meta["val"] = self._describe(name)
        if not isinstance(node.meta["val"], Described):
            raise _refused(f"describe its inputs; {name} has no shape")
        self._put(name, node)
        return node.name

    def _put(self, name: str, node: fx.Node) -> None:
        if name in self._values:
            raise _refused(f"give every value a name of its own; {name} is there twice")
        self._values[name] = node

    def _node(self, data: Any) -> None:
        where = _place(data)
        if data["target"] in _CHECKS:
            return
        function = _function(data["target"], where)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for each in data["inputs"]:
            value = self._argument(each["arg"], where)
            if each.get("kind") == 2:
                kwargs[_named(each["name"])] = value
            else:
                args.append(value)
        _expect_schema(function, args, kwargs, data["target"], where)
        node = self._graph.call_function(function, tuple(args), kwargs)
        node.meta["where"] = where
        self._give(node, data["outputs"], where)

    def _give(self, node: fx.Node, outputs: Any, where: str) -> None:
        if len(outputs) == 1 and "as_tensors" in outputs[0]:
            names = [each["name"] for each in outputs[0]["as_tensors"]]
        elif len(outputs) == 1:
            name = self._name_of(outputs[0], where)
            node.meta["val"] = self._describe(name)
            return self._put(name, node)
        else:
            names = [None if "as_none" in each else self._name_of(each, where) for each in outputs]
        node.meta["val"] = tuple(None if name is None else self._describe(name) for name in names)
        for index, name in enumerate(names):
            if name is not None:
                part = self._graph.call_function(operator.getitem, (node, index))
                part.meta["val"], part.meta["where"] = self._describe(name), where
                self._put(name, part)
        return None

    def _name_of(self, data: Any, where: str) -> str:
        ((kind, about),) = data.items()
        if kind == "as_tensor":
            return _named(about["name"])
        if kind in ("as_sym_int", "as_sym_bool") and "as_name" in about:
            return _named(about["as_name"])
        raise _refused(f"give tensors and sizes; a call at {where} gives {kind[:80]}")

    def _argument(self, data: Any, where: str) -> Any:
        ((kind, about),) = data.items()
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return self._values[about["name"]]
            case "as_tensors":
                return [self._values[each["name"]] for each in about]
            case "as_optional_tensor":
                return self._argument(about, where)
            case "as_optional_tensors":
                return [self._argument(each, where) for each in about]
            case "as_int" | "as_float" | "as_bool" | "as_string":
                return _plain(about, kind, where)
            case "as_ints" | "as_floats" | "as_bools":
                return [_plain(each, kind[:-1], where) for each in about]
            case "as_sym_int" | "as_sym_bool":
                return self._size(about, where)
            case "as_sym_ints":
                return [self._size(each, where) for each in about]
            case "as_scalar_type":
                if about in _TYPES:
                    return _TYPES[about]
            case "as_memory_format" | "as_layout" | "as_device":
                return None  # where and how a tensor lies is not part of a network
        raise _refused(f"compute with tensors and numbers; a call at {where} takes {kind[:80]!r}")

    def _size(self, data: Any, where: str) -> Any:
        ((kind, about),) = data.items()
        return self._values[about] if kind == "as_name" else _plain(about, kind, where)

    def _outputs(self) -> tuple[list[fx.Node], list[str]]:
        outputs, changed = [], []
        for spec in self._signature["output_specs"]:
            ((kind, about),) = spec.items()
            if kind == "buffer_mutation":
                changed.append(_text(about["buffer_name"]))
            elif kind != "user_output":
                raise _refused(f"give its outputs and change nothing else; it has a {kind[:80]}")
            elif "as_none" not in about["arg"]:
                if "as_tensor" not in about["arg"]:
                    raise _refused(f"give tensors; one of its outputs is {next(iter(about['arg']), 'nothing')[:80]}")
                outputs.append(self._values[about["arg"]["as_tensor"]["name"]])
        if not outputs:
            raise _refused("have an output; this one gives nothing")
        return outputs, changed


# What PyTorch checks sizes and types with; they compute nothing.
_CHECKS = (
    "torch.ops.aten._assert_scalar.default",
    "torch.ops.aten._assert_tensor_metadata.default",
    "torch.ops.aten.sym_constrain_range_for_size.default",
    "torch.ops.aten.sym_constrain_range.default",
)


def _function(target: Any, where: str) -> Any:
    """The operator of a name. Looking one of ATen up runs nothing; whether a network may have it, the importer says."""
    if isinstance(target, str) and target.removeprefix("_operator.") in _SIZES and target.startswith("_operator."):
        return getattr(operator, target.removeprefix("_operator."))
    found = _TARGET.fullmatch(target) if isinstance(target, str) else None
    packet = getattr(torch.ops.aten, found[1], None) if found and not found[1].startswith("__") else None
    if found and packet is not None and found[2] in packet.overloads():
        return getattr(packet, found[2])
    raise ModelError(
        f"a network must consist of operators that are known here; {str(target)[:200]} at {where} is not. "
        "Leave that part out of the network, or write it with PyTorch's own operators."
    )


def _expect_schema(function: Any, args: list[Any], kwargs: dict[str, Any], target: str, where: str) -> None:
    if not isinstance(function, torch._ops.OpOverload):
        if kwargs or len(args) > 2:
            raise _refused(f"call {target} with two sizes; at {where} it has {len(args)}")
        return
    known = [each.name for each in function._schema.arguments]
    if len(args) > len(known) or not set(kwargs) <= set(known[len(args) :]):
        raise _refused(f"call {target} with its own arguments; at {where} it has {len(args)} and {sorted(kwargs)}")
    needed = [each.name for each in function._schema.arguments if not each.has_default_value()]
    if missing := set(needed) - set(known[: len(args)]) - set(kwargs):
        raise _refused(f"call {target} with all its arguments; at {where} {', '.join(sorted(missing))} is missing")


def _place(data: Any) -> str:
    """The path of the module that a call was made in: the last of `key,path,class;key,path,class`."""
    stack = str((data.get("metadata") or {}).get("nn_module_stack") or "").split(";")
    paths = [each.split(",")[1] for each in stack if each.count(",") >= 2 and "metadata_hook" not in each]
    return (paths[-1] if paths and paths[-1] else str(data.get("name") or ""))[:200]


def _plain(value: Any, kind: str, where: str) -> Any:
    wanted: Any = {"as_int": int, "as_float": (int, float, str), "as_bool": bool, "as_string": str}[kind]
    if kind == "as_float" and value in ("Infinity", "-Infinity", "NaN"):
        return float(value.replace("Infinity", "inf"))
    if not isinstance(value, wanted) or (kind == "as_float" and isinstance(value, str)):
        raise _refused(f"have arguments of the types that it names; at {where} {kind} is {str(value)[:80]!r}")
    if kind == "as_string" and len(value) > 1000:
        raise _refused(f"have short texts as arguments; at {where} one has {len(value):,} letters")
    if kind == "as_int" and not isinstance(value, bool) and abs(value) >= 2**63:
        raise _refused(f"have numbers of 64 bits; at {where} one is larger")
    return value


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _named(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _refused(f"name its values with letters, digits and _; got {str(name)[:80]!r}")
    return name


def _text(name: Any) -> str:
    if not isinstance(name, str) or len(name) > 1000:
        raise _refused(f"name its tensors with short texts; got {str(name)[:80]!r}")
    return name


def _refused(rule: str) -> ModelError:
    return ModelError(f"a .pt2 file must {rule}. {WAY}.")
