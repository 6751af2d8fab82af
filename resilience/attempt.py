"""
The innermost handler: number an attempt, cut it off in time, run it, read what came out, classify it.

It catches once and classifies once; further out, failures are values.  Cancellation is no outcome and passes through untouched.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from resilience.backend import Cutoff, was_cut
from resilience.call import Call, out_of_time
from resilience.callables import refuse_misuse
from resilience.classify import Reader, Rules
from resilience.env import Env
from resilience.errors import AttemptTimedOut, StreamFailed
from resilience.events import AttemptFailed, ResultUnread
from resilience.outcome import END, Failure, Phase, Signal, new_failure
from resilience.policy import Handler
from resilience.reading.shape import READERS, read, response_status
from resilience.repeating import sealed_behind

if TYPE_CHECKING:
    from resilience.flow import Flow

__all__ = ["CUT", "advance", "bind", "bind_stream", "empty_frames", "plain_types", "raised", "returned"]

T = TypeVar("T")

_FRAMES_ARE_KEPT = sys.version_info >= (3, 12)


class _Cut:
    """Its only instance stands for the value of what was cut, and is of no type that a value could have."""


CUT: Any = _Cut()


def bind(rules: Rules, env: Env) -> Handler[Any]:
    """The handler that every policy of an engine is wrapped around."""
    now, cutoff, cancel_count, plain = env.now, env.cutoff, env.cancel_count, plain_types(rules)

    # As `runner.run` does it, for all first attempts that no handler has to see.
    async def attempt(call: Call[Any]) -> Any:
        scope, left, since = None, math.inf, 0
        if call.bounded:
            left = call.ends - now()
            if left <= 0:
                return out_of_time(call, "before")
            since = cancel_count()
            scope = cutoff(min(left, call.cutoff))
        call.attempt += 1
        fn: Callable[..., Awaitable[Any]] = call.fn  # type: ignore[assignment]  # gone only when the call has ended
        brought, value = None, CUT
        try:
            if scope is None:
                brought = fn(*call.args, **call.kwargs)
                value = await brought
            else:
                with scope:
                    brought = fn(*call.args, **call.kwargs)
                    value = await brought
        except Exception as error:  # noqa: BLE001 - every exception is an outcome to be judged
            try:
                return raised(call, error, brought, scope, left, since)
            finally:
                brought = None  # a task that was brought holds its error, whose traceback holds this frame
        try:
            if plain[type(value)] is None:
                return value
        except (KeyError, TypeError):  # met for the first time, or without a hash
            pass
        return returned(call, value, left)

    return attempt


def plain_types(rules: Rules) -> Mapping[type, object]:
    """None for the types that are known to be no responses, which is all that has to be known of most values."""
    return READERS if rules.by_result is None else {}


def bind_stream(rules: Rules, env: Env) -> Handler[Any]:  # noqa: ARG001 - the shape of `bind`
    """The same for streams: an attempt is to open its source, and to bring the first item, or `END` where there is none."""
    now = env.now

    async def opening(call: Call[Any]) -> Any:
        flow = call.flow
        assert flow is not None  # noqa: S101 - the call of a stream
        assert call.fn is not None  # noqa: S101 - gone only when the call has ended
        if call.ends <= now():
            return out_of_time(call, "before")
        if flow.source.is_open:
            # A policy further out would not have what the attempt before had begun.
            flow.settle(None)
            await flow.source.close(env)
        call.attempt += 1
        opener = flow.opener(call.fn, call.args, call.kwargs, call.operation)
        return await _item(call, flow, min(call.cutoff, flow.first_item), opener, "attempt")

    return opening


def advance(call: Call[Any], flow: Flow) -> Awaitable[Any]:
    """The next item of the stream that *call* has opened, `END`, or the failure that came instead."""
    return _item(call, flow, flow.idle, flow.source.ask, "streaming")


async def _item(call: Call[Any], flow: Flow, limit: float, bring: Callable[[], Awaitable[Any]], where: str) -> Any:
    """One item within *limit* and the call's own time.  Nothing but the source stays open after it, and that only if all went well."""
    rules, env, source = call.plan.rules, call.plan.env, flow.source
    left = call.ends if call.ends == math.inf else call.ends - env.now()
    item, scope, since = CUT, None, 0
    try:
        if min(left, limit) == math.inf:
            item = await bring()
        elif left > 0:
            since = env.cancel_count()
            scope = env.cutoff(min(left, limit))
            with scope:
                item = await bring()
    except StopAsyncIteration:
        return END
    except Exception as error:  # noqa: BLE001 - every exception is an outcome to be judged
        await source.close(env, error)
        if scope is not None and was_cut(scope, since):
            _caught(call, error)
            return _late(call, where, error) if left <= limit else _overdue(call, limit, error)
        return raised(call, error)
    except GeneratorExit:
        raise  # thrown away by whoever awaits it: there is nobody to wait
    except BaseException as error:
        await source.close(env, error)
        raise
    if item is CUT:
        failure = _late(call, where, None) if left <= limit else _overdue(call, limit, None)
        await source.close(env, failure.error)
        return failure
    if rules.by_item is not None and item is not END:
        signal = _read_by(rules.by_item, call, item)
        if signal is not None:
            told = StreamFailed(
                operation=call.operation,
                retry_after=signal.retry_after,
                status=signal.status,
                code=signal.code,
                kind=signal.kind,
                items=flow.count,
            )
            await source.close(env, told)
            return _noted(call, Failure(rules.classify(signal), signal, told), env)
    return item


