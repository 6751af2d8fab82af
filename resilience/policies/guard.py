"""
What every guard shares: ask before an attempt, settle after it, whatever becomes of it.

A guard is a machine in `decide/` that gives permits and takes them back.  What is easy to get wrong about it is here, and here only: from
the moment a permit is given it is settled exactly once, on every way out: a value, a failure, a cancellation, an exception out of a policy
or a listener, a coroutine that nobody awaits any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from resilience.call import Call
from resilience.errors import AttemptTimedOut, ResilienceError, StreamFailed
from resilience.outcome import Blame, Failure, Phase
from resilience.policy import Handler

if TYPE_CHECKING:
    from resilience.flow import AtEnd

__all__ = ["Gate", "Vote", "guard", "guard_stream", "health"]

P = TypeVar("P")
T = TypeVar("T")

Vote: TypeAlias = Callable[[Failure], bool | None]
"""Whether a failure speaks for the peer all the same (True), against it (False), or neither (None)."""

_CALLERS_OWN = range(400, 500)


class Gate(Protocol[P]):
    """A guard's machine, with its lock, its clock and its events."""

    def admit(self, call: Call[Any], /) -> P | Failure:
        """A permit to start an attempt, or the rejection that the caller gets instead.  Must not raise once the machine gave one."""
        ...

    def begin(self, call: Call[Any], permit: P, /) -> None:
        """Tell what the admission changed.  A listener that raises here costs the attempt, but not the permit."""
        ...

    def opened(self, call: Call[Any], permit: P, /) -> P:
        """Tell that an attempt has the first item of its stream; the permit to settle at its end."""
        ...

    def beat(self, permit: P, /) -> Callable[[float], None] | None:
        """Whom to tell, with the time, whenever such a stream has another item; None where nobody needs to know."""
        ...

    def settle(self, call: Call[Any], permit: P, healthy: bool | None, failure: Failure | None, /) -> None:
        """Hand the permit back with a vote, first of all; then tell what that changed."""
        ...


def guard(inner: Handler[T], gate: Gate[P], vote: Vote) -> Handler[T]:
    """A handler that runs *inner* by leave of *gate*, and settles each permit with what *vote* makes of the outcome."""

    async def guarded(call: Call[T]) -> T | Failure:
        permit = gate.admit(call)
        if isinstance(permit, Failure):
            return permit
        healthy: bool | None = None  # until there is an outcome, there is no vote
        failure = None
        try:
            gate.begin(call, permit)
            outcome = await inner(call)
            if type(outcome) is Failure:
                failure = outcome
                healthy = vote(outcome)
            else:
                healthy = True
            return outcome
        finally:
            gate.settle(call, permit, healthy, failure)

    return guarded


def guard_stream(inner: Handler[T], gate: Gate[P], vote: Vote) -> Handler[T]:
    """The same for streams: a permit is held until the stream has ended, for how it went shows only then."""

    async def guarded(call: Call[T]) -> T | Failure:
        permit = gate.admit(call)
        if isinstance(permit, Failure):
            return permit
        healthy: bool | None = None
        failure = None
        flowing = False
        try:
            gate.begin(call, permit)
            outcome = await inner(call)
            if type(outcome) is Failure:
                failure = outcome
                healthy = vote(outcome)
            elif call.flow is not None:
                permit = gate.opened(call, permit)
                call.flow.at_end.append(_at_end(call, gate, permit, vote))
                beat = gate.beat(permit)
                if beat is not None:
                    call.flow.beats.append(beat)
                flowing = True
            return outcome
        finally:
            if not flowing:
                gate.settle(call, permit, healthy, failure)

    return guarded


def _at_end(call: Call[Any], gate: Gate[P], permit: P, vote: Vote) -> AtEnd:
    def settle(healthy: bool | None, failure: Failure | None) -> None:
        gate.settle(call, permit, healthy if failure is None else vote(failure), failure)

    return settle


def health(failure: Failure, *, throttling: bool = False) -> bool | None:
    """
    How a failed attempt votes on its peer.

    Against it speaks what the verdict blames on the peer.  A rate limit does not, although it blames nobody else: what a 4xx asks to slow
    down for is the caller's own rate.  (A 5xx that says the same speaks of the peer's load, and counts.)  For the peer speaks every other
    answer: somebody is there and does its work.  No vote is what never came from the peer: a rejection or a deadline of our own, and
    an error in the caller's code.

    Args:
        failure: The failed attempt.
        throttling: Whether every failure by which the peer asks for less speaks against it.
    """
    error, verdict, signal = failure.error, failure.verdict, failure.signal
    if isinstance(error, ResilienceError) and not isinstance(error, AttemptTimedOut | StreamFailed):
        return None
    if verdict.throttled and (throttling or signal.status in _CALLERS_OWN):
        return not throttling
    if verdict.blames is Blame.PEER:
        return False
    if signal.status is None and signal.phase is not Phase.REFUSED:
        return None
    return True
