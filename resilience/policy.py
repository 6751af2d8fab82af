"""
The two shapes everything composes from.

A handler runs a call and gives a value or a `Failure`.  A policy makes a handler out of the handler inside it, once, when the engine is
built.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from resilience.call import Call
from resilience.env import Env
from resilience.outcome import Failure

__all__ = ["Handler", "Policy"]

T = TypeVar("T")

Handler: TypeAlias = Callable[[Call[T]], Awaitable[T | Failure]]
"""Runs one call, or what is left of it further in."""


@runtime_checkable
class Policy(Protocol):
    """
    One concern, wrapped around whatever is inside it.

    State that outlives a call belongs to the policy object, state of one call to the `Call`; `bind` only makes closures.

    A policy may also have a ``bind_stream`` of the same shape, for calls of `Engine.stream`; without one, `bind` serves for them too.  What
    is inside then returns the first item of a stream that goes on, and ``call.flow.at_end`` takes who wants to know how it ends.
    """

    def bind(self, inner: Handler[Any], env: Env, /) -> Handler[Any]:
        """A handler that runs *inner*, and does what this policy is for before, after or instead."""
        ...
