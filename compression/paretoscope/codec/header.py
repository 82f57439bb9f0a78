"""The header: what a compressed model is, but for its numbers, as JSON."""

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from paretoscope.base.errors import ArtefactError, ModelError, NewerArtefactError
from paretoscope.codec.container import newer, pack_text, unpack_text
from paretoscope.codec.description import described
from paretoscope.codec.kinds import TensorKind, values_of
from paretoscope.graph import compact
from paretoscope.graph.network_graph import NetworkGraph
from paretoscope.model import layouts
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.packed import DTYPES, PackedModel
from paretoscope.model.structure import Structure
from paretoscope.model.tensors import CompressedTensor, Integers, Plain
from paretoscope.recipe.recipe import CODERS, Recipe

MAX_SIZE = 1 << 40
MAX_AXES = 32
DAMAGED = ". The file is damaged: export it again."
_FIELDS = ("architecture", "source", "recipe", "tensors", "structure", "ties", "ranges", "turned", "metadata", "graph")


@dataclass(frozen=True, slots=True)
class Header:
    """architecture: "" for a bare state dict. tensors: kind and shape by name, in the order of the state dict.

    dtypes: of the tensors of a bare state dict that are held in another type. ties: position in the order, name and
    the name whose tensor it is. ranges: least and largest value of activations, by name. turned: groups of the
    weights that the state dict has in the other layout, by name. metadata: texts of a bare state dict. graph: the
    network as data, None for one that is rebuilt by its name. description: the recipe as it stands in the file, None
    where `recipe` says all of it; unknown: the names of what it does not say.
    """

    architecture: str
    source: str
    recipe: Recipe
    tensors: dict[str, tuple[TensorKind, tuple[int, ...]]]
    dtypes: dict[str, str]
    structure: Structure
    ties: list[tuple[int, str, str]]
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    description: Mapping[str, Any] | None = None
    unknown: tuple[str, ...] = ()
    turned: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    graph: NetworkGraph | None = None

    @classmethod
    def of(cls, model: CompressedModel) -> "Header":
        """The header of a model; raises ModelError for tensors that a file cannot hold."""
        own = [name for name in model.order if name not in model.ties]
        dtypes = dict(model.dtypes) if isinstance(model, PackedModel) else {}
        tensors = {name: _described(model, name) for name in own}
        places = {name: place for place, name in enumerate(model.order)}
        ties = sorted((places[name], name, target) for name, target in model.ties.items())
        return cls(
            model.architecture,
            model.source,
            model.recipe,
            tensors,
            dtypes,
            model.structure,
            ties,
            ranges=dict(model.ranges),
            turned=dict(model.turned),
            metadata=dict(model.metadata) if isinstance(model, PackedModel) else {},
            description=model.description,
            graph=model.graph,
        )

    def pack(self) -> bytes:
        """The section; raises ModelError for one that `unpack` would refuse."""
        data: dict[str, Any] = {
            "architecture": self.architecture or None,
            "source": self.source,
            "recipe": self.description or self.recipe.to_dict(),
            "tensors": [
                [name, kind.label, list(shape), *([self.dtypes[name]] if name in self.dtypes else [])]
                for name, (kind, shape) in self.tensors.items()
            ],
        }
        if structure := self.structure.to_dict():
            data["structure"] = structure
        if self.ties:
            data["ties"] = [list(tie) for tie in self.ties]
        if self.ranges:
            data["ranges"] = [[name, *ends] for name, ends in self.ranges.items()]
        if self.turned:
            data["turned"] = [list(each) for each in self.turned.items()]
        if self.metadata:
            data["metadata"] = self.metadata
        if self.graph is not None:
            data["graph"] = compact.packed(self.graph, self._state_shapes())
        section = pack_text(data)
        try:
            Header.unpack(section)
        except ArtefactError as error:
            raise ModelError(
                f"a file must be one that can be read; its header would not be: {_reason(error)[:200]}. Shorten names "
                "or metadata, or store tensors of fewer axes."
            ) from None
        return section

    @classmethod
    def unpack(cls, section: bytes) -> "Header":
        """Read what `pack` wrote; raises ArtefactError on anything else."""
        try:
            return cls._read(unpack_text(section))
        except NewerArtefactError:
            raise
        except (zlib.error, ValueError, KeyError, TypeError, RecursionError, ArtefactError, ModelError) as error:
            raise ArtefactError(f"the header must describe a model; {_printable(error)}{DAMAGED}") from None

    @classmethod
    def _read(cls, data: dict[str, Any]) -> "Header":
        if unknown := data.keys() - set(_FIELDS):
            raise newer(f"a field {sorted(unknown)[0]!r:.60}")
        architecture, source = data["architecture"], data["source"]
        bare = architecture is None
        if not (bare or _is_text(architecture)) or architecture == "" or not _is_text(source):
            raise ValueError("the architecture and the source are no names")
        tensors: dict[str, tuple[TensorKind, tuple[int, ...]]] = {}
        dtypes: dict[str, str] = {}
        for name, label, shape, *dtype in _list(data["tensors"]):
            if not _is_text(name) or name in tensors or not isinstance(label, str):
                raise ValueError(f"tensor {name!r:.60} of kind {label!r:.60}")
            tensors[name] = _checked(name, _kind(label), shape)
            if dtype:
                if len(dtype) > 1 or not bare or not _suits(dtype[0], tensors[name][0]):
                    raise ValueError(f"type {dtype!r:.60} of {name!r:.60}")
                dtypes[name] = dtype[0]
        structure = Structure.from_dict(data.get("structure", {}))
        ties = _ties(data.get("ties", []), tensors)
        coder = data["recipe"]["code"]["coder"]
        if coder not in CODERS:
            raise newer(f"streams of the coder {coder!r:.60}")
        recipe, left_out = described(data["recipe"])
        description = data["recipe"] if left_out else None
        header = cls(
            architecture or "",
            source,
            recipe,
            tensors,
            dtypes,
            structure,
            ties,
            ranges=_ranges(data.get("ranges", [])),
            turned=_turned(data.get("turned", []), tensors),
            description=description,
            unknown=left_out,
            metadata=_metadata(data.get("metadata", {}), bare),
        )
        return header._with_graph(data["graph"]) if "graph" in data else header

    def _with_graph(self, data: object) -> "Header":
        if not self.architecture:
            raise ValueError("a bare state dict has a graph")
        try:
            graph = compact.unpacked(data, self._state_shapes(), {name: target for _, name, target in self.ties})
        except compact.UnknownPart as error:
            raise newer(str(error)) from None
        return replace(self, graph=graph)

    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the entries of the state dict."""
        shapes = {name: shape for name, (_, shape) in self.tensors.items()}
        shapes |= {name: layouts.turned_shape(shapes[name], groups) for name, groups in self.turned.items()}
        return shapes | {name: shapes[target] for _, name, target in self.ties}

    @property
    def values(self) -> int:
        """Values that the file declares; a tied name counts, because it is decoded once more."""
        own = sum(values_of(shape) for _, shape in self.tensors.values())
        return own + sum(values_of(self.tensors[target][1]) for _, _, target in self.ties)

    def model(self, tensors: dict[str, CompressedTensor]) -> CompressedModel:
        """The compressed model of these tensors."""
        order: list[str] = []
        own = iter(self.tensors)
        for position, name, _ in self.ties:
            order += [*islice(own, position - len(order)), name]
        order += own
        rest: dict[str, Plain | Integers] = {}
        for name in (name for name, (kind, _) in self.tensors.items() if kind.rest):
            tensor = tensors[name]
            assert isinstance(tensor, Plain | Integers), "no label makes a codebook of what is no weight"
            rest[name] = tensor
        make = (
            CompressedModel if self.architecture else partial(PackedModel, dtypes=self.dtypes, metadata=self.metadata)
        )
        return make(
            architecture=self.architecture,
            source=self.source,
            recipe=self.recipe,
            weights={name: tensors[name] for name, (kind, _) in self.tensors.items() if not kind.rest},
            rest=rest,
            order=tuple(order),
            structure=self.structure,
            ties={name: target for _, name, target in self.ties},
            ranges=self.ranges,
            description=self.description,
            notes=_notes(self.unknown),
            turned=self.turned,
            graph=self.graph,
        )


def _described(model: CompressedModel, name: str) -> tuple[TensorKind, tuple[int, ...]]:
    tensor, rest = (model.weights[name], False) if name in model.weights else (model.rest[name], True)
    return TensorKind.of(tensor, rest), tuple(tensor.shape)


def _checked(name: str, kind: TensorKind, shape: Any) -> tuple[TensorKind, tuple[int, ...]]:
    sizes = tuple(_list(shape))
    if len(sizes) > MAX_AXES or not all(type(size) is int and 0 <= size <= MAX_SIZE for size in sizes):
        raise ValueError(f"shape {shape!r:.60} of {name!r:.60}")
    if kind.per_row and not sizes:
        raise ValueError(f"kind {kind.label} for shape {shape!r:.60}")
    return kind, sizes


def _kind(label: str) -> TensorKind:
    try:
        return TensorKind.parse(label)
    except ValueError as error:
        raise newer(f"a tensor whose {error}") from None


def _notes(unknown: tuple[str, ...]) -> tuple[str, ...]:
    """What a person is told of a file with a recipe that is not known in full."""
    if not unknown:
        return ()
    names = ", ".join(unknown)
    names = names if len(names) < 200 else f"{names[:200]}..."
    return (
        f"The recipe in the file says more than this version knows: {names}. "
        "The weights are those of the file; this version cannot make them again from the recipe.",
    )


def _suits(dtype: object, kind: TensorKind) -> bool:
    """Whether a tensor of this kind can stand for one of that type."""
    if not isinstance(dtype, str) or dtype not in DTYPES:
        return False
    if dtype.startswith("F8"):
        return kind.plain == "u1"
    return not kind.plain or kind.plain in ("w4", "f4", *["f2"] * (dtype != "F64"))


def _ties(data: object, tensors: Mapping[str, object]) -> list[tuple[int, str, str]]:
    ties: list[tuple[int, str, str]] = []
    names, last = set(tensors), 0
    for position, name, target in _list(data):
        if type(position) is not int or not _is_text(name) or name in names or target not in tensors:
            raise ValueError(f"tie {name!r:.60} to {target!r:.60}")
        if not last < position <= len(names):
            raise ValueError(f"tie {name!r:.60} at {position!r:.60}")
        names.add(name)
        last = position
        ties.append((position, name, target))
    return ties


def _ranges(data: object) -> dict[str, tuple[float, float]]:
    ranges: dict[str, tuple[float, float]] = {}
    for name, low, high in _list(data):
        numbers = all(type(end) in (int, float) and math.isfinite(end) for end in (low, high))
        if not _is_text(name) or name in ranges or not numbers or not low <= 0 <= high:
            raise ValueError(f"range {low!r:.60} to {high!r:.60} of {name!r:.60}")
        ranges[name] = float(low), float(high)
    return ranges


def _turned(data: object, tensors: dict[str, tuple[TensorKind, tuple[int, ...]]]) -> dict[str, int]:
    turned: dict[str, int] = {}
    for name, groups in _list(data):
        if not _is_text(name) or name in turned or name not in tensors or tensors[name][0].rest:
            raise ValueError(f"turned weight {name!r:.60}")
        shape = tensors[name][1]
        if type(groups) is not int or groups < 1 or len(shape) < 2 or shape[0] % groups:
            raise ValueError(f"{groups!r:.60} groups of {name!r:.60}")
        turned[name] = groups
    return turned


def _metadata(data: object, bare: bool) -> dict[str, str]:
    if not isinstance(data, dict) or (data and not bare) or not all(map(_is_text, (*data, *data.values()))):
        raise ValueError(f"metadata {data!r:.60}")
    return data


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.60} is no list")
    return value


def _is_text(value: object) -> bool:
    """Whether it is a name that can be written: lone surrogates cannot."""
    return isinstance(value, str) and re.search("[\ud800-\udfff]", value) is None


def _reason(error: ArtefactError) -> str:
    """What `unpack` found, without what it says of the file, which there is none of yet."""
    return str(error).partition("; ")[2].removesuffix(DAMAGED)


def _printable(error: Exception) -> str:
    text = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return text[:200].encode(errors="replace").decode()
