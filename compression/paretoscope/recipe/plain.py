"""Plain data from outside: JSON text, and objects that may have some fields only."""

import json
from collections.abc import Iterable
from typing import Any

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import listed, nearest, shown


def loads(text: str | bytes, what: str) -> Any:
    """Plain data from JSON text; raises RecipeError, also where a name stands twice in an object."""
    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise RecipeError(f"{what} must be JSON text; {reason}. Export one to see the form.") from None


def unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """An object of a file; raises ValueError where a name stands twice, since either may be meant."""
    result: dict[Any, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{shown(name)} stands twice")
        result[name] = value
    return result


def mapping(what: str, data: object, allowed: tuple[str, ...]) -> dict[str, Any]:
    """An object of plain data that has these fields only; raises RecipeError."""
    if not isinstance(data, dict):
        raise RecipeError(f"{what} must be a JSON object; got {shown(data)}. Write it as {{...}}.")
    unknown = sorted((name for name in data if name not in allowed), key=shown)
    if unknown:
        raise RecipeError(
            f"{what} may have the fields {', '.join(allowed)}; got {listed(map(shown, unknown))}."
            f"{nearest(unknown[0], allowed)} Remove or rename what is not in that list."
        )
    return dict(data)
