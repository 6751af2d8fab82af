"""
What one attempt produced, in no transport's own words.

An outcome is either the operation's plain value or a `Failure`.  A failure carries the `Signal` that was read from it, the `Verdict`
that the rules reached, and the thing itself: the caller's own exception, or the response that said no.
"""

from __future__ import annotations

import enum
from typing import Any, Final, cast, final

import attrs

from resilience import settings

__all__ = [
    "Action",
    "Blame",
    "Failure",
    "Phase",
    "Signal",
    "Verdict",
    "fail_fast",
    "new_failure",
    "new_signal",
    "refresh_token",
    "retry",
]


END: Final[Any] = object()
"""Stands in the place of a stream's item where there are no more."""


class _Word(enum.Enum):
    """A member with its value as a plain attribute, too: `Enum.value` is a function in disguise, which costs three times as much."""

    word: str

    def __init__(self, word: str) -> None:
        self.word = word


class Phase(_Word):
    """How far a failed attempt got: whether it may have had effects."""

    NOT_SENT = "not_sent"
    """It never reached the peer: connection refused, no free connection, our own rejection."""
    REFUSED = "refused"
    """The peer says that it did no work: 401, 404, 429."""
    UNKNOWN = "unknown"
    """Anything else: a read timeout, a 500, a connection reset in mid-flight."""


class Action(_Word):
    """What a verdict calls for.  Success has none: it is simply the value."""

    RETRY = "retry"
    FAIL_FAST = "fail_fast"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of an action, no secret


class Blame(enum.Enum):
    """Whom a failure speaks against; only the peer's own faults trip a breaker."""

    PEER = "peer"
    CALLER = "caller"
    CREDENTIAL = "credential"


@attrs.frozen(eq=False, repr=False)
class Verdict(settings.Value):
    """
    What the rules say about a failure.

    Args:
        action: What it calls for.
        rule: What decided, for people: ``"callmissed: code token_expired"``.
        attempts: The most tries of one call that may end in this rule, the first included; >= 1.  None leaves it to the policy.
        throttled: The peer asks for less, so that the slower schedule applies.
        blames: Whom it speaks against.
    """

    action: Action = attrs.field(validator=attrs.validators.instance_of(Action))
    rule: str = "unnamed"
    attempts: int | None = attrs.field(default=None, validator=attrs.validators.optional(settings.count))
    throttled: bool = attrs.field(default=False, validator=settings.flag)
    blames: Blame = attrs.field(default=Blame.PEER, validator=attrs.validators.instance_of(Blame))


def retry(*, attempts: int | None = None, throttled: bool = False, blames: Blame = Blame.PEER) -> Verdict:
    """A table entry for what may pass: try again, at most *attempts* times in all."""
    return Verdict(Action.RETRY, attempts=attempts, throttled=throttled, blames=blames)


def fail_fast(*, blames: Blame = Blame.CALLER) -> Verdict:
    """A table entry for what repeating cannot cure."""
    return Verdict(Action.FAIL_FAST, blames=blames)


def refresh_token() -> Verdict:
    """A table entry for a credential that has expired: renew it once, then repeat."""
    return Verdict(Action.REFRESH_TOKEN, blames=Blame.CREDENTIAL)


@attrs.frozen(eq=False, repr=False)
class Signal(settings.Value):
    """
    What a failed attempt says about itself.

    Args:
        status: HTTP status or a kin of it, 100 to 599.
        code: The error code of the peer's envelope: printable ASCII, at most 128 characters.
        kind: The family or type of the error, where the peer names one; of the same form.
        message: The peer's words, for people; never logged.
        retry_after: Seconds from now to wait, as the peer asked; finite and >= 0.
        phase: How far the attempt got.
        should_retry: The peer's own word on whether to repeat (``x-should-retry``), where it gave one.
        raised: The type of the exception, where one was raised.
        leaves: The signals of an exception group's leaves, where there is more than one; or that of what an exception only wraps.
    """

    status: int | None = None
    code: str | None = None
    kind: str | None = None
    message: str | None = attrs.field(default=None, repr=False)
    retry_after: float | None = None
    phase: Phase = Phase.UNKNOWN
    should_retry: bool | None = None
    raised: type[BaseException] | None = None
    leaves: tuple[Signal, ...] = ()


@final
@attrs.frozen(eq=False, repr=False)
class Failure(settings.Shown):
    """
    A failed attempt, as it travels between the layers of an engine.

    Args:
        verdict: What the rules said.
        signal: What was read.
        error: What the caller gets raised, the same object.
        value: What the caller gets returned instead, where the peer answered with a failure.
    """

    verdict: Verdict
    signal: Signal
    error: Exception | None = attrs.field(default=None, repr=False)
    value: object = attrs.field(default=None, repr=False)


# An `__init__` of attrs' fills a frozen object by way of `object.__setattr__`, at some 60 ns a field (100 on CPython 3.12): over half a
# microsecond for each signal, on a path that is to take ten in all.  So what the engine makes begins as a draft, an object with the same
# slots that nothing guards, and is given its class when it is complete: a third of that.  CPython
# takes the layouts of two classes for the same only where their slots for weak references are a base's.


class _SignalDraft(settings.Value):
    __slots__ = tuple(field.name for field in attrs.fields(Signal))


class _FailureDraft(settings.Shown):
    __slots__ = tuple(field.name for field in attrs.fields(Failure))


def new_signal(  # noqa: PLR0917 - all fields of `Signal`, by position
    status: int | None,
    code: str | None,
    kind: str | None,
    message: str | None,
    retry_after: float | None,
    phase: Phase,
    should_retry: bool | None,
    raised: type[BaseException] | None,
    leaves: tuple[Signal, ...],
) -> Signal:
    """A `Signal`, for less."""
    made: Any = _SignalDraft()
    made.status = status
    made.code = code
    made.kind = kind
    made.message = message
    made.retry_after = retry_after
    made.phase = phase
    made.should_retry = should_retry
    made.raised = raised
    made.leaves = leaves
    made.__class__ = Signal
    return cast("Signal", made)


def new_failure(verdict: Verdict, signal: Signal, error: Exception | None, value: object) -> Failure:
    """A `Failure`, for less."""
    made: Any = _FailureDraft()
    made.verdict = verdict
    made.signal = signal
    made.error = error
    made.value = value
    made.__class__ = Failure
    return cast("Failure", made)
