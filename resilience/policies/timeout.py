"""Limits of time.  None opens a scope: they write on the call, and the attempt opens the one cutoff that all of them need."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import attrs

from resilience import settings
from resilience.call import Call
from resilience.env import Env
from resilience.outcome import Failure
from resilience.policy import FastPath, Handler

__all__ = ["AttemptTimeout", "Deadline"]

T = TypeVar("T")


@attrs.frozen(eq=False, repr=False)
class Deadline(settings.Value):
    """
    Bound a whole call: attempts, waits and refreshes.  No attempt and no sleep begins that does not fit.

    An engine further in sees the smaller end.  Work in a thread cannot be cut: anyio shields it, and the call ends when the thread does.

    Args:
        seconds: From the start of the call; > 0.

    Raises:
        ValueError: Not a finite number > 0.
    """

    seconds: float = attrs.field(validator=settings.positive)

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:  # noqa: ARG002 - the shape of Policy
        """Write the end on the call."""
        seconds = self.seconds

        def limited(call: Call[T]) -> Awaitable[T | Failure]:
            call.end_by(call.started + seconds, seconds)
            return inner(call)

        return limited

    def bind_fast(self, path: FastPath, inner: Handler[Any], env: Env) -> FastPath:  # noqa: ARG002 - the shape of Policy
        """Have the end on the call from its beginning."""
        return path.but(deadline=min(path.deadline, self.seconds))


@attrs.frozen(eq=False, repr=False)
class AttemptTimeout(settings.Value):
    """
    Bound each attempt.  One that takes longer is cancelled and fails as `AttemptTimedOut`, which may be repeated where that is safe.

    An attempt at a stream lasts to its first item; see `StreamTimeout` for the others.

    Args:
        seconds: From the start of the attempt; > 0.

    Raises:
        ValueError: Not a finite number > 0.
    """

    seconds: float = attrs.field(validator=settings.positive)

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:  # noqa: ARG002 - the shape of Policy
        """Write the limit on the call."""
        seconds = self.seconds

        def limited(call: Call[T]) -> Awaitable[T | Failure]:
            if seconds < call.cutoff:  # not so where it was on the call from its beginning
                call.cut_after(seconds)
            return inner(call)

        return limited

    def bind_fast(self, path: FastPath, inner: Handler[Any], env: Env) -> FastPath:  # noqa: ARG002 - the shape of Policy
        """Have the limit on the call from its beginning."""
        return path.but(cutoff=min(path.cutoff, self.seconds))
