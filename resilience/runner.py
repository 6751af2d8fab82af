"""
The way of one call, from its beginning to its end: what `Engine.call` and every decorated function run.

All of the hot path is here, in one coroutine.  It knows two ways through the policies.  The fast one is for a call that all of them admit
to its first attempt at once: the attempt is made right here, and if it succeeds, that was all.  If it fails, `FastPath.failed` takes over
where the policies' handlers would be by then.  Every other call goes through the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from resilience import attempt
from resilience.attempt import CUT
from resilience.call import Call, Plan, get_running, out_of_time, set_running
from resilience.ending import NO_KWARGS, ended_well, failed, over, settle_in
from resilience.outcome import Failure
from resilience.policy import FastPath, Handler

__all__ = ["runner"]

T = TypeVar("T")

_NEVER = math.inf


def runner(  # noqa: C901, PLR0915 - see `run`
    plan: Plan, handler: Handler[Any], path: FastPath | None, *, repeats: bool
) -> Callable[[Callable[..., Awaitable[T]], tuple[Any, ...], dict[str, Any]], Coroutine[Any, Any, T]]:
    """
    What runs each call of an engine, or of a view of one.  What is the same for all of them is looked up here, once.

    It knows nothing of the view itself: a view that is made for one call must not be left to the garbage collector.

    Args:
        plan: As for any call.
        handler: The policies.
        path: The fast way through them; None where there is none.
        repeats: Whether one of them may repeat an attempt.
    """
    env, seconds, cutoff = plan.env, plan.seconds, plan.cutoff
    now, cut, cancel_count, quiet = env.now, env.cutoff, env.cancel_count, env.quiet
    plain = attempt.plain_types(plan.rules)
    admits, succeeded, mend = (_never, None, None) if path is None else (path.admits, path.succeeded, path.failed)
    prepared = plan.prepare is not None
    within_limits = seconds < _NEVER or cutoff < _NEVER
    counted = repeats or within_limits

    # In one piece, for each function that a call goes through costs as much as all the questions it asks.
    async def run(fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:  # noqa: C901, PLR0912, PLR0915
        # As `call.begin` does; a function would cost half a coroutine.
        call: Call[T] = Call()
        call.plan = plan
        call.fn = fn
        call.args = args
        call.kwargs = kwargs
        call.started = started = now()
        call.ends = started + seconds
        call.cutoff = cutoff
        call.attempt = 0
        call.cancels = cancel_count() if counted else 0
        call.parent = call.peer = call.credential = call.minted = None
        call.key_taken = call.eventful = False

        outer, bounded = get_running(), within_limits
        while outer is not None and outer.fn is None:  # it has ended
            outer = outer.parent
        if outer is not None or prepared:
            settle_in(call, outer)
            bounded = call.bounded
        set_running(call)

        outcome: Any = None
        left = _NEVER
        good = False  # whether it is known to be no failure
        try:
            if bounded and call.ends <= started:
                outcome = out_of_time(call, "before")
            elif (admits is not None and not admits(call)) or (bounded and (left := call.ends - now()) <= 0):
                outcome = await handler(call)
            else:
                # As the handler of `attempt.bind`, which would be a coroutine more.
                scope = None
                if bounded:
                    scope = cut(left if left < call.cutoff else call.cutoff)  # noqa: FURB136 - a call of `min` costs more
                call.attempt += 1
                brought, outcome = None, CUT
                try:
                    # Unpacking keyword arguments costs half a coroutine even where there are none.
                    if scope is None:
                        brought = fn(*args, **kwargs) if kwargs else fn(*args)
                        outcome = await brought
                    else:
                        with scope:
                            brought = fn(*args, **kwargs) if kwargs else fn(*args)
                            outcome = await brought
                except Exception as raised:  # noqa: BLE001 - every exception is an outcome to be judged
                    outcome = attempt.raised(call, raised, brought, scope, left, call.cancels)
                    brought = None  # a task that was brought holds its error, whose traceback holds this frame
                else:
                    try:
                        good = plain[type(outcome)] is None
                    except (KeyError, TypeError):  # met for the first time, or without a hash
                        good = False
                    if not good:
                        outcome = attempt.returned(call, outcome, left)
                if good or type(outcome) is not Failure:
                    if succeeded is not None:
                        succeeded(call)
                elif mend is not None:
                    outcome = await mend(call, outcome)
        except BaseException:
            outcome = brought = None  # a failure holds its error, whose traceback holds this frame
            over(call, acted=call.attempt > 0)
            raise

        if not good and type(outcome) is Failure:
            error = failed(call, outcome)
            outcome = outcome.value
            if error is not None:
                try:
                    raise error
                finally:
                    # The error's traceback holds this frame; the frame must hold neither the error nor what is the caller's.
                    del error, fn, args, kwargs
        else:
            if call.eventful or started >= quiet.until:
                ended_well(call, quiet)
            call.fn = None
            call.args = ()
            call.kwargs = NO_KWARGS
        return outcome  # type: ignore[no-any-return]  # what fn returned, a failing response included

    return run


def _never(call: Call[Any]) -> bool:  # noqa: ARG001 - the shape of `FastPath.admits`
    """What admits no call to the fast path, where a policy has none."""
    return False
