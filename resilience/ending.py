"""What becomes of a call as it begins inside another and as it ends: said to the log, left on the outcome, told to the call around it."""

from __future__ import annotations

import math
from typing import Any

from resilience import attempt, repeating
from resilience.call import Call, Sealed, time_limit
from resilience.errors import Rejected, ResilienceError
from resilience.events import CallFailedFast, CallRecovered, CallSucceeded, RetryGaveUp
from resilience.history import keep_history
from resilience.log import Quiet
from resilience.outcome import Action, Failure

__all__ = ["NO_KWARGS", "ended_well", "failed", "over", "settle_in"]

NO_KWARGS: dict[str, Any] = {}


def settle_in(call: Call[Any], outer: Call[Any] | None) -> None:
    """Put on *call* what is not the same for every call: what the one around it allows, what its view adds."""
    plan = call.plan
    if outer is not None:
        call.parent = outer
        call.eventful = True
        if outer.ends < math.inf:
            call.end_by(outer.ends, time_limit(outer))
    if plan.prepare is not None:
        plan.prepare(call)
    if outer is not None and outer.plan.nested is not plan.nested:
        call.nest(outer=outer.engine)  # now that the call has its name; an engine inside itself is nobody's mistake


def ended_well(call: Call[Any], quiet: Quiet) -> None:
    """Say so where it is of interest, and forget what led there."""
    if call.tries:
        call.say(CallRecovered)
        call.previous = None
        attempt.empty_frames(call)
    elif call.started >= quiet.until:
        call.say(CallSucceeded)
    if call.parent is not None:
        _tell_outer(call, acted=True)
    if call.sealed:
        call.sealed = ()


def failed(call: Call[Any], failure: Failure) -> Exception | None:
    """End *call* with *failure*: say so, leave history and final decision on it; the error to raise, if there is one."""
    error = failure.error
    if call.plan.translate is not None and isinstance(error, ResilienceError) and error.__traceback__ is None:
        # Never raised yet: it is this engine's own, not one that came out of the operation.
        error = call.plan.translate(call, error)
    if call.final is None:
        action = failure.verdict.action
        inside = repeating.decided_inside(call, failure)
        if inside is not None:
            call.final = inside  # by an engine further in, which has said so
        elif isinstance(error, Rejected):
            call.final = "rejected"  # the policy that refused has said so
        elif action is Action.RETRY:
            call.say(RetryGaveUp, failure, reason="attempts", retry_after=failure.signal.retry_after)
        else:
            call.say(CallFailedFast, failure)
            if action is Action.FAIL_FAST or call.credential is not None:
                call.final = "failed_fast"
    came: object = failure.value if error is None else error
    keep_history(came, call.past)
    if call.parent is not None:
        # Not on the error itself: the same one may be raised again by a later call, which has every right to be repeated.  That the
        # attempts are used up decides nothing, for the repeats are shared; that a rule allows no more does.
        decided = "" if call.final is None or call.final == "delivered" or (call.final == "attempts" and not call.capped) else call.final
        call.parent.eventful = True
        call.parent.sealed = (*call.parent.sealed[-15:], Sealed(came, call.parent.attempt, decided, call.past))
    over(call, acted=any(row[6] == "unknown" for row in call.tries), failure=failure)
    return error


def over(call: Call[Any], *, acted: bool, failure: Failure | None = None) -> None:
    """End *call* in any way but plain success."""
    if call.parent is not None:
        _tell_outer(call, acted=acted, failure=failure)
    call.fn = None
    call.args = ()
    call.kwargs = NO_KWARGS
    call.previous = None
    attempt.empty_frames(call)
    if call.sealed:
        call.sealed = ()


def _tell_outer(call: Call[Any], *, acted: bool, failure: Failure | None = None) -> None:
    """Let the call around *call* know if a repeat of it would do again what was done in here."""
    outer = call.parent
    if outer is not None and (acted or call.unsafe_inside) and not repeating.repeatable_from_outside(call, failure):
        outer.unsafe_inside = True
