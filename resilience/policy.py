"""
The shapes everything composes from.

A handler runs a call and gives a value or a `Failure`.  A policy makes a handler out of the handler inside it, once, when the engine is
built.

Handlers are coroutines around coroutines, and each of them costs more than what nearly all calls need of it: at a first attempt that
succeeds, a retry does nothing, a closed circuit counts one, a token that is good is looked at.  So a policy may also say in advance what it
does then, in plain functions: its share of the fast path.  An engine all of whose policies do runs such calls without any handler.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from resilience.call import Call, Keys
from resilience.env import Env
from resilience.outcome import Failure

__all__ = ["FastPath", "Handler", "Policy"]

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

    And it may have a ``bind_fast(path, inner, env)``, which gives the `FastPath` of what is inside back with its own share in it, or None
    where it has to run each call itself.  *inner* is the handler that `bind` would be given.
    """

    def bind(self, inner: Handler[Any], env: Env, /) -> Handler[Any]:
        """A handler that runs *inner*, and does what this policy is for before, after or instead."""
        ...


class FastPath:
    """
    What the policies do about a call whose first attempt may start at once, and succeeds.

    Args:
        deadline: Seconds from the start of the call to its end; infinite without a limit.
        cutoff: Seconds that an attempt may take, likewise.
        keys: What gives idempotency keys.
        admits: Whether the first attempt may start now, without any handler.  If not, nothing has happened yet that a handler would not
            do again.  None: it always may.
        succeeded: Told when that attempt has succeeded; None where nobody needs to know.
        failed: What the handlers would do after that attempt has failed, from the innermost outward; gives what the outermost would.
            None: it is as it is.
    """

    deadline: float = math.inf
    cutoff: float = math.inf
    keys: Keys | None = None
    admits: Callable[[Call[Any]], bool] | None = None
    succeeded: Callable[[Call[Any]], None] | None = None
    failed: Callable[[Call[Any], Failure], Awaitable[Any]] | None = None

    def but(self, **changes: Any) -> FastPath:
        """The same with the share of one more policy."""
        path = copy.copy(self)
        vars(path).update(changes)
        return path