def empty_frames(call: Call[Any]) -> None:
    """
    Empty the frames of ours around the latest error that was caught, those that have ended.

    From CPython 3.12 on an error's traceback keeps not only the frames that it shows but those around them, and theirs, the policies', hold
    the failure that holds the error: a cycle, and with it all that the operation's frames hold.
    """
    traceback, call.caught = call.caught, None
    frame = None if traceback is None else traceback.tb_frame
    while frame is not None:
        try:
            frame.clear()
        except RuntimeError:  # it is still running, and so are all around it
            return
        frame = frame.f_back


def _caught(call: Call[Any], error: Exception) -> None:
    if not _FRAMES_ARE_KEPT:
        return
    empty_frames(call)
    # Not the error, which another task may raise again: its traceback would then begin with the frames of a call that is still waiting.
    call.caught = error.__traceback__


def raised(  # noqa: PLR0917 - all that an attempt knows
    call: Call[Any], error: Exception, brought: object = None, scope: Cutoff | None = None, left: float = math.inf, since: int = 0
) -> Failure:
    """
    The failure of an attempt that raised.

    Args:
        call: The call.
        error: What came out of it.
        brought: What the operation returned to be awaited; None if it did not get so far.
        scope: The cutoff that it ran in, if there was one.
        left: The call's seconds to its end when it began.
        since: Native cancellations already asked for then.

    Raises:
        TypeError: The operation is no async callable.
    """
    if scope is not None and scope.cancel_called and was_cut(scope, since):
        _caught(call, error)
        return _cut(call, left, error)
    if type(error) is TypeError:
        refuse_misuse(call.fn, call.operation, error, brought)
    _caught(call, error)
    plan = call.plan
    signal = read(error, wall=plan.env.wall())
    return _noted(call, new_failure(plan.rules.classify(signal), signal, error, None), plan.env)


def returned(call: Call[T], value: T, left: float = math.inf) -> T | Failure:
    """*value*, or the failure that it stands for, where *left* is as for `raised`."""
    if value is CUT:
        return _cut(call, left, None)
    rules, env = call.plan.rules, call.plan.env
    signal = None if rules.by_result is None else _read_by(rules.by_result, call, value)
    if signal is None:
        status = response_status(value)
        if status is None or status < 400:  # noqa: PLR2004 - RFC 9110, 15: from here on the request was not fulfilled
            return value
        signal = read(value, wall=env.wall())
    return _noted(call, Failure(rules.classify(signal), signal, value=value), env)


def _read_by(reader: Reader, call: Call[Any], value: object) -> Signal | None:
    """What a dialect's own reader says of *value*; None, which is good news, where it makes a mistake."""
    try:
        signal = reader(value)
        if signal is None or isinstance(signal, Signal):
            return signal
        if inspect.iscoroutine(signal):
            signal.close()
        call.say(ResultUnread, error=type(signal).__name__)
    except Exception as error:  # noqa: BLE001 - a reader's mistake must not cost the caller a good result
        call.say(ResultUnread, error=type(error).__name__)
    return None


def _cut(call: Call[Any], left: float, cause: Exception | None) -> Failure:
    """The failure of an attempt that was cut, by the nearer of its two limits."""
    return _late(call, "attempt", cause) if left <= call.cutoff else _overdue(call, call.cutoff, cause)


def _late(call: Call[Any], where: str, cause: Exception | None) -> Failure:
    """The failure of an attempt that the call's end cut short."""
    return _noted(call, out_of_time(call, where, cause), call.plan.env)


def _overdue(call: Call[Any], seconds: float, cause: Exception | None) -> Failure:
    """The failure of an attempt that took longer than its own limit."""
    error = AttemptTimedOut(operation=call.operation, seconds=seconds, attempt=call.attempt)
    error.__cause__ = cause
    signal = Signal(phase=Phase.UNKNOWN, raised=AttemptTimedOut)
    return _noted(call, Failure(call.plan.rules.classify(signal), signal, error), call.plan.env)


def _noted(call: Call[Any], failure: Failure, env: Env) -> Failure:
    """*failure*, kept on the call and told to the log."""
    if call.attempt in call.undone and failure.signal.phase is Phase.UNKNOWN:
        failure = attrs.evolve(failure, signal=attrs.evolve(failure.signal, phase=Phase.REFUSED))
    verdict, signal = failure.verdict, failure.signal
    row = (
        call.attempt,
        verdict.action.word,
        verdict.rule,
        type(failure.value if failure.error is None else failure.error).__name__,
        signal.status,
        signal.code,
        signal.phase.word,
        signal.retry_after,
        env.now() - call.started,
        None if call.flow is None else call.flow.count,
    )
    call.eventful = True
    call.tries += (row,)
    inside = sealed_behind(call, failure) if call.sealed else ()
    # What an engine further in tried is told by its own rows; this one has not tried anything beside them.
    call.past += tuple(row for sealed in inside for row in sealed.tries) if inside else (row,)
    call.previous = failure
    call.say(AttemptFailed, failure, retry_after=signal.retry_after, items=row[-1])
    return failure
