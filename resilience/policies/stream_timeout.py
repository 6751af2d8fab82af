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

__all__ = ["StreamTimeout"]

T = TypeVar("T")


def _either(instance: StreamTimeout, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None:
        settings.positive(instance, attribute, value)
    elif instance.first_item is None:
        raise settings.fail(instance, attribute, value, "a limit in seconds, where first_item is none")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class StreamTimeout(settings.Value):
    """
    Bound the waits for the items of a stream.  One that takes longer is cancelled and fails as `AttemptTimedOut`.

    Only the time in which the caller waits for an item counts, not what the caller does with it.  Other calls are not concerned.

    Args:
        first_item: Seconds from the start of an attempt to the first item; > 0.  None leaves it to `AttemptTimeout`.
        idle: Seconds to any later item; > 0.  None: as long as the `Deadline` allows.

    Raises:
        ValueError: Not a finite number > 0, or no limit at all.
    """

    first_item: float | None = attrs.field(default=None, validator=attrs.validators.optional(settings.positive))
    idle: float | None = attrs.field(default=None, validator=_either)

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:  # noqa: ARG002 - the shape of Policy
        """Leave calls that are no streams as they are."""
        return inner

    def bind_fast(self, path: FastPath, inner: Handler[Any], env: Env) -> FastPath:  # noqa: ARG002 - the shape of Policy
        """Leave calls that are no streams as they are."""
        return path

    def bind_stream(self, inner: Handler[Any], env: Env) -> Handler[Any]:  # noqa: ARG002 - the shape of Policy
        """Write the limits on the stream's account."""
        first_item, idle = self.first_item, self.idle

        def limited(call: Call[T]) -> Awaitable[T | Failure]:
            if call.flow is not None:
                call.flow.limit(first_item, idle)
            return inner(call)

        return limited
