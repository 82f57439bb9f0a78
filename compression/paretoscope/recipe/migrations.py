"""Recipes that older versions wrote, brought to this version: files, links, headers of artefacts, records.

A migration stands for one step of the version, at the place of the version that it leaves: the first one makes
version 2 of version 1. Whoever renames a setting adds one here, and nothing that was written before is lost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


def _as_it_is(data: dict[str, Any]) -> dict[str, Any]:
    return data


@dataclass(frozen=True, slots=True)
class Migration:
    """What changes from one version to the next.

    renamed: settings, old name to new; in the recipe itself, in its steps, in overrides and in links. more: a further
    change of the recipe as plain data, after the renaming, where other names are not enough.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    more: Callable[[dict[str, Any]], dict[str, Any]] = _as_it_is


MIGRATIONS: list[Migration] = []


# The version of recipes that are written now.
VERSION = len(MIGRATIONS) + 1


def migrated(data: object) -> object:
    """A recipe as plain data of an older version, as one of this version; anything else as it is."""
    if not isinstance(data, dict):
        return data
    found = data.get("version")
    if type(found) is not int or not 1 <= found <= len(MIGRATIONS):
        return data
    fields: dict[str, Any] = data
    for migration in MIGRATIONS[found - 1 :]:
        fields = migration.more({name: _renamed(value, migration) for name, value in _names(fields, migration)})
    return {**fields, "version": len(MIGRATIONS) + 1}


def migrated_query(query: Mapping[str, str]) -> dict[str, str]:
    """A link, which states no version, with the names of this version; where both are there, the new name wins."""
    found = dict(query)
    for migration in MIGRATIONS:
        for old, new in migration.renamed.items():
            if old in found:
                text = found.pop(old)
                found.setdefault(new, text)
    return found


def _names(fields: Mapping[str, Any], migration: Migration) -> list[tuple[str, Any]]:
    return [(migration.renamed.get(name, name), value) for name, value in fields.items()]


def _renamed(value: Any, migration: Migration) -> Any:
    """The settings of a step or of overrides by their new names."""
    match value:
        case dict():
            return dict(_names(value, migration))
        case list():
            return [_renamed(each, migration) for each in value]
    return value
