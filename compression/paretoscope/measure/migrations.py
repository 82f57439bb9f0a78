"""Records and timings that older versions stored, brought to this version: rows of the store, exported record files.

A migration stands for one step of the version, at the place of the version that it leaves: the first one makes
version 2 of version 1. Whoever renames a field of `Record`, of its parts or of `Latency` adds one to the table here.
Version 1 is written without a version. A record's recipe has versions of its own (`paretoscope.recipe.migrations`), and
so has its timing, which the store keeps beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paretoscope.base.text import shown

Migration = Callable[[dict[str, Any]], dict[str, Any]]

RECORDS: list[Migration] = []
TIMINGS: list[Migration] = []


def renaming(names: Mapping[str, str], part: str = "") -> Migration:
    """The migration that gives fields new names, {old: new}. part: the field that they are in, "" for the whole."""

    def rename(data: dict[str, Any]) -> dict[str, Any]:
        if part:
            return {**data, part: {names.get(name, name): value for name, value in data[part].items()}}
        return {names.get(name, name): value for name, value in data.items()}

    return rename


def version_of(migrations: Sequence[Migration]) -> dict[str, int]:
    """The field that states the version written now; none for the first."""
    return {"version": len(migrations) + 1} if migrations else {}


def migrated(data: object, migrations: Sequence[Migration]) -> dict[str, Any]:
    """Stored data as this version writes them, without their version.

    Raises TypeError for what is no mapping, ValueError for a version that is not known, and what a migration raises for
    data that are not what its version wrote (KeyError, AttributeError).
    """
    if not isinstance(data, dict):
        raise TypeError(f"stored data must be a mapping; got {shown(data)}")
    fields = dict(data)
    version, newest = fields.pop("version", 1), len(migrations) + 1
    if type(version) is not int or not 1 <= version <= newest:
        raise ValueError(
            f"the version of stored data must be in 1..{newest}, those of this program; got {shown(version)}"
        )
    for migration in migrations[version - 1 :]:
        fields = migration(fields)
    return fields
