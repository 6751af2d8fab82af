"""Repeat attempts that may pass: the one place that waits between two of them."""

from __future__ import annotations

import contextlib
import inspect
import math
from typing import Any, ClassVar, TypeVar, get_args

import attrs

from resilience import repeating, settings
from resilience.call import Call, gave_up
from resilience.decide.backoff import Backoff, Exponential
from resilience.decide.retry import GiveUp, OverLimit, RetryIn, decide
from resilience.env import Env
from resilience.errors import Rejected
from resilience.events import RetryScheduled
from resilience.outcome import Action, Failure, Phase
from resilience.policy import FastPath, Handler

__all__ = ["Retry"]

T = TypeVar("T")


def _over_limit(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in get_args(OverLimit):
        raise settings.fail(instance, attribute, value, "'fail', 'clamp' or 'wait'")


def _schedule(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, type) or not isinstance(value, Backoff) or inspect.iscoroutinefunction(value.delay):
        raise settings.fail(instance, attribute, value, "a schedule such as Exponential(0.05, cap=20)")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Retry(settings.Value):
    """
    Repeat attempts whose action is RETRY, after the longer of a backoff and the server's hint.

    Transient and throttled failures wait by schedules of their own, each counted for itself, under one total.  A failure whose effects are
    unknown is repeated only if that does no double harm: an idempotent method, a key that was taken, or your word for it.

    Args:
        attempts: Tries in all, the first included; >= 1.
        backoff: The schedule for failures that may pass.
        throttled: The schedule for failures by which the peer asks for less.
        max_server_delay: The longest `Retry-After` to obey, in seconds; >= 0.
        over_limit: What to do about a longer one: ``"fail"`` at once with the hint in the history, ``"clamp"`` it, or ``"wait"`` all the
            same.

    Raises:
        ValueError: A setting out of its range.

    Reference:
        The base delays, 50 ms and 1 s, are those that the AWS SDKs' standard mode settled on in 2026.
    """

    repeats: ClassVar[bool] = True

    attempts: int = attrs.field(default=3, validator=settings.count)
    backoff: Backoff = attrs.field(default=Exponential(0.05, cap=20.0), validator=_schedule)
    throttled: Backoff = attrs.field(default=Exponential(1.0, cap=20.0), validator=_schedule)
    max_server_delay: float = attrs.field(default=60.0, validator=settings.seconds_or_forever)
    over_limit: OverLimit = attrs.field(default="fail", validator=_over_limit)

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
        """Repeat *inner*."""

        async def retrying(call: Call[T]) -> T | Failure:
            outcome = await inner(call)
            if type(outcome) is not Failure:
                return outcome  # type: ignore[no-any-return]  # what inner gave
            repeated: T | Failure = await self._repeat(call, outcome, inner, env)
            return repeated

        return retrying

    def bind_fast(self, path: FastPath, inner: Handler[Any], env: Env) -> FastPath:
        """Do nothing about a first attempt that succeeds."""
        further_in = path.failed

        async def failed(call: Call[Any], failure: Failure) -> Any:
            outcome = failure if further_in is None else await further_in(call, failure)
            return await self._repeat(call, outcome, inner, env)

        return path.but(failed=failed)

    def bind_stream(self, inner: Handler[Any], env: Env) -> Handler[Any]:
        """Repeat *inner* until it has a first item, and again where a stream is to go on that broke after it."""

        async def retrying(call: Call[T]) -> T | Failure:
            flow = call.flow
            broken = None if flow is None else flow.broken
            if flow is not None:
                flow.broken = None
            first: T | Failure = await self._repeat(call, await inner(call) if broken is None else broken, inner, env)
            return first

        return retrying

    async def _repeat(self, call: Call[Any], outcome: Any, inner: Handler[Any], env: Env) -> Any:
        """Repeat *inner* after *outcome* for as long as that makes sense: the one place that waits between two attempts."""
        while type(outcome) is Failure and outcome.verdict.action is Action.RETRY:
            decision = self._decide(call, outcome, env)
            if isinstance(decision, GiveUp):
                return gave_up(call, outcome, decision.reason)
            if call.holds(outcome):
                barred = await call.let_go(outcome)
                if barred is None and decision.delay >= call.remaining:
                    barred = "deadline"  # letting go took time
                if barred is not None:
                    return gave_up(call, outcome, barred)
            call.say(RetryScheduled, outcome, delay=decision.delay, delay_source=decision.source)
            await env.sleep(decision.delay)
            if call.ends <= env.now():  # overslept
                return gave_up(call, outcome, "deadline")
            tried = call.attempt
            failure, outcome = outcome, await inner(call)
            if call.attempt == tried and type(outcome) is Failure and isinstance(outcome.error, Rejected):
                # Refused by a policy of ours further in: no attempt, and no reason to hide what led there.
                return gave_up(call, failure, "rejected")
        return outcome

    def _decide(self, call: Call[Any], failure: Failure, env: Env) -> RetryIn | GiveUp:
        """Whether to repeat, from the call's own account and that of the outermost call it runs in."""
        barred = repeating.bar(call, failure)
        if barred is not None:
            return GiveUp(barred)
        verdict, signal = failure.verdict, failure.signal
        delays = call.delays
        if delays is None:
            delays = call.delays = {}
        retries, previous = delays.get(verdict.throttled, (0, None))
        schedule = self.throttled if verdict.throttled else self.backoff
        backoff = _delay(schedule, retries + 1, env.draw(), previous, failure)
        if backoff is None:
            return GiveUp("schedule")
        delays[verdict.throttled] = retries + 1, backoff
        account = call if call.parent is None else _account(call)
        allowed, shared = call.plan.attempts, account.plan.attempts
        others = repeating.others(call, failure)
        if others:
            call.others += others
            account.repeats += others
        phase = repeating.phase_of(call, failure, others)
        of_rule = 1 if len(call.tries) == 1 else sum(row[2] == verdict.rule for row in call.tries)
        call.capped = verdict.attempts is not None and of_rule >= verdict.attempts
        decision = decide(
            tries=call.attempt - call.renewals + call.others,
            attempts=self.attempts if allowed is None else min(self.attempts, allowed),
            repeats_left=math.inf if shared is None else shared - 1 - account.repeats,
            tries_of_rule=of_rule + call.others,
            cap_of_rule=verdict.attempts,
            phase=phase,
            repeatable=phase is not Phase.UNKNOWN or repeating.repeatable(call, failure),
            backoff=backoff,
            hint=signal.retry_after,
            max_server_delay=self.max_server_delay,
            over_limit=self.over_limit,
            draw=env.draw(),
            time_left=call.ends - env.now(),
        )
        if isinstance(decision, RetryIn):
            account.repeats += 1
            repeating.remember(call, failure)
        return decision


def _delay(schedule: Backoff, retry: int, draw: float, previous: float | None, failure: Failure) -> float | None:
    """The schedule's delay; None if a schedule of the user's own makes no sense, which is then noted on the caller's error."""
    try:
        delay = schedule.delay(retry, draw, previous)
    except Exception as mistake:  # noqa: BLE001 - whatever it raises must not replace the error that the call is about
        wrong = f"raised {mistake!r}"
    else:
        if (type(delay) is float or (isinstance(delay, int | float) and not isinstance(delay, bool))) and 0 <= delay < math.inf:
            return delay
        wrong = f"gave {delay!r}"
    if failure.error is not None:
        with contextlib.suppress(Exception):  # frozen exception classes take no notes
            failure.error.add_note(f"resilience: not repeated, for {type(schedule).__name__}.delay {wrong}")
    return None


def _account(call: Call[Any]) -> Call[Any]:
    """The outermost running call that retries: nested engines share its repeats, so that tries do not multiply."""
    account, outer = call, call.parent
    while outer is not None:
        if not outer.ended and outer.plan.attempts is not None:
            account = outer
        outer = outer.parent
    return account
