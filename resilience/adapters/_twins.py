"""Our own errors in the family of a client: whoever catches that client's errors catches ours, and whoever catches ours misses none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from resilience.call import Call
from resilience.errors import ResilienceError

__all__ = ["Twins", "translating", "twin_of"]

Twins: TypeAlias = Mapping[type[ResilienceError], type[ResilienceError]]
"""Our own errors, and for each the class that also belongs to the client's family."""


def twin_of(error: ResilienceError, twins: Twins) -> ResilienceError:
    """*error* as one of the client's family, fresh and with the same facts and cause; one of a kind that has no twin, as it is."""
    kind = twins.get(type(error))
    if kind is None:
        return error
    twin = kind(**{name: getattr(error, name) for name in error.facts})
    if error.__cause__ is not None:
        twin.__cause__ = error.__cause__
    return twin


def translating(twins: Twins) -> Callable[[Call[Any], ResilienceError], ResilienceError]:
    """An adapter's ``translate``, which knows no more than *twins*."""

    def translate(call: Call[Any], error: ResilienceError) -> ResilienceError:  # noqa: ARG001 - the seam's shape
        return twin_of(error, twins)

    return translate
