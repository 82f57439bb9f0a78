"""Functions that numba compiles, with their own types kept: numba itself has no annotations."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[F], F]:
    """`numba.njit` for functions that run without the interpreter's lock and are kept on disk; options: numba's own."""

    def decorate(function: F) -> F:
        return cast(F, numba.njit(cache=True, nogil=True, **options)(function))

    return decorate
