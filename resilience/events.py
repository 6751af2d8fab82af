"""
One frozen record for each kind of decision.

An event holds scalars only, and its fields are the whole of what is logged: names, counts, codes and seconds; never arguments, headers,
bodies, messages, keys or tokens.  `name` and `level` belong to the class, so that they stay stable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar, dataclass_transform

__all__ = [
    "AttemptFailed",
    "BreakerClosed",
    "BreakerHalfOpened",
    "BreakerOpened",
    "BreakerRejected",
    "CallFailedFast",
    "CallRecovered",
    "CallSucceeded",
    "DeadlineHit",
    "EngineNested",
    "Event",
    "KeyReused",
    "KeyTaken",
    "ResultUnread",
    "RetryGaveUp",
    "RetryScheduled",
    "TokenJoined",
    "TokenRefreshFailed",
    "TokenRefreshed",
]

E = TypeVar("E", bound="Event")


_make = object.__new__
_keep: Callable[[object, str, object], None] = object.__setattr__


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _Record:
    """
    A frozen record whose fields are its annotations.

    Type checkers take it for a dataclass.  It is none, nor made by attrs, because each class would then have methods of its own compiled:
    a fifth of what importing this package took.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    _needed: ClassVar[frozenset[str]] = frozenset()
    _known: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        own = [name for name, kind in cls.__annotations__.items() if not str(kind).startswith("ClassVar")]
        cls.fields = (*cls.fields, *own)
        cls._known = frozenset(cls.fields)
        cls._needed = frozenset(name for name in cls.fields if not hasattr(cls, name))

    def __init__(self, **said: Any) -> None:
        if not self._needed <= said.keys() <= self._known:
            missing, unknown = sorted(self._needed - said.keys()), sorted(said.keys() - self._known)
            raise TypeError(f"{type(self).__name__}: missing {missing}, unknown {unknown}")
        _keep(self, "__dict__", said)

    def asdict(self) -> dict[str, Any]:
        """The fields and what they say, in order."""
        return {name: getattr(self, name) for name in self.fields}

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name}: an event cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name}: an event cannot be changed")

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.asdict().items())
        return f"{type(self).__name__}({said})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Record) and type(other) is type(self) and self.asdict() == other.asdict()

    def __hash__(self) -> int:
        return hash((type(self), *self.asdict().values()))


class Event(_Record):
    """
    What every event says.

    Args:
        engine: The engine's name.
        operation: The operation's name.
        call: A short id, the same in all events of one call.
        attempt: The number of the latest attempt started; 0 before the first.
        elapsed: Seconds since the call began.
        seconds_left: Seconds to the call's deadline; None without one.

    Attributes:
        fields: The names of all fields, in order.

    Raises:
        TypeError: A field that is missing, or is none.
    """

    name: ClassVar[str]
    level: ClassVar[str]

    engine: str
    operation: str
    call: str
    attempt: int
    elapsed: float
    seconds_left: float | None = None


class _Judged(Event):
    """An event about a failure: what was read from it, and what the rules said."""

    action: str
    rule: str
    status: int | None = None
    code: str | None = None
    error: str | None = None
    phase: str | None = None


def told(kind: type[E], said: dict[str, Any]) -> E:
    """
    An event of *kind*, unchecked.

    Made by calling its class an event costs 1.5 us, most of it for passing its fields by name and checking the names; this costs 0.2.

    Args:
        kind: The event's class.
        said: All fields of it but those that have a default, and no others.  The event keeps this very dict.
    """
    event = _make(kind)
    _keep(event, "__dict__", said)
    return event


class CallSucceeded(Event):
    """A call's first attempt succeeded."""

    name = "call.succeeded"
    level = "debug"


class CallRecovered(Event):
    """A call succeeded after at least one failed attempt."""

    name = "call.recovered"
    level = "info"


class AttemptFailed(_Judged):
    """An attempt failed; what follows from it is told by the events after this one."""

    name = "attempt.failed"
    level = "debug"
    retry_after: float | None = None
    items: int | None = None  # that a stream had delivered


class RetryScheduled(_Judged):
    """Another attempt follows in *delay* seconds, as *delay_source* (``backoff`` or ``hint``) has it."""

    name = "retry.scheduled"
    level = "info"
    delay: float
    delay_source: str


class RetryGaveUp(_Judged):
    """No further attempt, although the failure may pass; *reason* says why."""

    name = "retry.gave_up"
    level = "warning"
    reason: str
    retry_after: float | None = None


class CallFailedFast(_Judged):
    """The failure is not of a kind that repeating could cure."""

    name = "call.failed_fast"
    level = "info"


class TokenRefreshed(Event):
    """A new token was had; *generation* is its serial number."""

    name = "token.refreshed"
    level = "info"
    generation: int


class TokenJoined(Event):
    """The call waits for a refresh that is already under way."""

    name = "token.joined"
    level = "debug"
    generation: int


class TokenRefreshFailed(Event):
    """No token could be had; none is asked for again for *retry_after* seconds."""

    name = "token.refresh_failed"
    level = "warning"
    reason: str
    error: str | None = None
    status: int | None = None
    code: str | None = None
    retry_after: float | None = None


class KeyTaken(Event):
    """The call took its idempotency key: *source* is ``minted``, ``given``, ``header`` (set by the caller), ``derived`` or ``nested``."""

    name = "key.taken"
    level = "debug"
    source: str


class KeyReused(Event):
    """A view with a fixed key ran a second call: the peer will take both for one."""

    name = "key.reused"
    level = "warning"


class _OfCircuit(Event):
    """An event about a circuit: that of *key*."""

    key: str | None = None


class BreakerOpened(_OfCircuit):
    """The circuit opened for *cooldown* seconds."""

    name = "breaker.opened"
    level = "warning"
    tripped_by: str | None = None
    cooldown: float | None = None


class BreakerHalfOpened(_OfCircuit):
    """The cooldown is over; probes may pass."""

    name = "breaker.half_opened"
    level = "info"


class BreakerClosed(_OfCircuit):
    """The probes succeeded; traffic flows again."""

    name = "breaker.closed"
    level = "info"


class BreakerRejected(_OfCircuit):
    """The circuit let an attempt not even start."""

    name = "breaker.rejected"
    level = "info"
    era: str
    retry_after: float | None = None
    tripped_by: str | None = None


class DeadlineHit(Event):
    """The call's time was up; *where* says whether before an attempt, during one, while waiting, or while streaming what came of it."""

    name = "deadline.exceeded"
    level = "warning"
    where: str


class EngineNested(Event):
    """
    A call began inside a call of engine *outer*: they share repeats, deadline and refreshes.

    Or a client has retries of its own: *inner* where it is called by this engine, *outer* where it calls through it.  They are counted
    among the engine's.  Said once a pair.
    """

    name = "engine.nested"
    level = "warning"
    outer: str
    inner: str | None = None


class ResultUnread(Event):
    """The dialect's own reader raised *error* over a returned value, or said something of that type that is no signal: it is not heard."""

    name = "result.unread"
    level = "warning"
    error: str
