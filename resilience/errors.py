"""
What we raise on our own behalf.  The caller's own exceptions are never wrapped.

Each error keeps its facts as attributes and builds its message from them, so that it can be pickled, copied, annotated and raised through
task groups without losing anything.  Each is a fresh instance: an exception raised twice collects the frames of both.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["AttemptTimedOut", "CircuitOpen", "DeadlineExceeded", "RefreshFailed", "Rejected", "ResilienceError", "StreamFailed"]

_KEPT = ("__notes__", "_resilience_history")


def _rebuild(kind: type[ResilienceError], facts: dict[str, Any]) -> ResilienceError:
    return kind(**facts)


class ResilienceError(Exception):
    """
    The root of everything that the library raises on its own behalf.

    Attributes:
        operation: The operation's name.
        retry_after: Seconds after which trying again may make sense; >= 0, None where nobody knows.
        status: Status of the failure that led here, if it had one.
        code: Its error code, likewise.
    """

    facts: ClassVar[tuple[str, ...]] = ("operation", "retry_after", "status", "code")

    def __init__(
        self,
        *,
        operation: str = "call",
        retry_after: float | None = None,
        status: int | None = None,
        code: str | None = None,
    ) -> None:
        self.operation = operation
        self.retry_after = None if retry_after is None else max(0.0, retry_after)
        self.status = status
        self.code = code
        super().__init__(self._message())

    def _message(self) -> str:
        return f"{self.operation}: failed"

    def __str__(self) -> str:
        return self._message()

    def __reduce__(self) -> tuple[Any, ...]:
        # A client's mixed-in base may hold a request or a response: only our own facts travel.
        facts = {name: getattr(self, name) for name in self.facts}
        kept = {name: self.__dict__[name] for name in _KEPT if name in self.__dict__}
        return _rebuild, (type(self), facts), kept or None


class Rejected(ResilienceError):
    """
    One of our own policies refused to start the attempt; nothing was sent.

    Attributes:
        policy: The policy that refused.
    """

    facts = (*ResilienceError.facts, "policy")

    def __init__(self, *, policy: str = "policy", **facts: Any) -> None:
        self.policy = policy
        super().__init__(**facts)

    def _message(self) -> str:
        return f"{self.operation}: refused by {self.policy}{_later(self.retry_after)}"


class CircuitOpen(Rejected):
    """
    The circuit breaker lets nothing through at present.

    Attributes:
        key: The breaker's key in words; None for the only one.
        era: ``"open"``, ``"half_open"`` (all probes are out) or ``"isolated"`` (held open by hand).
        tripped_by: The failure that opened it, in words; None where it was opened by hand.
    """

    facts = (*Rejected.facts, "key", "era", "tripped_by")

    def __init__(self, *, key: str | None = None, era: str = "open", tripped_by: str | None = None, **facts: Any) -> None:
        self.key = key
        self.era = era
        self.tripped_by = tripped_by
        super().__init__(**{"policy": "CircuitBreaker", **facts})

    def _message(self) -> str:
        where = "" if self.key is None else f" for {self.key}"
        why = "" if self.tripped_by is None else f", tripped by {self.tripped_by}"
        return f"{self.operation}: circuit {self.era.replace('_', '-')}{where}{why}{_later(self.retry_after)}"


class DeadlineExceeded(ResilienceError, TimeoutError):
    """
    The call's own time was up.  The cause is the previous attempt's error, or what the operation made of being cut.

    Attributes:
        seconds: The call's time limit where it is known, in seconds.
        attempts: Tries started before the time was up; 0 if there was no time to start with.
    """

    facts = (*ResilienceError.facts, "seconds", "attempts")

    def __init__(self, *, seconds: float | None = None, attempts: int = 0, **facts: Any) -> None:
        self.seconds = seconds
        self.attempts = attempts
        super().__init__(**facts)

    def _message(self) -> str:
        limit = "its deadline" if self.seconds is None else f"its deadline of {self.seconds:g} s"
        last = "" if self.status is None and self.code is None else f", last failure {_named(self.status, self.code)}"
        return f"{self.operation}: exceeded {limit} after {self.attempts} attempt(s){last}"


class AttemptTimedOut(ResilienceError, TimeoutError):
    """
    One attempt took longer than `AttemptTimeout` allows, or an item of a stream than `StreamTimeout` does, and was cancelled.

    Attributes:
        seconds: The limit, in seconds.
        attempt: The number of the attempt that was cut, from 1.
    """

    facts = (*ResilienceError.facts, "seconds", "attempt")

    def __init__(self, *, seconds: float = 0.0, attempt: int = 1, **facts: Any) -> None:
        self.seconds = seconds
        self.attempt = attempt
        super().__init__(**facts)

    def _message(self) -> str:
        return f"{self.operation}: attempt {self.attempt} took longer than {self.seconds:g} s"


class RefreshFailed(ResilienceError):
    """
    No usable token could be had.  The cause is the token source's own error where it was raised just now.

    Attributes:
        reason: ``"failed"``, ``"timeout"``, ``"cut_short"`` or ``"cooling_down"`` after an earlier failure.
        detail: The class of the source's error, its status and code, as far as known.
    """

    facts = (*ResilienceError.facts, "reason", "detail")

    def __init__(self, *, reason: str = "failed", detail: str | None = None, **facts: Any) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(**facts)

    def _message(self) -> str:
        what = {"timeout": "timed out", "cut_short": "was cut short", "cooling_down": "failed a moment ago"}.get(self.reason, "failed")
        detail = "" if self.detail is None else f" ({self.detail})"
        return f"{self.operation}: the token refresh {what}{detail}{_later(self.retry_after)}"


class StreamFailed(ResilienceError):
    """
    The peer reported a failure in the middle of its answer: an error event in a stream whose status was 200.

    Attributes:
        kind: The type or family of the error, where the event names one.
        items: How many items of the stream were delivered before it.
    """

    facts = (*ResilienceError.facts, "kind", "items")

    def __init__(self, *, kind: str | None = None, items: int = 0, **facts: Any) -> None:
        self.kind = kind
        self.items = items
        super().__init__(**facts)

    @property
    def type(self) -> str | None:
        """The same as `kind`, by the name that it has in most APIs."""
        return self.kind

    def _message(self) -> str:
        what = self.code or self.kind or "an error event"
        return f"{self.operation}: the stream reported {what} after {self.items} item(s)"


def _later(seconds: float | None) -> str:
    return "" if seconds is None else f"; try again in {seconds:.3g} s"


def _named(status: int | None, code: str | None) -> str:
    return " ".join(str(part) for part in (status, code) if part is not None)
