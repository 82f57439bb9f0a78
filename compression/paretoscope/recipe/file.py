"""Recipes in files that people write: JSON and YAML, of bounded size, every field of which must do something."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import yaml
from yaml.composer import Composer
from yaml.constructor import BaseConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from paretoscope.base.errors import RecipeError
from paretoscope.recipe import effects
from paretoscope.recipe.plain import loads, unique
from paretoscope.recipe.recipe import STEPS, Recipe

# Most bytes of a file; chosen by hand; no benchmark.
LARGEST = 1 << 16
# Deepest nesting of a file; chosen by hand, no benchmark: a recipe has four levels, itself, overrides, override, value.
DEEPEST = 16
YAML = (".yaml", ".yml")

# What the tags of YAML's own types begin with.
_TAG = "tag:yaml.org,2002:"

# Scalars of YAML's core schema with decimal numbers: pattern, characters that such a scalar can begin with, value.
_SCALARS: dict[str, tuple[str, str, Any]] = {
    "null": ("~|null|Null|NULL|", "~nN", lambda text: None),
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": ("[-+]?(?:0|[1-9][0-9]*)", "-+0123456789", int),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+",
        "-+.0123456789",
        float,
    ),
    "str": ("(?s:.*)", "", str),
}


class _Loader(Reader, Scanner, Parser, Composer, BaseConstructor, BaseResolver):
    """Plain data of YAML's core schema (YAML 1.2.2, section 10.3), and nothing else.

    No dates and no base 60, which 1:30 is in YAML 1.1; no aliases and no merges, a few lines of which stand for any
    amount of memory; no name twice in a mapping.
    """

    def __init__(self, data: bytes) -> None:
        Reader.__init__(self, data)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseConstructor.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not taken")
        if self._depth == DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def mapping(self, node: yaml.Node) -> dict[Any, Any]:
        # Refuses a node of another kind, and keys that cannot be keys.
        super().construct_mapping(cast(yaml.MappingNode, node), deep=True)
        return unique(
            (self.construct_object(name, True), self.construct_object(each, True)) for name, each in node.value
        )

    def sequence(self, node: yaml.Node) -> list[Any]:
        return self.construct_sequence(cast(yaml.SequenceNode, node), deep=True)  # refuses a node of another kind

    def scalar(self, node: yaml.Node) -> Any:
        text = self.construct_scalar(cast(yaml.ScalarNode, node))  # refuses a node of another kind
        name = node.tag.rpartition(":")[2]
        pattern, _, value = _SCALARS[name]
        if re.fullmatch(pattern, text) is None:
            raise yaml.YAMLError(f"{text[:40]!r} is no {name}")
        return value(text)

    def refuse(self, node: yaml.Node) -> None:
        raise yaml.YAMLError(f"values of the type {node.tag[:40]!r} are not taken")

    # What makes a value of a node, by its tag; None for any other tag.
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **dict.fromkeys((f"{_TAG}{name}" for name in _SCALARS), scalar),
        f"{_TAG}map": mapping,
        f"{_TAG}seq": sequence,
        None: refuse,
    }


class _Dumper(yaml.SafeDumper):
    """Quotes texts that YAML 1.1 or 1.2 would read as something else."""


for _name, (_pattern, _first, _) in _SCALARS.items():
    if _name != "str":
        for _each in (_Loader, _Dumper):
            _starts = [*_first, ""] if _name == "null" else list(_first)
            _each.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})$"), _starts)


def to_yaml(recipe: Recipe) -> str:
    """The fields of the JSON form, in the order in which steps run."""
    return dump(recipe.to_dict())


def dump(fields: Mapping[str, Any]) -> str:
    """Plain data as YAML, in their order."""
    return yaml.dump(dict(fields), Dumper=_Dumper, sort_keys=False)


def open_recipe(path: Path, counted_on: Mapping[str, Any] | None = None) -> Recipe:
    """`read_recipe` of a file of this machine; raises CompressionError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise RecipeError(f"{path} must be a readable file; {error.strerror or error}. Check the path.") from None
    return read_recipe(data, path.name, counted_on)


def read_recipe(data: bytes, name: str, counted_on: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe from a file, YAML where its name ends in .yaml or .yml, else JSON.

    counted_on: settings that will be beside it. Raises RecipeError for everything that is no recipe, and for a setting
    that does nothing and is not at its default; what an export wrote is taken as it stands.
    """
    fields = read_fields(data, name)
    recipe = Recipe.from_dict(fields)
    if fields != recipe.to_dict():
        effects.check(_flat(fields), recipe, beside=counted_on or {})
    return recipe


def read_fields(data: bytes, name: str) -> Any:
    """The plain data of such a file, whatever they are; raises RecipeError."""
    if len(data) > LARGEST:
        raise RecipeError(f"a recipe's file must have at most {LARGEST:,} bytes; {name[:80]} has more. Shorten it.")
    return _yaml(data) if name.lower().endswith(YAML) else loads(data, "a recipe")


def _yaml(data: bytes) -> Any:
    try:
        loader = _Loader(data)
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"a recipe must be YAML text; {reason}. Export one to see the form.") from None


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a file states, by flat names."""
    steps = [fields[name] for name in STEPS if name in fields]
    ends = {"keep_ends": fields["keep_ends"]} if "keep_ends" in fields else {}
    return {**{name: value for step in steps for name, value in step.items()}, **ends}
