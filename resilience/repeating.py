"""
Whether a call may be repeated: does a second attempt do no double harm, and does anything forbid it?

What an engine decided further in holds for every engine around it; what was done further in may forbid a repeat out here.
"""

from __future__ import annotations

from typing import Any

import attrs

from resilience.call import Call, Sealed
from resilience.callables import mentions
from resilience.history import behind_of
from resilience.outcome import Failure, Phase
from resilience.reading.kinds import stands_alone
from resilience.reading.repeats import repeats_behind
from resilience.reading.request import request_meant
from resilience.reading.shape import request_of

__all__ = ["bar", "decided_inside", "others", "phase_of", "remember", "repeatable", "repeatable_from_outside", "sealed_behind"]

# RFC 9110, 9.2.2: sending them twice intends no more than sending them once.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


def phase_of(call: Call[Any], failure: Failure, others: int | None = None) -> Phase:
    """
    How far the attempt got, as far as *failure* can tell for all of it.

    A plain function that must not be repeated may have done its work before the request that was refused: of more than that one request the
    failure knows nothing; nor does it know of those that a client sent before it on its own.  An adapter's attempt is one request.

    Args:
        call: The call.
        failure: The failure of its latest attempt.
        others: What `others` said of it, where that is known already.
    """
    if call.method is None:
        alone = repeats_behind(_came(failure)) is None if others is None else not others
        if not alone or call.plan.repeatable is False:
            return Phase.UNKNOWN
    if call.undone:
        # What a transaction did was rolled back; what its function did beside it, only the user knows.
        if call.plan.repeatable is False:
            return Phase.UNKNOWN
        if call.attempt in call.undone:
            return Phase.REFUSED
    return failure.signal.phase


def others(call: Call[Any], failure: Failure) -> int:
    """
    How many tries a client further in made on its own in the latest attempt.

    Said once.  An adapter's attempt is one request: a count on that is of whoever calls through the adapter.
    """
    if call.method is not None or stands_alone(failure.error):
        return 0
    found = repeats_behind(_came(failure))
    if found is None:
        return 0
    call.nest(outer=call.engine, inner=found.client)
    return found.times


def repeatable(call: Call[Any], failure: Failure | None = None) -> bool:
    """
    Whether a repeat does no double harm even if the last attempt had effects.

    What the user said comes first, then the method (RFC 9110), the key, and requests that the dialect knows to create nothing.  A plain
    callable is taken to be repeatable where nothing is known; often the failure's own request tells, or a client's method by its name.
    """
    said = call.plan.repeatable
    if said is not None:
        return said
    if call.flow is not None and call.flow.count:
        return True  # who asked for a broken stream to go on has said so
    if call.unsafe_inside:
        return False
    if call.key_taken or (call.plan.method is None and call.method is None and _vouched_for(call, failure)):
        return True
    # An adapter, which is who knows a method, has taken account of every key that really went out.
    return _harmless(call, failure, (call.key_header or "Idempotency-Key") if call.method is None else None)


def repeatable_from_outside(call: Call[Any], failure: Failure | None = None) -> bool:
    """
    Whether a repeat of the call around *call* does no double harm, although *call* has had effects.

    A key made by chance, or put on the request without us, protects only its own attempts: the repeat may make another.
    """
    said = call.plan.repeatable
    if said is not None:
        return said
    if call.unsafe_inside:
        return False
    if call.undone and _left_nothing(call):
        return True
    if call.key_taken and call.minted is not None:
        method = call.plan.method or call.method
        return call.minted[1] not in {"minted", "header"} or (method is not None and method.upper() in _IDEMPOTENT)
    return _harmless(call, failure, None)


def _left_nothing(call: Call[Any]) -> bool:
    """Whether each attempt of *call* was undone, or failed and had done nothing."""
    nothing = call.undone.union(row[0] for row in call.tries if row[6] != "unknown")
    return all(attempt in nothing for attempt in range(1, call.attempt + 1))


def _harmless(call: Call[Any], failure: Failure | None, key_header: str | None) -> bool:
    """Whether the request, as far as it is known, may be sent twice: by method, dialect, or a key header the caller set without us."""
    # What is asked for is what a repeat would send; the failure may be about a hop that a redirect led to.
    asked = request_meant(call.fn, call.args, call.kwargs)
    met = None if failure is None else request_of(_came(failure))
    method, path = call.plan.method or call.method, call.path
    for request in (asked, met or call.seen):
        if request is not None:
            method = method or request.method
            path = path or request.path
            key = "" if key_header is None else (request.header(key_header) or "").strip()
            # A key that an SDK made up for this one attempt protects only that: the next has another.
            if key and (request is asked or mentions(call.fn, call.args, call.kwargs, key)):
                return True
    if method is None or method.upper() in _IDEMPOTENT:
        return True
    creates_nothing = call.plan.rules.creates_nothing
    try:
        return creates_nothing is not None and bool(creates_nothing(method.upper(), path or ""))
    except Exception:  # noqa: BLE001 - a dialect that does not know has not said yes
        return False


def remember(call: Call[Any], failure: Failure) -> None:
    """Keep in mind which request *failure* was about, for an attempt after it that is cut and cannot tell; not its headers."""
    request = None if stands_alone(failure.error) else request_of(_came(failure))
    if request is not None and request.header(call.key_header or "Idempotency-Key") is None:
        call.seen = attrs.evolve(request, headers=None)


def bar(call: Call[Any], failure: Failure) -> str | None:
    """Why *call* must not be repeated after *failure* whatever the policy would like; None if it may."""
    if call.plan.env.cancellation_pending(call.cancels):
        # Even where the operation turned its cancellation into an ordinary error: the caller wants the task to end.
        return "cancelled"
    if not call.replayable:
        return "unrepeatable"
    if call.unsafe_inside and not call.plan.repeatable:
        return "unsafe"
    if call.final is not None:
        return call.final
    return decided_inside(call, failure) if call.sealed else None


def decided_inside(call: Call[Any], failure: Failure) -> str | None:
    """Why an engine further in would not repeat what led to *failure*; None where none said so."""
    if not call.sealed:
        return None
    return next((sealed.decision for sealed in reversed(sealed_behind(call, failure)) if sealed.decision), None)


def _vouched_for(call: Call[Any], failure: Failure | None) -> bool:
    """Whether *failure* left an engine further in, which knows better than its request what a repeat would do, and has said so."""
    return failure is not None and bool(sealed_behind(call, failure))


def sealed_behind(call: Call[Any], failure: Failure) -> list[Sealed]:
    """What left engines further in, in the latest attempt, and led to *failure*; in the order in which it did."""
    if not call.sealed:
        return []
    sealed = [one for one in call.sealed if one.attempt == call.attempt]
    if not sealed:
        return sealed
    behind = list(behind_of(_came(failure)))
    return [one for one in sealed if any(one.came is other for other in behind)]


def _came(failure: Failure) -> object:
    """What the attempt raised or returned."""
    return failure.value if failure.error is None else failure.error
